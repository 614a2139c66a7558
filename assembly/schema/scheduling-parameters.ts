// Parameters of the scheduling plugins that run here: llm-d's names, defaults and ranges.
import { NO_NODE, treeCount, treeFirst, treeNext, treeTextIs, treeTextLen, treeTextPtr } from "../json/tree";
import { COLUMN_INFLIGHT_REQUESTS, COLUMN_KV_USAGE, COLUMN_RUNNING, COLUMN_WAITING } from "../pool/rows";
import { IDLE_THRESHOLD_DEFAULT, MAX_BUSY_SCORE_DEFAULT } from "../schedule/active-request-scorer";
import { LOAD_AWARE_THRESHOLD_DEFAULT } from "../schedule/load-aware-scorer";
import { LRU_SIZE_DEFAULT } from "../schedule/no-hit-lru-scorer";
import {
  INSTANCE_AT_A,
  INSTANCE_AT_B,
  INSTANCE_AT_C,
  INSTANCE_AT_COUNT,
  INSTANCE_AT_D,
  INSTANCE_AT_HEADER,
  INSTANCE_AT_LIST,
  INSTANCE_AT_MODE,
  INSTANCE_AT_TEXT,
  INSTANCE_AT_TEXT_BYTES,
  NO_HEADER,
  instanceType,
} from "../schedule/plan";
import {
  PLUGIN_ACTIVE_REQUEST_SCORER,
  PLUGIN_CONTEXT_LENGTH_AWARE,
  PLUGIN_HEADER_BASED_TESTING_FILTER,
  PLUGIN_HEADER_LABEL_AFFINITY_SCORER,
  PLUGIN_LABEL_SELECTOR_FILTER,
  PLUGIN_LATENCY_PICKER,
  PLUGIN_LOAD_AWARE_SCORER,
  PLUGIN_MAX_SCORE_PICKER,
  PLUGIN_NO_HIT_LRU_SCORER,
  PLUGIN_PREFIX_CACHE_AFFINITY_FILTER,
  PLUGIN_PREFIX_CACHE_SCORER,
  PLUGIN_RANDOM_PICKER,
  PLUGIN_ROLE_FILTER,
  PLUGIN_SESSION_AFFINITY_FILTER,
  PLUGIN_SESSION_AFFINITY_SCORER,
  PLUGIN_TOKEN_LOAD_SCORER,
  PLUGIN_UTILIZATION_FILTER,
  PLUGIN_WEIGHTED_RANDOM_PICKER,
} from "../schedule/plugin-types";
import {
  AFFINITY_THRESHOLD_DEFAULT,
  EXPLORATION_PROBABILITY_DEFAULT,
  MAX_TTFT_PENALTY_MS_DEFAULT,
  PEAK_PREFILL_THROUGHPUT_DEFAULT,
} from "../schedule/prefix-cache-affinity-filter";
import {
  MATCH_LENGTH_SCALE_TOKENS_DEFAULT,
  MATCH_LENGTH_WEIGHT_DEFAULT,
} from "../schedule/prefix-cache-scorer";
import { QUEUE_THRESHOLD_TOKENS_DEFAULT } from "../schedule/token-load-scorer";
import { CONDITION_BYTES, conditionSet } from "../schedule/utilization-filter";
import { ascii, textBytes } from "../text/text";
import { isRefused, pathBack, pathElement, pathMark, pathMember, refuse, refuseFor } from "./errors";
import {
  arrayField,
  boolField,
  field,
  numberField,
  objectBegin,
  objectEnd,
  refuseField,
  scalarField,
  textField,
  wholeField,
} from "./fields";
import { byLabelParameters, selectorParameters } from "./label-parameters";
import { latencyParameters } from "./latency-parameters";
import { VARIANT_BY_LABEL } from "./plugin-table";
import { sessionParameters } from "./session-parameters";
import { slotAlloc, slotHeader, slotText } from "./slots";

const CONTEXT_RANGE_LABEL = ascii("llm-d.ai/context-length-range");
const TESTING_HEADER = ascii("test-epp-endpoint-selection");
const WHOLE_MAX: f64 = 9007199254740991;
const NO_ROOM = "a configuration whose texts fit into 16384 bytes";
const NO_HEADER_ROOM = "at most 8 different request headers over all plugins";

/** Reads the parameters `node` (NO_NODE: none) of an instance whose type is set. False: refused. */
export function schedulingParameters(node: i32, slot: usize, instance: usize, variant: u32): bool {
  switch (instanceType(instance)) {
    case PLUGIN_LABEL_SELECTOR_FILTER:
      return variant == VARIANT_BY_LABEL
        ? byLabelParameters(node, slot, instance)
        : selectorParameters(node, slot, instance);
    case PLUGIN_SESSION_AFFINITY_SCORER:
    case PLUGIN_SESSION_AFFINITY_FILTER:
      return sessionParameters(node, slot, instance);
  }
  objectBegin(node);
  switch (instanceType(instance)) {
    case PLUGIN_PREFIX_CACHE_SCORER:
      prefixCache(instance);
      break;
    case PLUGIN_LOAD_AWARE_SCORER:
      setWhole(instance, INSTANCE_AT_A, "threshold", LOAD_AWARE_THRESHOLD_DEFAULT);
      break;
    case PLUGIN_ACTIVE_REQUEST_SCORER:
      activeRequest(instance);
      break;
    case PLUGIN_TOKEN_LOAD_SCORER:
      setWhole(instance, INSTANCE_AT_A, "queueThresholdTokens", QUEUE_THRESHOLD_TOKENS_DEFAULT);
      textField("inFlightLoadProducerName");
      break;
    case PLUGIN_NO_HIT_LRU_SCORER:
      setWhole(instance, INSTANCE_AT_A, "lruSize", LRU_SIZE_DEFAULT);
      textField("prefixPluginType");
      textField("prefixPluginName");
      textField("prefixMatchInfoProducerName");
      break;
    case PLUGIN_CONTEXT_LENGTH_AWARE:
      contextLength(slot, instance);
      break;
    case PLUGIN_HEADER_LABEL_AFFINITY_SCORER:
      headerLabel(slot, instance);
      break;
    case PLUGIN_ROLE_FILTER:
      store<u8>(instance, <u8>variant, INSTANCE_AT_MODE);
      break;
    case PLUGIN_PREFIX_CACHE_AFFINITY_FILTER:
      prefixAffinity(instance);
      break;
    case PLUGIN_UTILIZATION_FILTER:
      utilization(slot, instance);
      break;
    case PLUGIN_HEADER_BASED_TESTING_FILTER:
      setHeader(slot, instance, TESTING_HEADER, textBytes(TESTING_HEADER), node);
      break;
    case PLUGIN_MAX_SCORE_PICKER:
    case PLUGIN_RANDOM_PICKER:
    case PLUGIN_WEIGHTED_RANDOM_PICKER:
      setWhole(instance, INSTANCE_AT_A, "maxNumOfEndpoints", 1);
      break;
    case PLUGIN_LATENCY_PICKER:
      latencyParameters(slot, instance);
      break;
  }
  return objectEnd();
}

// llm-d reads a whole number ≤ 0 as the default.
function setWhole(instance: usize, at: usize, name: string, fallback: f64): void {
  const value = wholeField(name, fallback, -WHOLE_MAX, WHOLE_MAX, "a whole number");
  store<f64>(instance + at, value > 0 ? value : fallback);
}

function prefixCache(instance: usize): void {
  const weight = numberField("matchLengthWeight", MATCH_LENGTH_WEIGHT_DEFAULT, 0, 1, "a number, 0 to 1");
  const scale = wholeField(
    "matchLengthScaleTokens",
    MATCH_LENGTH_SCALE_TOKENS_DEFAULT,
    -WHOLE_MAX,
    WHOLE_MAX,
    "a whole number",
  );
  textField("prefixMatchInfoProducerName");
  if (weight > 0 && scale <= 0) {
    refuseField(
      "matchLengthScaleTokens",
      field("matchLengthScaleTokens"),
      "a whole number > 0 with matchLengthWeight > 0",
    );
  }
  store<f64>(instance, weight, INSTANCE_AT_A);
  store<f64>(instance, scale, INSTANCE_AT_B);
}

function activeRequest(instance: usize): void {
  scalarField("requestTimeout");
  textField("inFlightLoadProducerName");
  const idle = wholeField("idleThreshold", IDLE_THRESHOLD_DEFAULT, -WHOLE_MAX, WHOLE_MAX, "a whole number");
  store<f64>(instance, idle > 0 ? idle : IDLE_THRESHOLD_DEFAULT, INSTANCE_AT_A);
  const busy = numberField("maxBusyScore", MAX_BUSY_SCORE_DEFAULT, -WHOLE_MAX, WHOLE_MAX, "a number");
  store<f64>(instance, busy >= 0 && busy <= 1 ? busy : MAX_BUSY_SCORE_DEFAULT, INSTANCE_AT_B);
}

function contextLength(slot: usize, instance: usize): void {
  const given = field("label");
  const label = textField("label");
  if (given >= 0 && label < 0) refuseField("label", given, "a label's name");
  const ptr = label >= 0 ? treeTextPtr(label) : CONTEXT_RANGE_LABEL;
  const bytes = label >= 0 ? treeTextLen(label) : textBytes(CONTEXT_RANGE_LABEL);
  setText(slot, instance, ptr, bytes, label);
  store<u8>(instance, boolField("enableFiltering", false) ? 1 : 0, INSTANCE_AT_MODE);
}

function headerLabel(slot: usize, instance: usize): void {
  const header = textField("headerName");
  const label = textField("labelKey");
  if (header < 0) refuseField("headerName", NO_NODE, "a header's name");
  if (label < 0) refuseField("labelKey", NO_NODE, "a label's name");
  if (isRefused()) return;
  setHeader(slot, instance, treeTextPtr(header), treeTextLen(header), header);
  setText(slot, instance, treeTextPtr(label), treeTextLen(label), label);
}

function prefixAffinity(instance: usize): void {
  const threshold = numberField("affinityThreshold", AFFINITY_THRESHOLD_DEFAULT, 0, 1, "a number, 0 to 1");
  const exploration = numberField(
    "explorationProbability",
    EXPLORATION_PROBABILITY_DEFAULT,
    0,
    1,
    "a number, 0 to 1",
  );
  const penalty = numberField("maxTTFTPenaltyMs", MAX_TTFT_PENALTY_MS_DEFAULT, 0, WHOLE_MAX, "a number ≥ 0");
  const peak = numberField(
    "peakPrefillThroughput",
    PEAK_PREFILL_THROUGHPUT_DEFAULT,
    0,
    WHOLE_MAX,
    "a number ≥ 0",
  );
  textField("prefixMatchInfoProducerName");
  textField("latencyPredictionInfoProducerName");
  textField("inFlightLoadProducerName");
  const source = field("ttftSource");
  if (treeTextIs(source, "latencyPredictor")) refuseSource(source);
  else if (source >= 0 && !treeTextIs(source, "prefillThroughput")) {
    refuseField("ttftSource", source, '"prefillThroughput"');
  }
  if (penalty > 0 && peak == 0) {
    refuseField(
      "peakPrefillThroughput",
      field("peakPrefillThroughput"),
      "a number > 0 while maxTTFTPenaltyMs is > 0",
    );
  }
  store<f64>(instance, threshold, INSTANCE_AT_A);
  store<f64>(instance, exploration, INSTANCE_AT_B);
  store<f64>(instance, penalty, INSTANCE_AT_C);
  store<f64>(instance, peak, INSTANCE_AT_D);
}

function refuseSource(node: i32): void {
  const mark = pathMark();
  pathMember("ttftSource");
  refuseFor(
    node,
    "the latency predictor is known in llm-d and not supported; the nearest is prefillThroughput",
  );
  pathBack(mark);
}

function utilization(slot: usize, instance: usize): void {
  const conditions = arrayField("conditions");
  const count = treeCount(conditions);
  store<u8>(instance, boolField("fallbackOnEmpty", false) ? 1 : 0, INSTANCE_AT_MODE);
  textField("inFlightLoadProducerName");
  if (count == 0) refuseField("conditions", conditions, "at least one condition");
  const list = slotAlloc(slot, count * <u32>CONDITION_BYTES);
  if (list == 0) refuseField("conditions", conditions, NO_ROOM);
  store<u32>(instance, <u32>list, INSTANCE_AT_LIST);
  store<u32>(instance, count, INSTANCE_AT_COUNT);
  const mark = pathMark();
  let condition = treeFirst(conditions);
  for (let i: u32 = 0; condition >= 0 && !isRefused(); i++) {
    pathMember("conditions");
    pathElement(i);
    readCondition(condition, list + <usize>i * CONDITION_BYTES);
    pathBack(mark);
    condition = treeNext(condition);
  }
}

function readCondition(node: i32, at: usize): void {
  objectBegin(node);
  const metric = field("metric");
  const isUsage = treeTextIs(metric, "kv-cache-utilization");
  let column = COLUMN_KV_USAGE;
  if (treeTextIs(metric, "active-requests")) column = COLUMN_INFLIGHT_REQUESTS;
  else if (treeTextIs(metric, "running-requests")) column = COLUMN_RUNNING;
  else if (treeTextIs(metric, "waiting-queue")) column = COLUMN_WAITING;
  else if (!isUsage) {
    refuseField("metric", metric, "active-requests, running-requests, waiting-queue or kv-cache-utilization");
  }
  if (field("maxValue") < 0) refuseField("maxValue", NO_NODE, "a number ≥ 0");
  const most: f64 = isUsage ? 1 : WHOLE_MAX;
  conditionSet(at, column, numberField("maxValue", 0, 0, most, isUsage ? "a share, 0 to 1" : "a number ≥ 0"));
  objectEnd();
}

function setText(slot: usize, instance: usize, ptr: usize, bytes: u32, node: i32): void {
  const text = slotText(slot, ptr, bytes);
  if (text == 0) refuse(node, NO_ROOM);
  store<u32>(instance, <u32>text, INSTANCE_AT_TEXT);
  store<u32>(instance, bytes, INSTANCE_AT_TEXT_BYTES);
}

function setHeader(slot: usize, instance: usize, ptr: usize, bytes: u32, node: i32): void {
  const header = slotHeader(slot, ptr, bytes);
  if (header == NO_HEADER) refuse(node, NO_HEADER_ROOM);
  store<u8>(instance, <u8>header, INSTANCE_AT_HEADER);
}
