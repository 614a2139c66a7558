// The journal of this worker's prefix-index changes (wire/journal.ts), and the replay of the others'. Pure.
import {
  JOURNAL_COLD,
  JOURNAL_HEADER_BYTES,
  JOURNAL_RECORD_BYTES,
  JOURNAL_REMOVED,
  JOURNAL_SEGMENTS,
  JOURNAL_SEGMENT_BYTES,
  JOURNAL_STORED,
} from "../wire/journal";
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { COLUMN_COLD_USED_MS, COLUMN_GENERATION, rowOf, rowU32, setRowF64 } from "../pool/rows";
import { NO_POOL, poolByHash, poolHash } from "../pool/table";
import { chainKey } from "../prefix/chain";
import { indexStored } from "../prefix/clocks";
import { indexInsert, indexRemove } from "../prefix/index";

/** Record bytes of one segment. */
const ROOM: u32 = JOURNAL_SEGMENT_BYTES - JOURNAL_HEADER_BYTES;

// The segment being written; earlier ones live in shared data only.
const segment: usize = memory.data(4096, 16);
let start: u64 = 0;
let used: u32 = 0;
let unpublished: bool = false;

/** Bytes ever written: what the cell announces. */
export function journalHead(): u64 {
  return start + used;
}
/** Whether the segment changed since journalPublished(). */
export function journalChanged(): bool {
  return unpublished;
}
export function journalPublished(): void {
  unpublished = false;
}
export function journalSegment(): usize {
  return segment;
}
export function journalSegmentBytes(): u32 {
  return JOURNAL_HEADER_BYTES + used;
}
/** Place of the present segment in the ring, 0…JOURNAL_SEGMENTS−1. */
export function journalSegmentNumber(): u32 {
  return segmentOf(start);
}
/** Place in the ring of the segment that holds `position`. */
export function segmentOf(position: u64): u32 {
  return <u32>((position / ROOM) % JOURNAL_SEGMENTS);
}

/** Starts an empty journal, for a newly claimed cell. */
export function journalReset(): void {
  start = 0;
  used = 0;
  unpublished = false;
  store<u64>(segment, 0);
  store<u64>(segment, 0, 8);
}

/** Whether a record of `keys` keys needs a new segment: the present one must be published first. */
export function journalIsFull(keys: u32): bool {
  return used + JOURNAL_RECORD_BYTES + keys * 8 > ROOM;
}

/** Goes on to the next segment. The caller has published the present one. */
export function journalNextSegment(): void {
  start += ROOM;
  used = 0;
  store<u64>(segment, start);
  store<u64>(segment, 0, 8);
}

/**
 * Writes a record: kind (JOURNAL_* bits), the row, its new tokens, and the chain's keys from…to−1 under `root`.
 * There is room: journalIsFull was false.
 */
export function journalWrite(
  kind: u32,
  pool: u32,
  row: u32,
  newTokens: u32,
  chain: usize,
  root: u64,
  from: u32,
  to: u32,
): void {
  const record = segment + JOURNAL_HEADER_BYTES + used;
  const keys = to - from;
  store<u16>(record, <u16>kind);
  store<u16>(record, <u16>(row % POOL_ENDPOINTS_MAX), 2);
  store<u16>(record, <u16>rowU32(COLUMN_GENERATION, row), 4);
  store<u16>(record, <u16>keys, 6);
  store<u64>(record, poolHash(pool), 8);
  store<u64>(record, newTokens, 16);
  for (let i: u32 = 0; i < keys; i++) {
    store<u64>(record + JOURNAL_RECORD_BYTES + ((<usize>i) << 3), chainKey(chain, from + i, root));
  }
  used += JOURNAL_RECORD_BYTES + keys * 8;
  store<u32>(segment, used, 8);
  unpublished = true;
}

let replayed: u64 = 0;

/** Records of other workers taken into the index since the VM started. */
export function journalReplayed(): u64 {
  return replayed;
}

/** Whether the bytes are the segment that starts at `position`. */
export function segmentCheck(ptr: usize, bytes: u32, position: u64): bool {
  if (bytes < <u32>JOURNAL_HEADER_BYTES || load<u64>(ptr) != position) return false;
  return load<u32>(ptr, 8) + JOURNAL_HEADER_BYTES == bytes && bytes <= <u32>JOURNAL_SEGMENT_BYTES;
}

/** Replays a checked segment from `offset` record bytes on. Returns the offset reached; stops at a record that is cut. */
export function segmentReplay(ptr: usize, bytes: u32, offset: u32, nowMs: f64): u32 {
  const total = bytes - JOURNAL_HEADER_BYTES;
  while (offset + JOURNAL_RECORD_BYTES <= total) {
    const record = ptr + JOURNAL_HEADER_BYTES + offset;
    const keys = <u32>load<u16>(record, 6);
    const size = JOURNAL_RECORD_BYTES + keys * 8;
    if (offset + size > total) return total;
    replay(record, keys, nowMs);
    offset += size;
    replayed++;
  }
  return total;
}

function replay(record: usize, keys: u32, nowMs: f64): void {
  const pool = poolByHash(load<u64>(record, 8));
  const slot = <u32>load<u16>(record, 2);
  if (pool == NO_POOL || slot >= <u32>POOL_ENDPOINTS_MAX) return;
  const row = rowOf(pool, slot);
  if (rowU32(COLUMN_GENERATION, row) != <u32>load<u16>(record, 4)) return;
  const kind = <u32>load<u16>(record);
  if (kind & JOURNAL_COLD) setRowF64(COLUMN_COLD_USED_MS, row, nowMs);
  for (let i: u32 = 0; i < keys; i++) {
    const key = load<u64>(record + JOURNAL_RECORD_BYTES + ((<usize>i) << 3));
    if (kind & JOURNAL_REMOVED) indexRemove(key, row);
    else if (kind & JOURNAL_STORED) indexInsert(key, row);
  }
  // After the keys, as where they were noted first: a prompt whose tokens are computed is not taken for one in flight.
  indexStored(row, load<u32>(record, 16));
}
