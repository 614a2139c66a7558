// The candidates of the decision in hand, as rows, with the scratch columns that scorers write.
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { f64Column } from "../pool/rows";

const rows: usize = memory.data(256 * 2, 16);
const scoreColumn: usize = memory.data(256 * 8, 16);
const totalColumn: usize = memory.data(256 * 8, 16);
let count: u32 = 0;
let unknownMean: bool = false;

/** Empties the list. */
export function candidatesReset(): void {
  count = 0;
}

/** Appends a row; beyond POOL_ENDPOINTS_MAX, which one pool cannot have, it is dropped. */
export function candidatesAdd(row: u32): void {
  if (count >= <u32>POOL_ENDPOINTS_MAX) return;
  store<u16>(rows + ((<usize>count) << 1), <u16>row);
  count++;
}

export function candidateCount(): u32 {
  return count;
}

/** Row of the candidate at `index` < candidateCount(). */
export function candidateRow(index: u32): u32 {
  return <u32>load<u16>(rows + ((<usize>index) << 1));
}

/** For filters that keep some: puts `row` at `index` ≤ its own place. */
export function candidateSet(index: u32, row: u32): void {
  store<u16>(rows + ((<usize>index) << 1), <u16>row);
}

/** For filters: keeps the first `kept`. */
export function candidatesKeep(kept: u32): void {
  count = kept;
}

/** Score that the scorer in hand gives the candidate at `index`; it may be outside [0, 1]. */
export function setScore(index: u32, score: f64): void {
  store<f64>(scoreColumn + ((<usize>index) << 3), score);
}

export function scoreOf(index: u32): f64 {
  return load<f64>(scoreColumn + ((<usize>index) << 3));
}

/** The same score for all candidates. */
export function scoreAll(score: f64): void {
  for (let i: u32 = 0; i < count; i++) setScore(i, score);
}

/** Weighted sum over the scorers so far. */
export function totalOf(index: u32): f64 {
  return load<f64>(totalColumn + ((<usize>index) << 3));
}

export function setTotal(index: u32, total: f64): void {
  store<f64>(totalColumn + ((<usize>index) << 3), total);
}

/** Adds the scores in hand to the totals: weight × score, the score cut to [0, 1], NaN as 0. */
export function totalsAdd(weight: f64): void {
  for (let i: usize = 0, end = (<usize>count) << 3; i < end; i += 8) {
    const score = load<f64>(scoreColumn + i);
    const clamped = score > 0 ? (score < 1 ? score : 1) : 0;
    store<f64>(totalColumn + i, load<f64>(totalColumn + i) + weight * clamped);
  }
}

export function totalsReset(): void {
  memory.fill(totalColumn, 0, (<usize>count) << 3);
}

/** Value of an f64 column (pool/rows.ts) for the candidate at `index`; NaN = never published. */
export function candidateF64(column: u32, index: u32): f64 {
  return load<f64>(f64Column(column) + ((<usize>candidateRow(index)) << 3));
}

/** How unpublished load is read from now on: as the mean of the candidates, or as 0 (llm-d's reading). */
export function setUnknownMean(mean: bool): void {
  unknownMean = mean;
}

export function isUnknownMean(): bool {
  return unknownMean;
}

/** What a load column counts for a candidate that has not published it. */
export function unknownLoad(column: u32): f64 {
  if (!unknownMean) return 0;
  let sum: f64 = 0;
  let known: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const value = candidateF64(column, i);
    if (value != value) continue;
    sum += value;
    known++;
  }
  return known == 0 ? 0 : sum / <f64>known;
}
