// The pools of this VM by name: each a fixed place (0…15), its last good snapshot, and when that came.
import { POOLS_MAX, POOL_NAME_BYTES_MAX, POOL_ENDPOINTS_MAX, SNAPSHOT_BYTES_MAX } from "../wire/limits";
import { hashBytes } from "../text/hash";
import {
  COLUMN_FOREIGN_REQUESTS,
  COLUMN_GPU_MEMORY,
  COLUMN_GPU_UTILIZATION,
  COLUMN_KV_USAGE,
  COLUMN_RUNNING,
  COLUMN_WAITING,
} from "./rows";
import { rowOf, setRowF64 } from "./rows";
import { snapshotApply } from "./snapshot";

//   ┌ pool, 304 bytes ───────────────────────────────────────────────────────────────┐
//   │ 0 u64 hash of the name   8 u64 sequence seen   16 f64 received ms               │
//   │ 24 u32 name bytes   28 u32 snapshot bytes (0 = none)   32 u32 load ignored      │
//   │ 36 f32 bytes per token   40 name[256]                                          │
//   └────────────────────────────────────────────────────────────────────────────────┘
const POOL_BYTES: usize = 304;
const AT_HASH: usize = 0;
const AT_SEQUENCE: usize = 8;
const AT_RECEIVED: usize = 16;
const AT_NAME_BYTES: usize = 24;
const AT_SNAPSHOT_BYTES: usize = 28;
const AT_LOAD_IGNORED: usize = 32;
const AT_BYTES_PER_TOKEN: usize = 36;
const AT_NAME: usize = 40;

const pools: usize = memory.data(16 * 304, 8);
const snapshots: usize = memory.data(16 * 262148, 16);
let poolsKnown: u32 = 0;

/** "No such pool." */
export const NO_POOL: u32 = 0xffffffff;

function poolAt(pool: u32): usize {
  return pools + <usize>pool * POOL_BYTES;
}

export function poolCount(): u32 {
  return poolsKnown;
}

/** The pool of that name, or NO_POOL. */
export function poolFind(name: usize, bytes: u32): u32 {
  const hash = hashBytes(name, bytes);
  return poolByHash(hash);
}

/** The pool whose name has that hash, or NO_POOL. */
export function poolByHash(hash: u64): u32 {
  for (let i: u32 = 0; i < poolsKnown; i++) if (load<u64>(poolAt(i), AT_HASH) == hash) return i;
  return NO_POOL;
}

/** The pool of that name, made if it is new; NO_POOL when the table is full or the name is too long or empty. */
export function poolAdd(name: usize, bytes: u32): u32 {
  const known = poolFind(name, bytes);
  if (known != NO_POOL) return known;
  if (poolsKnown >= <u32>POOLS_MAX || bytes == 0 || bytes > <u32>POOL_NAME_BYTES_MAX) return NO_POOL;
  const pool = poolAt(poolsKnown);
  store<u64>(pool, hashBytes(name, bytes), AT_HASH);
  store<u64>(pool, 0, AT_SEQUENCE);
  store<f32>(pool, 4, AT_BYTES_PER_TOKEN);
  store<u32>(pool, bytes, AT_NAME_BYTES);
  memory.copy(pool + AT_NAME, name, bytes);
  return poolsKnown++;
}

export function poolHash(pool: u32): u64 {
  return load<u64>(poolAt(pool), AT_HASH);
}
export function poolName(pool: u32): usize {
  return poolAt(pool) + AT_NAME;
}
export function poolNameBytes(pool: u32): u32 {
  return load<u32>(poolAt(pool), AT_NAME_BYTES);
}
/** Sequence number of the snapshot in use; 0 = none yet. Changes with every accepted push. */
export function poolSequence(pool: u32): u64 {
  return load<u64>(poolAt(pool), AT_SEQUENCE);
}
/** When the gateway received the snapshot in use, ms. */
export function poolReceivedMs(pool: u32): f64 {
  return load<f64>(poolAt(pool), AT_RECEIVED);
}
/** Whether a snapshot was ever accepted. */
export function poolHasSnapshot(pool: u32): bool {
  return load<u32>(poolAt(pool), AT_SNAPSHOT_BYTES) != 0;
}
export function poolSnapshot(pool: u32): usize {
  return snapshots + <usize>pool * (SNAPSHOT_BYTES_MAX + 4);
}

/** Prompt bytes per token of this pool's traffic: 4 until usage taught better. */
export function poolBytesPerToken(pool: u32): f64 {
  return <f64>load<f32>(poolAt(pool), AT_BYTES_PER_TOKEN);
}

/** One observation: `bytes` prompt bytes were `tokens` tokens. Moving average over about 32; 0.5–32 B a token count. */
export function poolLearnBytesPerToken(pool: u32, bytes: u32, tokens: u32): void {
  if (tokens < 16 || bytes < 64) return;
  const ratio = <f64>bytes / <f64>tokens;
  if (ratio < 0.5 || ratio > 32) return;
  const before = poolBytesPerToken(pool);
  store<f32>(poolAt(pool), <f32>(before + (ratio - before) / 32), AT_BYTES_PER_TOKEN);
}

/** Takes a checked snapshot as the pool's present one. `ptr` may lie anywhere; the bytes are copied. */
export function poolTake(pool: u32, ptr: usize, bytes: u32, sequence: u64, receivedMs: f64): void {
  const target = poolSnapshot(pool);
  memory.copy(target, ptr, bytes);
  const at = poolAt(pool);
  store<u32>(at, bytes, AT_SNAPSHOT_BYTES);
  store<u64>(at, sequence, AT_SEQUENCE);
  store<f64>(at, receivedMs, AT_RECEIVED);
  store<u32>(at, 0, AT_LOAD_IGNORED);
  snapshotApply(pool, target);
}

/** Notes the sequence of a snapshot that was found to be bad, so that it is not read again. */
export function poolSkip(pool: u32, sequence: u64): void {
  store<u64>(poolAt(pool), sequence, AT_SEQUENCE);
}

/** Whether the load columns are ignored for age. */
export function poolLoadIgnored(pool: u32): bool {
  return load<u32>(poolAt(pool), AT_LOAD_IGNORED) != 0;
}

/** The snapshot is too old: its load figures count as never published until a new one comes. */
export function poolIgnoreLoad(pool: u32): void {
  if (poolLoadIgnored(pool)) return;
  store<u32>(poolAt(pool), 1, AT_LOAD_IGNORED);
  for (let slot: u32 = 0; slot < <u32>POOL_ENDPOINTS_MAX; slot++) {
    const row = rowOf(pool, slot);
    setRowF64(COLUMN_WAITING, row, NaN);
    setRowF64(COLUMN_RUNNING, row, NaN);
    setRowF64(COLUMN_KV_USAGE, row, NaN);
    setRowF64(COLUMN_FOREIGN_REQUESTS, row, NaN);
    setRowF64(COLUMN_GPU_UTILIZATION, row, NaN);
    setRowF64(COLUMN_GPU_MEMORY, row, NaN);
  }
}
