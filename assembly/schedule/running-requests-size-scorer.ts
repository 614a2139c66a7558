// running-requests-size-scorer: endpoints with fewer running requests score higher.
//
//   score = (max − running) / (max − min) over the candidates; all equal → 1
//
// Source: llm-d-router pkg/epp/framework/plugins/scheduling/scorer/runningrequests @ ebab6879. No parameters.
import { COLUMN_RUNNING } from "../pool/rows";
import { scoreFewer } from "./min-max";

/** Scores all candidates. */
export function scoreRunningRequestsSize(): void {
  scoreFewer(COLUMN_RUNNING);
}
