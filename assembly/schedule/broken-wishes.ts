// By how much a candidate would break wishes, in ms over the whole answer; after latency-cost.ts worked it out.
import { poolMeanAnswer } from "../pool/means";
import { COLUMN_TPOT_SLO_MS } from "../pool/rows";
import { candidateF64 } from "./candidates";
import { costPrefillMs, costTpotBeforeMs, costTpotMs, costWaitMs } from "./latency-cost";
import { requestMaxTokens, requestTpotSloMs, requestTtftSloMs } from "./request";

/** Tokens of an answer while none was counted. */
const ANSWER_TOKENS_FIRST: f64 = 200;

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
  let each: f64 = own > 0 ? Math.max(tpot - own, 0) : 0;
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
