// queue-scorer: endpoints with fewer waiting requests score higher.
//
//   score = (max − waiting) / (max − min) over the candidates; all equal → 1
//
// Source: llm-d-router pkg/epp/framework/plugins/scheduling/scorer/queuedepth @ ebab6879. No parameters.
import { COLUMN_WAITING } from "../pool/rows";
import { scoreFewer } from "./min-max";

/** Scores all candidates. */
export function scoreQueue(): void {
  scoreFewer(COLUMN_WAITING);
}
