// Every plugin type that llm-d has, and ours: what it is, and which of four classes it is in here.
//
//   implemented  runs in the filter
//   accepted     the sidecar's part of the document, or needless by our design: logged once, no effect here
//   unsupported  known in llm-d, missing here: refused, naming the nearest that is supported
//   (not listed) unknown: refused
//
// The list is llm-d-router's registry @ ebab6879: 97 types.
import { treeTextIs } from "../json/tree";
import {
  PLUGIN_ACTIVE_REQUEST_SCORER,
  PLUGIN_ALWAYS_MULTIMODAL_DECIDER,
  PLUGIN_ALWAYS_PD_DECIDER,
  PLUGIN_CONTEXT_LENGTH_AWARE,
  PLUGIN_GPU_MEMORY_SCORER,
  PLUGIN_GPU_UTILIZATION_SCORER,
  PLUGIN_HEADER_BASED_TESTING_FILTER,
  PLUGIN_HEADER_LABEL_AFFINITY_SCORER,
  PLUGIN_KV_CACHE_UTILIZATION_SCORER,
  PLUGIN_LABEL_SELECTOR_FILTER,
  PLUGIN_LATENCY_PICKER,
  PLUGIN_LOAD_AWARE_SCORER,
  PLUGIN_LORA_AFFINITY_SCORER,
  PLUGIN_MAX_SCORE_PICKER,
  PLUGIN_NO_HIT_LRU_SCORER,
  PLUGIN_PREFIX_CACHE_AFFINITY_FILTER,
  PLUGIN_PREFIX_CACHE_SCORER,
  PLUGIN_PREFIX_PD_DECIDER,
  PLUGIN_QUEUE_SCORER,
  PLUGIN_RANDOM_PICKER,
  PLUGIN_ROLE_FILTER,
  PLUGIN_RUNNING_REQUESTS_SIZE_SCORER,
  PLUGIN_SESSION_AFFINITY_FILTER,
  PLUGIN_SESSION_AFFINITY_SCORER,
  PLUGIN_TOKEN_LOAD_SCORER,
  PLUGIN_UTILIZATION_FILTER,
  PLUGIN_WEIGHTED_RANDOM_PICKER,
} from "../schedule/plugin-types";

export const CLASS_UNKNOWN: u32 = 0;
export const CLASS_IMPLEMENTED: u32 = 1;
export const CLASS_ACCEPTED: u32 = 2;
export const CLASS_UNSUPPORTED: u32 = 3;

// What a plugin is: decides where the document may refer to it.
export const ROLE_SCHEDULING: u32 = 1;
export const ROLE_PROFILE_HANDLER: u32 = 2;
export const ROLE_PARSER: u32 = 3;
export const ROLE_SATURATION_DETECTOR: u32 = 4;
export const ROLE_FAIRNESS_POLICY: u32 = 5;
export const ROLE_ORDERING_POLICY: u32 = 6;
export const ROLE_USAGE_LIMIT_POLICY: u32 = 7;
export const ROLE_DATA_SOURCE: u32 = 8;
export const ROLE_EXTRACTOR: u32 = 9;
export const ROLE_DISCOVERY: u32 = 10;
/** Producers, request hooks, settings: nothing refers to them. */
export const ROLE_OTHER: u32 = 11;
export const ROLE_DECIDER: u32 = 12;

// Parameters of what is accepted, checked by accepted-parameters.ts; 0 = none are allowed.
export const CHECK_NONE: u32 = 0;
export const CHECK_UTILIZATION_DETECTOR: u32 = 1;
export const CHECK_CONCURRENCY_DETECTOR: u32 = 2;
export const CHECK_PROGRAM_AWARE: u32 = 3;
export const CHECK_STATIC_USAGE_LIMIT: u32 = 4;
export const CHECK_PRIORITY_HOLDBACK: u32 = 5;
export const CHECK_APPROX_PREFIX: u32 = 6;
export const CHECK_TOKEN_PRODUCER: u32 = 7;
export const CHECK_INFLIGHT_LOAD: u32 = 8;
export const CHECK_METRICS_SOURCE: u32 = 9;
export const CHECK_METRICS_EXTRACTOR: u32 = 10;
export const CHECK_MODELS_SOURCE: u32 = 11;
export const CHECK_DCGM_SOURCE: u32 = 12;
export const CHECK_NOTIFICATION_SOURCE: u32 = 13;
export const CHECK_FILE_DISCOVERY: u32 = 14;
export const CHECK_TOPOLOGY: u32 = 15;
export const CHECK_HEADERS_HANDLER: u32 = 16;

/** Settings of the filter itself; their type is not llm-d's. */
export const PLUGIN_GATEWAY: u32 = 200;
export const PLUGIN_SINGLE_PROFILE_HANDLER: u32 = 201;
export const PLUGIN_DISAGG_HANDLER: u32 = 202;
/** The deprecated form of the one before. */
export const PLUGIN_PD_HANDLER: u32 = 203;
export const PLUGIN_DATA_PARALLEL_HANDLER: u32 = 204;
/** How disaggregation is carried out; its type is not llm-d's. */
export const PLUGIN_DISAGGREGATION: u32 = 205;

let wanted: i32 = -1;
let pluginClass: u32 = 0;
let pluginRole: u32 = 0;
let pluginNumber: u32 = 0;
let pluginCheck: u32 = 0;
let pluginVariant: u32 = 0;
let pluginNote: string = "";

/** Looks up the type that the string `node` names; the functions below tell what it is. Its CLASS_*. */
export function pluginLookUp(node: i32): u32 {
  wanted = node;
  pluginClass = CLASS_UNKNOWN;
  pluginNote = "";
  pluginCheck = CHECK_NONE;
  pluginVariant = 0;
  scorers();
  filtersAndPickers();
  parsersAndHandlers();
  producers();
  flowControl();
  dataLayer();
  return pluginClass;
}

export function pluginRoleFound(): u32 {
  return pluginRole;
}
/** PLUGIN_* of what is implemented. */
export function pluginNumberFound(): u32 {
  return pluginNumber;
}
/** CHECK_* of what is accepted. */
export function pluginCheckFound(): u32 {
  return pluginCheck;
}
/** Which of several types with one implementation: the role bit, or a deprecated form's number. */
export function pluginVariantFound(): u32 {
  return pluginVariant;
}
/** Why it is accepted without effect, or the nearest type that is supported. */
export function pluginNoteFound(): string {
  return pluginNote;
}

/** by-label: its own parameters, a list of values of one label. */
export const VARIANT_BY_LABEL: u32 = 1;

function implemented(type: string, number: u32, role: u32 = ROLE_SCHEDULING, variant: u32 = 0): void {
  if (pluginClass != CLASS_UNKNOWN || !treeTextIs(wanted, type)) return;
  pluginClass = CLASS_IMPLEMENTED;
  pluginRole = role;
  pluginNumber = number;
  pluginVariant = variant;
}

function accepted(type: string, role: u32, check: u32, why: string): void {
  if (pluginClass != CLASS_UNKNOWN || !treeTextIs(wanted, type)) return;
  pluginClass = CLASS_ACCEPTED;
  pluginRole = role;
  pluginNumber = 0;
  pluginCheck = check;
  pluginNote = why;
}

function unsupported(type: string, nearest: string): void {
  if (pluginClass != CLASS_UNKNOWN || !treeTextIs(wanted, type)) return;
  pluginClass = CLASS_UNSUPPORTED;
  pluginNote = nearest;
}

function scorers(): void {
  implemented("queue-scorer", PLUGIN_QUEUE_SCORER);
  implemented("running-requests-size-scorer", PLUGIN_RUNNING_REQUESTS_SIZE_SCORER);
  implemented("kv-cache-utilization-scorer", PLUGIN_KV_CACHE_UTILIZATION_SCORER);
  implemented("prefix-cache-scorer", PLUGIN_PREFIX_CACHE_SCORER);
  implemented("load-aware-scorer", PLUGIN_LOAD_AWARE_SCORER);
  implemented("active-request-scorer", PLUGIN_ACTIVE_REQUEST_SCORER);
  implemented("token-load-scorer", PLUGIN_TOKEN_LOAD_SCORER);
  implemented("lora-affinity-scorer", PLUGIN_LORA_AFFINITY_SCORER);
  implemented("no-hit-lru-scorer", PLUGIN_NO_HIT_LRU_SCORER);
  implemented("context-length-aware", PLUGIN_CONTEXT_LENGTH_AWARE);
  implemented("session-affinity-scorer", PLUGIN_SESSION_AFFINITY_SCORER);
  implemented("header-label-affinity-scorer", PLUGIN_HEADER_LABEL_AFFINITY_SCORER);
  implemented("gpu-utilization-scorer", PLUGIN_GPU_UTILIZATION_SCORER);
  implemented("gpu-memory-scorer", PLUGIN_GPU_MEMORY_SCORER);
  unsupported("latency-scorer", "epp-wasm-latency-picker");
  unsupported("precise-prefix-cache-scorer", "prefix-cache-scorer, exact with the sidecar's kvEvents");
  unsupported("mm-embeddings-cache-scorer", "prefix-cache-scorer");
  unsupported(
    "endpoint-attribute-scorer",
    "gpu-utilization-scorer, queue-scorer or kv-cache-utilization-scorer",
  );
  unsupported("topology-affinity-scorer", "header-label-affinity-scorer");
  unsupported("multicluster-queue-scorer", "queue-scorer");
  unsupported("multicluster-kv-cache-utilization-scorer", "kv-cache-utilization-scorer");
  unsupported("multicluster-prefix-cache-scorer", "prefix-cache-scorer");
}

function filtersAndPickers(): void {
  implemented("decode-filter", PLUGIN_ROLE_FILTER, ROLE_SCHEDULING, 1);
  implemented("prefill-filter", PLUGIN_ROLE_FILTER, ROLE_SCHEDULING, 2);
  implemented("encode-filter", PLUGIN_ROLE_FILTER, ROLE_SCHEDULING, 4);
  implemented("label-selector-filter", PLUGIN_LABEL_SELECTOR_FILTER);
  implemented("by-label-selector", PLUGIN_LABEL_SELECTOR_FILTER);
  implemented("by-label", PLUGIN_LABEL_SELECTOR_FILTER, ROLE_SCHEDULING, VARIANT_BY_LABEL);
  implemented("prefix-cache-affinity-filter", PLUGIN_PREFIX_CACHE_AFFINITY_FILTER);
  implemented("utilization-filter", PLUGIN_UTILIZATION_FILTER);
  implemented("session-affinity-filter", PLUGIN_SESSION_AFFINITY_FILTER);
  implemented("header-based-testing-filter", PLUGIN_HEADER_BASED_TESTING_FILTER);
  unsupported("slo-headroom-tier-filter", "epp-wasm-latency-picker");
  unsupported("endpoint-attribute-filter", "utilization-filter");
  unsupported("multicluster-session-affinity-filter", "session-affinity-filter");
  unsupported("topology-affinity-filter", "label-selector-filter");
  unsupported("destination-endpoint-served-verifier", "header-based-testing-filter");
  implemented("max-score-picker", PLUGIN_MAX_SCORE_PICKER);
  implemented("random-picker", PLUGIN_RANDOM_PICKER);
  implemented("weighted-random-picker", PLUGIN_WEIGHTED_RANDOM_PICKER);
  implemented("epp-wasm-latency-picker", PLUGIN_LATENCY_PICKER);
}

function parsersAndHandlers(): void {
  const byPath = "the filter tells the API by its path";
  accepted("openai-parser", ROLE_PARSER, CHECK_NONE, byPath);
  accepted("anthropic-parser", ROLE_PARSER, CHECK_NONE, byPath);
  accepted("vllmhttp-parser", ROLE_PARSER, CHECK_NONE, byPath);
  accepted("sglanghttp-parser", ROLE_PARSER, CHECK_NONE, byPath);
  accepted("passthrough-parser", ROLE_PARSER, CHECK_NONE, byPath);
  unsupported("vllmgrpc-parser", "vllmhttp-parser");
  unsupported("vertexai-parser", "openai-parser");
  implemented("single-profile-handler", PLUGIN_SINGLE_PROFILE_HANDLER, ROLE_PROFILE_HANDLER);
  implemented("disagg-profile-handler", PLUGIN_DISAGG_HANDLER, ROLE_PROFILE_HANDLER);
  implemented("pd-profile-handler", PLUGIN_PD_HANDLER, ROLE_PROFILE_HANDLER);
  implemented("data-parallel-profile-handler", PLUGIN_DATA_PARALLEL_HANDLER, ROLE_PROFILE_HANDLER);
  unsupported("header-profile-handler", "single-profile-handler");
  const headers = "the filter writes the headers of the stages that run";
  accepted("disagg-headers-handler", ROLE_OTHER, CHECK_HEADERS_HANDLER, headers);
  accepted("prefill-header-handler", ROLE_OTHER, CHECK_HEADERS_HANDLER, headers);
  implemented("prefix-based-pd-decider", PLUGIN_PREFIX_PD_DECIDER, ROLE_DECIDER);
  implemented("always-disagg-pd-decider", PLUGIN_ALWAYS_PD_DECIDER, ROLE_DECIDER);
  implemented("always-disagg-multimodal-decider", PLUGIN_ALWAYS_MULTIMODAL_DECIDER, ROLE_DECIDER);
  implemented("epp-wasm-disaggregation", PLUGIN_DISAGGREGATION, ROLE_OTHER);
  implemented("epp-wasm-gateway", PLUGIN_GATEWAY, ROLE_OTHER);
}

function producers(): void {
  accepted(
    "approx-prefix-cache-producer",
    ROLE_OTHER,
    CHECK_APPROX_PREFIX,
    "the filter's own prefix index is always on",
  );
  accepted(
    "token-producer",
    ROLE_OTHER,
    CHECK_TOKEN_PRODUCER,
    "the filter learns bytes per token from usage",
  );
  accepted("tokenizer", ROLE_OTHER, CHECK_TOKEN_PRODUCER, "the filter learns bytes per token from usage");
  accepted(
    "inflight-load-producer",
    ROLE_OTHER,
    CHECK_INFLIGHT_LOAD,
    "the filter's own reservations are always on",
  );
  unsupported("multicluster-approx-prefix-cache-producer", "approx-prefix-cache-producer");
  unsupported(
    "precise-prefix-cache-producer",
    "approx-prefix-cache-producer, exact with the sidecar's kvEvents",
  );
  unsupported("predicted-latency-producer", "epp-wasm-latency-picker");
  unsupported("mm-embeddings-cache-producer", "approx-prefix-cache-producer");
  unsupported("session-id-producer", "session-affinity-scorer with strategy session_id");
  unsupported("burst-prefix-cache-producer", "approx-prefix-cache-producer");
  unsupported("p2p-source-producer", "approx-prefix-cache-producer");
  unsupported("agent-identity", "session-affinity-scorer with the source attribute agent-identity");
  unsupported("request-attribute-reporter", "epp-wasm-gateway with exposeDecision");
  unsupported("disaggregatedset-rollout-screener", "label-selector-filter");
  unsupported("latency-slo-admitter", "utilization-filter");
  unsupported("probabilistic-admitter", "utilization-filter");
}

function flowControl(): void {
  const off = "flow control is off";
  accepted("utilization-detector", ROLE_SATURATION_DETECTOR, CHECK_UTILIZATION_DETECTOR, off);
  accepted("concurrency-detector", ROLE_SATURATION_DETECTOR, CHECK_CONCURRENCY_DETECTOR, off);
  accepted("global-strict-fairness-policy", ROLE_FAIRNESS_POLICY, CHECK_NONE, off);
  accepted("round-robin-fairness-policy", ROLE_FAIRNESS_POLICY, CHECK_NONE, off);
  accepted("program-aware-fairness", ROLE_FAIRNESS_POLICY, CHECK_PROGRAM_AWARE, off);
  accepted("fcfs-ordering-policy", ROLE_ORDERING_POLICY, CHECK_NONE, off);
  accepted("edf-ordering-policy", ROLE_ORDERING_POLICY, CHECK_NONE, off);
  accepted("slo-deadline-ordering-policy", ROLE_ORDERING_POLICY, CHECK_NONE, off);
  accepted("static-usage-limit-policy", ROLE_USAGE_LIMIT_POLICY, CHECK_STATIC_USAGE_LIMIT, off);
  accepted("priority-holdback-policy", ROLE_USAGE_LIMIT_POLICY, CHECK_PRIORITY_HOLDBACK, off);
  accepted("soft-reflective-ceiling-policy", ROLE_USAGE_LIMIT_POLICY, CHECK_NONE, off);
  accepted("sheddable-eviction-filter", ROLE_OTHER, CHECK_NONE, off);
  accepted("priority-then-time-eviction-order-policy", ROLE_OTHER, CHECK_NONE, off);
}

function dataLayer(): void {
  const sidecar = "the sidecar's";
  accepted("metrics-data-source", ROLE_DATA_SOURCE, CHECK_METRICS_SOURCE, sidecar);
  accepted("core-metrics-extractor", ROLE_EXTRACTOR, CHECK_METRICS_EXTRACTOR, sidecar);
  accepted("models-data-source", ROLE_DATA_SOURCE, CHECK_MODELS_SOURCE, sidecar);
  accepted("models-data-extractor", ROLE_EXTRACTOR, CHECK_NONE, sidecar);
  accepted("dcgm-data-source", ROLE_DATA_SOURCE, CHECK_DCGM_SOURCE, sidecar);
  accepted("dcgm-extractor", ROLE_EXTRACTOR, CHECK_NONE, sidecar);
  accepted("topology-extractor", ROLE_EXTRACTOR, CHECK_TOPOLOGY, sidecar);
  accepted("k8s-notification-source", ROLE_DATA_SOURCE, CHECK_NOTIFICATION_SOURCE, sidecar);
  accepted("endpoint-notification-source", ROLE_DATA_SOURCE, CHECK_NONE, sidecar);
  accepted("file-discovery", ROLE_DISCOVERY, CHECK_FILE_DISCOVERY, sidecar);
  unsupported("multicluster-file-discovery", "file-discovery");
  unsupported("multicluster-metrics-data-source", "metrics-data-source");
  unsupported("multicluster-metrics-extractor", "core-metrics-extractor");
}
