// The ring of index batches in shared data: a head a pool, and the last KV_SEGMENTS batches (wire/kv-deltas.ts).
import { CAS_CREATE, STATUS_OK } from "../abi/constants";
import { sharedGet, sharedSet, valueBytes, valueCas, valuePtr } from "../abi/host";
import { KV_SEGMENTS } from "../wire/kv-deltas";
import { poolName, poolNameBytes } from "../pool/table";
import { writeBegin, writeByte, writeBytes, writeLength, writeText, writeU64 } from "../text/text";
import { K_KV_BATCH, K_KV_HEAD } from "./names";

const HEAD_BYTES: u32 = 16;
const keyBuffer: usize = memory.data(320, 8);
const head: usize = memory.data(16, 8);
let headCas: u32 = 0;

function headKey(pool: u32): u32 {
  writeBegin(keyBuffer, 320);
  writeText(K_KV_HEAD);
  writeBytes(poolName(pool), poolNameBytes(pool));
  return writeLength();
}

function batchKey(pool: u32, sequence: u32): u32 {
  writeBegin(keyBuffer, 320);
  writeText(K_KV_BATCH);
  writeU64(sequence % KV_SEGMENTS);
  writeByte(47);
  writeBytes(poolName(pool), poolNameBytes(pool));
  return writeLength();
}

/** Reads the pool's head: what headSession() and headSequence() tell; 0 where no batch ever came. */
export function readHead(pool: u32): void {
  store<u64>(head, 0);
  store<u64>(head, 0, 8);
  const isThere = sharedGet(keyBuffer, headKey(pool)) == STATUS_OK;
  headCas = isThere ? valueCas() : 0;
  if (isThere && valueBytes() == HEAD_BYTES) memory.copy(head, valuePtr(), HEAD_BYTES);
}
export function headSession(): u64 {
  return load<u64>(head);
}
export function headSequence(): u32 {
  return load<u32>(head, 8);
}

/** Reads the batch at its place in the ring, which may hold another by now: the bytes by valuePtr(). */
export function readBatch(pool: u32, sequence: u32): bool {
  return sharedGet(keyBuffer, batchKey(pool, sequence)) == STATUS_OK;
}

/**
 * Stores a checked batch behind the head read last, and moves the head. False: another one was taken in the meantime;
 * whoever reads that one's place sees by session and checksum whether it is what the head says.
 */
export function storeBatch(pool: u32, session: u64, sequence: u32, batch: usize, bytes: u32): bool {
  sharedSet(keyBuffer, batchKey(pool, sequence), batch, bytes);
  store<u64>(head, session);
  store<u64>(head, sequence, 8);
  const cas = headCas == 0 ? CAS_CREATE : headCas;
  return sharedSet(keyBuffer, headKey(pool), head, HEAD_BYTES, cas) == STATUS_OK;
}
