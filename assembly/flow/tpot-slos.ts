// The tightest time between tokens that any request in flight at a row asks for, over all workers.
//
// Requests come and go, so each row counts its own by size class; a class remembers the tightest wish since it
// was last empty. So the answer is never looser than what is in flight, and mostly exact.
import { COLUMN_TPOT_SLO_MS, setRowF64 } from "../pool/rows";

/** Size classes: upper bounds of 5 ms × √2^i; the last takes all the rest. */
const CLASSES: u32 = 16;
const FIRST_BOUND_MS: f64 = 5;

//   ┌ row, 104 bytes ──────────────────────────────────────────────────────────────────┐
//   │ 0 f32 others' tightest ms   4 f32 own   8 u16 count[16]   40 f32 tightest ms[16] │
//   └──────────────────────────────────────────────────────────────────────────────────┘
const ROW_BYTES: usize = 104;
const AT_OWN: usize = 4;
const AT_COUNTS: usize = 8;
const AT_TIGHTEST: usize = 40;
const rows: usize = memory.data(4096 * 104, 8);

/** A request in flight at the row asks for `ms` between tokens at most. ms > 0. */
export function tpotSloAdd(row: u32, ms: f64): void {
  const at = rows + <usize>row * ROW_BYTES;
  const place = classOf(ms);
  const count = at + AT_COUNTS + (place << 1);
  const tightest = at + AT_TIGHTEST + (place << 2);
  const before = load<u16>(count);
  if (before == 0 || <f32>ms < load<f32>(tightest)) store<f32>(tightest, <f32>ms);
  // More than 65,535 requests of one class at one row are beyond STREAMS_MAX.
  store<u16>(count, before + 1);
  refresh(row);
}

/** It has ended; `ms` as it was added. */
export function tpotSloRemove(row: u32, ms: f64): void {
  const count = rows + <usize>row * ROW_BYTES + AT_COUNTS + (classOf(ms) << 1);
  const before = load<u16>(count);
  assert(before > 0);
  store<u16>(count, before - 1);
  refresh(row);
}

/** The tightest of this worker's own, ms; 0 = none. */
export function ownTpotSloMs(row: u32): f64 {
  return <f64>load<f32>(rows + <usize>row * ROW_BYTES, AT_OWN);
}

/** Forgets the others' wishes, before their cells are read anew. */
export function clearOtherTpotSlo(row: u32): void {
  store<f32>(rows + <usize>row * ROW_BYTES, 0);
  publish(row);
}

/** The tightest of another worker, ms; 0 = none. */
export function addOtherTpotSlo(row: u32, ms: f64): void {
  const at = rows + <usize>row * ROW_BYTES;
  const known = <f64>load<f32>(at);
  if (!(ms > 0) || (known > 0 && known <= ms)) return;
  store<f32>(at, <f32>ms);
  publish(row);
}

function classOf(ms: f64): usize {
  let bound = FIRST_BOUND_MS;
  let place: usize = 0;
  while (place < CLASSES - 1 && ms > bound) {
    bound *= Math.SQRT2;
    place++;
  }
  return place;
}

function refresh(row: u32): void {
  const at = rows + <usize>row * ROW_BYTES;
  let own: f32 = 0;
  for (let place: usize = 0; place < CLASSES && own == 0; place++) {
    if (load<u16>(at + AT_COUNTS + (place << 1)) > 0) own = load<f32>(at + AT_TIGHTEST + (place << 2));
  }
  store<f32>(at, own, AT_OWN);
  publish(row);
}

function publish(row: u32): void {
  const at = rows + <usize>row * ROW_BYTES;
  const others = <f64>load<f32>(at);
  const own = <f64>load<f32>(at, AT_OWN);
  setRowF64(COLUMN_TPOT_SLO_MS, row, others > 0 && (own == 0 || others < own) ? others : own);
}
