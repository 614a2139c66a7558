// By how much a candidate would break wishes, in ms over the whole answer; after latency-cost.ts worked it out.
import { poolMeanAnswer } from "../pool/means";
import { COLUMN_TPOT_SLO_MS } from "../pool/rows";
import { candidateF64 } from "./candidates";
import { costMissPrice, costPrefillMs, costTpotBeforeMs, costTpotMs, costWaitMs } from "./latency-cost";
import { requestMaxTokens, requestTpotSloMs, requestTtftSloMs } from "./request";

/** Tokens of an answer while none was counted. */
const ANSWER_TOKENS_FIRST: f64 = 200;

/** An own wish for the time between tokens is missed by this share of it at most: by how much more changes nothing. */
export const TPOT_MISSED_SHARE: f64 = 0.05;
/** Prices of own wishes that are missed fall with the fleet's mean wait of λ s: divided by 1 + WAIT_SHARE · λ. */
export const WAIT_SHARE: f64 = 4;

/**
 * What an own wish that is missed counts, 0–1: less the longer the fleet's queues are. There all wishes are missed
 * somewhere, and one that is kept by computing a cached prompt again, or beside others' answers, costs theirs.
 */
export function missedShare(): f64 {
  return 1 / (1 + WAIT_SHARE * costMissPrice());
}

/**
 * By how much the first token comes after the wish for it where the prompt is computed at the candidate; negative =
 * before it, -Infinity = there is no wish.
 */
export function lateMs(index: u32): f64 {
  const slo = requestTtftSloMs();
  return slo > 0 ? costWaitMs(index) + costPrefillMs(index) - slo : -Infinity;
}

/** Wishes for the time between tokens, of this request and of those in flight there, where it is answered there. */
export function brokenTpotMs(index: u32, pool: u32): f64 {
  const tpot = costTpotMs(index);
  if (tpot != tpot) return 0;
  const own = requestTpotSloMs();
  const others = candidateF64(COLUMN_TPOT_SLO_MS, index);
  let each: f64 = own > 0 ? missedShare() * Math.min(Math.max(tpot - own, 0), TPOT_MISSED_SHARE * own) : 0;
  if (others > 0) each += Math.max(tpot - Math.max(others, costTpotBeforeMs(index)), 0);
  if (each == 0) return 0;
  const expected = poolMeanAnswer(pool, ANSWER_TOKENS_FIRST);
  const most = requestMaxTokens();
  return each * (most > 0 ? Math.min(most, expected) : expected);
}

/** All of them; 0 = the candidate meets all. */
export function brokenMs(index: u32, pool: u32): f64 {
  return Math.max(lateMs(index), 0) + brokenTpotMs(index, pool);
}
