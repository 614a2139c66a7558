// The pickers: from scored candidates to an ordered list of rows, the best first.
//
//   max-score-picker: by total, ties shuffled
//   random-picker: in random order
//   weighted-random-picker: A-Res sampling without replacement (Efraimidis and Spirakis 2006): by
//     U^(1/total), here as ln(U) / total, which orders alike; totals ≤ 0 come last; none > 0 → random
//   epp-wasm-latency-picker (ours): the choice of latency-picker.ts, then by cost
//
// Source: llm-d-router pkg/epp/framework/plugins/scheduling/picker @ ebab6879. A further picker is a number
// in plugin-types.ts and a case in pick().
import { candidateCount, candidateRow, totalOf } from "./candidates";
import { latencyChoose } from "./latency-picker";
import { RESULTS_MAX } from "./plan";
import { PLUGIN_MAX_SCORE_PICKER, PLUGIN_WEIGHTED_RANDOM_PICKER } from "./plugin-types";
import { requestRandom, requestRandomUnit } from "./request";

// The list so far, the best first: row, what it is ordered by, and the draw that breaks ties. One more is kept than wanted.
const LIST_MAX: u32 = RESULTS_MAX + 1;
const resultRows: usize = memory.data(17 * 2, 8);
const resultKeys: usize = memory.data(17 * 8, 8);
const resultDraws: usize = memory.data(17 * 4, 8);
const resultTotals: usize = memory.data(17 * 8, 8);
let results: u32 = 0;
let listed: u32 = 0;

/** The same for epp-wasm-latency-picker; `instance` 0 = all defaults. */
export function pickByLatency(instance: usize, pool: u32, wanted: u32): u32 {
  resultsReset();
  if (candidateCount() == 0) return 0;
  const chosen = latencyChoose(instance, pool);
  const kept = min<u32>(wanted + 1, LIST_MAX);
  for (let i: u32 = 0, count = candidateCount(); i < count; i++) {
    insert(i, i == chosen ? Infinity : totalOf(i), kept);
  }
  return take(wanted);
}

/** Picks up to `wanted` (1…RESULTS_MAX) of the candidates; how many there are now. */
export function pick(picker: u32, wanted: u32): u32 {
  resultsReset();
  const kept = min<u32>(wanted + 1, LIST_MAX);
  for (let i: u32 = 0, count = candidateCount(); i < count; i++) insert(i, keyOf(picker, i), kept);
  return take(wanted);
}

function take(wanted: u32): u32 {
  results = min<u32>(listed, min<u32>(wanted, RESULTS_MAX));
  return results;
}

/** Forgets the last result. */
export function resultsReset(): void {
  results = 0;
  listed = 0;
}

export function resultCount(): u32 {
  return results;
}

/** Row picked at `index` < resultsListed(), the best first. */
export function resultRow(index: u32): u32 {
  return <u32>load<u16>(resultRows + ((<usize>index) << 1));
}

/** Rows that resultRow() knows: the results and, where there is one, the next best. */
export function resultsListed(): u32 {
  return listed;
}

/** Weighted sum of the row picked at `index`. */
export function resultTotal(index: u32): f64 {
  return load<f64>(resultTotals + ((<usize>index) << 3));
}

function keyOf(picker: u32, index: u32): f64 {
  switch (picker) {
    case PLUGIN_MAX_SCORE_PICKER:
      return totalOf(index);
    case PLUGIN_WEIGHTED_RANDOM_PICKER: {
      const total = totalOf(index);
      return total > 0 ? Math.log(requestRandomUnit()) / total : -Infinity;
    }
    default:
      return 0;
  }
}

// Puts the candidate into its place in the list of `kept`, the last of a full list falls off.
function insert(index: u32, key: f64, kept: u32): void {
  const draw = <u32>(requestRandom() >> 32);
  let place = listed;
  while (place > 0 && isBefore(key, draw, place - 1)) place--;
  if (place >= kept) return;
  if (listed < kept) listed++;
  for (let i = listed - 1; i > place; i--) {
    store<u16>(resultRows + ((<usize>i) << 1), load<u16>(resultRows + ((<usize>(i - 1)) << 1)));
    store<f64>(resultKeys + ((<usize>i) << 3), load<f64>(resultKeys + ((<usize>(i - 1)) << 3)));
    store<f64>(resultTotals + ((<usize>i) << 3), load<f64>(resultTotals + ((<usize>(i - 1)) << 3)));
    store<u32>(resultDraws + ((<usize>i) << 2), load<u32>(resultDraws + ((<usize>(i - 1)) << 2)));
  }
  store<u16>(resultRows + ((<usize>place) << 1), <u16>candidateRow(index));
  store<f64>(resultKeys + ((<usize>place) << 3), key);
  store<f64>(resultTotals + ((<usize>place) << 3), totalOf(index));
  store<u32>(resultDraws + ((<usize>place) << 2), draw);
}

function isBefore(key: f64, draw: u32, place: u32): bool {
  const other = load<f64>(resultKeys + ((<usize>place) << 3));
  if (key != other) return key > other;
  return draw > load<u32>(resultDraws + ((<usize>place) << 2));
}
