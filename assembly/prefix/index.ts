// The prefix index: which endpoint rows hold which prefix keys. One hard-bounded table over (key, row).
//
//   heads u32[2^19] ──► node { key, next in bucket, first holder } ──► holder { node, next, row, generation, touch }
//
// An entry is alive while (a) its row still has the generation it was stored under, so an endpoint that
// restarted or left is forgotten in O(1), and (b) the row has stored less than its KV capacity since the
// entry's last touch: a clock of stored tokens per row stands in for the engine's LRU. When all holders
// are taken a clock hand frees the next one that was not touched since its last round (at most 8 are
// spared, then the next goes whatever it is). Pure: no host calls, no clock but the rows' own.
import { INDEX_ENTRIES_MAX, POOL_ENDPOINTS_MAX, ROWS_MAX } from "../wire/limits";
import { COLUMN_GENERATION, COLUMN_KV_CAPACITY_TOKENS, rowF64, rowU32 } from "../pool/rows";
import { CHAIN_KEYS_MAX, chainDepthBytes, chainKey, chainKeyCount } from "./chain";

/** Tokens a row is taken to hold while its KV capacity is unknown: llm-d's 31,250 entries of 16 tokens. */
export const CAPACITY_TOKENS_DEFAULT: u32 = 500000;
/** The rows' clocks count in units of this many stored tokens, so that u32 wraps after 6.9e10 tokens. */
const CLOCK_TOKENS: u32 = 16;
/** Half as many chains as entries: two nodes each when the table is full. */
const BUCKETS: u32 = INDEX_ENTRIES_MAX / 2;
const SPARED_MAX: u32 = 8;
/** Holders of one key that are walked; further ones are not seen. A pool has at most this many endpoints. */
const HOLDERS_WALKED_MAX: u32 = ROWS_MAX;

const heads: usize = memory.data(524288 * 4, 64);
const nodes: usize = memory.data(1048577 * 16, 64);
const holders: usize = memory.data(1048577 * 16, 64);
const NODE_NEXT: usize = 8;
const NODE_FIRST: usize = 12;
const HOLDER_NEXT: usize = 4;
const HOLDER_ROW: usize = 8;
const HOLDER_GENERATION: usize = 10;
const HOLDER_TOUCH: usize = 12;
/** Bit of a holder's row field: touched since the hand last passed. */
const REFERENCED: u16 = 0x8000;
const ROW_MASK: u16 = 0x0fff;

// Index 0 is "none" in both pools.
let nodesUsed: u32 = 0;
let freeNode: u32 = 0;
let holdersUsed: u32 = 0;
let freeHolder: u32 = 0;
let entries: u32 = 0;
let hand: u32 = 0;
let evictions: u64 = 0;

const rowClocks: usize = memory.data(4096 * 8, 8);

/** Entries in the table, dead ones that were not yet reused included. */
export function indexEntries(): u32 {
  return entries;
}

/** Entries that were pushed out while the table was full. */
export function indexEvictions(): u64 {
  return evictions;
}

/** Advances a row's clock: it stored `tokens` new tokens. */
export function indexStored(row: u32, tokens: u32): void {
  const clock = rowClocks + ((<usize>row) << 3);
  store<u64>(clock, load<u64>(clock) + tokens);
}

function clockOf(row: u32): u32 {
  return <u32>(load<u64>(rowClocks + ((<usize>row) << 3)) / CLOCK_TOKENS);
}

function capacityOf(row: u32): u32 {
  const tokens = rowF64(COLUMN_KV_CAPACITY_TOKENS, row);
  return (tokens > 0 ? <u32>min(tokens, 4000000000.0) : CAPACITY_TOKENS_DEFAULT) / CLOCK_TOKENS;
}

function isAlive(holder: usize): bool {
  const row = <u32>(load<u16>(holder, HOLDER_ROW) & ROW_MASK);
  if (<u32>load<u16>(holder, HOLDER_GENERATION) != rowU32(COLUMN_GENERATION, row)) return false;
  return clockOf(row) - load<u32>(holder, HOLDER_TOUCH) < capacityOf(row);
}

function bucketOf(key: u64): usize {
  return heads + ((<usize>((<u32>(key >> 40)) & (BUCKETS - 1))) << 2);
}

function nodeAt(index: u32): usize {
  return nodes + ((<usize>index) << 4);
}

function holderAt(index: u32): usize {
  return holders + ((<usize>index) << 4);
}

function findNode(key: u64): u32 {
  let index = load<u32>(bucketOf(key));
  while (index != 0) {
    const node = nodeAt(index);
    if (load<u64>(node) == key) return index;
    index = load<u32>(node, NODE_NEXT);
  }
  return 0;
}

function findHolder(nodeIndex: u32, row: u32): u32 {
  let index = load<u32>(nodeAt(nodeIndex), NODE_FIRST);
  while (index != 0) {
    if (<u32>(load<u16>(holderAt(index), HOLDER_ROW) & ROW_MASK) == row) return index;
    index = load<u32>(holderAt(index), HOLDER_NEXT);
  }
  return 0;
}

/** Stores or touches (key, row) under the row's present generation. */
export function indexInsert(key: u64, row: u32): void {
  let nodeIndex = findNode(key);
  if (nodeIndex != 0) {
    const held = findHolder(nodeIndex, row);
    if (held != 0) {
      touchHolder(holderAt(held), row);
      return;
    }
  }
  // Taking a holder may evict the last holder of this very node, so the node is looked up afterwards.
  const holderIndex = takeHolder();
  nodeIndex = findNode(key);
  if (nodeIndex == 0) nodeIndex = addNode(key);
  const node = nodeAt(nodeIndex);
  const holder = holderAt(holderIndex);
  store<u32>(holder, nodeIndex);
  store<u32>(holder, load<u32>(node, NODE_FIRST), HOLDER_NEXT);
  store<u16>(holder, <u16>row, HOLDER_ROW);
  touchHolder(holder, row);
  store<u32>(node, holderIndex, NODE_FIRST);
  entries++;
}

/** Part of a row's capacity that it may store until a held key and its ancestors are touched again. */
const FRESH_PART: u32 = 16;

/** Whether (key, row) was touched so lately, by the row's clock, that touching it and its ancestors again changes little. */
export function indexIsFresh(key: u64, row: u32): bool {
  const nodeIndex = findNode(key);
  if (nodeIndex == 0) return false;
  const held = findHolder(nodeIndex, row);
  if (held == 0) return false;
  const holder = holderAt(held);
  if ((load<u16>(holder, HOLDER_ROW) & REFERENCED) == 0) return false;
  if (<u32>load<u16>(holder, HOLDER_GENERATION) != rowU32(COLUMN_GENERATION, row)) return false;
  return clockOf(row) - load<u32>(holder, HOLDER_TOUCH) < capacityOf(row) / FRESH_PART;
}

function touchHolder(holder: usize, row: u32): void {
  store<u16>(holder, (<u16>row) | REFERENCED, HOLDER_ROW);
  store<u16>(holder, <u16>rowU32(COLUMN_GENERATION, row), HOLDER_GENERATION);
  store<u32>(holder, clockOf(row), HOLDER_TOUCH);
}

/** Forgets (key, row); nothing happens when it is not there. */
export function indexRemove(key: u64, row: u32): void {
  const nodeIndex = findNode(key);
  if (nodeIndex == 0) return;
  const holderIndex = findHolder(nodeIndex, row);
  if (holderIndex == 0) return;
  unlinkHolder(holderIndex);
  store<u32>(holderAt(holderIndex), freeHolder, HOLDER_NEXT);
  store<u32>(holderAt(holderIndex), 0);
  freeHolder = holderIndex;
}

function takeHolder(): u32 {
  if (freeHolder != 0) {
    const index = freeHolder;
    freeHolder = load<u32>(holderAt(index), HOLDER_NEXT);
    return index;
  }
  if (holdersUsed < <u32>INDEX_ENTRIES_MAX) return ++holdersUsed;
  let spared: u32 = 0;
  while (true) {
    hand = hand >= <u32>INDEX_ENTRIES_MAX ? 1 : hand + 1;
    const holder = holderAt(hand);
    const row = load<u16>(holder, HOLDER_ROW);
    if (spared < SPARED_MAX && (row & REFERENCED) != 0 && isAlive(holder)) {
      store<u16>(holder, row & ROW_MASK, HOLDER_ROW);
      spared++;
      continue;
    }
    evictions++;
    unlinkHolder(hand);
    return hand;
  }
}

function unlinkHolder(holderIndex: u32): void {
  const nodeIndex = load<u32>(holderAt(holderIndex));
  const node = nodeAt(nodeIndex);
  const next = load<u32>(holderAt(holderIndex), HOLDER_NEXT);
  entries--;
  let index = load<u32>(node, NODE_FIRST);
  if (index == holderIndex) {
    store<u32>(node, next, NODE_FIRST);
    if (next == 0) dropNode(nodeIndex);
    return;
  }
  while (index != 0) {
    const holder = holderAt(index);
    index = load<u32>(holder, HOLDER_NEXT);
    if (index == holderIndex) {
      store<u32>(holder, next, HOLDER_NEXT);
      return;
    }
  }
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

// The result of the last lookup: per slot of the pool, the number of leading keys held (0 = none).
const depths: usize = memory.data(256 * 2, 16);

/** Keys of the looked-up chain that `slot`'s endpoint holds, counted from the start; 0 = none. */
export function matchedKeys(slot: u32): u32 {
  return <u32>load<u16>(depths + ((<usize>slot) << 1));
}

/** Bytes of the looked-up chain's prompt that `slot`'s endpoint holds. */
export function matchedBytes(chain: usize, slot: u32): u32 {
  const keys = matchedKeys(slot);
  return keys == 0 ? 0 : chainDepthBytes(chain, keys - 1);
}

/**
 * Finds, for every endpoint of a pool, the deepest key of the chain that it holds.
 * A deeper key implies the shallower ones: engines keep a block only while they keep its parents.
 * `wanted` ends the search early once that many endpoints were found.
 * Returns the number of endpoints found; results by matchedKeys(slot).
 */
export function indexLookup(chain: usize, root: u64, pool: u32, wanted: u32): u32 {
  memory.fill(depths, 0, POOL_ENDPOINTS_MAX * 2);
  const count = min(chainKeyCount(chain), CHAIN_KEYS_MAX);
  if (count == 0) return 0;
  let at = deepestHeld(chain, root, pool, count);
  if (at < 0) return 0;
  let found = noteHolders(chainKey(chain, <u32>at, root), pool, <u32>at + 1);
  while (at > 0 && found < wanted) {
    at = nextDepth(chain, root, pool, <u32>at, found);
    if (at < 0) break;
    found += noteHolders(chainKey(chain, <u32>at, root), pool, <u32>at + 1);
  }
  return found;
}

// The deepest key above `at` that more than `found` endpoints hold, or -1. Whoever holds a key holds those
// before it, so a key with as many holders as were found adds none: only the depths where the number
// changes are looked for, by doubling and then halving the distance.
function nextDepth(chain: usize, root: u64, pool: u32, at: u32, found: u32): i32 {
  let same = at;
  let more: i32 = -1;
  for (let step: u32 = 1; more < 0 && same > 0; step <<= 1) {
    const probe = at > step ? at - step : 0;
    if (countHolders(chainKey(chain, probe, root), pool) > found) more = <i32>probe;
    else same = probe;
  }
  while (more >= 0 && <u32>more + 1 < same) {
    const middle = (<u32>more + same) >> 1;
    if (countHolders(chainKey(chain, middle, root), pool) > found) more = <i32>middle;
    else same = middle;
  }
  return more;
}

// Gives the endpoints that hold the key, and none deeper, their depth. Returns how many.
function noteHolders(key: u64, pool: u32, keys: u32): u32 {
  let noted: u32 = 0;
  const nodeIndex = findNode(key);
  if (nodeIndex == 0) return 0;
  let holderIndex = load<u32>(nodeAt(nodeIndex), NODE_FIRST);
  for (let walked: u32 = 0; holderIndex != 0 && walked < HOLDERS_WALKED_MAX; walked++) {
    const holder = holderAt(holderIndex);
    holderIndex = load<u32>(holder, HOLDER_NEXT);
    const row = <u32>(load<u16>(holder, HOLDER_ROW) & ROW_MASK);
    if (row / POOL_ENDPOINTS_MAX != pool) continue;
    const depth = depths + ((<usize>(row % POOL_ENDPOINTS_MAX)) << 1);
    if (load<u16>(depth) != 0 || !isAlive(holder)) continue;
    store<u16>(depth, <u16>keys);
    noted++;
  }
  return noted;
}

function countHolders(key: u64, pool: u32): u32 {
  let held: u32 = 0;
  const nodeIndex = findNode(key);
  if (nodeIndex == 0) return 0;
  let holderIndex = load<u32>(nodeAt(nodeIndex), NODE_FIRST);
  for (let walked: u32 = 0; holderIndex != 0 && walked < HOLDERS_WALKED_MAX; walked++) {
    const holder = holderAt(holderIndex);
    holderIndex = load<u32>(holder, HOLDER_NEXT);
    const row = <u32>(load<u16>(holder, HOLDER_ROW) & ROW_MASK);
    if (row / POOL_ENDPOINTS_MAX == pool && isAlive(holder)) held++;
  }
  return held;
}

// Doubling, then halving: a cold prompt costs one probe, a warm one about 2·log2 of its depth.
function deepestHeld(chain: usize, root: u64, pool: u32, count: u32): i32 {
  if (!isHeld(chainKey(chain, 0, root), pool)) return -1;
  let held: u32 = 0;
  let step: u32 = 1;
  let missing = count;
  while (held + step < count) {
    if (!isHeld(chainKey(chain, held + step, root), pool)) {
      missing = held + step;
      break;
    }
    held += step;
    step <<= 1;
  }
  while (held + 1 < missing) {
    const middle = (held + missing) >> 1;
    if (isHeld(chainKey(chain, middle, root), pool)) held = middle;
    else missing = middle;
  }
  return <i32>held;
}

function isHeld(key: u64, pool: u32): bool {
  const nodeIndex = findNode(key);
  if (nodeIndex == 0) return false;
  let index = load<u32>(nodeAt(nodeIndex), NODE_FIRST);
  for (let walked: u32 = 0; index != 0 && walked < HOLDERS_WALKED_MAX; walked++) {
    const holder = holderAt(index);
    if (<u32>(load<u16>(holder, HOLDER_ROW) & ROW_MASK) / POOL_ENDPOINTS_MAX == pool && isAlive(holder))
      return true;
    index = load<u32>(holder, HOLDER_NEXT);
  }
  return false;
}
