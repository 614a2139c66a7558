// The table of who holds what: one entry a (key, row), of what is guessed and of what engines tell. Open addressing.
//
//   ┌ entry, 16 bytes: 0 u64 key (0 = free)   8 u16 row and flags   10 u16 generation   12 u32 touch ┐
//
// An entry stands at its home or behind it, with no free place between; four rows of one key share a cache line. Twice
// as many places as entries, so that a search ends after one line or two. An exact entry (EXACT) keeps the row's epoch as
// its generation and tier << 30 | tokens as its touch. Exact entries are never pushed out: when all INDEX_ENTRIES_MAX are
// taken a clock hand frees the next approximate one that was not touched since its last round (at most SPARED_MAX are
// spared, then the next goes whatever it is), or a dead exact one. An approximate entry for which the hand finds none
// within HAND_STEPS places is dropped and counted.
import { INDEX_ENTRIES_MAX } from "../wire/limits";
import { COLUMN_GENERATION, rowU32 } from "../pool/rows";
import { PRIME_1, PRIME_2 } from "../text/hash";
import { capacityOf, clockOf } from "./clocks";
import { exactEpoch } from "./exact-rows";

const PLACES: u32 = INDEX_ENTRIES_MAX * 2;
const PLACE_BITS: u32 = 21;
const SPARED_MAX: u32 = 8;
const HAND_STEPS: u32 = 4096;

const table: usize = memory.data(2097152 * 16, 64);
export const ENTRY_ROW: usize = 8;
export const ENTRY_GENERATION: usize = 10;
export const ENTRY_TOUCH: usize = 12;
/** Flags of an entry's row field: touched since the hand last passed; an exact entry. */
export const REFERENCED: u16 = 0x8000;
export const EXACT: u16 = 0x4000;
/** What tells the entries of one key apart: the row, and the kind. */
const WHO_MASK: u32 = 0x4fff;
const ROW_MASK: u32 = 0x0fff;

let approximate: u32 = 0;
let exact: u32 = 0;
let deadExact: u32 = 0;
let hand: u32 = 0;
let sweepHand: u32 = 0;
let evictions: u64 = 0;
let dropped: u64 = 0;

if (PLACES != (<u32>1) << PLACE_BITS) unreachable();

/** Approximate entries in the table, dead ones that were not yet reused included. */
export function indexEntries(): u32 {
  return approximate;
}
/** Approximate entries that were pushed out while the table was full. */
export function indexEvictions(): u64 {
  return evictions;
}
/** Approximate entries that found no room, because exact ones have it. */
export function indexDrops(): u64 {
  return dropped;
}

function placeAt(place: u32): usize {
  return table + ((<usize>place) << 4);
}

function homeOf(key: u64, who: u32): u32 {
  const mixed = (key ^ (<u64>((who & ROW_MASK) >> 2) * PRIME_1)) * PRIME_2;
  return ((<u32>(mixed >> (64 - PLACE_BITS))) & ~3) | (who & 3);
}

/** The entry of the key by `who`, a row with or without EXACT; 0 = none. Good until an entry is added or dropped. */
export function findEntry(key: u64, who: u32): usize {
  let place = homeOf(key, who);
  while (true) {
    const entry = placeAt(place);
    const there = load<u64>(entry);
    if (there == 0) return 0;
    if (there == key && ((<u32>load<u16>(entry, ENTRY_ROW)) & WHO_MASK) == who) return entry;
    place = (place + 1) & (PLACES - 1);
  }
}

/** Adds an entry that is not there; its generation and touch are to be set. 0 = there is no room. */
export function addEntry(key: u64, who: u32): usize {
  const isExact = (who & EXACT) != 0;
  if (approximate + exact >= <u32>INDEX_ENTRIES_MAX && !makeRoom(isExact ? PLACES : HAND_STEPS)) {
    if (!isExact) dropped++;
    return 0;
  }
  let place = homeOf(key, who);
  while (load<u64>(placeAt(place)) != 0) place = (place + 1) & (PLACES - 1);
  const entry = placeAt(place);
  store<u64>(entry, key);
  store<u16>(entry, <u16>who, ENTRY_ROW);
  if (isExact) exact++;
  else approximate++;
  return entry;
}

/** Takes an entry out of the table; those behind it move up. */
export function dropEntry(entry: usize): void {
  if ((load<u16>(entry, ENTRY_ROW) & EXACT) != 0) exact--;
  else approximate--;
  let gap = <u32>((entry - table) >> 4);
  let place = gap;
  while (true) {
    place = (place + 1) & (PLACES - 1);
    const next = placeAt(place);
    const key = load<u64>(next);
    if (key == 0) break;
    // An entry may move up only to a place that is not before its home.
    const away = (place - homeOf(key, load<u16>(next, ENTRY_ROW))) & (PLACES - 1);
    if (away < ((place - gap) & (PLACES - 1))) continue;
    store<u64>(placeAt(gap), key);
    store<u64>(placeAt(gap), load<u64>(next, ENTRY_ROW), ENTRY_ROW);
    gap = place;
  }
  store<u64>(placeAt(gap), 0);
}

// Frees one entry among the next `steps` places. False: there was none.
function makeRoom(steps: u32): bool {
  let spared: u32 = 0;
  for (let i: u32 = 0; i < steps; i++) {
    hand = (hand + 1) & (PLACES - 1);
    const entry = placeAt(hand);
    if (load<u64>(entry) == 0) continue;
    const row = load<u16>(entry, ENTRY_ROW);
    if ((row & EXACT) != 0) {
      if (reclaim(entry)) return true;
    } else if (spared < SPARED_MAX && (row & REFERENCED) != 0 && isAlive(entry)) {
      store<u16>(entry, row & ~REFERENCED, ENTRY_ROW);
      spared++;
    } else {
      evictions++;
      dropEntry(entry);
      return true;
    }
  }
  return false;
}

/** Whether an approximate entry still counts: its endpoint is the same, and has not stored its capacity since. */
export function isAlive(entry: usize): bool {
  const row = (<u32>load<u16>(entry, ENTRY_ROW)) & ROW_MASK;
  if (<u32>load<u16>(entry, ENTRY_GENERATION) != rowU32(COLUMN_GENERATION, row)) return false;
  return clockOf(row) - load<u32>(entry, ENTRY_TOUCH) < capacityOf(row);
}

/** Exact entries whose row's epoch has changed: they count for nothing and are not yet reclaimed. */
export function deadExactEntries(): u32 {
  return deadExact;
}
/** `count` exact entries died (or, negative, live again under another epoch). */
export function noteDeadExact(count: i32): void {
  deadExact += count;
}

// Drops the exact entry if it is dead.
function reclaim(entry: usize): bool {
  const row = (<u32>load<u16>(entry, ENTRY_ROW)) & ROW_MASK;
  if (<u32>load<u16>(entry, ENTRY_GENERATION) == exactEpoch(row)) return false;
  dropEntry(entry);
  deadExact--;
  return true;
}

/** Reclaims dead exact entries at the next `steps` places; does nothing while there are none. */
export function sweepExact(steps: u32): void {
  for (let i: u32 = 0; i < steps && deadExact > 0; i++) {
    const entry = placeAt(sweepHand);
    const isDead = load<u64>(entry) != 0 && (load<u16>(entry, ENTRY_ROW) & EXACT) != 0 && reclaim(entry);
    // Another entry may have moved to where a dead one was.
    if (!isDead) sweepHand = (sweepHand + 1) & (PLACES - 1);
  }
}

/** Reclaims all dead exact entries at once. */
export function sweepAllExact(): void {
  while (deadExact > 0) sweepExact(PLACES);
}
