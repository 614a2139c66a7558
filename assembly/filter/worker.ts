// This worker among the others: its cell and journal in shared data, and what it reads of theirs.
//
// Only workers have streams; main-thread and canary VMs run configure and ticks too. So a cell is claimed
// at the first stream, by compare-and-set on an absent or lapsed key, and never before.
import { CAS_CREATE, LOG_INFO, LOG_WARN, STATUS_OK } from "../abi/constants";
import { inboxMark, inboxReset } from "../abi/inbox";
import { log, nowNs, sharedGet, sharedSet, valueBytes, valueCas, valuePtr } from "../abi/host";
import { writeBegin, writeByte, writeLength, writeLiteral, writeText, writeU64 } from "../text/text";
import { CELL_HEARTBEAT_MS, CELL_LAPSE_MS } from "../wire/cell";
import { JOURNAL_HEADER_BYTES, JOURNAL_SEGMENTS, JOURNAL_SEGMENT_BYTES } from "../wire/journal";
import { WORKERS_MAX } from "../wire/limits";
import { PRIME_1, avalanche } from "../text/hash";
import {
  cellAdd,
  cellBuild,
  cellBytes,
  cellCheck,
  cellHeartbeatMs,
  cellJournalHead,
  cellOwner,
  cellPtr,
  cellsBegin,
  cellsEnd,
} from "../flow/cell";
import {
  journalChanged,
  journalHead,
  journalIsFull,
  journalNextSegment,
  journalPublished,
  journalReset,
  journalSegment,
  journalSegmentBytes,
  journalSegmentNumber,
  journalWrite,
  segmentCheck,
  segmentOf,
  segmentReplay,
} from "../flow/journal";
import { markChanged, reservationsChanged, reservationsPublished } from "../flow/reservations";
import { COUNT_JOURNAL_OVERRUNS, COUNT_NO_CELL, countUp, fillCounters } from "./counters";
import {
  ratesBuild,
  ratesBytes,
  ratesCheck,
  ratesOwner,
  ratesPtr,
  ratesTake,
  ratesWrittenMs,
} from "../flow/rates";
import { ratesBeginOthers } from "../pool/rates";
import { RATES_LAPSE_MS, RATES_PERIOD_MS } from "../wire/rates";
import { K_CELL, K_JOURNAL, K_RATES } from "./names";
import { poolCount, poolHasSnapshot } from "../pool/table";
import { refreshPools } from "./pools";

/** The others' cells are read again when the last reading is older than this, at a decision or a tick. */
export const SYNC_MS: f64 = 2;
const SEGMENT_ROOM: u64 = JOURNAL_SEGMENT_BYTES - JOURNAL_HEADER_BYTES;
/** "No cell." */
const NO_CELL: u32 = 0xffffffff;

let cellNumber: u32 = NO_CELL;
let isWorker: bool = false;
let owner: u64 = 0;
let publishedMs: f64 = 0;
let syncedMs: f64 = 0;

// Where this worker stands in each journal: owner and position, by cell number.
const cursors: usize = memory.data(64 * 16, 8);
const keyBuffer: usize = memory.data(320, 8);

/** Whether this VM has had a stream, and so is a worker's. */
export function isWorkerVm(): bool {
  return isWorker;
}

/** This worker's cell, 0…WORKERS_MAX−1; ~0 while it has none. */
export function ownCell(): u32 {
  return cellNumber;
}

/** The random number that this worker signs what it writes with; 0 before its first stream. */
export function workerOwner(): u64 {
  return owner;
}

/** Milliseconds of the host's clock. */
export function nowMs(): f64 {
  return <f64>nowNs() / 1000000;
}

/** Writes a key that ends in numbers into the key buffer; returns its length. */
export function numberedKey(prefix: usize, first: u32, second: i32 = -1): u32 {
  writeBegin(keyBuffer, 64);
  writeText(prefix);
  writeU64(first);
  if (second >= 0) {
    writeByte(47);
    writeU64(<u64>second);
  }
  return writeLength();
}
export function numberedKeyPtr(): usize {
  return keyBuffer;
}

/** Claims a cell for this worker, at its first stream. Without a free one it runs on its own reservations and says so. */
export function startWorker(): void {
  if (isWorker) return;
  isWorker = true;
  const now = nowNs();
  owner = avalanche(now ^ (<u64>changetype<usize>(keyBuffer) * PRIME_1)) | 1;
  for (let n: u32 = 0; n < <u32>WORKERS_MAX; n++) {
    const mark = inboxMark();
    const isFree = cellIsFree(n, <f64>now / 1000000);
    const cas = valueCas();
    inboxReset(mark);
    if (!isFree) continue;
    // A ticket of 0 would overwrite whatever is there.
    cellBuild(owner, <f64>now / 1000000, 0);
    const bytes = numberedKey(K_CELL, n);
    if (sharedSet(keyBuffer, bytes, cellPtr(), cellBytes(), cas == 0 ? CAS_CREATE : cas) != STATUS_OK)
      continue;
    cellNumber = n;
    journalReset();
    logClaim(LOG_INFO, "epp: worker claimed cell ", n);
    return;
  }
  countUp(COUNT_NO_CELL);
  logClaim(
    LOG_WARN,
    "epp: no cell is free for this worker; it counts its own work alone; cells: ",
    WORKERS_MAX,
  );
}

function cellIsFree(n: u32, now: f64): bool {
  const bytes = numberedKey(K_CELL, n);
  if (sharedGet(keyBuffer, bytes) != STATUS_OK) return true;
  if (!cellCheck(valuePtr(), valueBytes())) return true;
  return now - cellHeartbeatMs(valuePtr()) > <u32>CELL_LAPSE_MS;
}

const line: usize = memory.data(160);
function logClaim(level: u32, text: string, number: u32): void {
  writeBegin(line, 160);
  writeLiteral(text);
  writeU64(number);
  log(level, line, writeLength());
}

/** Journals a change of the prefix index; see journalWrite for the parameters. */
export function journal(
  kind: u32,
  pool: u32,
  row: u32,
  newTokens: u32,
  chain: usize,
  root: u64,
  from: u32,
  to: u32,
): void {
  if (cellNumber == NO_CELL) return;
  if (journalIsFull(to - from)) {
    publishJournal();
    journalNextSegment();
  }
  journalWrite(kind, pool, row, newTokens, chain, root, from, to);
  markChanged();
}

function publishJournal(): void {
  if (!journalChanged()) return;
  const bytes = numberedKey(K_JOURNAL, cellNumber, <i32>journalSegmentNumber());
  sharedSet(keyBuffer, bytes, journalSegment(), journalSegmentBytes());
  journalPublished();
}

/** Publishes journal and cell if something changed, or the heartbeat is due. */
export function publish(now: f64): void {
  if (cellNumber == NO_CELL) return;
  if (!reservationsChanged() && now - publishedMs < <u32>CELL_HEARTBEAT_MS) return;
  publishJournal();
  fillCounters();
  cellBuild(owner, now, journalHead());
  const bytes = numberedKey(K_CELL, cellNumber);
  sharedSet(keyBuffer, bytes, cellPtr(), cellBytes());
  reservationsPublished();
  publishedMs = now;
}

/** Reads pools, cells and journals that changed, unless that was done less than SYNC_MS ago. */
export function sync(now: f64): void {
  if (now - syncedMs < SYNC_MS && now >= syncedMs) return;
  syncedMs = now;
  refreshPools(now);
  readCells(now);
  exchangeRates(now, false);
}

function readCells(now: f64): void {
  cellsBegin();
  for (let n: u32 = 0; n < <u32>WORKERS_MAX; n++) {
    if (n == cellNumber) continue;
    const mark = inboxMark();
    const bytes = numberedKey(K_CELL, n);
    // Cells are claimed from 0 on and never deleted: the first absent one ends the list.
    if (sharedGet(keyBuffer, bytes) != STATUS_OK) break;
    const cell = valuePtr();
    if (cellCheck(cell, valueBytes())) {
      if (now - cellHeartbeatMs(cell) <= <u32>CELL_LAPSE_MS) cellAdd(cell);
      followJournal(n, cellOwner(cell), cellJournalHead(cell), now);
    }
    inboxReset(mark);
  }
  cellsEnd();
}

let ratesAtMs: f64 = 0;
// Whether the rates that the cell's owner before this worker left behind were looked at.
let hasInherited: bool = false;

/** Tells the others what this worker learnt and takes in what they did, every RATES_PERIOD_MS; at once where `isDue`. */
export function exchangeRates(now: f64, isDue: bool): void {
  if (!isDue && now - ratesAtMs < <u32>RATES_PERIOD_MS && now >= ratesAtMs) return;
  if (!hasEndpoints()) return;
  ratesAtMs = now;
  ratesBeginOthers();
  for (let n: u32 = 0; n < <u32>WORKERS_MAX; n++) {
    const mark = inboxMark();
    const bytes = numberedKey(K_RATES, n);
    const isThere = sharedGet(keyBuffer, bytes) == STATUS_OK && ratesCheck(valuePtr(), valueBytes());
    if (isThere && now - ratesWrittenMs(valuePtr()) <= <u32>RATES_LAPSE_MS) takeRates(n, valuePtr(), now);
    inboxReset(mark);
  }
  if (cellNumber == NO_CELL) return;
  hasInherited = true;
  ratesBuild(owner, now);
  const bytes = numberedKey(K_RATES, cellNumber);
  sharedSet(keyBuffer, bytes, ratesPtr(), ratesBytes());
}

// Rates are of endpoints: before there are any, what is there to be learnt from would be lost.
function hasEndpoints(): bool {
  for (let pool: u32 = 0; pool < poolCount(); pool++) if (poolHasSnapshot(pool)) return true;
  return false;
}

function takeRates(n: u32, ptr: usize, now: f64): void {
  const isOwn = n == cellNumber;
  if (!isOwn) ratesTake(ptr, now, false);
  else if (!hasInherited && ratesOwner(ptr) != owner) ratesTake(ptr, now, true);
}

function followJournal(n: u32, journalOwner: u64, head: u64, now: f64): void {
  const cursor = cursors + ((<usize>n) << 4);
  if (load<u64>(cursor) != journalOwner) {
    store<u64>(cursor, journalOwner);
    store<u64>(cursor, oldestPosition(head), 8);
  }
  let position = load<u64>(cursor, 8);
  if (position < oldestPosition(head)) {
    countUp(COUNT_JOURNAL_OVERRUNS);
    position = oldestPosition(head);
  }
  for (let read: u32 = 0; position < head && read < <u32>JOURNAL_SEGMENTS; read++) {
    const start = position - (position % SEGMENT_ROOM);
    const mark = inboxMark();
    const bytes = numberedKey(K_JOURNAL, n, <i32>segmentOf(start));
    const isThere = sharedGet(keyBuffer, bytes) == STATUS_OK && segmentCheck(valuePtr(), valueBytes(), start);
    if (isThere) position = start + segmentReplay(valuePtr(), valueBytes(), <u32>(position - start), now);
    else countUp(COUNT_JOURNAL_OVERRUNS);
    inboxReset(mark);
    if (start + SEGMENT_ROOM <= head) position = start + SEGMENT_ROOM;
    else if (!isThere) position = head;
  }
  store<u64>(cursor, position, 8);
}

// The ring keeps the segment being written and the JOURNAL_SEGMENTS − 1 before it.
function oldestPosition(head: u64): u64 {
  const current = head / SEGMENT_ROOM;
  return current < <u32>JOURNAL_SEGMENTS ? 0 : (current - (JOURNAL_SEGMENTS - 1)) * SEGMENT_ROOM;
}
