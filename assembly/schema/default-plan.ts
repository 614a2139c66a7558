// The plan where the configuration names none: llm-d's default, plus what only we know of every endpoint.
//
//   queue-scorer 2 · kv-cache-utilization-scorer 2 · prefix-cache-scorer 3      (llm-d's default)
//   + active-request-scorer 2 · token-load-scorer 6, threshold 65,536 tokens    (our own reservations)
//   + gpu-utilization-scorer 0.5 · gpu-memory-scorer 0.5                        (DCGM, where there is one)
//   max-score-picker, unknown load counts as the mean of the others
//
// Queue and KV use are as old as the last scrape: between two scrapes they send every request to the same
// "idle" endpoint (gateway-api-inference-extension#1700). Requests and uncached tokens in flight are counted
// by ourselves at the moment of each decision, on all workers, so the two scorers added see the request
// that was placed a millisecond ago. They weigh more than everything scraped.
// token-load-scorer also prices a miss: a prompt's uncached tokens count at the endpoint that would compute
// them, in the unit of the work that waits there. 65,536 tokens are about four seconds of prefill on one
// accelerator (llm-d's prefix-cache-affinity-filter assumes 15,928 tokens/s): the range in which a choice
// matters; llm-d's 4,194,304 would hide all of it in the third decimal. With weight 6 a full prefix hit (3)
// is given up for about two seconds of work less, so a hot prefix spills over instead of queueing.
// GPU figures are the oldest and say least of an engine that is busy anyway: they break ties, and move load
// away from a GPU that somebody else uses too.
import { INSTANCE_AT_A, INSTANCE_AT_B, planAddScorer, planReset, planSetUnknownMean } from "../schedule/plan";
import { IDLE_THRESHOLD_DEFAULT, MAX_BUSY_SCORE_DEFAULT } from "../schedule/active-request-scorer";
import {
  PLUGIN_ACTIVE_REQUEST_SCORER,
  PLUGIN_GPU_MEMORY_SCORER,
  PLUGIN_GPU_UTILIZATION_SCORER,
  PLUGIN_KV_CACHE_UTILIZATION_SCORER,
  PLUGIN_MAX_SCORE_PICKER,
  PLUGIN_PREFIX_CACHE_SCORER,
  PLUGIN_QUEUE_SCORER,
  PLUGIN_TOKEN_LOAD_SCORER,
} from "../schedule/plugin-types";
import {
  MATCH_LENGTH_SCALE_TOKENS_DEFAULT,
  MATCH_LENGTH_WEIGHT_DEFAULT,
} from "../schedule/prefix-cache-scorer";
import { SETTING_DESTINATIONS, SETTING_UNKNOWN_MEAN } from "./gateway-parameters";
import { slotInstance, slotPlan, slotSettings } from "./slots";

const QUEUE_WEIGHT: f64 = 2;
const KV_WEIGHT: f64 = 2;
const PREFIX_WEIGHT: f64 = 3;
const ACTIVE_REQUEST_WEIGHT: f64 = 2;
const TOKEN_LOAD_WEIGHT: f64 = 6;
const GPU_WEIGHT: f64 = 0.5;
const TOKEN_LOAD_THRESHOLD_TOKENS: f64 = 65536;

/** Compiles the default plan into the slot. */
export function defaultPlan(slot: usize): void {
  const plan = slotPlan(slot);
  planReset(plan, PLUGIN_MAX_SCORE_PICKER, load<u32>(slotSettings(slot), SETTING_DESTINATIONS));
  planSetUnknownMean(plan, true);
  store<u8>(slotSettings(slot), 1, SETTING_UNKNOWN_MEAN);
  planAddScorer(plan, slotInstance(slot, PLUGIN_QUEUE_SCORER), QUEUE_WEIGHT);
  planAddScorer(plan, slotInstance(slot, PLUGIN_KV_CACHE_UTILIZATION_SCORER), KV_WEIGHT);
  const prefix = slotInstance(slot, PLUGIN_PREFIX_CACHE_SCORER);
  store<f64>(prefix, MATCH_LENGTH_WEIGHT_DEFAULT, INSTANCE_AT_A);
  store<f64>(prefix, MATCH_LENGTH_SCALE_TOKENS_DEFAULT, INSTANCE_AT_B);
  planAddScorer(plan, prefix, PREFIX_WEIGHT);
  const active = slotInstance(slot, PLUGIN_ACTIVE_REQUEST_SCORER);
  store<f64>(active, IDLE_THRESHOLD_DEFAULT, INSTANCE_AT_A);
  store<f64>(active, MAX_BUSY_SCORE_DEFAULT, INSTANCE_AT_B);
  planAddScorer(plan, active, ACTIVE_REQUEST_WEIGHT);
  const tokens = slotInstance(slot, PLUGIN_TOKEN_LOAD_SCORER);
  store<f64>(tokens, TOKEN_LOAD_THRESHOLD_TOKENS, INSTANCE_AT_A);
  planAddScorer(plan, tokens, TOKEN_LOAD_WEIGHT);
  planAddScorer(plan, slotInstance(slot, PLUGIN_GPU_UTILIZATION_SCORER), GPU_WEIGHT);
  planAddScorer(plan, slotInstance(slot, PLUGIN_GPU_MEMORY_SCORER), GPU_WEIGHT);
}
