// active-request-scorer: endpoints with fewer requests in flight, by our own reservations, score higher.
//
//   n ≤ idleThreshold → 1;  else maxBusyScore · (max − n) / max over the candidates
//
// Parameters: a = idleThreshold in requests, default 0 (also for values < 0);
// b = maxBusyScore, 0–1, default 1 (also for values outside).
// Source: llm-d-router pkg/epp/framework/plugins/scheduling/scorer/activerequest @ ebab6879.
import { COLUMN_INFLIGHT_REQUESTS } from "../pool/rows";
import { candidateCount, candidateF64, setScore } from "./candidates";
import { INSTANCE_AT_A, INSTANCE_AT_B } from "./plan";

export const IDLE_THRESHOLD_DEFAULT: f64 = 0;
export const MAX_BUSY_SCORE_DEFAULT: f64 = 1;

/** Scores all candidates. */
export function scoreActiveRequest(instance: usize): void {
  const idle = load<f64>(instance, INSTANCE_AT_A);
  const busyScore = load<f64>(instance, INSTANCE_AT_B);
  const count = candidateCount();
  let most: f64 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const requests = candidateF64(COLUMN_INFLIGHT_REQUESTS, i);
    if (requests > most) most = requests;
  }
  for (let i: u32 = 0; i < count; i++) {
    const requests = candidateF64(COLUMN_INFLIGHT_REQUESTS, i);
    setScore(i, requests > idle ? ((most - requests) / most) * busyScore : 1);
  }
}
