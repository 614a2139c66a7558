// Builds this worker's cell (wire/cell.ts) and takes in the others'. Pure: the bytes come and go by the caller.
import {
  CELL_AT_COUNTERS,
  CELL_AT_ENTRIES,
  CELL_AT_HEARTBEAT,
  CELL_AT_JOURNAL,
  CELL_AT_OWNER,
  CELL_AT_POOLS,
  CELL_AT_VERSION,
  CELL_ENTRIES_MAX,
  CELL_ENTRY_BYTES,
  CELL_HEADER_BYTES,
  CELL_MAGIC,
  CELL_POOL_BYTES,
  CELL_VERSION,
} from "../wire/cell";
import { POOLS_MAX, POOL_ENDPOINTS_MAX } from "../wire/limits";
import { COLUMN_GENERATION, rowOf, rowU32 } from "../pool/rows";
import { NO_POOL, poolByHash, poolCount, poolHash } from "../pool/table";
import { clearOthersAside, failuresInARow, noteOthersAside, ownAsideUntilMs } from "../pool/health";
import {
  addOther,
  addOtherComputed,
  addOtherLegs,
  addOtherPrefilling,
  beginOthers,
  endOthers,
  otherRow,
  otherRowCount,
} from "./others-work";
import {
  busyRow,
  busyRowCount,
  ownComputed,
  ownContextTokens,
  ownFirstTokenMs,
  ownLegs,
  ownPrefilling,
  ownPrefillingSinceMs,
  ownRequests,
  ownTokens,
  unmarkBusy,
} from "./reservations";
import { addOtherTpotSlo, clearOtherTpotSlo, ownTpotSloMs } from "./tpot-slos";

/** An entry stays in the cell for so long after the last first token: what it tells of that is read by then. */
const LINGER_MS: f64 = 100;

const cell: usize = memory.data(41856, 16);
let cellLength: u32 = 0;
let entriesDropped: u64 = 0;

/** The cell built last. */
export function cellPtr(): usize {
  return cell;
}
export function cellBytes(): u32 {
  return cellLength;
}
/** Entries that did not fit into a cell, since the VM started. */
export function cellEntriesDropped(): u64 {
  return entriesDropped;
}
/** This worker's counter at `index` < <u32>CELL_COUNTERS: a u64 that travels with the cell. */
export function counterPtr(index: u32): usize {
  return cell + CELL_AT_COUNTERS + ((<usize>index) << 3);
}

/** Puts the cell together from the reservations; read it with cellPtr and cellBytes. */
export function cellBuild(owner: u64, nowMs: f64, journalHead: u64): void {
  store<u32>(cell, CELL_MAGIC);
  store<u16>(cell, CELL_VERSION, CELL_AT_VERSION);
  store<u64>(cell, owner, CELL_AT_OWNER);
  store<u64>(cell, <u64>nowMs, CELL_AT_HEARTBEAT);
  store<u64>(cell, journalHead, CELL_AT_JOURNAL);
  let at = cell + CELL_HEADER_BYTES;
  let entries: u32 = 0;
  let sections: u32 = 0;
  for (let i: i32 = <i32>busyRowCount() - 1; i >= 0; i--) {
    const row = busyRow(<u32>i);
    if (ownRequests(row) == 0 && ownTokens(row) == 0 && ownAsideUntilMs(row) <= nowMs) {
      if (nowMs - ownFirstTokenMs(row) > LINGER_MS || nowMs < ownFirstTokenMs(row)) unmarkBusy(row);
    }
  }
  for (let pool: u32 = 0; pool < poolCount(); pool++) {
    const section = at;
    let inPool: u32 = 0;
    at += CELL_POOL_BYTES;
    for (let i: u32 = 0; i < busyRowCount(); i++) {
      const row = busyRow(i);
      if (row / POOL_ENDPOINTS_MAX != pool) continue;
      if (entries >= <u32>CELL_ENTRIES_MAX) {
        entriesDropped++;
        continue;
      }
      writeEntry(at, row, nowMs);
      at += CELL_ENTRY_BYTES;
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
  store<u16>(cell, <u16>sections, CELL_AT_POOLS);
  store<u32>(cell, entries, CELL_AT_ENTRIES);
  cellLength = <u32>(at - cell);
}

function writeEntry(at: usize, row: u32, nowMs: f64): void {
  const asideMs = ownAsideUntilMs(row) - nowMs;
  store<u16>(at, <u16>(row % POOL_ENDPOINTS_MAX));
  store<u16>(at, <u16>rowU32(COLUMN_GENERATION, row), 2);
  store<u16>(at, <u16>min<u32>(ownRequests(row), 65535), 4);
  store<u16>(at, <u16>min<u32>(failuresInARow(row), 65535), 6);
  store<u32>(at, <u32>min<u64>(ownTokens(row), 0xffffffff), 8);
  store<u32>(at, asideMs > 0 ? <u32>Math.ceil(asideMs) : 0, 12);
  const firstMs = ownFirstTokenMs(row);
  store<f32>(at, firstMs > 0 ? <f32>Math.max(nowMs - firstMs, 0) : -1, 16);
  const prefilling = ownPrefilling(row);
  store<f32>(at, prefilling > 0 ? <f32>Math.max(nowMs - ownPrefillingSinceMs(row), 0) : 0, 20);
  store<f32>(at, <f32>ownTpotSloMs(row), 24);
  store<u16>(at, <u16>min<u32>(prefilling, 65535), 28);
  store<u16>(at, <u16>min<u32>(ownLegs(row), 65535), 30);
  store<u32>(at, ownComputed(row), 32);
  store<u32>(at, <u32>min<u64>(ownContextTokens(row), 0xffffffff), 36);
}

/** Whether the bytes are a cell of this version whose parts lie inside it. */
export function cellCheck(ptr: usize, bytes: u32): bool {
  if (bytes < <u32>CELL_HEADER_BYTES || load<u32>(ptr) != CELL_MAGIC) return false;
  if (load<u16>(ptr, CELL_AT_VERSION) != CELL_VERSION) return false;
  const sections = <u32>load<u16>(ptr, CELL_AT_POOLS);
  if (sections > <u32>POOLS_MAX) return false;
  let at: u32 = CELL_HEADER_BYTES;
  for (let i: u32 = 0; i < sections; i++) {
    if (at + CELL_POOL_BYTES > bytes) return false;
    const entries = load<u32>(ptr + at, 8);
    if (entries > <u32>CELL_ENTRIES_MAX) return false;
    at += CELL_POOL_BYTES + entries * CELL_ENTRY_BYTES;
  }
  return at == bytes;
}

/** The owner of a checked cell. */
export function cellOwner(ptr: usize): u64 {
  return load<u64>(ptr, CELL_AT_OWNER);
}
/** Its heartbeat, ms. */
export function cellHeartbeatMs(ptr: usize): f64 {
  return <f64>load<u64>(ptr, CELL_AT_HEARTBEAT);
}
/** Bytes its journal has ever held. */
export function cellJournalHead(ptr: usize): u64 {
  return load<u64>(ptr, CELL_AT_JOURNAL);
}

/** Starts a new reading of all others' cells. */
export function cellsBegin(): void {
  for (let i: u32 = 0; i < otherRowCount(); i++) {
    clearOthersAside(otherRow(i));
    clearOtherTpotSlo(otherRow(i));
  }
  beginOthers();
}

/** All others' cells were added. */
export function cellsEnd(): void {
  endOthers();
}

/** Adds a checked cell of another worker to the sums. */
export function cellAdd(ptr: usize): void {
  const heartbeat = cellHeartbeatMs(ptr);
  const sections = <u32>load<u16>(ptr, CELL_AT_POOLS);
  let at = ptr + CELL_HEADER_BYTES;
  for (let i: u32 = 0; i < sections; i++) {
    const pool = poolByHash(load<u64>(at));
    const entries = load<u32>(at, 8);
    at += CELL_POOL_BYTES;
    for (let k: u32 = 0; k < entries; k++, at += CELL_ENTRY_BYTES) {
      if (pool == NO_POOL) continue;
      const slot = <u32>load<u16>(at);
      if (slot >= <u32>POOL_ENDPOINTS_MAX) continue;
      const row = rowOf(pool, slot);
      if (!addOther(row, load<u16>(at, 2), load<u16>(at, 4), load<u32>(at, 8), load<u32>(at, 36))) continue;
      const firstAgo = <f64>load<f32>(at, 16);
      const since = heartbeat - <f64>load<f32>(at, 20);
      addOtherPrefilling(row, load<u16>(at, 28), since, firstAgo >= 0 ? heartbeat - firstAgo : 0);
      addOtherLegs(row, load<u16>(at, 30));
      addOtherComputed(row, load<u32>(at, 32));
      addOtherTpotSlo(row, <f64>load<f32>(at, 24));
      const asideMs = load<u32>(at, 12);
      if (asideMs != 0) noteOthersAside(row, heartbeat + <f64>asideMs, load<u16>(at, 6));
    }
  }
}
