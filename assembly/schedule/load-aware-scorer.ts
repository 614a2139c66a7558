// load-aware-scorer: endpoints with a shorter queue score higher, on an absolute scale.
//
//   score = 0.5 · (1 − min(waiting, T) / T);  nothing waiting → 0.5
//
// Parameters: a = threshold T in requests, default 128, which also stands for values ≤ 0.
// Source: llm-d-router pkg/epp/framework/plugins/scheduling/scorer/loadaware @ ebab6879.
import { COLUMN_WAITING } from "../pool/rows";
import { candidateCount, candidateF64, setScore, unknownLoad } from "./candidates";
import { INSTANCE_AT_A } from "./plan";

export const LOAD_AWARE_THRESHOLD_DEFAULT: f64 = 128;

/** Scores all candidates. */
export function scoreLoadAware(instance: usize): void {
  const threshold = load<f64>(instance, INSTANCE_AT_A);
  const unknown = unknownLoad(COLUMN_WAITING);
  for (let i: u32 = 0, count = candidateCount(); i < count; i++) {
    let waiting = candidateF64(COLUMN_WAITING, i);
    if (waiting != waiting) waiting = unknown;
    setScore(i, 0.5 * (1 - min<f64>(waiting, threshold) / threshold));
  }
}
