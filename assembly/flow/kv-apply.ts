// Applies checked batches of exact-index changes to the rows of a pool, and knows which rows have to be sent anew.
//
//   unknown ──KV_BEGIN──► copying ──KV_EXACT, digest and count agree──► exact ──KV_DEGRADED──► degraded
//
// KV_EXACT that does not agree, another generation or a lost batch make the row unknown: its entries are cleared, what is
// told of it passes by, and it is wanted. A degraded row keeps its entries up and is not wanted; the next KV_EXACT tells
// whether they are all.
import {
  KV_BEGIN,
  KV_DEGRADED,
  KV_EXACT,
  KV_HEADER_BYTES,
  KV_REMOVE,
  KV_SECTION_AT_ENTRIES,
  KV_SECTION_AT_GENERATION,
  KV_SECTION_AT_OPERATION,
  KV_SECTION_AT_SLOT,
  KV_SECTION_AT_TIER,
  KV_SECTION_BYTES,
} from "../wire/kv-deltas";
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { COLUMN_GENERATION, rowOf, rowU32 } from "../pool/rows";
import { exactClear, exactRemove, exactStore } from "../prefix/exact";
import {
  EXACT_AGREES,
  EXACT_COPIES,
  EXACT_DEGRADED,
  EXACT_FOLLOWS,
  EXACT_SKIPS,
  exactDigest,
  exactEntries,
  exactFlags,
  exactGeneration,
  exactWantedMs,
  setExactFlags,
  setExactGeneration,
  setExactWantedMs,
} from "../prefix/exact-rows";
import { kvSectionBytes, kvSections, kvTokensPtr } from "./kv-batch";

/** A row whose entries found no room is asked for again after this time: its sidecar may have less to tell by then. */
const FULL_RETRY_MS: f64 = 30000;

let drifts: u64 = 0;
let dropped: u64 = 0;

/** Rows that did not agree with what their sidecar said they hold, since the VM started. */
export function kvDrifts(): u64 {
  return drifts;
}
/** Rows whose entries were dropped because there was no room for all, since the VM started. */
export function kvDropped(): u64 {
  return dropped;
}

/** Applies a checked batch to `pool`. `nowMs`: own clock. */
export function kvApply(pool: u32, batch: usize, nowMs: f64): void {
  const sections = kvSections(batch);
  let section = batch + KV_HEADER_BYTES;
  for (let i: u32 = 0; i < sections; i++) {
    const row = rowOf(pool, load<u16>(section, KV_SECTION_AT_SLOT));
    kvRefreshRow(row);
    // An endpoint that left, or was told of before its snapshot came: it is unknown, and wanted once it is there.
    if (exactGeneration(row) == <u32>load<u16>(section, KV_SECTION_AT_GENERATION)) apply(row, section, nowMs);
    section += kvSectionBytes(section);
  }
}

function apply(row: u32, section: usize, nowMs: f64): void {
  const operation = <u32>load<u8>(section, KV_SECTION_AT_OPERATION);
  const payload = section + KV_SECTION_BYTES;
  const entries = load<u32>(section, KV_SECTION_AT_ENTRIES);
  const flags = exactFlags(row);
  if (operation == KV_BEGIN) return begin(row, flags, load<u64>(payload), entries);
  if (operation == KV_EXACT) return settle(row, flags, load<u64>(payload), entries);
  if (operation == KV_DEGRADED) return setExactFlags(row, (flags & EXACT_FOLLOWS) | EXACT_DEGRADED);
  if ((flags & (EXACT_FOLLOWS | EXACT_SKIPS)) != EXACT_FOLLOWS) return;
  if (operation == KV_REMOVE) {
    for (let i: u32 = 0; i < entries; i++) exactRemove(load<u64>(payload + ((<usize>i) << 3)), row);
  } else if (!storeAll(row, section, entries)) {
    dropped++;
    kvForgetRow(row);
    setExactWantedMs(row, nowMs + FULL_RETRY_MS);
  }
}

function storeAll(row: u32, section: usize, entries: u32): bool {
  const tier = <u32>load<u8>(section, KV_SECTION_AT_TIER);
  const keys = section + KV_SECTION_BYTES;
  const tokens = kvTokensPtr(section);
  for (let i: u32 = 0; i < entries; i++) {
    const count = load<u32>(tokens + ((<usize>i) << 2));
    if (!exactStore(load<u64>(keys + ((<usize>i) << 3)), row, count, tier)) return false;
  }
  return true;
}

// A copy begins. Where there is just that already it passes by, and the row counts on.
function begin(row: u32, flags: u32, digest: u64, entries: u32): void {
  const isHere = (flags & (EXACT_FOLLOWS | EXACT_COPIES)) == EXACT_FOLLOWS;
  if (isHere && agrees(row, digest, entries)) return setExactFlags(row, flags | EXACT_SKIPS);
  exactClear(row);
  setExactFlags(row, EXACT_FOLLOWS | EXACT_COPIES);
  setExactWantedMs(row, 0);
}

function settle(row: u32, flags: u32, digest: u64, entries: u32): void {
  if (agrees(row, digest, entries)) return setExactFlags(row, EXACT_FOLLOWS | EXACT_AGREES);
  if ((flags & EXACT_FOLLOWS) != 0) drifts++;
  kvForgetRow(row);
}

function agrees(row: u32, digest: u64, entries: u32): bool {
  return exactEntries(row) == entries && exactDigest(row) == digest;
}

/** The row is unknown from now on, whatever was told of it. */
export function kvForgetRow(row: u32): void {
  exactClear(row);
  setExactFlags(row, 0);
}

/** All rows of the pool are unknown: another session, or a batch was lost. */
export function kvForgetPool(pool: u32): void {
  for (let slot: u32 = 0; slot < <u32>POOL_ENDPOINTS_MAX; slot++) kvForgetRow(rowOf(pool, slot));
}

/** Nothing was heard of the pool for KV_SILENT_MS: its rows count as degraded, until their next KV_EXACT. */
export function kvSilence(pool: u32): void {
  for (let slot: u32 = 0; slot < <u32>POOL_ENDPOINTS_MAX; slot++) {
    const row = rowOf(pool, slot);
    if ((exactFlags(row) & EXACT_AGREES) != 0) setExactFlags(row, EXACT_FOLLOWS | EXACT_DEGRADED);
  }
}

/** Forgets what was told of another endpoint, or of this one before it lost its cache, in this row. */
export function kvRefreshRow(row: u32): void {
  const generation = rowU32(COLUMN_GENERATION, row);
  if (exactGeneration(row) == generation) return;
  kvForgetRow(row);
  setExactGeneration(row, generation);
  setExactWantedMs(row, 0);
}

/** Whether the row has to be sent from the start. `nowMs`: own clock. */
export function kvIsWanted(row: u32, nowMs: f64): bool {
  if (exactGeneration(row) == 0 || (exactFlags(row) & (EXACT_FOLLOWS | EXACT_DEGRADED)) != 0) return false;
  return nowMs >= exactWantedMs(row);
}
