// The normalisation that queue-scorer and running-requests-size-scorer share: fewer is better.
import { candidateCount, candidateF64, scoreAll, setScore, unknownLoad } from "./candidates";

/**
 * Scores (max − x) / (max − min) of a load column over the candidates; all equal → 1.
 * A candidate that never published the column counts as unknownLoad().
 */
export function scoreFewer(column: u32): void {
  const count = candidateCount();
  const unknown = unknownLoad(column);
  let least: f64 = Infinity;
  let most: f64 = -Infinity;
  for (let i: u32 = 0; i < count; i++) {
    let value = candidateF64(column, i);
    if (value != value) value = unknown;
    if (value < least) least = value;
    if (value > most) most = value;
  }
  if (!(most > least)) return scoreAll(1);
  for (let i: u32 = 0; i < count; i++) {
    let value = candidateF64(column, i);
    if (value != value) value = unknown;
    setScore(i, (most - value) / (most - least));
  }
}
