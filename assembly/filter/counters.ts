// What a worker counts: totals that travel with its cell for GET /status.
import { ascii } from "../text/text";
import { cellEntriesDropped, counterPtr } from "../flow/cell";
import { journalReplayed } from "../flow/journal";
import { kvDrifts, kvDropped } from "../flow/kv-apply";
import { ratesEntriesDropped } from "../flow/rates";
import { busyRow, busyRowCount, ownRequests, ownTokens } from "../flow/reservations";
import { cellsCutTotal } from "../prefix/cells";
import { chainsCutTotal } from "../prefix/chain";
import { exactEntriesTotal } from "../prefix/exact";
import { indexDrops, indexEntries, indexEvictions } from "../prefix/entries";
import { pagesInUse } from "../prefix/pages";
import { setAsideTotal } from "../pool/health";
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
export const TOTAL_EVICTIONS: u32 = 25;
export const TOTAL_CHAINS_CUT: u32 = 26;
export const TOTAL_SET_ASIDE: u32 = 27;
const TOTAL_REPLAYED: u32 = 28;
export const TOTAL_ENTRIES_DROPPED: u32 = 29;
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
export const TOTAL_KV_DRIFTS: u32 = 50;
export const TOTAL_KV_DROPPED: u32 = 51;
export const TOTAL_INDEX_DROPS: u32 = 52;
export const COUNT_PROMPT_PROGRAMS: u32 = 53;
export const COUNT_PROMPT_PROGRAMS_BAD: u32 = 54;
/** Prompts of pools with prompt programs, those rendered for the exact index and the others. */
export const COUNT_PROMPTS_RENDERED: u32 = 55;
export const COUNT_PROMPTS_NOT_RENDERED: u32 = 56;
/** Times that a sidecar took a pool over, its first one too. */
export const COUNT_LEASES: u32 = 57;
/** Pushes of sidecars that stand by. */
export const COUNT_STANDBY_PUSHES: u32 = 58;
/** Prompts that were computed elsewhere, with nothing to hand over: they were computed where they are decoded too. */
export const COUNT_PREFILL_NOTHING: u32 = 59;
/** Counters with a name; the cell's further places are zero. */
export const COUNTERS_NAMED: u32 = 60;

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
name(COUNT_LEASES, "leasesTaken");
name(COUNT_STANDBY_PUSHES, "standbyPushes");
name(COUNT_PREFILL_NOTHING, "prefillsWithoutParameters");

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
