// Where a prompt is computed and where it is answered, as one choice: the cheapest pair of endpoints.
//
//   cost(p, d) = prompt(p) + answer(d), and where p is not d + transfer of what d lacks + minGainMs
//   prompt(p)  = the latency picker's cost of p + its prefill there · ANSWER_PRICE · answers generated there
//              + where the first token, after the transfer, is later than its wish, by how much + MISSED_PRICE_MS,
//                less of that the longer the fleet's queues are
//   answer(d)  = movable · (FIRST_ANSWER_SHARE / (1 + answers there) + GATHER_SHARE · (1 − answers there / most))
//              + QUEUE_PRICE · wait of prompts there + KV_PRICE_MS · share of its KV cache beyond KV_SHARE_MAX
//              + by how much wishes for the time between tokens are broken
//
// `movable` is the mean prefill, over the pool's requests, that could have been computed elsewhere, ms; `most` the most
// answers at any candidate with room for this one. An answer makes an endpoint bad for prompts and prompts make it bad
// for answers, so answers gather where there are most, as far as the KV cache goes (to gather them up to a limit is
// PolyServe's idea), and leave the others to prompts; and the less there is to be moved, the less of that.
//
// Of prompt(p) nothing depends on d: the best d is found against the best p alone, or the next best where that is d
// itself. So a decision takes two passes over the endpoints, and not one over all pairs. In the first the prefill
// profile's picker orders them by prompt(p); in the second the decode profile's by cost(p, d).
import { poolMeanMovable, poolMeanPrompt } from "../pool/means";
import {
  COLUMN_CONTEXT_TOKENS,
  COLUMN_INFLIGHT_REQUESTS,
  COLUMN_KV_CAPACITY_TOKENS,
  COLUMN_KV_USAGE,
  COLUMN_RUNNING,
  COLUMN_UNCACHED_TOKENS,
} from "../pool/rows";
import { CAPACITY_TOKENS_DEFAULT } from "../prefix/clocks";
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { brokenTpotMs, lateMs, missedShare } from "./broken-wishes";
import { candidateCount, candidateF64, candidateRow, totalOf } from "./candidates";
import {
  costAnswers,
  costForeign,
  costMeanTokenMs,
  costModelMs,
  costWaitMs,
  costWorkMs,
} from "./latency-cost";
import { requestPromptTokens } from "./request";

/** What a ms by which a prompt delays an answer costs beside one by which it delays a first token. */
export const ANSWER_PRICE: f64 = 0.1;
/** The same of a ms of prompts that wait where an answer would go. */
export const QUEUE_PRICE: f64 = 0.1;
/** An endpoint's first answer costs so many times the movable prefill, its n-th an n-th of that. */
export const FIRST_ANSWER_SHARE: f64 = 0.25;
/** An answer where there are none, while others have some, costs so many times the movable prefill more. */
export const GATHER_SHARE: f64 = 1.5;
/** Share of an endpoint's KV cache up to which answers gather. */
export const KV_SHARE_MAX: f64 = 0.95;
/**
 * What a whole cache beyond that costs, ms: less than it takes until answers end and room comes back, as one that is
 * sent to an endpoint of prompts suffers for as long as it runs.
 */
export const KV_PRICE_MS: f64 = 4000;
/** What it costs an idle fleet that a wish for the first token is missed at all, ms. */
export const MISSED_PRICE_MS: f64 = 4000;
/** Movable prefill below which answers disturb nobody, ms: less than one step of an engine. */
export const MOVABLE_LEAST_MS: f64 = 10;

/** "No endpoint." */
export const PAIR_NONE: u32 = 0xffffffff;

/** What the latency picker orders by. */
export const PAIRS_OFF: u32 = 0;
export const PAIRS_PROMPT: u32 = 1;
export const PAIRS_WHOLE: u32 = 2;
let mode: u32 = 0;

// The three cheapest rows to compute the prompt at, PAIR_NONE where there are fewer, and what the first two cost.
let first: u32 = PAIR_NONE;
let second: u32 = PAIR_NONE;
let third: u32 = PAIR_NONE;
let firstMs: f64 = Infinity;
let secondMs: f64 = Infinity;
// By how much the first token there would be later than its wish, without a transfer; see lateMs().
let firstLateMs: f64 = -Infinity;
let secondLateMs: f64 = -Infinity;

let nonCached: f64 = 0;
let tokenMs: f64 = 0;
let gainMs: f64 = 0;
let most: f64 = 0;
/** By slot: whether the best pair of the row that answers has another one for the prompt. */
const isElsewhere: usize = memory.data(256);

/** PAIRS_*: what the latency picker orders by. */
export function pairsMode(): u32 {
  return mode;
}

/** No pairs: the latency picker orders by its own cost. */
export function pairsOff(): void {
  mode = PAIRS_OFF;
}

/** Begins a decision; from here on the latency picker orders by what the prompt costs. */
export function pairsBegin(): void {
  mode = PAIRS_PROMPT;
  first = PAIR_NONE;
  second = PAIR_NONE;
  third = PAIR_NONE;
  firstMs = Infinity;
  secondMs = Infinity;
}

/** The prefill profile was scheduled and `row` is its choice; its candidates still stand. */
export function pairsTakePrompt(row: u32): void {
  let thirdMs: f64 = Infinity;
  for (let i: u32 = 0, count = candidateCount(); i < count; i++) {
    const one = candidateRow(i);
    const cost = -totalOf(i);
    if (one == row) {
      first = one;
      firstMs = cost;
      firstLateMs = lateMs(i);
    } else if (cost < secondMs) {
      third = second;
      thirdMs = secondMs;
      second = one;
      secondMs = cost;
      secondLateMs = lateMs(i);
    } else if (cost < thirdMs) {
      third = one;
      thirdMs = cost;
    }
  }
}

/**
 * From here on it orders by whole pairs. A row that lacks fewer than `nonCachedTokens` of the prompt computes it itself.
 * ms of the transfer of one token, and by how many another row must be cheaper.
 */
export function pairsWhole(nonCachedTokens: f64, transferTokenMs: f64, minGainMs: f64): void {
  mode = PAIRS_WHOLE;
  nonCached = nonCachedTokens;
  tokenMs = transferTokenMs;
  gainMs = minGainMs;
}

/** Looks at all candidates of a decision, once their costs were worked out and before pairTotal(). */
export function pairsMeasure(pool: u32): void {
  most = 0;
  if (mode != PAIRS_WHOLE) return;
  for (let i: u32 = 0, count = candidateCount(); i < count; i++) {
    if (kvShare(i, pool) <= KV_SHARE_MAX) most = Math.max(most, costAnswers(i));
  }
}

/** What the latency picker orders the candidate by: the negative cost, ms. Not in PAIRS_OFF. */
export function pairTotal(index: u32, pool: u32): f64 {
  const here = promptMs(index);
  if (mode == PAIRS_PROMPT) return -here;
  const row = candidateRow(index);
  const lacking = Math.max(candidateF64(COLUMN_UNCACHED_TOKENS, index), 0);
  const transferMs = tokenMs * lacking;
  const late = first == row ? secondLateMs : firstLateMs;
  const laterMs = missedMs(late + transferMs) - missedMs(late);
  const elsewhere = (first == row ? secondMs : firstMs) + transferMs + laterMs + gainMs;
  const goes = lacking >= nonCached && elsewhere < here;
  store<u8>(isElsewhere + (row % POOL_ENDPOINTS_MAX), goes ? 1 : 0);
  return -(goes ? elsewhere : here) - answerMs(index, pool);
}

/** Who computes the prompt that `row`, one of the last candidates, answers; PAIR_NONE: that row itself. */
export function pairPrompt(row: u32): u32 {
  if (load<u8>(isElsewhere + (row % POOL_ENDPOINTS_MAX)) == 0) return PAIR_NONE;
  return first == row ? second : first;
}

/** Who does when that one fails, or PAIR_NONE. */
export function pairPromptNext(row: u32): u32 {
  return first == row || second == row ? third : second;
}

/** Whether any row beside `row` could compute the prompt. */
export function pairHasPrompt(row: u32): bool {
  return (first == row ? second : first) != PAIR_NONE;
}

/** Whether the pool's requests bring so little to be computed elsewhere that answers need not gather. */
export function isLittleMovable(pool: u32, prefillTokenMs: f64): bool {
  return poolMeanMovable(pool) * prefillTokenMs < MOVABLE_LEAST_MS;
}

function promptMs(index: u32): f64 {
  const delaysMs = costWorkMs(index) * costAnswers(index);
  return costModelMs(index) + ANSWER_PRICE * delaysMs + missedMs(lateMs(index));
}

// What it costs that the first token comes so much after the wish for it, ms.
function missedMs(late: f64): f64 {
  return late > 0 ? late + MISSED_PRICE_MS * missedShare() : 0;
}

function answerMs(index: u32, pool: u32): f64 {
  const answers = costAnswers(index);
  const movableMs = poolMeanMovable(pool) * costMeanTokenMs();
  const few = most > 0 ? Math.max(1 - answers / most, 0) : 0;
  const beyond = Math.max(kvShare(index, pool) - KV_SHARE_MAX, 0);
  return (
    movableMs * (FIRST_ANSWER_SHARE / (1 + answers) + GATHER_SHARE * few) +
    QUEUE_PRICE * costWaitMs(index) +
    KV_PRICE_MS * beyond +
    brokenTpotMs(index, pool)
  );
}

// Share of its KV cache that would be in use with this request. Prompts in flight may share blocks, and the engine
// tells how many are in use; but requests that it does not run yet it does not count.
function kvShare(index: u32, pool: u32): f64 {
  const known = candidateF64(COLUMN_KV_CAPACITY_TOKENS, index);
  const capacity = known > 0 ? known : CAPACITY_TOKENS_DEFAULT;
  const foreign = costForeign(index);
  const mean = poolMeanPrompt(pool, 0);
  let tokens = candidateF64(COLUMN_CONTEXT_TOKENS, index) + foreign * mean;
  const running = candidateF64(COLUMN_RUNNING, index);
  const used = candidateF64(COLUMN_KV_USAGE, index) * capacity;
  if (used == used && running == running) {
    const coming = Math.max(candidateF64(COLUMN_INFLIGHT_REQUESTS, index) + foreign - running, 0);
    tokens = Math.min(tokens, used + coming * mean);
  }
  return (tokens + requestPromptTokens()) / capacity;
}
