// What a worker counts and shows: totals that travel with its cell for GET /status, and Envoy metrics.
import { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM } from "../abi/constants";
import { defineMetric, incrementMetric, recordMetric } from "../abi/host";
import { textBytes, ascii, writeBegin, writeBytes, writeLength, writeLiteral, writeText } from "../text/text";
import { cellEntriesDropped, counterPtr } from "../flow/cell";
import { journalReplayed } from "../flow/journal";
import { kvDrifts, kvDropped } from "../flow/kv-apply";
import { ratesEntriesDropped } from "../flow/rates";
import { busyRow, busyRowCount, ownRequests, ownTokens } from "../flow/reservations";
import { POOLS_MAX } from "../wire/limits";
import { cellsCutTotal } from "../prefix/cells";
import { chainsCutTotal } from "../prefix/chain";
import { exactEntriesTotal } from "../prefix/exact";
import { indexDrops, indexEntries, indexEvictions } from "../prefix/entries";
import { pagesInUse } from "../prefix/pages";
import { setAsideTotal } from "../pool/health";
import { poolName, poolNameBytes } from "../pool/table";
import { streamCount } from "./streams";

// Counters of the cell, by index; COUNTER_NAMES has their names in the same order.
export const COUNT_REQUESTS: u32 = 0;
export const COUNT_DECISIONS: u32 = 1;
export const COUNT_EARLY: u32 = 2;
export const COUNT_BY_LOAD: u32 = 3;
export const COUNT_PASSED: u32 = 4;
export const COUNT_ERRORS: u32 = 5;
export const COUNT_STREAM_OVERFLOW: u32 = 6;
export const COUNT_HEADER_ONLY: u32 = 7;
export const COUNT_WATCHDOG: u32 = 8;
export const COUNT_UNKNOWN_UPSTREAM: u32 = 9;
export const COUNT_MOVED: u32 = 10;
export const COUNT_RETRIED: u32 = 11;
export const COUNT_JOURNAL_OVERRUNS: u32 = 12;
export const COUNT_NO_CELL: u32 = 13;
export const COUNT_SNAPSHOTS: u32 = 14;
export const COUNT_SNAPSHOTS_BAD: u32 = 15;
export const COUNT_PROMPT_TOKENS: u32 = 16;
export const COUNT_MATCHED_TOKENS: u32 = 17;
export const COUNT_USAGE_PROMPT_TOKENS: u32 = 18;
export const COUNT_USAGE_CACHED_TOKENS: u32 = 19;
// Filled in when the cell is built.
export const NOW_STREAMS: u32 = 20;
export const NOW_REQUESTS: u32 = 21;
export const NOW_TOKENS: u32 = 22;
export const NOW_INDEX_ENTRIES: u32 = 23;
export const NOW_CHAIN_PAGES: u32 = 24;
const TOTAL_EVICTIONS: u32 = 25;
const TOTAL_CHAINS_CUT: u32 = 26;
const TOTAL_SET_ASIDE: u32 = 27;
const TOTAL_REPLAYED: u32 = 28;
const TOTAL_ENTRIES_DROPPED: u32 = 29;
const NOW_MEMORY: u32 = 30;
export const NOW_HEADER_ONLY: u32 = 31;
export const COUNT_POLICIES: u32 = 32;
export const COUNT_POLICIES_BAD: u32 = 33;
export const COUNT_REWRITES: u32 = 34;
export const COUNT_REWRITES_MISSED: u32 = 35;
export const COUNT_RESTORES_MISSED: u32 = 36;
/** Prompts computed at another endpoint than the one that decodes. */
export const COUNT_DISAGGREGATED: u32 = 37;
/** Wanted by the decider, but sooner where it is decoded. */
export const COUNT_DISAGG_COSTLIER: u32 = 38;
/** Wanted, but there was no endpoint for it. */
export const COUNT_DISAGG_NO_PREFILL: u32 = 39;
/** Wanted, but the body is longer than what is held, or the table of calls is full, or the request is not for it. */
export const COUNT_DISAGG_UNFIT: u32 = 40;
export const COUNT_PREFILL_FAILURES: u32 = 41;
/** Prefills that failed everywhere: the prompt was computed where it is decoded. */
export const COUNT_PREFILL_FALLBACKS: u32 = 42;
/** Calls whose client was gone when the reply came. */
export const COUNT_PREFILL_ORPHANS: u32 = 43;
export const NOW_PREFILL_CALLS: u32 = 44;
/** Batches of the exact index that were applied. */
export const COUNT_KV_BATCHES: u32 = 45;
export const COUNT_KV_BAD: u32 = 46;
/** Batches that were not taken because a worker was too far behind. */
export const COUNT_KV_HELD: u32 = 47;
export const COUNT_KV_OVERRUNS: u32 = 48;
const NOW_KV_ENTRIES: u32 = 49;
const TOTAL_KV_DRIFTS: u32 = 50;
const TOTAL_KV_DROPPED: u32 = 51;
const TOTAL_INDEX_DROPS: u32 = 52;
export const COUNT_PROMPT_PROGRAMS: u32 = 53;
export const COUNT_PROMPT_PROGRAMS_BAD: u32 = 54;
/** Prompts of pools with prompt programs, those rendered for the exact index and the others. */
export const COUNT_PROMPTS_RENDERED: u32 = 55;
export const COUNT_PROMPTS_NOT_RENDERED: u32 = 56;
/** Counters with a name; the cell's further places are zero. */
export const COUNTERS_NAMED: u32 = 57;

const names: usize = memory.data(72 * 4, 4);
function name(index: u32, literal: string): void {
  store<u32>(names + ((<usize>index) << 2), <u32>ascii(literal));
}
name(COUNT_REQUESTS, "requests");
name(COUNT_DECISIONS, "decisions");
name(COUNT_EARLY, "decisionsEarly");
name(COUNT_BY_LOAD, "decisionsByLoad");
name(COUNT_PASSED, "requestsPassed");
name(COUNT_ERRORS, "requestsRefused");
name(COUNT_STREAM_OVERFLOW, "streamTableOverflows");
name(COUNT_HEADER_ONLY, "headerOnlyDecisions");
name(COUNT_WATCHDOG, "watchdogResumes");
name(COUNT_UNKNOWN_UPSTREAM, "unknownUpstreams");
name(COUNT_MOVED, "prefixesMoved");
name(COUNT_RETRIED, "requestsRetried");
name(COUNT_JOURNAL_OVERRUNS, "journalOverruns");
name(COUNT_NO_CELL, "workersWithoutCell");
name(COUNT_SNAPSHOTS, "snapshotsTaken");
name(COUNT_SNAPSHOTS_BAD, "snapshotsRefused");
name(COUNT_PROMPT_TOKENS, "promptTokens");
name(COUNT_MATCHED_TOKENS, "matchedTokens");
name(COUNT_USAGE_PROMPT_TOKENS, "usagePromptTokens");
name(COUNT_USAGE_CACHED_TOKENS, "usageCachedTokens");
name(NOW_STREAMS, "streams");
name(NOW_REQUESTS, "inflightRequests");
name(NOW_TOKENS, "inflightTokens");
name(NOW_INDEX_ENTRIES, "indexEntries");
name(NOW_CHAIN_PAGES, "chainPages");
name(TOTAL_EVICTIONS, "indexEvictions");
name(TOTAL_CHAINS_CUT, "chainsCut");
name(TOTAL_SET_ASIDE, "hostsSetAside");
name(TOTAL_REPLAYED, "journalRecordsReplayed");
name(TOTAL_ENTRIES_DROPPED, "cellEntriesDropped");
name(NOW_MEMORY, "memoryBytes");
name(NOW_HEADER_ONLY, "headerOnly");
name(COUNT_POLICIES, "policiesTaken");
name(COUNT_POLICIES_BAD, "policiesRefused");
name(COUNT_REWRITES, "modelsRewritten");
name(COUNT_REWRITES_MISSED, "rewritesMissed");
name(COUNT_RESTORES_MISSED, "responsesNotRestored");
name(COUNT_DISAGGREGATED, "promptsDisaggregated");
name(COUNT_DISAGG_COSTLIER, "disaggregationsCostlier");
name(COUNT_DISAGG_NO_PREFILL, "disaggregationsWithoutEndpoint");
name(COUNT_DISAGG_UNFIT, "disaggregationsUnfit");
name(COUNT_PREFILL_FAILURES, "prefillFailures");
name(COUNT_PREFILL_FALLBACKS, "prefillFallbacks");
name(COUNT_PREFILL_ORPHANS, "prefillOrphans");
name(NOW_PREFILL_CALLS, "prefillCalls");
name(COUNT_KV_BATCHES, "kvBatchesApplied");
name(COUNT_KV_BAD, "kvBatchesRefused");
name(COUNT_KV_HELD, "kvBatchesHeld");
name(COUNT_KV_OVERRUNS, "kvOverruns");
name(NOW_KV_ENTRIES, "kvEntries");
name(TOTAL_KV_DRIFTS, "kvDrifts");
name(TOTAL_KV_DROPPED, "kvEndpointsDropped");
name(TOTAL_INDEX_DROPS, "indexEntriesDropped");
name(COUNT_PROMPT_PROGRAMS, "promptProgramsTaken");
name(COUNT_PROMPT_PROGRAMS_BAD, "promptProgramsRefused");
name(COUNT_PROMPTS_RENDERED, "promptsRendered");
name(COUNT_PROMPTS_NOT_RENDERED, "promptsNotRendered");

/** The name (a Text) of the counter at `index` < COUNTERS_NAMED. */
export function counterName(index: u32): usize {
  return load<u32>(names + ((<usize>index) << 2));
}

export function countUp(index: u32, by: u64 = 1): void {
  const at = counterPtr(index);
  store<u64>(at, load<u64>(at) + by);
}
export function counter(index: u32): u64 {
  return load<u64>(counterPtr(index));
}
export function setCounter(index: u32, value: u64): void {
  store<u64>(counterPtr(index), value);
}

/** Puts the present figures beside the totals, before the cell is built. */
export function fillCounters(): void {
  let requests: u64 = 0;
  let tokens: u64 = 0;
  for (let i: u32 = 0; i < busyRowCount(); i++) {
    requests += ownRequests(busyRow(i));
    tokens += ownTokens(busyRow(i));
  }
  setCounter(NOW_STREAMS, streamCount());
  setCounter(NOW_REQUESTS, requests);
  setCounter(NOW_TOKENS, tokens);
  setCounter(NOW_INDEX_ENTRIES, indexEntries());
  setCounter(NOW_CHAIN_PAGES, pagesInUse());
  setCounter(TOTAL_EVICTIONS, indexEvictions());
  setCounter(TOTAL_CHAINS_CUT, chainsCutTotal() + cellsCutTotal());
  setCounter(TOTAL_SET_ASIDE, setAsideTotal());
  setCounter(TOTAL_REPLAYED, journalReplayed());
  setCounter(TOTAL_ENTRIES_DROPPED, cellEntriesDropped() + ratesEntriesDropped());
  setCounter(NOW_KV_ENTRIES, exactEntriesTotal());
  setCounter(TOTAL_KV_DRIFTS, kvDrifts());
  setCounter(TOTAL_KV_DROPPED, kvDropped());
  setCounter(TOTAL_INDEX_DROPS, indexDrops());
  setCounter(NOW_MEMORY, (<u64>memory.size()) << 16);
}

// Envoy metrics. A label is written ".label=[value]" and cut out by the stats_tags of the shipped bootstrap.
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
  follow(COUNT_REWRITES, "epp_models_rewritten_total");
  follow(COUNT_REWRITES_MISSED, "epp_rewrites_missed_total");
  follow(COUNT_RESTORES_MISSED, "epp_responses_not_restored_total");
  follow(COUNT_DISAGG_COSTLIER, "epp_disagg_costlier_total");
  follow(COUNT_DISAGG_NO_PREFILL, "epp_disagg_no_prefill_endpoint_total");
  follow(COUNT_DISAGG_UNFIT, "epp_disagg_unfit_total");
  follow(COUNT_PREFILL_FALLBACKS, "epp_prefill_fallbacks_total");
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
