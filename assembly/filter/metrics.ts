// What a worker shows as Envoy metrics; totals follow its counters.
import { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM } from "../abi/constants";
import { defineMetric, incrementMetric, recordMetric } from "../abi/host";
import { textBytes, ascii, writeBegin, writeBytes, writeLength, writeLiteral, writeText } from "../text/text";
import { counterPtr } from "../flow/cell";
import { POOLS_MAX } from "../wire/limits";
import { indexEntries } from "../prefix/entries";
import { poolName, poolNameBytes } from "../pool/table";
import { streamCount } from "./streams";
import {
  COUNT_DISAGG_COSTLIER,
  COUNT_DISAGG_NO_PREFILL,
  COUNT_DISAGG_UNFIT,
  COUNT_EARLY,
  COUNT_JOURNAL_OVERRUNS,
  COUNT_KV_BAD,
  COUNT_KV_BATCHES,
  COUNT_KV_HELD,
  COUNT_KV_OVERRUNS,
  COUNT_LEASES,
  COUNT_MATCHED_TOKENS,
  COUNT_MOVED,
  COUNT_NO_CELL,
  COUNT_POLICIES_BAD,
  COUNT_PREFILL_FALLBACKS,
  COUNT_PREFILL_NOTHING,
  COUNT_PROMPT_PROGRAMS_BAD,
  COUNT_PROMPT_TOKENS,
  COUNT_REQUESTS,
  COUNT_RESTORES_MISSED,
  COUNT_RETRIED,
  COUNT_REWRITES,
  COUNT_REWRITES_MISSED,
  COUNT_SNAPSHOTS_BAD,
  COUNT_STANDBY_PUSHES,
  COUNT_STREAM_OVERFLOW,
  COUNT_UNKNOWN_UPSTREAM,
  COUNT_USAGE_CACHED_TOKENS,
  COUNT_USAGE_PROMPT_TOKENS,
  COUNT_WATCHDOG,
  NOW_HEADER_ONLY,
  TOTAL_CHAINS_CUT,
  TOTAL_ENTRIES_DROPPED,
  TOTAL_EVICTIONS,
  TOTAL_INDEX_DROPS,
  TOTAL_KV_DRIFTS,
  TOTAL_KV_DROPPED,
  TOTAL_SET_ASIDE,
  counter,
  fillCounters,
} from "./counters";

// A label is written ".label=[value]" and cut out by the stats_tags of the shipped bootstrap.
// Ids belong to this VM; values are the process's.
const LABEL_NONE = ascii("");
const DECISION_KINDS: u32 = 5;
/** Scored with the prompt's prefix known. */
export const DECIDED_BY_PREFIX: u32 = 0;
/** Scored; no endpoint held any of it. */
export const DECIDED_COLD: u32 = 1;
/** Scored without a prompt: other paths, GETs. */
export const DECIDED_BY_LOAD: u32 = 2;
/** Scored before any body, as stop-iteration is off or the stream table is full. */
export const DECIDED_BLIND: u32 = 3;
/** Not decided: no snapshot, the fallback policy balances. */
export const DECIDED_NOT: u32 = 4;
const decisionKinds: usize = memory.data(5 * 4, 4);
store<u32>(decisionKinds, <u32>ascii("prefix"), 0);
store<u32>(decisionKinds, <u32>ascii("cold"), 4);
store<u32>(decisionKinds, <u32>ascii("load"), 8);
store<u32>(decisionKinds, <u32>ascii("blind"), 12);
store<u32>(decisionKinds, <u32>ascii("none"), 16);

export function decisionKindName(kind: u32): usize {
  return load<u32>(decisionKinds + ((<usize>kind) << 2));
}

// Ids: per pool (the last place: pool unknown) × kind, plus one; 0 = not defined yet.
/** The last place is that of an unknown pool. */
export const POOL_PLACES: u32 = POOLS_MAX + 1;
const decisionIds: usize = memory.data(17 * 5 * 4, 4);
const inflightIds: usize = memory.data(17 * 4, 4);
const tokenIds: usize = memory.data(17 * 4, 4);
const ageIds: usize = memory.data(17 * 4, 4);
const readyIds: usize = memory.data(17 * 4, 4);
const ratioIds: usize = memory.data(17 * 4, 4);
const metricName: usize = memory.data(512);

/** Defines a metric, with the pool's label (NO_LABEL: none) and one more (an empty Text: none); its id. */
export function define(kind: i32, metric: string, pool: u32, label: string, value: usize): u32 {
  writeBegin(metricName, 512);
  writeLiteral(metric);
  if (pool != NO_LABEL) {
    writeLiteral(".pool=[");
    if (pool < <u32>POOLS_MAX) writeBytes(poolName(pool), poolNameBytes(pool));
    writeLiteral("]");
  }
  if (textBytes(value) > 0) {
    writeLiteral(".");
    writeLiteral(label);
    writeLiteral("=[");
    writeText(value);
    writeLiteral("]");
  }
  return defineMetric(kind, metricName, writeLength());
}
export const NO_LABEL: u32 = 0xffffffff;

/** The id, kept in u32[17] `ids` by pool, of a metric with the pool's label alone. */
export function perPool(ids: usize, kind: i32, metric: string, pool: u32): u32 {
  const at = ids + ((<usize>pool) << 2);
  let id = load<u32>(at);
  if (id == 0) {
    id = define(kind, metric, pool, "", LABEL_NONE) + 1;
    store<u32>(at, id);
  }
  return id - 1;
}

/** Counts a decision; `pool` ≥ POOLS_MAX = none was found. */
export function meterDecision(pool: u32, kind: u32): void {
  const place = min(pool, POOL_PLACES - 1);
  const at = decisionIds + ((<usize>(place * DECISION_KINDS + kind)) << 2);
  let id = load<u32>(at);
  if (id == 0) {
    id = define(METRIC_COUNTER, "epp_decisions_total", place, "kind", decisionKindName(kind)) + 1;
    store<u32>(at, id);
  }
  incrementMetric(id - 1, 1);
}

/** Share of the prompt expected in the chosen endpoint's cache, in percent. */
export function meterHitPercent(pool: u32, percent: u32): void {
  recordMetric(perPool(ratioIds, METRIC_HISTOGRAM, "epp_prefix_hit_percent", pool), percent);
}

export function meterInflight(pool: u32, requests: u64, tokens: u64): void {
  recordMetric(perPool(inflightIds, METRIC_GAUGE, "epp_inflight_requests", pool), requests);
  recordMetric(perPool(tokenIds, METRIC_GAUGE, "epp_inflight_tokens", pool), tokens);
}

export function meterPool(pool: u32, ageMs: u64, ready: u32): void {
  recordMetric(perPool(ageIds, METRIC_GAUGE, "epp_snapshot_age_ms", pool), ageMs);
  recordMetric(perPool(readyIds, METRIC_GAUGE, "epp_ready_endpoints", pool), ready);
}

// Metrics without a pool: counters follow the cell's totals, so a call costs the request path nothing.
const plainIds: usize = memory.data(72 * 4, 4);
const plainSent: usize = memory.data(72 * 8, 8);
let decisionTimeId: u32 = 0;
let indexGaugeId: u32 = 0;
let headerOnlyId: u32 = 0;
let streamsId: u32 = 0;

/** Microseconds that a decision took, index look-up and scoring and header writes included. */
export function meterDecisionTime(us: u64): void {
  if (decisionTimeId == 0) {
    decisionTimeId = define(METRIC_HISTOGRAM, "epp_decision_time_us", NO_LABEL, "", LABEL_NONE) + 1;
  }
  recordMetric(decisionTimeId - 1, us);
}

function follow(index: u32, metric: string): void {
  const at = plainIds + ((<usize>index) << 2);
  if (load<u32>(at) == 0) store<u32>(at, define(METRIC_COUNTER, metric, NO_LABEL, "", LABEL_NONE) + 1);
  const total = load<u64>(counterPtr(index));
  const sent = plainSent + ((<usize>index) << 3);
  incrementMetric(load<u32>(at) - 1, <u32>(total - load<u64>(sent)));
  store<u64>(sent, total);
}

/** Brings the totals to Envoy's metrics; once a second, from the tick. */
export function meterTotals(): void {
  fillCounters();
  follow(COUNT_REQUESTS, "epp_requests_total");
  follow(COUNT_EARLY, "epp_early_decisions_total");
  follow(COUNT_STREAM_OVERFLOW, "epp_stream_table_overflow_total");
  follow(COUNT_WATCHDOG, "epp_watchdog_resumes_total");
  follow(COUNT_UNKNOWN_UPSTREAM, "epp_unknown_upstream_total");
  follow(COUNT_MOVED, "epp_prefixes_moved_total");
  follow(COUNT_RETRIED, "epp_requests_retried_total");
  follow(COUNT_JOURNAL_OVERRUNS, "epp_journal_overruns_total");
  follow(COUNT_NO_CELL, "epp_workers_without_cell_total");
  follow(COUNT_SNAPSHOTS_BAD, "epp_snapshots_refused_total");
  follow(COUNT_POLICIES_BAD, "epp_policies_refused_total");
  follow(COUNT_PROMPT_PROGRAMS_BAD, "epp_prompt_programs_refused_total");
  follow(COUNT_LEASES, "epp_leases_taken_total");
  follow(COUNT_STANDBY_PUSHES, "epp_standby_pushes_total");
  follow(COUNT_REWRITES, "epp_models_rewritten_total");
  follow(COUNT_REWRITES_MISSED, "epp_rewrites_missed_total");
  follow(COUNT_RESTORES_MISSED, "epp_responses_not_restored_total");
  follow(COUNT_DISAGG_COSTLIER, "epp_disagg_costlier_total");
  follow(COUNT_DISAGG_NO_PREFILL, "epp_disagg_no_prefill_endpoint_total");
  follow(COUNT_DISAGG_UNFIT, "epp_disagg_unfit_total");
  follow(COUNT_PREFILL_FALLBACKS, "epp_prefill_fallbacks_total");
  follow(COUNT_PREFILL_NOTHING, "epp_prefill_nothing_total");
  follow(COUNT_PROMPT_TOKENS, "epp_prompt_tokens_total");
  follow(COUNT_MATCHED_TOKENS, "epp_matched_tokens_total");
  follow(COUNT_USAGE_PROMPT_TOKENS, "epp_usage_prompt_tokens_total");
  follow(COUNT_USAGE_CACHED_TOKENS, "epp_usage_cached_tokens_total");
  follow(TOTAL_EVICTIONS, "epp_index_evictions_total");
  follow(TOTAL_CHAINS_CUT, "epp_chains_cut_total");
  follow(TOTAL_SET_ASIDE, "epp_hosts_set_aside_total");
  follow(TOTAL_ENTRIES_DROPPED, "epp_cell_entries_dropped_total");
  follow(COUNT_KV_BATCHES, "epp_kv_batches_total");
  follow(COUNT_KV_BAD, "epp_kv_batches_refused_total");
  follow(COUNT_KV_HELD, "epp_kv_batches_held_total");
  follow(COUNT_KV_OVERRUNS, "epp_kv_overruns_total");
  follow(TOTAL_KV_DRIFTS, "epp_kv_drifts_total");
  follow(TOTAL_KV_DROPPED, "epp_kv_endpoints_dropped_total");
  follow(TOTAL_INDEX_DROPS, "epp_index_entries_dropped_total");
  if (indexGaugeId == 0) {
    indexGaugeId = define(METRIC_GAUGE, "epp_index_entries", NO_LABEL, "", LABEL_NONE) + 1;
    headerOnlyId = define(METRIC_GAUGE, "epp_header_only", NO_LABEL, "", LABEL_NONE) + 1;
    streamsId = define(METRIC_GAUGE, "epp_worker_streams", NO_LABEL, "", LABEL_NONE) + 1;
  }
  recordMetric(indexGaugeId - 1, indexEntries());
  recordMetric(headerOnlyId - 1, counter(NOW_HEADER_ONLY));
  recordMetric(streamsId - 1, streamCount());
}

// Refusals by reason: few, so each is counted where it happens.
const errorIds: usize = memory.data(64 * 4, 4);

/** Counts a refusal; `reason` is one of the reply module's, < 64, with its name. */
export function meterError(reason: u32, reasonName: usize): void {
  const at = errorIds + ((<usize>reason) << 2);
  if (load<u32>(at) == 0)
    store<u32>(at, define(METRIC_COUNTER, "epp_errors_total", NO_LABEL, "reason", reasonName) + 1);
  incrementMetric(load<u32>(at) - 1, 1);
}
