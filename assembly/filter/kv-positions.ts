// How far the live workers are with a pool's index batches, and what they make of its rows: read from their positions.
import { STATUS_OK } from "../abi/constants";
import { inboxMark, inboxReset } from "../abi/inbox";
import { sharedGet, valueBytes, valuePtr } from "../abi/host";
import {
  KV_LAPSE_MS,
  KV_POSITION_AT_DEGRADED,
  KV_POSITION_AT_ENTRIES,
  KV_POSITION_AT_EXACT,
  KV_POSITION_AT_SEQUENCE,
  KV_POSITION_AT_SESSION,
  KV_POSITION_AT_WANTED,
  KV_POSITION_BYTES,
  KV_POSITION_HEADER_BYTES,
} from "../wire/kv-deltas";
import { POOLS_MAX, WORKERS_MAX } from "../wire/limits";
import { poolHash } from "../pool/table";
import { K_KV_AT } from "./names";
import { numberedKey, numberedKeyPtr } from "./worker";

//   ┌ sums of a pool, 112 bytes ───────────────────────────────────────────────────────────┐
//   │ 0 u32 workers   4 u32 least sequence   8 u32 most entries   12 u32 sequence asked about │
//   │ 16 u8[32] wanted   48 u8[32] exact   80 u8[32] degraded                                │
//   └──────────────────────────────────────────────────────────────────────────────────────┘
const SUMS_BYTES: usize = 112;
const AT_LEAST: usize = 4;
const AT_ENTRIES: usize = 8;
const AT_HEAD: usize = 12;
const AT_WANTED: usize = 16;
const AT_EXACT: usize = 48;
const AT_DEGRADED: usize = 80;
/** Bytes of a bit for each slot. */
const BITS_BYTES: usize = 32;
const sums: usize = memory.data(16 * 112, 8);

function sumsOf(pool: u32): usize {
  return sums + <usize>pool * SUMS_BYTES;
}

/**
 * Reads what all live workers say of `pool` and the session whose last batch has the number `sequence`. Of a worker that
 * is not yet at that session nothing is known but that it needs all its batches. Uses the text writer.
 */
export function kvGather(pool: u32, session: u64, sequence: u32, nowMs: f64): void {
  const to = sumsOf(pool);
  memory.fill(to, 0, SUMS_BYTES);
  memory.fill(to + AT_EXACT, 0xff, BITS_BYTES);
  store<u32>(to, sequence, AT_HEAD);
  store<u32>(to, 0xffffffff, AT_LEAST);
  for (let n: u32 = 0; n < <u32>WORKERS_MAX; n++) {
    const mark = inboxMark();
    if (sharedGet(numberedKeyPtr(), numberedKey(K_KV_AT, n)) == STATUS_OK) {
      gather(to, valuePtr(), valueBytes(), poolHash(pool), session, nowMs);
    }
    inboxReset(mark);
  }
  if (load<u32>(to) == 0) memory.fill(to + AT_EXACT, 0, BITS_BYTES);
}

function gather(to: usize, position: usize, bytes: u32, hash: u64, session: u64, nowMs: f64): void {
  if (bytes < <u32>KV_POSITION_HEADER_BYTES) return;
  const pools = (bytes - KV_POSITION_HEADER_BYTES) / KV_POSITION_BYTES;
  if (pools > <u32>POOLS_MAX || <u32>KV_POSITION_HEADER_BYTES + pools * KV_POSITION_BYTES != bytes) return;
  if (nowMs - <f64>load<u64>(position, 8) > <f64>KV_LAPSE_MS) return;
  for (let i: u32 = 0; i < pools; i++) {
    const at = position + KV_POSITION_HEADER_BYTES + <usize>i * KV_POSITION_BYTES;
    if (load<u64>(at) == hash) return add(to, at, session);
  }
}

function add(to: usize, at: usize, session: u64): void {
  store<u32>(to, load<u32>(to) + 1);
  if (load<u64>(at, KV_POSITION_AT_SESSION) != session) {
    store<u32>(to, 0, AT_LEAST);
    memory.fill(to + AT_EXACT, 0, BITS_BYTES);
    return;
  }
  store<u32>(to, min(load<u32>(to, AT_LEAST), load<u32>(at, KV_POSITION_AT_SEQUENCE)), AT_LEAST);
  store<u32>(to, max(load<u32>(to, AT_ENTRIES), load<u32>(at, KV_POSITION_AT_ENTRIES)), AT_ENTRIES);
  for (let i: usize = 0; i < BITS_BYTES; i += 8) {
    const here = to + i;
    store<u64>(here, load<u64>(here, AT_WANTED) | load<u64>(at + i, KV_POSITION_AT_WANTED), AT_WANTED);
    store<u64>(here, load<u64>(here, AT_EXACT) & load<u64>(at + i, KV_POSITION_AT_EXACT), AT_EXACT);
    store<u64>(here, load<u64>(here, AT_DEGRADED) | load<u64>(at + i, KV_POSITION_AT_DEGRADED), AT_DEGRADED);
  }
}

// What kvGather() of the pool found last.

/** Live workers that were heard of this pool. */
export function kvWorkers(pool: u32): u32 {
  return load<u32>(sumsOf(pool));
}
/** The last batch of the session that was asked about. */
export function kvHeadSequence(pool: u32): u32 {
  return load<u32>(sumsOf(pool), AT_HEAD);
}
/** The last batch that all of them applied; ~0 without any. */
export function kvLeastSequence(pool: u32): u32 {
  return load<u32>(sumsOf(pool), AT_LEAST);
}
/** Entries of the pool, in the worker that has most. */
export function kvEntriesMost(pool: u32): u32 {
  return load<u32>(sumsOf(pool), AT_ENTRIES);
}
/** Whether some worker lacks the slot's entries. */
export function kvSlotWanted(pool: u32, slot: u32): bool {
  return bit(sumsOf(pool) + AT_WANTED, slot);
}
/** Whether the slot is exact in all workers. */
export function kvSlotExact(pool: u32, slot: u32): bool {
  return bit(sumsOf(pool) + AT_EXACT, slot);
}
/** Whether its sidecar says that it does not know all that the endpoint holds. */
export function kvSlotDegraded(pool: u32, slot: u32): bool {
  return bit(sumsOf(pool) + AT_DEGRADED, slot);
}

function bit(bits: usize, slot: u32): bool {
  return (load<u8>(bits + ((<usize>slot) >> 3)) & (1 << ((<u8>slot) & 7))) != 0;
}
