// Hosts that are set aside: after a failed connect, a reset, or a burst of 5xx, for a time that grows.
//
// What this worker saw is published in its cell; what the others saw arrives the same way, so a host that
// one worker found dead is avoided by all of them within a tick. When the time is over the host is picked
// again; a success forgets its past, a further failure doubles the time.
import { COLUMN_GENERATION, rowU32 } from "./rows";

/** Consecutive 5xx answers of one host, within BURST_MS, after which it is set aside. */
export const BURST_FAILURES: u32 = 5;
/** A 5xx later than this after the one before starts a new count. */
export const BURST_MS: f64 = 10000;
/** Doublings of the back-off after which it stops growing by itself (the configured maximum comes first). */
const DOUBLINGS_MAX: u32 = 16;

//   ┌ row, 40 bytes ──────────────────────────────────────────────────────────────────┐
//   │ 0 f64 own: aside until ms   8 f64 others: until ms   16 f64 last 5xx ms          │
//   │ 24 u32 failures in a row   28 u32 5xx in a row   32 u16 generation               │
//   └─────────────────────────────────────────────────────────────────────────────────┘
const ROW_BYTES: usize = 40;
const AT_OTHERS: usize = 8;
const AT_LAST_5XX: usize = 16;
const AT_FAILURES: usize = 24;
const AT_5XX: usize = 28;
const AT_GENERATION: usize = 32;
const rows: usize = memory.data(4096 * 40, 8);
let setAside: u64 = 0;

function rowAt(row: u32): usize {
  const at = rows + <usize>row * ROW_BYTES;
  const generation = rowU32(COLUMN_GENERATION, row);
  if (<u32>load<u16>(at, AT_GENERATION) != generation) {
    memory.fill(at, 0, ROW_BYTES);
    store<u16>(at, <u16>generation, AT_GENERATION);
  }
  return at;
}

/** Times that this worker set a host aside, since the VM started. */
export function setAsideTotal(): u64 {
  return setAside;
}

/** Whether the row is set aside at `nowMs`, by this worker or another. */
export function isSetAside(row: u32, nowMs: f64): bool {
  const at = rowAt(row);
  return nowMs < load<f64>(at) || nowMs < load<f64>(at, AT_OTHERS);
}

/** Until when this worker set the row aside, ms; 0 = it did not. */
export function ownAsideUntilMs(row: u32): f64 {
  return load<f64>(rowAt(row));
}

/** Failures of the row in a row, as far as known. */
export function failuresInARow(row: u32): u32 {
  return load<u32>(rowAt(row), AT_FAILURES);
}

/** The row failed to connect or reset before it answered. Back-off: minMs × 2^(failures − 1), at most maxMs. */
export function noteFailure(row: u32, nowMs: f64, minMs: f64, maxMs: f64): void {
  const at = rowAt(row);
  // Requests that were already on their way when the host was set aside say nothing new.
  if (nowMs < load<f64>(at)) return;
  const failures = load<u32>(at, AT_FAILURES) + 1;
  store<u32>(at, failures, AT_FAILURES);
  const doublings = min(failures - 1, DOUBLINGS_MAX);
  store<f64>(at, nowMs + min(minMs * <f64>(1 << doublings), maxMs));
  setAside++;
}

/** The row answered 5xx. Returns whether that made a burst, for which it is now set aside. */
export function noteServerError(row: u32, nowMs: f64, minMs: f64, maxMs: f64): bool {
  const at = rowAt(row);
  const count: u32 = nowMs - load<f64>(at, AT_LAST_5XX) > BURST_MS ? 1 : load<u32>(at, AT_5XX) + 1;
  store<f64>(at, nowMs, AT_LAST_5XX);
  store<u32>(at, count, AT_5XX);
  if (count < BURST_FAILURES) return false;
  store<u32>(at, 0, AT_5XX);
  noteFailure(row, nowMs, minMs, maxMs);
  return true;
}

/** The row answered: its failures are forgotten. */
export function noteSuccess(row: u32): void {
  const at = rowAt(row);
  if (load<u32>(at, AT_FAILURES) == 0 && load<u32>(at, AT_5XX) == 0) return;
  store<u32>(at, 0, AT_FAILURES);
  store<u32>(at, 0, AT_5XX);
  store<f64>(at, 0);
}

/** Forgets what the other workers said, before their cells are read anew. */
export function clearOthersAside(row: u32): void {
  store<f64>(rowAt(row), 0, AT_OTHERS);
}

/** Another worker set the row aside until `untilMs`, after `failures` failures in a row. */
export function noteOthersAside(row: u32, untilMs: f64, failures: u32): void {
  const at = rowAt(row);
  if (untilMs > load<f64>(at, AT_OTHERS)) store<f64>(at, untilMs, AT_OTHERS);
  if (failures > load<u32>(at, AT_FAILURES)) store<u32>(at, failures, AT_FAILURES);
}
