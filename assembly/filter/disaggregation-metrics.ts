// Envoy metrics of disaggregation: decisions by what runs elsewhere, failed prefills by kind, and both legs' times.
import { METRIC_COUNTER, METRIC_HISTOGRAM } from "../abi/constants";
import { incrementMetric, recordMetric } from "../abi/host";
import { ascii } from "../text/text";
import { COUNT_PREFILL_FAILURES, countUp } from "./counters";
import { NO_LABEL, POOL_PLACES, define, perPool } from "./metrics";

// By RUNS_* bits (schema/wanted-stages.ts). The names are llm-d's (disagg_decision_total, label decision_type).
const DECISIONS: u32 = 4;
const decisionNames: usize = memory.data(4 * 4, 4);
store<u32>(decisionNames, <u32>ascii("decode-only"), 0);
store<u32>(decisionNames, <u32>ascii("prefill-decode"), 4);
store<u32>(decisionNames, <u32>ascii("encode-decode"), 8);
store<u32>(decisionNames, <u32>ascii("encode-prefill-decode"), 12);
const decisionIds: usize = memory.data(17 * 4 * 4, 4);

/** Name (a Text) of a decision, RUNS_* bits. */
export function decisionName(runs: u32): usize {
  return load<u32>(decisionNames + ((<usize>runs) << 2));
}

/** Counts a decision of a configuration that has further stages; `runs`: RUNS_* bits. */
export function meterStages(pool: u32, runs: u32): void {
  const place = min(pool, POOL_PLACES - 1);
  const at = decisionIds + ((<usize>(place * DECISIONS + runs)) << 2);
  let id = load<u32>(at);
  if (id == 0) {
    id = define(METRIC_COUNTER, "epp_disagg_decisions_total", place, "kind", decisionName(runs)) + 1;
    store<u32>(at, id);
  }
  incrementMetric(id - 1, 1);
}

// Why a prefill that the filter called failed.
/** The host refused the connection or broke it. */
export const FAILED_CONNECT: u32 = 0;
/** The endpoint answered 5xx. */
export const FAILED_STATUS: u32 = 1;
export const FAILED_TIMEOUT: u32 = 2;
/** 200 without parameters that can be passed on. */
export const FAILED_MALFORMED: u32 = 3;
export const FAILED_TOO_LARGE: u32 = 4;
/** The endpoint refused the request itself, with 4xx: the decode endpoint's own answer tells the client why. */
export const FAILED_REFUSED: u32 = 5;
/** The call could not be made: Envoy does not know the cluster, or a circuit breaker of it is open. */
export const FAILED_CALL: u32 = 6;
const FAILURES: u32 = 7;
const failureNames: usize = memory.data(7 * 4, 4);
store<u32>(failureNames, <u32>ascii("connect"), 0);
store<u32>(failureNames, <u32>ascii("status"), 4);
store<u32>(failureNames, <u32>ascii("timeout"), 8);
store<u32>(failureNames, <u32>ascii("malformed"), 12);
store<u32>(failureNames, <u32>ascii("too_large"), 16);
store<u32>(failureNames, <u32>ascii("refused"), 20);
store<u32>(failureNames, <u32>ascii("call"), 24);
const failureIds: usize = memory.data(7 * 4, 4);

/** Name (a Text) of a failure, FAILED_*. */
export function failureName(kind: u32): usize {
  return load<u32>(failureNames + ((<usize>min(kind, FAILURES - 1)) << 2));
}

/** Counts a failed prefill; `kind`: FAILED_*. */
export function meterPrefillFailure(kind: u32): void {
  const index = min(kind, FAILURES - 1);
  const at = failureIds + ((<usize>index) << 2);
  countUp(COUNT_PREFILL_FAILURES);
  if (load<u32>(at) == 0) {
    const name = failureName(index);
    store<u32>(at, define(METRIC_COUNTER, "epp_prefill_failures_total", NO_LABEL, "kind", name) + 1);
  }
  incrementMetric(load<u32>(at) - 1, 1);
}

const prefillIds: usize = memory.data(17 * 4, 4);
const decodeIds: usize = memory.data(17 * 4, 4);

/** ms from the call of a prefill endpoint to its reply. */
export function meterPrefillLeg(pool: u32, ms: u64): void {
  recordMetric(perPool(prefillIds, METRIC_HISTOGRAM, "epp_prefill_leg_ms", pool), ms);
}

/** ms from when the decode endpoint is asked to its first token: transfer and one step. */
export function meterDecodeLeg(pool: u32, ms: u64): void {
  recordMetric(perPool(decodeIds, METRIC_HISTOGRAM, "epp_decode_leg_ms", pool), ms);
}
