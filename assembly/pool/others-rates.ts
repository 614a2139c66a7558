// What the other workers learnt of each endpoint's speed, as of the last reading: sums (fit.ts) that add to ours.
import { FORGOTTEN, SUMS_BYTES, shareLeft, sumsAdd, sumsForget } from "./fit";

//   ┌ row, 72 bytes ──────────────────────────────────────────────────────────────┐
//   │ 0 sums[2]   48 f64 regime[2] ms   64 u32 reading                             │
//   └─────────────────────────────────────────────────────────────────────────────┘
const ROW_BYTES: usize = 72;
const AT_REGIME: usize = 48;
const AT_READING: usize = 64;
const rows: usize = memory.data(4096 * 72, 8);
let reading: u32 = 1;

function rowAt(row: u32): usize {
  return rows + <usize>row * ROW_BYTES;
}

function sumsAt(row: u32, which: u32): usize {
  return rowAt(row) + <usize>which * SUMS_BYTES;
}

function regimeAt(row: u32, which: u32): usize {
  return rowAt(row) + AT_REGIME + ((<usize>which) << 3);
}

/** Forgets a row, which is another endpoint from now on. */
export function othersRatesReset(row: u32): void {
  memory.fill(rowAt(row), 0, ROW_BYTES);
}

/** All is read anew from here on. */
export function othersRatesBegin(): void {
  reading++;
}

/** The endpoint is of another speed since `regimeMs`: what the others learnt before counts for as little as what we did. */
export function othersRatesRegime(row: u32, which: u32, regimeMs: f64): void {
  const known = regimeAt(row, which);
  if (regimeMs <= load<f64>(known)) return;
  store<f64>(known, regimeMs);
  sumsForget(sumsAt(row, which));
}

/** Takes one worker's sums of one fit, as they were `ageMs` ago, of one speed since `regimeMs`. */
export function othersRatesTake(row: u32, which: u32, sums: usize, regimeMs: f64, ageMs: f64): void {
  const at = rowAt(row);
  if (load<u32>(at, AT_READING) != reading) {
    memory.fill(at, 0, AT_REGIME);
    store<u32>(at, reading, AT_READING);
  }
  const isOld = regimeMs < load<f64>(regimeAt(row, which));
  sumsAdd(sumsAt(row, which), sums, shareLeft(ageMs) * (isOld ? FORGOTTEN : 1));
}

/** Adds what was taken of one fit in this reading to `sums`. */
export function othersRatesAddTo(sums: usize, row: u32, which: u32): void {
  if (load<u32>(rowAt(row), AT_READING) == reading) sumsAdd(sums, sumsAt(row, which), 1);
}
