// How much of a rendered prompt each engine holds, by its own account: the deepest held cell, weighted by tier.
//
// A faster tier holds no more of a prompt than a slower one does: its cells go GPU first, then CPU, then disk, as engines
// give blocks up from a prompt's end.
import { KV_TIER_CPU, KV_TIER_GPU, KV_TOKENS_MAX } from "../wire/kv-deltas";
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { rowOf } from "../pool/rows";
import { cellKey, cellsBroken, cellsOpen } from "./cells";
import { BLOCK_BYTES } from "./chain";
import { depthBegin, depthOf } from "./depth";
import { ENTRY_TOUCH, EXACT, findEntry } from "./entries";
import { exactEntries, isExact } from "./exact-rows";

// What a cached token is worth that has to come from a slower tier first, against one in the GPU's memory: llm-d's
// figures (llm-d-kv-cache pkg/kvcache/backend.go, DefaultKVCacheBackendConfig: gpu 1.0, cpu 0.8, storage 0.3).
export const CPU_WEIGHT: f64 = 0.8;
export const DISK_WEIGHT: f64 = 0.3;
const TIER_SHIFT: u32 = 30;

// By slot of the pool looked up last: cells held, tier and tokens of the deepest, and what they are worth.
const depths: usize = memory.data(256 * 2, 16);
const values: usize = memory.data(256 * 4, 16);
const tokens: usize = memory.data(256 * 8, 16);

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
  if (cellsBroken(cells)) return 0;
  depthBegin(0, root, cellsOpen(cells));
  let found: u32 = 0;
  for (let slot: u32 = 0; slot < <u32>POOL_ENDPOINTS_MAX; slot++) {
    const row = rowOf(pool, slot);
    if (exactEntries(row) == 0 || !isExact(row)) continue;
    const depth = depthOf(row);
    if (depth == 0) continue;
    const value = valueAt(depth - 1, row, root);
    store<u16>(depths + ((<usize>slot) << 1), <u16>depth);
    store<u32>(values + ((<usize>slot) << 2), value);
    store<f64>(tokens + ((<usize>slot) << 3), weigh(value, row, depth, root));
    found++;
  }
  return found;
}

// Tier and tokens of the cell at `index`, which may be missing.
function valueAt(index: u32, row: u32, root: u64): u32 {
  const entry = findEntry(cellKey(index, root), row | EXACT);
  return entry == 0 ? MISSING : load<u32>(entry, ENTRY_TOUCH);
}
/** Slower than every tier. */
const MISSING: u32 = 0xffffffff;

function weigh(value: u32, row: u32, cells: u32, root: u64): f64 {
  const all = <f64>(value & KV_TOKENS_MAX);
  const tier = value >> TIER_SHIFT;
  if (tier == KV_TIER_GPU) return all;
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
    const value = valueAt(middle, row, root);
    if (value >> TIER_SHIFT > tier) missing = middle;
    else {
      held = middle + 1;
      heldTokens = value & KV_TOKENS_MAX;
    }
  }
  return <f64>heldTokens;
}
