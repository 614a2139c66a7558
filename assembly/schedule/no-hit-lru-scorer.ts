// no-hit-lru-scorer: prompts that hit no cache go round the endpoints, the least recently used one first.
//
//   any candidate holds some of the prompt → 0.5 for all;  one candidate → 1
//   else, n candidates of which u never had a cold prompt:
//     the i-th of those u → 1 − i / (n − 1);  else max(0, 1 − (u + place) / (n − 1)),
//   place = number of the pool's endpoints whose last cold prompt is older
//
// Parameters: a = lruSize, endpoints remembered, default 1024 (also for values ≤ 0).
// Source: llm-d-router pkg/epp/framework/plugins/scheduling/scorer/nohitlru @ ebab6879.
import { COLUMN_COLD_USED_MS, COLUMN_MATCHED_TOKENS, rowF64, rowOf, setRowF64 } from "../pool/rows";
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { candidateCount, candidateF64, candidateRow, scoreAll, setScore } from "./candidates";
import { INSTANCE_AT_A } from "./plan";
import { requestSetCold } from "./request";

export const LRU_SIZE_DEFAULT: f64 = 1024;

// Slots of each pool in the order of their last cold prompt, the oldest first. A row whose endpoint was
// replaced since (its COLUMN_COLD_USED_MS is NaN again) is skipped and leaves at its next use.
const orders: usize = memory.data(16 * 256, 8);
const orderCounts: usize = memory.data(16 * 2, 8);
// For the decision in hand: place + 1 of each slot in that order; 0 = never used.
const places: usize = memory.data(256 * 2, 8);

/** Notes that a cold prompt was sent to `row`. `nowMs`: own clock. */
export function noHitLruPlaced(row: u32, nowMs: f64): void {
  const pool = row / POOL_ENDPOINTS_MAX;
  const slot = <u8>(row % POOL_ENDPOINTS_MAX);
  const order = orders + <usize>pool * POOL_ENDPOINTS_MAX;
  const count = <u32>load<u16>(orderCounts + ((<usize>pool) << 1));
  let kept: usize = 0;
  for (let i: usize = 0; i < count; i++) {
    const other = load<u8>(order + i);
    if (other == slot || isUnused(rowOf(pool, other))) continue;
    store<u8>(order + kept++, other);
  }
  store<u8>(order + kept++, slot);
  store<u16>(orderCounts + ((<usize>pool) << 1), <u16>kept);
  setRowF64(COLUMN_COLD_USED_MS, row, nowMs);
}

/** Scores all candidates, and notes in the request whether it is cold. */
export function scoreNoHitLru(instance: usize, pool: u32): void {
  const count = candidateCount();
  let cold = true;
  for (let i: u32 = 0; i < count && cold; i++) cold = !(candidateF64(COLUMN_MATCHED_TOKENS, i) > 0);
  requestSetCold(cold);
  if (!cold) return scoreAll(0.5);
  if (count == 1) return scoreAll(1);
  findPlaces(pool, <u32>load<f64>(instance, INSTANCE_AT_A));
  let unused: u32 = 0;
  for (let i: u32 = 0; i < count; i++) if (placeOf(candidateRow(i)) == 0) unused++;
  const last = <f64>(count - 1);
  let fresh: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const place = placeOf(candidateRow(i));
    const rank = place == 0 ? fresh : unused + place - 1;
    if (place == 0) fresh++;
    setScore(i, max<f64>(0, 1 - <f64>rank / last));
  }
}

function isUnused(row: u32): bool {
  const used = rowF64(COLUMN_COLD_USED_MS, row);
  return used != used;
}

function placeOf(row: u32): u32 {
  return <u32>load<u16>(places + ((<usize>(row % POOL_ENDPOINTS_MAX)) << 1));
}

function findPlaces(pool: u32, lruSize: u32): void {
  memory.fill(places, 0, 256 * 2);
  const order = orders + <usize>pool * POOL_ENDPOINTS_MAX;
  const count = <u32>load<u16>(orderCounts + ((<usize>pool) << 1));
  let used: u32 = 0;
  for (let i: u32 = 0; i < count; i++) if (!isUnused(rowOf(pool, load<u8>(order + i)))) used++;
  const forgotten = used > lruSize ? used - lruSize : 0;
  let place: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const slot = load<u8>(order + i);
    if (isUnused(rowOf(pool, slot))) continue;
    if (place >= forgotten) store<u16>(places + ((<usize>slot) << 1), <u16>(place - forgotten + 1));
    place++;
  }
}
