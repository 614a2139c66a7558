// The prefix index: which endpoint rows are taken to hold which prefix keys, from what was sent to them.
//
// An entry is alive while (a) its row still has the generation it was stored under, so an endpoint that
// restarted or left is forgotten in O(1), and (b) the row has stored less than its KV capacity since the
// entry's last touch: a clock of stored tokens per row stands in for the engine's LRU. Pure: no host calls, no clock
// but the rows' own.
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { COLUMN_GENERATION, COLUMN_INFLIGHT_TOKENS, rowF64, rowU32 } from "../pool/rows";
import { CHAIN_KEYS_MAX, chainDepthBytes, chainKey, chainKeyCount } from "./chain";
import { CLOCK_TOKENS, capacityOf, clockOf } from "./clocks";
import {
  HOLDERS_WALKED_MAX,
  HOLDER_GENERATION,
  HOLDER_NEXT,
  HOLDER_ROW,
  HOLDER_TOUCH,
  REFERENCED,
  addHolder,
  dropHolder,
  findHolder,
  firstHolder,
  holderAt,
  isAlive,
} from "./holders";

/** All bits of a holder's row field but REFERENCED: an exact entry's is beyond every row. */
const WHO_MASK: u32 = 0x7fff;

/** Stores or touches (key, row) under the row's present generation; dropped and counted where there is no room. */
export function indexInsert(key: u64, row: u32): void {
  let index = findHolder(key, row);
  if (index == 0) index = addHolder(key, row);
  if (index != 0) touchHolder(holderAt(index), row);
}

/** Part of a row's capacity that it may store until a held key and its ancestors are touched again. */
const FRESH_PART: u32 = 16;

/** Whether (key, row) was touched so lately, by the row's clock, that touching it and its ancestors again changes little. */
export function indexIsFresh(key: u64, row: u32): bool {
  const held = findHolder(key, row);
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
  const held = findHolder(key, row);
  if (held != 0) dropHolder(held);
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
    if (hasMoreHolders(chainKey(chain, probe, root), pool, found)) more = <i32>probe;
    else same = probe;
  }
  while (more >= 0 && <u32>more + 1 < same) {
    const middle = (<u32>more + same) >> 1;
    if (hasMoreHolders(chainKey(chain, middle, root), pool, found)) more = <i32>middle;
    else same = middle;
  }
  return more;
}

// Gives the endpoints that hold the key, and none deeper, their depth. Returns how many.
function noteHolders(key: u64, pool: u32, keys: u32): u32 {
  let noted: u32 = 0;
  let holderIndex = firstHolder(key);
  for (let walked: u32 = 0; holderIndex != 0 && walked < HOLDERS_WALKED_MAX; walked++) {
    const holder = holderAt(holderIndex);
    holderIndex = load<u32>(holder, HOLDER_NEXT);
    const row = (<u32>load<u16>(holder, HOLDER_ROW)) & WHO_MASK;
    if (row / POOL_ENDPOINTS_MAX != pool) continue;
    const depth = depths + ((<usize>(row % POOL_ENDPOINTS_MAX)) << 1);
    if (load<u16>(depth) != 0 || !isAlive(holder)) continue;
    store<u16>(depth, <u16>keys);
    noted++;
  }
  return noted;
}

function hasMoreHolders(key: u64, pool: u32, found: u32): bool {
  let held: u32 = 0;
  let holderIndex = firstHolder(key);
  for (let walked: u32 = 0; holderIndex != 0 && walked < HOLDERS_WALKED_MAX; walked++) {
    const holder = holderAt(holderIndex);
    holderIndex = load<u32>(holder, HOLDER_NEXT);
    const row = (<u32>load<u16>(holder, HOLDER_ROW)) & WHO_MASK;
    if (row / POOL_ENDPOINTS_MAX == pool && isAlive(holder) && ++held > found) return true;
  }
  return false;
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
  let index = firstHolder(key);
  for (let walked: u32 = 0; index != 0 && walked < HOLDERS_WALKED_MAX; walked++) {
    const holder = holderAt(index);
    if (((<u32>load<u16>(holder, HOLDER_ROW)) & WHO_MASK) / POOL_ENDPOINTS_MAX == pool && isAlive(holder))
      return true;
    index = load<u32>(holder, HOLDER_NEXT);
  }
  return false;
}

/**
 * Of an endpoint whose cache is known exactly only what is being computed there right now is guessed: the keys of the
 * chain, from the one at `from` on, that were noted at `row` within its uncached tokens in flight. Returns the number
 * of leading keys that are held or will be, at least `from`. Prompts are noted from the first key that the row lacks
 * on, so the keys in flight have no gap.
 */
export function inFlightKeys(chain: usize, root: u64, row: u32, from: u32): u32 {
  const tokens = rowF64(COLUMN_INFLIGHT_TOKENS, row);
  const count = min(chainKeyCount(chain), CHAIN_KEYS_MAX);
  if (!(tokens > 0) || from >= count) return from;
  const window = <u32>Math.min(tokens, 4000000000.0) / CLOCK_TOKENS + 1;
  if (!isInFlight(chainKey(chain, from, root), row, window)) return from;
  let held = from;
  let step: u32 = 1;
  let missing = count;
  while (held + step < count) {
    if (!isInFlight(chainKey(chain, held + step, root), row, window)) {
      missing = held + step;
      break;
    }
    held += step;
    step <<= 1;
  }
  while (held + 1 < missing) {
    const middle = (held + missing) >> 1;
    if (isInFlight(chainKey(chain, middle, root), row, window)) held = middle;
    else missing = middle;
  }
  return held + 1;
}

function isInFlight(key: u64, row: u32, window: u32): bool {
  const held = findHolder(key, row);
  if (held == 0 || !isAlive(holderAt(held))) return false;
  return clockOf(row) - load<u32>(holderAt(held), HOLDER_TOUCH) <= window;
}
