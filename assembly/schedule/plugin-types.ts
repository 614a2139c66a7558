// Numbers of the scheduling plugins that run in the filter: what a plan stores instead of a type's name.

// Scorers.
export const PLUGIN_QUEUE_SCORER: u32 = 1;
export const PLUGIN_RUNNING_REQUESTS_SIZE_SCORER: u32 = 2;
export const PLUGIN_KV_CACHE_UTILIZATION_SCORER: u32 = 3;
export const PLUGIN_PREFIX_CACHE_SCORER: u32 = 4;
export const PLUGIN_LOAD_AWARE_SCORER: u32 = 5;
export const PLUGIN_ACTIVE_REQUEST_SCORER: u32 = 6;
export const PLUGIN_TOKEN_LOAD_SCORER: u32 = 7;
export const PLUGIN_LORA_AFFINITY_SCORER: u32 = 8;
export const PLUGIN_NO_HIT_LRU_SCORER: u32 = 9;
export const PLUGIN_SESSION_AFFINITY_SCORER: u32 = 10;
/** A scorer, and a filter too when its enableFiltering is on. */
export const PLUGIN_CONTEXT_LENGTH_AWARE: u32 = 11;
export const PLUGIN_HEADER_LABEL_AFFINITY_SCORER: u32 = 12;
/** Ours. */
export const PLUGIN_GPU_UTILIZATION_SCORER: u32 = 13;
/** Ours. */
export const PLUGIN_GPU_MEMORY_SCORER: u32 = 14;
export const PLUGIN_SCORERS_END: u32 = 32;

// Filters.
export const PLUGIN_LABEL_SELECTOR_FILTER: u32 = 33;
export const PLUGIN_ROLE_FILTER: u32 = 34;
export const PLUGIN_PREFIX_CACHE_AFFINITY_FILTER: u32 = 35;
export const PLUGIN_UTILIZATION_FILTER: u32 = 36;
export const PLUGIN_SESSION_AFFINITY_FILTER: u32 = 37;
export const PLUGIN_HEADER_BASED_TESTING_FILTER: u32 = 38;
export const PLUGIN_FILTERS_END: u32 = 64;

// Pickers.
export const PLUGIN_MAX_SCORE_PICKER: u32 = 65;
export const PLUGIN_RANDOM_PICKER: u32 = 66;
export const PLUGIN_WEIGHTED_RANDOM_PICKER: u32 = 67;
/** Ours. */
export const PLUGIN_LATENCY_PICKER: u32 = 68;
export const PLUGIN_PICKERS_END: u32 = 96;

// Deciders: whether a further stage of a decision runs.
export const PLUGIN_PREFIX_PD_DECIDER: u32 = 97;
export const PLUGIN_ALWAYS_PD_DECIDER: u32 = 98;
export const PLUGIN_ALWAYS_MULTIMODAL_DECIDER: u32 = 99;

export function isScorer(type: u32): bool {
  return type > 0 && type < PLUGIN_SCORERS_END;
}

export function isFilter(type: u32): bool {
  return type > PLUGIN_SCORERS_END && type < PLUGIN_FILTERS_END;
}

export function isPicker(type: u32): bool {
  return type > PLUGIN_FILTERS_END && type < PLUGIN_PICKERS_END;
}
