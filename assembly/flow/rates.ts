// Puts together what this worker learnt of the endpoints' speed (wire/rates.ts), and takes in what the others did. Pure.
import { COLUMN_GENERATION, rowOf, rowU32 } from "../pool/rows";
import {
  FIT_PREFILL,
  FIT_TPOT,
  ratesAddOther,
  ratesAddOwn,
  ratesKnown,
  ratesOwnSums,
  ratesRegimeMs,
} from "../pool/rates";
import { NO_POOL, poolByHash, poolCount, poolHash } from "../pool/table";
import { POOLS_MAX, POOL_ENDPOINTS_MAX } from "../wire/limits";
import {
  RATES_AT_ENTRIES,
  RATES_AT_OWNER,
  RATES_AT_POOLS,
  RATES_AT_REGIMES,
  RATES_AT_SUMS,
  RATES_AT_VERSION,
  RATES_AT_WRITTEN,
  RATES_ENTRIES_MAX,
  RATES_ENTRY_BYTES,
  RATES_HEADER_BYTES,
  RATES_MAGIC,
  RATES_POOL_BYTES,
  RATES_VERSION,
} from "../wire/rates";

const rates: usize = memory.data(65824, 16);
const SUMS_STEP: usize = 24;
let ratesLength: u32 = 0;
let entriesDropped: u64 = 0;

/** What was built last. */
export function ratesPtr(): usize {
  return rates;
}
export function ratesBytes(): u32 {
  return ratesLength;
}
/** Endpoints that did not fit, since the VM started. */
export function ratesEntriesDropped(): u64 {
  return entriesDropped;
}

/** Puts this worker's knowledge together; read it with ratesPtr and ratesBytes. */
export function ratesBuild(owner: u64, nowMs: f64): void {
  memory.fill(rates, 0, RATES_HEADER_BYTES);
  store<u32>(rates, RATES_MAGIC);
  store<u16>(rates, RATES_VERSION, RATES_AT_VERSION);
  store<u64>(rates, owner, RATES_AT_OWNER);
  store<u64>(rates, <u64>nowMs, RATES_AT_WRITTEN);
  let at = rates + RATES_HEADER_BYTES;
  let entries: u32 = 0;
  let sections: u32 = 0;
  for (let pool: u32 = 0; pool < poolCount(); pool++) {
    const section = at;
    let inPool: u32 = 0;
    at += RATES_POOL_BYTES;
    for (let slot: u32 = 0; slot < <u32>POOL_ENDPOINTS_MAX; slot++) {
      const row = rowOf(pool, slot);
      if (rowU32(COLUMN_GENERATION, row) == 0 || !ratesKnown(row)) continue;
      if (entries >= <u32>RATES_ENTRIES_MAX) {
        entriesDropped++;
        continue;
      }
      writeEntry(at, row, nowMs);
      at += RATES_ENTRY_BYTES;
      entries++;
      inPool++;
    }
    if (inPool == 0) {
      at = section;
      continue;
    }
    store<u64>(section, poolHash(pool));
    store<u64>(section, inPool, 8);
    sections++;
  }
  store<u16>(rates, <u16>sections, RATES_AT_POOLS);
  store<u32>(rates, entries, RATES_AT_ENTRIES);
  ratesLength = <u32>(at - rates);
}

function writeEntry(at: usize, row: u32, nowMs: f64): void {
  store<u16>(at, <u16>(row % POOL_ENDPOINTS_MAX));
  store<u16>(at, <u16>rowU32(COLUMN_GENERATION, row), 2);
  store<u32>(at, 0, 4);
  for (let which: u32 = FIT_PREFILL; which <= FIT_TPOT; which++) {
    const regimeMs = ratesRegimeMs(row, which);
    const ago: f64 = regimeMs > 0 ? Math.max(nowMs - regimeMs, 0) : -1;
    store<f32>(at + RATES_AT_REGIMES + ((<usize>which) << 2), <f32>ago);
    ratesOwnSums(row, which, nowMs, at + RATES_AT_SUMS + <usize>which * SUMS_STEP);
  }
}

/** Whether the bytes are rates of this version whose parts lie inside them and whose numbers are numbers ≥ 0. */
export function ratesCheck(ptr: usize, bytes: u32): bool {
  if (bytes < <u32>RATES_HEADER_BYTES || load<u32>(ptr) != RATES_MAGIC) return false;
  if (load<u16>(ptr, RATES_AT_VERSION) != RATES_VERSION) return false;
  const sections = <u32>load<u16>(ptr, RATES_AT_POOLS);
  if (sections > <u32>POOLS_MAX) return false;
  let at: u32 = RATES_HEADER_BYTES;
  for (let i: u32 = 0; i < sections; i++) {
    if (at + RATES_POOL_BYTES > bytes) return false;
    const entries = load<u32>(ptr + at, 8);
    if (entries > <u32>RATES_ENTRIES_MAX) return false;
    at += RATES_POOL_BYTES;
    if (at + entries * RATES_ENTRY_BYTES > bytes) return false;
    for (let k: u32 = 0; k < entries; k++, at += RATES_ENTRY_BYTES) {
      if (!areSums(ptr + at + RATES_AT_SUMS)) return false;
    }
  }
  return at == bytes;
}

function areSums(ptr: usize): bool {
  for (let i: usize = 0; i < 2 * SUMS_STEP; i += 4) {
    const value = load<f32>(ptr + i);
    if (!(value >= 0 && value < Infinity)) return false;
  }
  return true;
}

/** The owner of checked rates. */
export function ratesOwner(ptr: usize): u64 {
  return load<u64>(ptr, RATES_AT_OWNER);
}
/** When they were written, ms. */
export function ratesWrittenMs(ptr: usize): f64 {
  return <f64>load<u64>(ptr, RATES_AT_WRITTEN);
}

/**
 * Takes in checked rates: of another worker, whose sums add to ours, or (`asOwn`) those that the cell's owner before
 * us left behind, which are ours from now on.
 */
export function ratesTake(ptr: usize, nowMs: f64, asOwn: bool): void {
  const writtenMs = ratesWrittenMs(ptr);
  const sections = <u32>load<u16>(ptr, RATES_AT_POOLS);
  let at = ptr + RATES_HEADER_BYTES;
  for (let i: u32 = 0; i < sections; i++) {
    const pool = poolByHash(load<u64>(at));
    const entries = load<u32>(at, 8);
    at += RATES_POOL_BYTES;
    for (let k: u32 = 0; k < entries; k++, at += RATES_ENTRY_BYTES) {
      const slot = <u32>load<u16>(at);
      if (pool == NO_POOL || slot >= <u32>POOL_ENDPOINTS_MAX) continue;
      const row = rowOf(pool, slot);
      if (rowU32(COLUMN_GENERATION, row) != <u32>load<u16>(at, 2)) continue;
      for (let which: u32 = FIT_PREFILL; which <= FIT_TPOT; which++) {
        const ago = <f64>load<f32>(at + RATES_AT_REGIMES + ((<usize>which) << 2));
        const regimeMs = ago >= 0 ? writtenMs - ago : 0;
        const sums = at + RATES_AT_SUMS + <usize>which * SUMS_STEP;
        if (asOwn) ratesAddOwn(row, which, sums, regimeMs, writtenMs);
        else ratesAddOther(row, which, sums, regimeMs, nowMs - writtenMs);
      }
    }
  }
}
