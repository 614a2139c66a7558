// Which endpoint serves a session: bindings of hashed session ids to rows, with a time to live.
import { COLUMN_GENERATION, rowU32 } from "../pool/rows";
import { mixPair } from "../text/hash";

// Sets of 8 entries, picked by the key; a full set gives up its least recently used entry.
const SETS: u32 = 2048;
const WAYS: u32 = 8;
//   ┌ entry, 24 bytes: 0 u64 key (0 = empty)  8 f64 last used ms  16 u16 row  18 u16 generation ┐
const ENTRY_BYTES: usize = 24;
const AT_USED: usize = 8;
const AT_ROW: usize = 16;
const AT_GENERATION: usize = 18;
const entries: usize = memory.data(2048 * 8 * 24, 8);

/** Sessions that can be bound at once, over all pools of one worker. */
export const SESSIONS_MAX: u32 = 16384;
/** "This session is bound to no endpoint." */
export const NO_ROW: u32 = 0xffffffff;

/** Key of a session id (its hash) in a pool. */
export function sessionKey(pool: u32, idHash: u64): u64 {
  const key = mixPair(idHash, pool);
  return key == 0 ? 1 : key;
}

/** The row that the session is bound to, or NO_ROW: unbound, idle for over `ttlMs`, or the endpoint left. */
export function sessionFind(key: u64, nowMs: f64, ttlMs: f64): u32 {
  const entry = find(key);
  if (entry == 0 || nowMs - load<f64>(entry, AT_USED) > ttlMs) return NO_ROW;
  const row = <u32>load<u16>(entry, AT_ROW);
  return rowU32(COLUMN_GENERATION, row) == <u32>load<u16>(entry, AT_GENERATION) ? row : NO_ROW;
}

/** Binds the session to a row from now on. */
export function sessionBind(key: u64, row: u32, nowMs: f64): void {
  let entry = find(key);
  if (entry == 0) {
    entry = leastRecent(key);
    store<u64>(entry, key);
  }
  store<f64>(entry, nowMs, AT_USED);
  store<u16>(entry, <u16>row, AT_ROW);
  store<u16>(entry, <u16>rowU32(COLUMN_GENERATION, row), AT_GENERATION);
}

/** Keeps a binding alive without changing it. */
export function sessionTouch(key: u64, nowMs: f64): void {
  const entry = find(key);
  if (entry != 0) store<f64>(entry, nowMs, AT_USED);
}

function setOf(key: u64): usize {
  return entries + <usize>((<u32>(key >> 32)) & (SETS - 1)) * (<usize>WAYS * ENTRY_BYTES);
}

function find(key: u64): usize {
  let entry = setOf(key);
  for (let way: u32 = 0; way < WAYS; way++, entry += ENTRY_BYTES) if (load<u64>(entry) == key) return entry;
  return 0;
}

function leastRecent(key: u64): usize {
  let entry = setOf(key);
  let oldest = entry;
  for (let way: u32 = 0; way < WAYS; way++, entry += ENTRY_BYTES) {
    if (load<u64>(entry) == 0) return entry;
    if (load<f64>(entry, AT_USED) < load<f64>(oldest, AT_USED)) oldest = entry;
  }
  return oldest;
}
