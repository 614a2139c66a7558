// gpu-utilization-scorer (ours): endpoints whose GPU is less busy score higher.
//
//   score = 1 − GPU utilisation;  never published → 0.5, or as the mean of the others where the plan says so
//
// A GPU that nobody measures is neither preferred nor avoided: half of a fleet without DCGM must not
// draw all of its traffic, nor starve. The value is DCGM's DCGM_FI_DEV_GPU_UTIL as a share. No parameters.
import { COLUMN_GPU_UTILIZATION } from "../pool/rows";
import { candidateCount, candidateF64, isUnknownMean, setScore, unknownLoad } from "./candidates";

/** Score of an endpoint whose GPU is not measured. */
export const GPU_UNKNOWN_SCORE: f64 = 0.5;

/** Scores all candidates. */
export function scoreGpuUtilization(): void {
  scoreFree(COLUMN_GPU_UTILIZATION);
}

/** Scores 1 − value of a GPU column (0–1). */
export function scoreFree(column: u32): void {
  const unknown = isUnknownMean() ? 1 - unknownLoad(column) : GPU_UNKNOWN_SCORE;
  for (let i: u32 = 0, count = candidateCount(); i < count; i++) {
    const used = candidateF64(column, i);
    setScore(i, used == used ? 1 - used : unknown);
  }
}
