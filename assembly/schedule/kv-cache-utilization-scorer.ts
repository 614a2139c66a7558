// kv-cache-utilization-scorer: endpoints with more free KV cache score higher.
//
//   score = 1 − KV usage
//
// Source: llm-d-router pkg/epp/framework/plugins/scheduling/scorer/kvcacheutilization @ ebab6879.
// No parameters.
import { COLUMN_KV_USAGE } from "../pool/rows";
import { candidateCount, candidateF64, setScore, unknownLoad } from "./candidates";

/** Scores all candidates. */
export function scoreKvCacheUtilization(): void {
  const unknown = unknownLoad(COLUMN_KV_USAGE);
  for (let i: u32 = 0, count = candidateCount(); i < count; i++) {
    const usage = candidateF64(COLUMN_KV_USAGE, i);
    setScore(i, 1 - (usage == usage ? usage : unknown));
  }
}
