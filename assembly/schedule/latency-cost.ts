// What a request would cost at each candidate, in ms: the latency picker's model.
//
//   prefill = base + token ms · uncached tokens                 (learnt: pool/rates.ts)
//   wait    = token ms · (tokens in flight without a first token − what is done of them) + waiting of foreign requests
//   overdue = the time by which the head of the queue is later than it should be
//   cost    = wait + overdue + prefill + uncached · (mean token ms · λ + token ms · CONTEXT_PRICE · context²)
//
// λ is the mean wait over the candidates in seconds: a token computed twice is taken from the whole fleet, and
// what that is worth grows with how much the fleet has to do. No parameter. It is counted at the candidates' mean speed:
// at each one's own, a long backlog would multiply small errors of what was learnt and send all work to whoever looks a
// little faster. `context` is the share of the endpoint's KV
// cache that the prompts in flight there take: the more context an engine holds, the more answers a prefill holds up,
// and the sooner the cache has no room for the next prompt. So work goes where little is held and hits stay where they
// are. It counts as LMetric's batch size does, but in tokens: ten long contexts weigh more than ten short ones. Squared,
// as an engine with room to spare loses next to nothing and a full one makes prompts wait for answers to end.
// While little is known the cost is blended with LMetric (arXiv 2603.15202): uncached tokens × (requests + 1).
import {
  COLUMN_CONTEXT_TOKENS,
  COLUMN_FOREIGN_REQUESTS,
  COLUMN_HEAD_SINCE_MS,
  COLUMN_HEAD_TOKENS,
  COLUMN_INFLIGHT_REQUESTS,
  COLUMN_INFLIGHT_TOKENS,
  COLUMN_KV_CAPACITY_TOKENS,
  COLUMN_LEGS,
  COLUMN_PREFILLING,
  COLUMN_RUNNING,
  COLUMN_UNCACHED_TOKENS,
  COLUMN_WAITING,
} from "../pool/rows";
import { poolMeanPrompt, poolMeanTokens } from "../pool/means";
import {
  PREFILL_SLOPE_FIRST,
  poolPrefillSamples,
  prefillBaseMs,
  prefillTokenMs,
  ratesOf,
  tpotMs,
} from "../pool/rates";
import { CAPACITY_TOKENS_DEFAULT } from "../prefix/clocks";
import { candidateCount, candidateF64, candidateRow, unknownLoad } from "./candidates";
import { requestNowMs } from "./request";

/** What a token's prefill costs more at an endpoint whose KV cache is all taken, in multiples of that prefill. */
export const CONTEXT_PRICE: f64 = 6;
/** Samples of the pool at which the learnt model counts half and LMetric the other half. */
export const BLEND_SAMPLES: f64 = 8;
/** A head of the queue is late when it takes this many times what was expected. */
export const LATE_FACTOR: f64 = 2;
/** And no less than so many ms: below, nothing that is measured here is exact. */
export const LATE_LEAST_MS: f64 = 50;
/** In LMetric a prompt that is held whole still costs this much: engines compute the last block again. */
export const LAST_BLOCK_TOKENS: f64 = 16;
/** Tokens of a prompt while none was seen. */
export const REQUEST_TOKENS_FIRST: f64 = 512;

// Columns by candidate index, f64[256] each.
const waitMs: usize = memory.data(256 * 8, 8);
const prefillMs: usize = memory.data(256 * 8, 8);
const tpots: usize = memory.data(256 * 8, 8);
const tpotsBefore: usize = memory.data(256 * 8, 8);
const models: usize = memory.data(256 * 8, 8);
const foreigns: usize = memory.data(256 * 8, 8);
const answers: usize = memory.data(256 * 8, 8);
const costs: usize = memory.data(256 * 8, 8);
const workMs: usize = memory.data(256 * 8, 8);
let missPrice: f64 = 0;
let sumTokenMs: f64 = 0;
let meanTokenMs: f64 = 0;
let modelShare: f64 = 0;

/** Time until the engine begins with this request at the candidate, ms. */
export function costWaitMs(index: u32): f64 {
  return load<f64>(waitMs + ((<usize>index) << 3));
}
/** Time from then to its first token, ms. */
export function costPrefillMs(index: u32): f64 {
  return load<f64>(prefillMs + ((<usize>index) << 3));
}
/** Time between tokens there with this request, ms; NaN while nothing is known. */
export function costTpotMs(index: u32): f64 {
  return load<f64>(tpots + ((<usize>index) << 3));
}
/** The same without this request. */
export function costTpotBeforeMs(index: u32): f64 {
  return load<f64>(tpotsBefore + ((<usize>index) << 3));
}
/** The same cost by the learnt model alone, ms. */
export function costModelMs(index: u32): f64 {
  return load<f64>(models + ((<usize>index) << 3));
}
/** Prefill of the request's uncached tokens at the candidate, ms. */
export function costWorkMs(index: u32): f64 {
  return load<f64>(workMs + ((<usize>index) << 3));
}
/** Answers that are being generated there or will be. */
export function costAnswers(index: u32): f64 {
  return load<f64>(answers + ((<usize>index) << 3));
}
/** Requests there that other gateways sent. */
export function costForeign(index: u32): f64 {
  return load<f64>(foreigns + ((<usize>index) << 3));
}
/** Mean prefill of one token over the candidates, ms. */
export function costMeanTokenMs(): f64 {
  return meanTokenMs;
}
/** What the candidate costs, ms. */
export function costOf(index: u32): f64 {
  return load<f64>(costs + ((<usize>index) << 3));
}
/** λ of the last decision: the mean wait over its candidates, s. */
export function costMissPrice(): f64 {
  return missPrice;
}
/** Share that the learnt model had in its costs, 0–1; LMetric had the rest. */
export function costModelShare(): f64 {
  return modelShare;
}

/** Works out all candidates of the request in hand. `contextPrice`: CONTEXT_PRICE unless configured. */
export function costsWork(pool: u32, contextPrice: f64): void {
  const now = requestNowMs();
  const meanTokens = poolMeanTokens(pool, REQUEST_TOKENS_FIRST);
  const meanPrompt = poolMeanPrompt(pool, REQUEST_TOKENS_FIRST);
  const unknownForeign = unknownLoad(COLUMN_FOREIGN_REQUESTS);
  const count = candidateCount();
  let backlog: f64 = 0;
  sumTokenMs = 0;
  for (let i: u32 = 0; i < count; i++) backlog += work(i, now, meanTokens, unknownForeign);
  missPrice = count == 0 ? 0 : backlog / <f64>count / 1000;
  meanTokenMs = count == 0 ? 0 : sumTokenMs / <f64>count;
  const samples = poolPrefillSamples(pool);
  modelShare = samples / (samples + BLEND_SAMPLES);
  for (let i: u32 = 0; i < count; i++) {
    const at = (<usize>i) << 3;
    const foreign = foreignOf(i, unknownForeign);
    const requests = known(COLUMN_INFLIGHT_REQUESTS, i) + foreign;
    const share = contextShare(i, foreign, meanPrompt);
    const tokens = Math.max(known(COLUMN_UNCACHED_TOKENS, i), 0);
    const miss = tokens * meanTokenMs * missPrice + load<f64>(workMs + at) * contextPrice * share * share;
    const modelled = load<f64>(waitMs + at) + load<f64>(prefillMs + at) + miss;
    store<f64>(models + at, modelled);
    const product = ((tokens + LAST_BLOCK_TOKENS) * (requests + 1) * PREFILL_SLOPE_FIRST) / 1000;
    store<f64>(costs + at, modelShare * modelled + (1 - modelShare) * product);
  }
}

// Fills the candidate's columns; returns the ms of prefill that wait there.
function work(index: u32, now: f64, meanTokens: f64, unknownForeign: f64): f64 {
  const row = candidateRow(index);
  const at = (<usize>index) << 3;
  ratesOf(row, now);
  const tokenMs = prefillTokenMs();
  sumTokenMs += tokenMs;
  const baseMs = prefillBaseMs();
  const uncached = Math.max(known(COLUMN_UNCACHED_TOKENS, index), 0);
  const foreign = foreignOf(index, unknownForeign);
  const queued = known(COLUMN_INFLIGHT_TOKENS, index);
  const headTokens = Math.min(known(COLUMN_HEAD_TOKENS, index), queued);
  let elapsed: f64 = 0;
  let late: f64 = 0;
  if (known(COLUMN_PREFILLING, index) > 0) {
    elapsed = Math.max(now - known(COLUMN_HEAD_SINCE_MS, index), 0);
    const due = LATE_FACTOR * (baseMs + tokenMs * known(COLUMN_HEAD_TOKENS, index)) + LATE_LEAST_MS;
    late = Math.max(elapsed - due, 0);
  }
  const done = Math.min(elapsed / tokenMs, headTokens);
  const backlog = tokenMs * (queued - done + foreignWaiting(index, foreign) * meanTokens);
  store<f64>(waitMs + at, backlog + late);
  store<f64>(workMs + at, tokenMs * uncached);
  store<f64>(prefillMs + at, baseMs + tokenMs * uncached);
  const answered = known(COLUMN_INFLIGHT_REQUESTS, index) - known(COLUMN_LEGS, index) + foreign;
  store<f64>(answers + at, answered);
  store<f64>(foreigns + at, foreign);
  store<f64>(tpotsBefore + at, tpotMs(answered));
  store<f64>(tpots + at, tpotMs(answered + 1));
  return backlog;
}

// Share of the KV cache that the prompts in flight there take, those of other gateways by their number; may be above 1.
function contextShare(index: u32, foreign: f64, meanPrompt: f64): f64 {
  const capacity = candidateF64(COLUMN_KV_CAPACITY_TOKENS, index);
  const tokens = known(COLUMN_CONTEXT_TOKENS, index) + foreign * meanPrompt;
  return tokens / (capacity > 0 ? capacity : CAPACITY_TOKENS_DEFAULT);
}

function foreignOf(index: u32, unknown: f64): f64 {
  const foreign = candidateF64(COLUMN_FOREIGN_REQUESTS, index);
  return foreign == foreign ? foreign : unknown;
}

// Of the foreign requests as many wait as of all that the engine reports.
function foreignWaiting(index: u32, foreign: f64): f64 {
  const waiting = known(COLUMN_WAITING, index);
  const all = waiting + known(COLUMN_RUNNING, index);
  return all > 0 ? (foreign * waiting) / all : 0;
}

function known(column: u32, index: u32): f64 {
  const value = candidateF64(column, index);
  return value == value ? value : 0;
}
