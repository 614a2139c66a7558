// How much of a rendered prompt each engine holds, by its own account: the deepest held cell, weighted by tier.
//
// A cell is held only where all before it are, so held cells are found by doubling and halving, and only the depths
// where the holders change are looked for. A faster tier holds no more than a slower one does: the cells of a prompt
// go GPU first, then CPU, then disk, as engines give blocks up from a prompt's end.
import { KV_TIER_CPU, KV_TIER_GPU, KV_TOKENS_MAX } from "../wire/kv-deltas";
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { rowOf } from "../pool/rows";
import { BLOCK_BYTES } from "./chain";
import { cellKey, cellsBroken, cellsOpen } from "./cells";
import { exactEntries, exactEpoch, isExact } from "./exact-rows";
import {
  EXACT,
  HOLDERS_WALKED_MAX,
  HOLDER_GENERATION,
  HOLDER_NEXT,
  HOLDER_ROW,
  HOLDER_TOUCH,
  ROW_MASK,
  findHolder,
  firstHolder,
  holderAt,
} from "./holders";

// What a cached token is worth that has to come from a slower tier first, against one in the GPU's memory: llm-d's
// figures (llm-d-kv-cache pkg/kvcache/backend.go, DefaultKVCacheBackendConfig: gpu 1.0, cpu 0.8, storage 0.3).
export const CPU_WEIGHT: f64 = 0.8;
export const DISK_WEIGHT: f64 = 0.3;
const TIER_SHIFT: u32 = 30;

/** "Not an exact row": no epoch is this large. */
const NO_EPOCH: u32 = 0xffffffff;

// By slot of the pool looked up last: the epoch of its exact row; cells held; tier and tokens of the deepest; the result.
const epochs: usize = memory.data(256 * 4, 16);
const depths: usize = memory.data(256 * 2, 16);
const values: usize = memory.data(256 * 4, 16);
const tokens: usize = memory.data(256 * 8, 16);

/** Cells of the looked-up prompt that `slot`'s engine holds in any tier. */
function heldCells(slot: u32): u32 {
  return <u32>load<u16>(depths + ((<usize>slot) << 1));
}

/** Bytes of the looked-up prompt that `slot`'s engine holds in any tier: whole cells from the start. */
export function exactBytes(slot: u32): u32 {
  return heldCells(slot) * BLOCK_BYTES;
}

/** Tokens of it that are cached there in any tier. */
export function exactHeldTokens(slot: u32): f64 {
  return heldCells(slot) == 0 ? 0 : <f64>(load<u32>(values + ((<usize>slot) << 2)) & KV_TOKENS_MAX);
}

/** Tokens of it that are cached there, those in slower tiers by their weight; 0 where the row is not exact. */
export function exactTokens(slot: u32): f64 {
  return load<f64>(tokens + ((<usize>slot) << 3));
}

/**
 * Looks the prompt in the record `cells` up at all exact rows of `pool`; `root` is mixPair(adapter's hash, salt's hash).
 * Returns how many hold some of it; the figures by exactTokens(slot) and exactBytes(slot), 0 for all others.
 */
export function exactLookup(cells: usize, root: u64, pool: u32): u32 {
  memory.fill(depths, 0, POOL_ENDPOINTS_MAX * 2);
  memory.fill(tokens, 0, POOL_ENDPOINTS_MAX * 8);
  const wanted = noteEpochs(pool);
  const count = cellsOpen(cells);
  if (wanted == 0 || count == 0 || cellsBroken(cells)) return 0;
  let at = deepestHeld(root, pool, count);
  if (at < 0) return 0;
  let found = noteHolders(<u32>at, root, pool);
  while (at > 0 && found < wanted) {
    at = nextDepth(root, pool, <u32>at);
    if (at < 0) break;
    found += noteHolders(<u32>at, root, pool);
  }
  for (let slot: u32 = 0; slot < <u32>POOL_ENDPOINTS_MAX; slot++) {
    if (heldCells(slot) != 0) store<f64>(tokens + ((<usize>slot) << 3), weigh(slot, root, pool));
  }
  return found;
}

// Returns how many rows of the pool have exact entries that count.
function noteEpochs(pool: u32): u32 {
  let exact: u32 = 0;
  for (let slot: u32 = 0; slot < <u32>POOL_ENDPOINTS_MAX; slot++) {
    const row = rowOf(pool, slot);
    const counts = exactEntries(row) != 0 && isExact(row);
    store<u32>(epochs + ((<usize>slot) << 2), counts ? exactEpoch(row) : NO_EPOCH);
    if (counts) exact++;
  }
  return exact;
}

// The slot whose engine holds what the holder tells; POOL_ENDPOINTS_MAX where it does not count.
function slotOf(holder: usize, pool: u32): u32 {
  const row = <u32>load<u16>(holder, HOLDER_ROW);
  if ((row & EXACT) == 0 || (row & ROW_MASK) / POOL_ENDPOINTS_MAX != pool) return POOL_ENDPOINTS_MAX;
  const slot = row % POOL_ENDPOINTS_MAX;
  const epoch = load<u32>(epochs + ((<usize>slot) << 2));
  return <u32>load<u16>(holder, HOLDER_GENERATION) == epoch ? slot : POOL_ENDPOINTS_MAX;
}

// Gives the engines that hold the cell, and none deeper, their depth. Returns how many.
function noteHolders(index: u32, root: u64, pool: u32): u32 {
  let noted: u32 = 0;
  let at = firstHolder(cellKey(index, root));
  for (let walked: u32 = 0; at != 0 && walked < HOLDERS_WALKED_MAX; walked++) {
    const holder = holderAt(at);
    at = load<u32>(holder, HOLDER_NEXT);
    const slot = slotOf(holder, pool);
    if (slot == POOL_ENDPOINTS_MAX || heldCells(slot) != 0) continue;
    store<u16>(depths + ((<usize>slot) << 1), <u16>(index + 1));
    store<u32>(values + ((<usize>slot) << 2), load<u32>(holder, HOLDER_TOUCH));
    noted++;
  }
  return noted;
}

// Whether an engine holds the cell that was not noted at a deeper one.
function isHeldByOthers(index: u32, root: u64, pool: u32): bool {
  let at = firstHolder(cellKey(index, root));
  for (let walked: u32 = 0; at != 0 && walked < HOLDERS_WALKED_MAX; walked++) {
    const holder = holderAt(at);
    at = load<u32>(holder, HOLDER_NEXT);
    const slot = slotOf(holder, pool);
    if (slot != POOL_ENDPOINTS_MAX && heldCells(slot) == 0) return true;
  }
  return false;
}

function deepestHeld(root: u64, pool: u32, count: u32): i32 {
  if (!isHeldByOthers(0, root, pool)) return -1;
  let held: u32 = 0;
  let step: u32 = 1;
  let missing = count;
  while (held + step < count) {
    if (!isHeldByOthers(held + step, root, pool)) {
      missing = held + step;
      break;
    }
    held += step;
    step <<= 1;
  }
  while (held + 1 < missing) {
    const middle = (held + missing) >> 1;
    if (isHeldByOthers(middle, root, pool)) held = middle;
    else missing = middle;
  }
  return <i32>held;
}

// The deepest cell above `at` that an engine holds which holds none deeper, or -1.
function nextDepth(root: u64, pool: u32, at: u32): i32 {
  let same = at;
  let more: i32 = -1;
  for (let step: u32 = 1; more < 0 && same > 0; step <<= 1) {
    const probe = at > step ? at - step : 0;
    if (isHeldByOthers(probe, root, pool)) more = <i32>probe;
    else same = probe;
  }
  while (more >= 0 && <u32>more + 1 < same) {
    const middle = (<u32>more + same) >> 1;
    if (isHeldByOthers(middle, root, pool)) more = <i32>middle;
    else same = middle;
  }
  return more;
}

function weigh(slot: u32, root: u64, pool: u32): f64 {
  const value = load<u32>(values + ((<usize>slot) << 2));
  const all = <f64>(value & KV_TOKENS_MAX);
  const tier = value >> TIER_SHIFT;
  if (tier == KV_TIER_GPU) return all;
  const row = rowOf(pool, slot);
  const cells = heldCells(slot);
  const fast = tokensOfTier(KV_TIER_GPU, row, cells, root);
  const memory = tier == KV_TIER_CPU ? all : tokensOfTier(KV_TIER_CPU, row, cells, root);
  return fast + CPU_WEIGHT * (memory - fast) + DISK_WEIGHT * (all - memory);
}

// Tokens up to the deepest cell, of the first `cells`, that the row holds in `tier` or a faster one.
function tokensOfTier(tier: u32, row: u32, cells: u32, root: u64): f64 {
  let held: u32 = 0;
  let heldTokens: u32 = 0;
  let missing = cells;
  while (held < missing) {
    const middle = (held + missing) >> 1;
    const index = findHolder(cellKey(middle, root), row | EXACT);
    const value = index == 0 ? 0xffffffff : load<u32>(holderAt(index), HOLDER_TOUCH);
    if (value >> TIER_SHIFT > tier) missing = middle;
    else {
      held = middle + 1;
      heldTokens = value & KV_TOKENS_MAX;
    }
  }
  return <f64>heldTokens;
}
