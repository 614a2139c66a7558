// token-load-scorer: endpoints with fewer uncached tokens in flight, this request's included, score higher.
//
//   load = uncached tokens in flight + uncached tokens of this request there
//   score = 1 − min(load, T) / T
//
// Parameters: a = queueThresholdTokens T, default 4,194,304 (128 requests of 32 Ki), also for values ≤ 0.
// Source: llm-d-router pkg/epp/framework/plugins/scheduling/scorer/tokenload @ ebab6879.
import { COLUMN_INFLIGHT_TOKENS, COLUMN_UNCACHED_TOKENS } from "../pool/rows";
import { candidateCount, candidateF64, setScore } from "./candidates";
import { INSTANCE_AT_A } from "./plan";

export const QUEUE_THRESHOLD_TOKENS_DEFAULT: f64 = 4194304;

/** Scores all candidates. */
export function scoreTokenLoad(instance: usize): void {
  const threshold = load<f64>(instance, INSTANCE_AT_A);
  for (let i: u32 = 0, count = candidateCount(); i < count; i++) {
    const inflight = candidateF64(COLUMN_INFLIGHT_TOKENS, i);
    const uncached = candidateF64(COLUMN_UNCACHED_TOKENS, i);
    const tokens = (inflight > 0 ? inflight : 0) + (uncached > 0 ? uncached : 0);
    setScore(i, 1 - min<f64>(tokens, threshold) / threshold);
  }
}
