// The prefix index: which endpoint rows are taken to hold which prefix keys, from what was sent to them.
//
// An entry is alive while (a) its row still has the generation it was stored under, so an endpoint that
// restarted or left is forgotten in O(1), and (b) the row has stored less than its KV capacity since the
// entry's last touch: a clock of stored tokens per row stands in for the engine's LRU. Pure: no host calls, no clock
// but the rows' own.
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { COLUMN_GENERATION, COLUMN_INFLIGHT_TOKENS, rowF64, rowOf, rowU32 } from "../pool/rows";
import { CHAIN_KEYS_MAX, chainDepthBytes, chainKey, chainKeyCount } from "./chain";
import { CLOCK_TOKENS, capacityOf, clockOf } from "./clocks";
import { depthBegin, depthOf } from "./depth";
import {
  ENTRY_GENERATION,
  ENTRY_ROW,
  ENTRY_TOUCH,
  REFERENCED,
  addEntry,
  dropEntry,
  findEntry,
  isAlive,
} from "./entries";

/** Stores or touches (key, row) under the row's present generation; dropped and counted where there is no room. */
export function indexInsert(key: u64, row: u32): void {
  let entry = findEntry(key, row);
  if (entry == 0) entry = addEntry(key, row);
  if (entry == 0) return;
  store<u16>(entry, (<u16>row) | REFERENCED, ENTRY_ROW);
  store<u16>(entry, <u16>rowU32(COLUMN_GENERATION, row), ENTRY_GENERATION);
  store<u32>(entry, clockOf(row), ENTRY_TOUCH);
}

/** Part of a row's capacity that it may store until a held key and its ancestors are touched again. */
const FRESH_PART: u32 = 16;

/** Whether (key, row) was touched so lately, by the row's clock, that touching it and its ancestors again changes little. */
export function indexIsFresh(key: u64, row: u32): bool {
  const entry = findEntry(key, row);
  if (entry == 0 || (load<u16>(entry, ENTRY_ROW) & REFERENCED) == 0) return false;
  if (<u32>load<u16>(entry, ENTRY_GENERATION) != rowU32(COLUMN_GENERATION, row)) return false;
  return clockOf(row) - load<u32>(entry, ENTRY_TOUCH) < capacityOf(row) / FRESH_PART;
}

/** Forgets (key, row); nothing happens when it is not there. */
export function indexRemove(key: u64, row: u32): void {
  const entry = findEntry(key, row);
  if (entry != 0) dropEntry(entry);
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
 * Returns the number of endpoints that hold some; results by matchedKeys(slot).
 */
export function indexLookup(chain: usize, root: u64, pool: u32): u32 {
  memory.fill(depths, 0, POOL_ENDPOINTS_MAX * 2);
  depthBegin(chain, root, min(chainKeyCount(chain), CHAIN_KEYS_MAX));
  let found: u32 = 0;
  for (let slot: u32 = 0; slot < <u32>POOL_ENDPOINTS_MAX; slot++) {
    const row = rowOf(pool, slot);
    if (rowU32(COLUMN_GENERATION, row) == 0) continue;
    const depth = depthOf(row);
    store<u16>(depths + ((<usize>slot) << 1), <u16>depth);
    if (depth != 0) found++;
  }
  return found;
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
  const entry = findEntry(key, row);
  if (entry == 0 || !isAlive(entry)) return false;
  return clockOf(row) - load<u32>(entry, ENTRY_TOUCH) <= window;
}
