// The table of who holds what: one hard-bounded table over (key, row), of approximate and of exact entries.
//
//   heads u32[2^19] ──► node { key, next in bucket, first holder } ──► holder { node, next, row, generation, touch }
//
// A holder of the exact kind (EXACT) keeps the row's epoch as its generation and tier << 30 | tokens as its touch.
// Exact entries are never pushed out: when all holders are taken a clock hand frees the next approximate one that was
// not touched since its last round (at most SPARED_MAX are spared, then the next goes whatever it is). Where there are
// none, dead exact entries are reclaimed; without those there is no room.
import { INDEX_ENTRIES_MAX, ROWS_MAX } from "../wire/limits";
import { COLUMN_GENERATION, rowU32 } from "../pool/rows";
import { capacityOf, clockOf } from "./clocks";
import { exactEpoch } from "./exact-rows";

/** Half as many chains as entries: two nodes each when the table is full. */
const BUCKETS: u32 = INDEX_ENTRIES_MAX / 2;
const SPARED_MAX: u32 = 8;
/** Holders of one key that are walked; further ones are not seen. There is one a row and kind. */
export const HOLDERS_WALKED_MAX: u32 = ROWS_MAX;

const heads: usize = memory.data(524288 * 4, 64);
const nodes: usize = memory.data(1048577 * 16, 64);
const holders: usize = memory.data(1048577 * 16, 64);
const NODE_NEXT: usize = 8;
const NODE_FIRST: usize = 12;
export const HOLDER_NEXT: usize = 4;
export const HOLDER_ROW: usize = 8;
export const HOLDER_GENERATION: usize = 10;
export const HOLDER_TOUCH: usize = 12;
/** Bits of a holder's row field: touched since the hand last passed; an exact entry. */
export const REFERENCED: u16 = 0x8000;
export const EXACT: u16 = 0x4000;
/** What tells the holders of one key apart: the row, and the kind. */
const WHO_MASK: u32 = 0x4fff;
export const ROW_MASK: u32 = 0x0fff;

// A bit a holder: taken by an approximate entry. The hand goes by it, 64 holders at a step.
const evictable: usize = memory.data(16385 * 8, 8);
const EVICTABLE_WORDS: u32 = 16385;

// Index 0 is "none" in both pools.
let nodesUsed: u32 = 0;
let freeNode: u32 = 0;
let holdersUsed: u32 = 0;
let freeHolder: u32 = 0;
let approximate: u32 = 0;
let deadExact: u32 = 0;
let hand: u32 = 0;
let sweepHand: u32 = 0;
let evictions: u64 = 0;
let dropped: u64 = 0;

/** Approximate entries in the table, dead ones that were not yet reused included. */
export function indexEntries(): u32 {
  return approximate;
}
/** Approximate entries that were pushed out while the table was full. */
export function indexEvictions(): u64 {
  return evictions;
}
/** Approximate entries that found no room, because all holders are taken by exact ones. */
export function indexDrops(): u64 {
  return dropped;
}

function bucketOf(key: u64): usize {
  return heads + ((<usize>((<u32>(key >> 40)) & (BUCKETS - 1))) << 2);
}
function nodeAt(index: u32): usize {
  return nodes + ((<usize>index) << 4);
}
/** Address of the holder at `index`. */
export function holderAt(index: u32): usize {
  return holders + ((<usize>index) << 4);
}

/** The node of the key, or 0. */
export function findNode(key: u64): u32 {
  let index = load<u32>(bucketOf(key));
  while (index != 0) {
    const node = nodeAt(index);
    if (load<u64>(node) == key) return index;
    index = load<u32>(node, NODE_NEXT);
  }
  return 0;
}

/** The first holder of the key, or 0; the others by HOLDER_NEXT. */
export function firstHolder(key: u64): u32 {
  const node = findNode(key);
  return node == 0 ? 0 : load<u32>(nodeAt(node), NODE_FIRST);
}

/** The holder of the key by `who`, a row with or without EXACT; 0 = none. */
export function findHolder(key: u64, who: u32): u32 {
  let index = firstHolder(key);
  while (index != 0) {
    const holder = holderAt(index);
    if (((<u32>load<u16>(holder, HOLDER_ROW)) & WHO_MASK) == who) return index;
    index = load<u32>(holder, HOLDER_NEXT);
  }
  return 0;
}

/** Adds a holder by `who`, whom the key does not have; generation and touch are to be set. 0 = there is no room. */
export function addHolder(key: u64, who: u32): u32 {
  const index = takeHolder();
  if (index == 0) {
    if ((who & EXACT) == 0) dropped++;
    return 0;
  }
  // Taking a holder may evict the last one of this very key's node, so that is looked up afterwards.
  let nodeIndex = findNode(key);
  if (nodeIndex == 0) nodeIndex = addNode(key);
  const node = nodeAt(nodeIndex);
  const holder = holderAt(index);
  store<u32>(holder, nodeIndex);
  store<u32>(holder, load<u32>(node, NODE_FIRST), HOLDER_NEXT);
  store<u16>(holder, <u16>who, HOLDER_ROW);
  store<u32>(node, index, NODE_FIRST);
  if ((who & EXACT) == 0) setEvictable(index);
  return index;
}

/** Takes a holder out of the table. */
export function dropHolder(index: u32): void {
  unlinkHolder(index);
  store<u32>(holderAt(index), freeHolder, HOLDER_NEXT);
  store<u32>(holderAt(index), 0);
  freeHolder = index;
}

function setEvictable(index: u32): void {
  const word = evictable + ((<usize>(index >> 6)) << 3);
  store<u64>(word, load<u64>(word) | ((<u64>1) << (index & 63)));
  approximate++;
}

function clearEvictable(index: u32): void {
  const word = evictable + ((<usize>(index >> 6)) << 3);
  store<u64>(word, load<u64>(word) & ~((<u64>1) << (index & 63)));
  approximate--;
}

// The next approximate holder behind `index`, around the end; there is one.
function nextEvictable(index: u32): u32 {
  let word = index >> 6;
  let bits = load<u64>(evictable + ((<usize>word) << 3)) & ((<u64>-2) << (index & 63));
  while (bits == 0) {
    word = word + 1 == EVICTABLE_WORDS ? 0 : word + 1;
    bits = load<u64>(evictable + ((<usize>word) << 3));
  }
  return (word << 6) + <u32>ctz<u64>(bits);
}

function takeHolder(): u32 {
  if (freeHolder == 0 && holdersUsed < <u32>INDEX_ENTRIES_MAX) return ++holdersUsed;
  if (freeHolder == 0 && approximate > 0) return evict();
  // One round of the table at most, for there is one to be found; the rounds of a row's dead entries are its own.
  while (freeHolder == 0 && deadExact > 0) sweepExact(SWEEP_STEP);
  const index = freeHolder;
  if (index != 0) freeHolder = load<u32>(holderAt(index), HOLDER_NEXT);
  return index;
}
const SWEEP_STEP: u32 = 64;

function evict(): u32 {
  for (let spared: u32 = 0; ; spared++) {
    hand = nextEvictable(hand);
    const holder = holderAt(hand);
    const row = load<u16>(holder, HOLDER_ROW);
    if (spared >= SPARED_MAX || (row & REFERENCED) == 0 || !isAlive(holder)) break;
    store<u16>(holder, row & ~REFERENCED, HOLDER_ROW);
  }
  evictions++;
  unlinkHolder(hand);
  return hand;
}

/** Whether an approximate holder's entry still counts. */
export function isAlive(holder: usize): bool {
  const row = (<u32>load<u16>(holder, HOLDER_ROW)) & ROW_MASK;
  if (<u32>load<u16>(holder, HOLDER_GENERATION) != rowU32(COLUMN_GENERATION, row)) return false;
  return clockOf(row) - load<u32>(holder, HOLDER_TOUCH) < capacityOf(row);
}

function unlinkHolder(index: u32): void {
  const holder = holderAt(index);
  const nodeIndex = load<u32>(holder);
  const node = nodeAt(nodeIndex);
  const next = load<u32>(holder, HOLDER_NEXT);
  if ((load<u16>(holder, HOLDER_ROW) & EXACT) == 0) clearEvictable(index);
  let link = node + NODE_FIRST;
  while (load<u32>(link) != index) link = holderAt(load<u32>(link)) + HOLDER_NEXT;
  store<u32>(link, next);
  if (load<u32>(node, NODE_FIRST) == 0) dropNode(nodeIndex);
}

function addNode(key: u64): u32 {
  let index = freeNode;
  if (index != 0) freeNode = load<u32>(nodeAt(index), NODE_NEXT);
  else index = ++nodesUsed;
  const bucket = bucketOf(key);
  const node = nodeAt(index);
  store<u64>(node, key);
  store<u32>(node, load<u32>(bucket), NODE_NEXT);
  store<u32>(node, 0, NODE_FIRST);
  store<u32>(bucket, index);
  return index;
}

function dropNode(nodeIndex: u32): void {
  const node = nodeAt(nodeIndex);
  const next = load<u32>(node, NODE_NEXT);
  let link = bucketOf(load<u64>(node));
  while (load<u32>(link) != nodeIndex) link = nodeAt(load<u32>(link)) + NODE_NEXT;
  store<u32>(link, next);
  store<u32>(node, freeNode, NODE_NEXT);
  freeNode = nodeIndex;
}

/** Exact entries whose row's epoch has changed: they count for nothing and are not yet reclaimed. */
export function deadExactEntries(): u32 {
  return deadExact;
}
/** `count` exact entries died (or, negative, live again under another epoch). */
export function noteDeadExact(count: i32): void {
  deadExact += count;
}

/** Reclaims dead exact entries among the next `steps` holders; does nothing while there are none. */
export function sweepExact(steps: u32): void {
  for (let i: u32 = 0; i < steps && deadExact > 0; i++) {
    sweepHand = sweepHand >= holdersUsed ? 1 : sweepHand + 1;
    const holder = holderAt(sweepHand);
    const row = <u32>load<u16>(holder, HOLDER_ROW);
    if (load<u32>(holder) == 0 || (row & EXACT) == 0) continue;
    if (<u32>load<u16>(holder, HOLDER_GENERATION) == exactEpoch(row & ROW_MASK)) continue;
    dropHolder(sweepHand);
    deadExact--;
  }
}

/** Reclaims all dead exact entries at once: one round of the table at most. */
export function sweepAllExact(): void {
  sweepExact(<u32>INDEX_ENTRIES_MAX);
}
