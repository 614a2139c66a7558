// One decision: a plan run over the candidates. Filters first, then the weighted scorers, then the picker.
//
//   total = Σ weight × clamp(score, 0, 1)
//
// Order of calls: requestReset() and its setters, candidatesReset() and candidatesAdd() for every row that is
// ready, serves the model and is in the subset, then schedule(), then, once the request was sent to one of
// the results, schedulePlaced(). Nothing here allocates or calls the host.
// Source: llm-d-router pkg/epp/scheduling/scheduler_profile.go @ ebab6879.
import { scoreActiveRequest } from "./active-request-scorer";
import { candidateCount, scoreAll, setUnknownMean, totalsAdd, totalsReset } from "./candidates";
import { filterContextLength, scoreContextLength } from "./context-length-aware";
import { scoreGpuMemory } from "./gpu-memory-scorer";
import { scoreGpuUtilization } from "./gpu-utilization-scorer";
import { filterHeaderBasedTesting } from "./header-based-testing-filter";
import { scoreHeaderLabelAffinity } from "./header-label-affinity-scorer";
import { scoreKvCacheUtilization } from "./kv-cache-utilization-scorer";
import { filterLabelSelector } from "./label-selector-filter";
import { scoreLoadAware } from "./load-aware-scorer";
import { scoreLoraAffinity } from "./lora-affinity-scorer";
import { noHitLruPlaced, scoreNoHitLru } from "./no-hit-lru-scorer";
import { pick, pickByLatency, resultsReset } from "./pickers";
import { instanceType, planFilter, planFilters, planPicker, planResults } from "./plan";
import { planPickerInstance, planScorer, planScorers, planUnknownMean, planWeight } from "./plan";
import {
  PLUGIN_ACTIVE_REQUEST_SCORER,
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
  PLUGIN_NO_HIT_LRU_SCORER,
  PLUGIN_PREFIX_CACHE_AFFINITY_FILTER,
  PLUGIN_PREFIX_CACHE_SCORER,
  PLUGIN_QUEUE_SCORER,
  PLUGIN_ROLE_FILTER,
  PLUGIN_RUNNING_REQUESTS_SIZE_SCORER,
  PLUGIN_SESSION_AFFINITY_FILTER,
  PLUGIN_SESSION_AFFINITY_SCORER,
  PLUGIN_TOKEN_LOAD_SCORER,
  PLUGIN_UTILIZATION_FILTER,
} from "./plugin-types";
import { scorePrefixCache } from "./prefix-cache-scorer";
import { filterPrefixCacheAffinity } from "./prefix-cache-affinity-filter";
import { scoreQueue } from "./queue-scorer";
import { requestCold, requestNowMs } from "./request";
import { filterRole } from "./role-filter";
import { scoreRunningRequestsSize } from "./running-requests-size-scorer";
import { filterSessionAffinity, scoreSessionAffinity, sessionPlaced } from "./session-affinity";
import { scoreTokenLoad } from "./token-load-scorer";
import { filterUtilization } from "./utilization-filter";

/** Why there is no result. */
export const SCHEDULE_OK: u32 = 0;
/** There was no candidate to begin with. */
export const SCHEDULE_NO_CANDIDATES: u32 = 1;
/** A filter left none; scheduleRefuser() is its instance. */
export const SCHEDULE_FILTERED_OUT: u32 = 2;

let reason: u32 = 0;
let refuser: usize = 0;

/** Reason of the last schedule(), SCHEDULE_*. */
export function scheduleReason(): u32 {
  return reason;
}

/** The filter instance that left no candidate, or 0. */
export function scheduleRefuser(): usize {
  return refuser;
}

/**
 * Decides. `plan`: a compiled profile (plan.ts); `pool`: the pool that all candidates are rows of.
 * Returns how many rows were picked (resultRow(0) is the best); 0 has a scheduleReason().
 */
export function schedule(plan: usize, pool: u32): u32 {
  resultsReset();
  refuser = 0;
  reason = SCHEDULE_NO_CANDIDATES;
  if (candidateCount() == 0) return 0;
  setUnknownMean(planUnknownMean(plan));
  for (let i: u32 = 0, count = planFilters(plan); i < count; i++) {
    runFilter(planFilter(plan, i), pool);
    if (candidateCount() > 0) continue;
    reason = SCHEDULE_FILTERED_OUT;
    refuser = planFilter(plan, i);
    return 0;
  }
  reason = SCHEDULE_OK;
  if (planPicker(plan) == PLUGIN_LATENCY_PICKER) {
    return pickByLatency(planPickerInstance(plan), pool, planResults(plan));
  }
  totalsReset();
  for (let i: u32 = 0, count = planScorers(plan); i < count; i++) {
    runScorer(planScorer(plan, i), pool);
    totalsAdd(planWeight(plan, i));
  }
  return pick(planPicker(plan), planResults(plan));
}

/** Tells the plugins that remember placements that the request goes to `row`. Once per request. */
export function schedulePlaced(plan: usize, pool: u32, row: u32): void {
  let cold = false;
  for (let i: u32 = 0, count = planScorers(plan); i < count; i++) {
    const instance = planScorer(plan, i);
    const type = instanceType(instance);
    if (type == PLUGIN_NO_HIT_LRU_SCORER) cold = requestCold();
    else if (type == PLUGIN_SESSION_AFFINITY_SCORER) sessionPlaced(instance, pool, row);
  }
  if (cold) noHitLruPlaced(row, requestNowMs());
  for (let i: u32 = 0, count = planFilters(plan); i < count; i++) {
    const instance = planFilter(plan, i);
    if (instanceType(instance) == PLUGIN_SESSION_AFFINITY_FILTER) sessionPlaced(instance, pool, row);
  }
}

/** Runs one filter over the candidates. */
export function runFilter(instance: usize, pool: u32): void {
  switch (instanceType(instance)) {
    case PLUGIN_LABEL_SELECTOR_FILTER:
      return filterLabelSelector(instance, pool);
    case PLUGIN_ROLE_FILTER:
      return filterRole(instance);
    case PLUGIN_PREFIX_CACHE_AFFINITY_FILTER:
      return filterPrefixCacheAffinity(instance);
    case PLUGIN_UTILIZATION_FILTER:
      return filterUtilization(instance);
    case PLUGIN_SESSION_AFFINITY_FILTER:
      return filterSessionAffinity(instance, pool);
    case PLUGIN_CONTEXT_LENGTH_AWARE:
      return filterContextLength(instance, pool);
    case PLUGIN_HEADER_BASED_TESTING_FILTER:
      return filterHeaderBasedTesting(instance);
  }
}

/** Runs one scorer: scoreOf(i) is its score of every candidate. */
export function runScorer(instance: usize, pool: u32): void {
  switch (instanceType(instance)) {
    case PLUGIN_QUEUE_SCORER:
      return scoreQueue();
    case PLUGIN_RUNNING_REQUESTS_SIZE_SCORER:
      return scoreRunningRequestsSize();
    case PLUGIN_KV_CACHE_UTILIZATION_SCORER:
      return scoreKvCacheUtilization();
    case PLUGIN_PREFIX_CACHE_SCORER:
      return scorePrefixCache(instance);
    case PLUGIN_LOAD_AWARE_SCORER:
      return scoreLoadAware(instance);
    case PLUGIN_ACTIVE_REQUEST_SCORER:
      return scoreActiveRequest(instance);
    case PLUGIN_TOKEN_LOAD_SCORER:
      return scoreTokenLoad(instance);
    case PLUGIN_LORA_AFFINITY_SCORER:
      return scoreLoraAffinity();
    case PLUGIN_NO_HIT_LRU_SCORER:
      return scoreNoHitLru(instance, pool);
    case PLUGIN_SESSION_AFFINITY_SCORER:
      return scoreSessionAffinity(instance, pool);
    case PLUGIN_CONTEXT_LENGTH_AWARE:
      return scoreContextLength(instance, pool);
    case PLUGIN_HEADER_LABEL_AFFINITY_SCORER:
      return scoreHeaderLabelAffinity(instance);
    case PLUGIN_GPU_UTILIZATION_SCORER:
      return scoreGpuUtilization();
    case PLUGIN_GPU_MEMORY_SCORER:
      return scoreGpuMemory();
    default:
      return scoreAll(0);
  }
}
