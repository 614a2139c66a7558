// What is known of each row's exact entries: how many, their digest, and whether they are all that its engine holds.
//
// A row's entries die together when its epoch changes (O(1)); dead ones are reclaimed one by one later (exact.ts).
import { COLUMN_GENERATION, rowU32 } from "../pool/rows";

//   ┌ exact row, 32 bytes ───────────────────────────────────────────────────────┐
//   │ 0 u64 digest   8 u32 entries   12 u32 generation   16 u32 epoch, below 2^16 │
//   │ 20 u32 flags   24 f64 wanted again at ms (0 = at once)                      │
//   └────────────────────────────────────────────────────────────────────────────┘
const ROW_BYTES: usize = 32;
const AT_DIGEST: usize = 0;
const AT_ENTRIES: usize = 8;
const AT_GENERATION: usize = 12;
const AT_EPOCH: usize = 16;
const AT_FLAGS: usize = 20;
const AT_WANTED: usize = 24;
const rows: usize = memory.data(4096 * 32, 8);

// Flags.
/** The entries are the engine's, as far as they were told: changes of them are applied. */
export const EXACT_FOLLOWS: u32 = 1;
/** A whole copy is on its way. */
export const EXACT_COPIES: u32 = 2;
/** What is here is all that the engine holds: digest and count agreed. */
export const EXACT_AGREES: u32 = 4;
/** The sidecar says that it does not know all that the engine holds. */
export const EXACT_DEGRADED: u32 = 8;
/** The copy on its way is what is here already: it is passed over. */
export const EXACT_SKIPS: u32 = 16;

/** Largest epoch + 1. */
export const EPOCHS: u32 = 65536;

function at(row: u32): usize {
  return rows + <usize>row * ROW_BYTES;
}

/** Entries of the row that are alive. */
export function exactEntries(row: u32): u32 {
  return load<u32>(at(row), AT_ENTRIES);
}
/** Xor over them of mixPair(key, tier << 30 | tokens). */
export function exactDigest(row: u32): u64 {
  return load<u64>(at(row), AT_DIGEST);
}
/** Entries of the row are alive that were stored under this. */
export function exactEpoch(row: u32): u32 {
  return load<u32>(at(row), AT_EPOCH);
}
/** EXACT_* of the row. */
export function exactFlags(row: u32): u32 {
  return load<u32>(at(row), AT_FLAGS);
}
export function setExactFlags(row: u32, flags: u32): void {
  store<u32>(at(row), flags, AT_FLAGS);
}
/** The generation of the row that its entries are of; 0 = none yet. */
export function exactGeneration(row: u32): u32 {
  return load<u32>(at(row), AT_GENERATION);
}
export function setExactGeneration(row: u32, generation: u32): void {
  store<u32>(at(row), generation, AT_GENERATION);
}
/** When a copy is to be asked for again (ms, own clock), because there was no room for the last one; 0 = at once. */
export function exactWantedMs(row: u32): f64 {
  return load<f64>(at(row), AT_WANTED);
}
export function setExactWantedMs(row: u32, ms: f64): void {
  store<f64>(at(row), ms, AT_WANTED);
}

/** Counts an entry in (`by` 1) or out (−1), or changes one (0); `mix` is its part of the digest, or old ^ new part. */
export function exactCount(row: u32, by: i32, mix: u64): void {
  store<u32>(at(row), load<u32>(at(row), AT_ENTRIES) + by, AT_ENTRIES);
  store<u64>(at(row), load<u64>(at(row), AT_DIGEST) ^ mix, AT_DIGEST);
}

/** No entry of the row is alive any more; `epoch` is the next one's. */
export function exactEmpty(row: u32, epoch: u32): void {
  store<u32>(at(row), 0, AT_ENTRIES);
  store<u64>(at(row), 0, AT_DIGEST);
  store<u32>(at(row), epoch, AT_EPOCH);
}

/** Whether the row's entries are all that its engine holds now: the approximate index need not be asked. */
export function isExact(row: u32): bool {
  if ((exactFlags(row) & (EXACT_AGREES | EXACT_DEGRADED)) != EXACT_AGREES) return false;
  return exactGeneration(row) != 0 && exactGeneration(row) == rowU32(COLUMN_GENERATION, row);
}
