// prefix-cache-affinity-filter: keeps the endpoints that hold most of the prompt, unless they are too slow.
//
//   sticky = matched tokens / matchable tokens ≥ affinityThreshold
//   TTFT estimate of an endpoint, ms = tokens in flight / peakPrefillThroughput · 1000
//   all are kept where: one candidate; threshold 0; none sticky; an exploring draw; an estimate is missing
//   on either side; or best sticky TTFT − best other TTFT > maxTTFTPenaltyMs (0 = always stick)
//
// Parameters: a = affinityThreshold, 0–1, default 0.8; b = explorationProbability, 0–1, default 0;
// c = maxTTFTPenaltyMs, ≥ 0, default 18,000; d = peakPrefillThroughput, tokens/s, default 15,928.
// Source: llm-d-router pkg/epp/framework/plugins/scheduling/filter/prefixcacheaffinity @ ebab6879.
import { COLUMN_INFLIGHT_TOKENS, COLUMN_MATCHED_TOKENS } from "../pool/rows";
import { candidateCount, candidateF64, candidateRow, candidateSet, candidatesKeep } from "./candidates";
import { INSTANCE_AT_A, INSTANCE_AT_B, INSTANCE_AT_C, INSTANCE_AT_D } from "./plan";
import { requestMatchableTokens, requestRandomUnit } from "./request";

export const AFFINITY_THRESHOLD_DEFAULT: f64 = 0.8;
export const EXPLORATION_PROBABILITY_DEFAULT: f64 = 0;
export const MAX_TTFT_PENALTY_MS_DEFAULT: f64 = 18000;
export const PEAK_PREFILL_THROUGHPUT_DEFAULT: f64 = 15928;

/** Keeps the sticky candidates, or all. */
export function filterPrefixCacheAffinity(instance: usize): void {
  const threshold = load<f64>(instance, INSTANCE_AT_A);
  const count = candidateCount();
  if (count <= 1 || threshold <= 0) return;
  const exploration = load<f64>(instance, INSTANCE_AT_B);
  if (exploration > 0 && requestRandomUnit() < exploration) return;
  const matchable = requestMatchableTokens();
  const perToken = 1000 / load<f64>(instance, INSTANCE_AT_D);
  let sticky: u32 = 0;
  let bestSticky: f64 = Infinity;
  let bestOther: f64 = Infinity;
  for (let i: u32 = 0; i < count; i++) {
    const ttft = candidateF64(COLUMN_INFLIGHT_TOKENS, i) * perToken;
    if (isSticky(i, matchable, threshold)) {
      sticky++;
      if (ttft < bestSticky) bestSticky = ttft;
    } else if (ttft < bestOther) {
      bestOther = ttft;
    }
  }
  if (sticky == 0 || sticky == count) return;
  const penaltyMax = load<f64>(instance, INSTANCE_AT_C);
  if (penaltyMax > 0) {
    if (bestSticky == Infinity || bestOther == Infinity) return;
    if (bestSticky - bestOther > penaltyMax) return;
  }
  let kept: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    if (isSticky(i, matchable, threshold)) candidateSet(kept++, candidateRow(i));
  }
  candidatesKeep(kept);
}

function isSticky(index: u32, matchable: f64, threshold: f64): bool {
  return matchable > 0 && candidateF64(COLUMN_MATCHED_TOKENS, index) / matchable >= threshold;
}
