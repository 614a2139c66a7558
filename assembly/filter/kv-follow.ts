// A worker follows the ring of index batches: applies them on its ticks, and tells how far it is and what it lacks.
import { inboxMark, inboxReset } from "../abi/inbox";
import { sharedSet, valueBytes, valuePtr } from "../abi/host";
import {
  KV_BATCH_BYTES_MAX,
  KV_HEARTBEAT_MS,
  KV_POSITION_AT_DEGRADED,
  KV_POSITION_AT_ENTRIES,
  KV_POSITION_AT_EXACT,
  KV_POSITION_AT_SEQUENCE,
  KV_POSITION_AT_SESSION,
  KV_POSITION_AT_WANTED,
  KV_POSITION_BYTES,
  KV_POSITION_HEADER_BYTES,
  KV_SEGMENTS,
  KV_SILENT_MS,
} from "../wire/kv-deltas";
import { POOL_ENDPOINTS_MAX, WORKERS_MAX } from "../wire/limits";
import { EXACT_DEGRADED, exactEntries, exactFlags, isExact } from "../prefix/exact-rows";
import { sweepExact } from "../prefix/entries";
import { rowOf } from "../pool/rows";
import { poolCount, poolHash, poolSequence } from "../pool/table";
import { kvApply, kvForgetPool, kvIsWanted, kvRefreshRow, kvSilence } from "../flow/kv-apply";
import { kvChanges, kvCheck, kvSequence, kvSession } from "../flow/kv-batch";
import { COUNT_KV_BATCHES, COUNT_KV_OVERRUNS, countUp } from "./counters";
import { headSequence, headSession, readBatch, readHead } from "./kv-ring";
import { K_KV_AT } from "./names";
import { numberedKey, numberedKeyPtr, ownCell, workerOwner } from "./worker";

/** Entries that one tick stores and removes while streams wait for it, at least one batch: about 2 ms. */
const TICK_ENTRIES: u32 = 8192;
/** The same while there are none. */
const IDLE_TICK_ENTRIES: u32 = 65536;
/** Places of the table that one tick looks at for dead entries to reclaim. */
const TICK_SWEEP: u32 = 16384;
/** So many batches at one tick are a backlog: the next ticks come fast. */
const BACKLOG_BATCHES: u32 = KV_SEGMENTS / 4;

//   ┌ place of a pool, 32 bytes ──────────────────────────────────────────────────────────────────────┐
//   │ 0 u64 session   8 u32 sequence   12 u32 zero   16 u64 snapshot seen   24 f64 batch came ms, 0 = silent │
//   └─────────────────────────────────────────────────────────────────────────────────────────────────┘
const PLACE_BYTES: usize = 32;
const AT_SEQUENCE: usize = 8;
const AT_SNAPSHOT: usize = 16;
const AT_CAME: usize = 24;
const places: usize = memory.data(16 * 32, 8);
const position: usize = memory.data(16 + 16 * 128, 8);

let isChanged: bool = false;
let positionMs: f64 = 0;

function placeOf(pool: u32): usize {
  return places + <usize>pool * PLACE_BYTES;
}

/** Applies what came since the last tick, within its bounds. Returns whether the next tick should come soon. */
export function kvFollow(nowMs: f64, hasStreams: bool): bool {
  let room = hasStreams ? TICK_ENTRIES : IDLE_TICK_ENTRIES;
  let isBehind = false;
  for (let pool: u32 = 0; pool < poolCount(); pool++) {
    const place = placeOf(pool);
    readHeadOf(pool, place);
    if (load<u64>(place, AT_SNAPSHOT) != poolSequence(pool)) noteSnapshot(pool, place);
    const waiting = headSequence() - load<u32>(place, AT_SEQUENCE);
    if (waiting == 0) {
      noteSilence(pool, place, nowMs);
      continue;
    }
    store<f64>(place, nowMs, AT_CAME);
    if (waiting >= BACKLOG_BATCHES) isBehind = true;
    const target = headSequence();
    room = applyUpTo(pool, place, target, room, nowMs);
    if (load<u32>(place, AT_SEQUENCE) != target) isBehind = true;
    isChanged = true;
  }
  sweepExact(TICK_SWEEP);
  if (isChanged || nowMs - positionMs >= <f64>KV_HEARTBEAT_MS || nowMs < positionMs) publishPosition(nowMs);
  return isBehind;
}

// Another session voids all. Its batches are read from the first on where the ring still has that; else this worker
// begins at the head, lacks all rows, and says so.
function readHeadOf(pool: u32, place: usize): void {
  const mark = inboxMark();
  readHead(pool);
  inboxReset(mark);
  if (load<u64>(place) == headSession()) return;
  kvForgetPool(pool);
  store<u64>(place, headSession());
  store<u32>(place, headSequence() > <u32>KV_SEGMENTS ? headSequence() : 0, AT_SEQUENCE);
  isChanged = true;
}

function noteSilence(pool: u32, place: usize, nowMs: f64): void {
  const cameMs = load<f64>(place, AT_CAME);
  if (cameMs == 0 || nowMs - cameMs <= <f64>KV_SILENT_MS) return;
  store<f64>(place, 0, AT_CAME);
  kvSilence(pool);
  isChanged = true;
}

function noteSnapshot(pool: u32, place: usize): void {
  store<u64>(place, poolSequence(pool), AT_SNAPSHOT);
  for (let slot: u32 = 0; slot < <u32>POOL_ENDPOINTS_MAX; slot++) kvRefreshRow(rowOf(pool, slot));
  isChanged = true;
}

// Returns what is left of `room`. The first batch is applied whatever it has; the others only where they fit.
function applyUpTo(pool: u32, place: usize, target: u32, room: u32, nowMs: f64): u32 {
  const all = room;
  while (load<u32>(place, AT_SEQUENCE) != target) {
    const next = load<u32>(place, AT_SEQUENCE) + 1;
    const mark = inboxMark();
    if (!isBatch(pool, place, next)) {
      inboxReset(mark);
      countUp(COUNT_KV_OVERRUNS);
      kvForgetPool(pool);
      store<u32>(place, target, AT_SEQUENCE);
      return room;
    }
    const fits = kvChanges() <= room;
    if (fits || room == all) {
      kvApply(pool, valuePtr(), nowMs);
      countUp(COUNT_KV_BATCHES);
      store<u32>(place, next, AT_SEQUENCE);
    }
    inboxReset(mark);
    if (!fits) return 0;
    room -= kvChanges();
  }
  return room;
}

// The writer checked it before it stored it, the reader checks it on receipt.
function isBatch(pool: u32, place: usize, sequence: u32): bool {
  if (!readBatch(pool, sequence) || valueBytes() > <u32>KV_BATCH_BYTES_MAX) return false;
  if (!kvCheck(valuePtr(), valueBytes())) return false;
  return kvSession(valuePtr()) == load<u64>(place) && kvSequence(valuePtr()) == sequence;
}

function publishPosition(nowMs: f64): void {
  isChanged = false;
  positionMs = nowMs;
  if (ownCell() >= <u32>WORKERS_MAX) return;
  store<u64>(position, workerOwner());
  store<u64>(position, <u64>nowMs, 8);
  let at = position + KV_POSITION_HEADER_BYTES;
  for (let pool: u32 = 0; pool < poolCount(); pool++, at += KV_POSITION_BYTES) writePosition(at, pool, nowMs);
  const bytes = numberedKey(K_KV_AT, ownCell());
  sharedSet(numberedKeyPtr(), bytes, position, <u32>(at - position));
}

function writePosition(at: usize, pool: u32, nowMs: f64): void {
  memory.fill(at, 0, KV_POSITION_BYTES);
  store<u64>(at, poolHash(pool));
  store<u64>(at, load<u64>(placeOf(pool)), KV_POSITION_AT_SESSION);
  store<u32>(at, load<u32>(placeOf(pool), AT_SEQUENCE), KV_POSITION_AT_SEQUENCE);
  // Before the first session there is nobody who could bring what is lacking.
  const hasSession = load<u64>(placeOf(pool)) != 0;
  let entries: u32 = 0;
  for (let slot: u32 = 0; slot < <u32>POOL_ENDPOINTS_MAX; slot++) {
    const row = rowOf(pool, slot);
    entries += exactEntries(row);
    if (hasSession && kvIsWanted(row, nowMs)) setBit(at + KV_POSITION_AT_WANTED, slot);
    if (isExact(row)) setBit(at + KV_POSITION_AT_EXACT, slot);
    else if ((exactFlags(row) & EXACT_DEGRADED) != 0) setBit(at + KV_POSITION_AT_DEGRADED, slot);
  }
  store<u32>(at, entries, KV_POSITION_AT_ENTRIES);
}

function setBit(bits: usize, slot: u32): void {
  const byte = bits + ((<usize>slot) >> 3);
  const bit = <u8>(slot & 7);
  store<u8>(byte, load<u8>(byte) | (1 << bit));
}
