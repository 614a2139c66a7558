// prefix-cache-scorer: endpoints that hold more of the prompt's prefix score higher.
//
//   ratio = matched tokens / matchable tokens of the prompt
//   score = w · min(1, matched tokens / scale)² + (1 − w) · ratio;  nothing known → 0
//
// Parameters: a = matchLengthWeight w, 0–1, default 0; b = matchLengthScaleTokens, > 0, default 8192.
// Source: llm-d-router pkg/epp/framework/plugins/scheduling/scorer/prefix @ ebab6879.
import { COLUMN_MATCHED_TOKENS } from "../pool/rows";
import { candidateCount, candidateF64, setScore } from "./candidates";
import { INSTANCE_AT_A, INSTANCE_AT_B } from "./plan";
import { requestMatchableTokens } from "./request";

export const MATCH_LENGTH_WEIGHT_DEFAULT: f64 = 0;
export const MATCH_LENGTH_SCALE_TOKENS_DEFAULT: f64 = 8192;

/** Scores all candidates. */
export function scorePrefixCache(instance: usize): void {
  const weight = load<f64>(instance, INSTANCE_AT_A);
  const scale = load<f64>(instance, INSTANCE_AT_B);
  const matchable = requestMatchableTokens();
  for (let i: u32 = 0, count = candidateCount(); i < count; i++) {
    const matched = candidateF64(COLUMN_MATCHED_TOKENS, i);
    if (!(matched > 0) || !(matchable > 0)) {
      setScore(i, 0);
      continue;
    }
    let length: f64 = 0;
    if (scale > 0) {
      length = min<f64>(1, matched / scale);
      length *= length;
    }
    setScore(i, weight * length + (1 - weight) * (matched / matchable));
  }
}
