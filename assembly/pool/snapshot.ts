// Copies the columns of a checked pool snapshot (wire/snapshot.ts) into the pool's rows.
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import {
  ENDPOINT_AT_BLOCK_TOKENS,
  ENDPOINT_AT_FLAGS,
  ENDPOINT_AT_GENERATION,
  ENDPOINT_AT_GPU_MEMORY,
  ENDPOINT_AT_GPU_UTILIZATION,
  ENDPOINT_AT_KV_CAPACITY_TOKENS,
  ENDPOINT_AT_KV_USAGE,
  ENDPOINT_AT_LORA_ACTIVE,
  ENDPOINT_AT_LORA_ACTIVE_COUNT,
  ENDPOINT_AT_LORA_MAX,
  ENDPOINT_AT_LORA_WAITING,
  ENDPOINT_AT_LORA_WAITING_COUNT,
  ENDPOINT_AT_METRICS_AGE_MS,
  ENDPOINT_AT_MODELS,
  ENDPOINT_AT_MODEL_COUNT,
  ENDPOINT_AT_ROLES,
  ENDPOINT_AT_RUNNING,
  ENDPOINT_AT_SLOT,
  ENDPOINT_AT_WAITING,
  ENDPOINT_HAS_GPU,
  ENDPOINT_HAS_LOAD,
  SNAPSHOT_AT_ENDPOINTS,
  SNAPSHOT_HEADER_BYTES,
  SNAPSHOT_RECORD_BYTES,
} from "../wire/snapshot";
import { hashBytes } from "../text/hash";
import {
  COLUMN_BLOCK_TOKENS,
  COLUMN_COLD_USED_MS,
  COLUMN_FLAGS,
  COLUMN_FOREIGN_REQUESTS,
  COLUMN_GENERATION,
  COLUMN_GPU_MEMORY,
  COLUMN_GPU_UTILIZATION,
  COLUMN_INFLIGHT_PEAK,
  COLUMN_INFLIGHT_PEAK_BEFORE,
  COLUMN_INFLIGHT_REQUESTS,
  COLUMN_KV_CAPACITY_TOKENS,
  COLUMN_KV_USAGE,
  COLUMN_LORA_ACTIVE_COUNT,
  COLUMN_LORA_MAX,
  COLUMN_LORA_WAITING_COUNT,
  COLUMN_MODEL_COUNT,
  COLUMN_ROLES,
  COLUMN_RUNNING,
  COLUMN_WAITING,
  loraActiveHashes,
  loraWaitingHashes,
  modelHashes,
  rowF64,
  rowOf,
  rowU32,
  setRowF64,
  setRowU32,
} from "./rows";
import { setRowRecord } from "./labels";

/** Pool-wide facts of the snapshot applied last, per pool: ready endpoints and the model that all serve. */
const readyCounts: usize = memory.data(16 * 4, 4);
const onlyModels: usize = memory.data(16 * 8, 8);

/** Endpoints of a pool that are ready and not draining. */
export function readyEndpoints(pool: u32): u32 {
  return load<u32>(readyCounts + ((<usize>pool) << 2));
}

/** Whether all endpoints of a pool serve one and the same model, or tell no models at all. */
export function hasOneModel(pool: u32): bool {
  return load<u64>(onlyModels + ((<usize>pool) << 3)) != SEVERAL_MODELS;
}
const SEVERAL_MODELS: u64 = 1;

/** Whether that name, by its hash, is the one model that the whole pool serves. */
export function isOnlyModel(pool: u32, hash: u64): bool {
  return load<u64>(onlyModels + ((<usize>pool) << 3)) == (hash | 2);
}

/** Load figures that were older than this when the snapshot was made count as never published, ms. */
const METRICS_AGE_MAX_MS: u32 = 10000;

/** Copies a checked snapshot, whose bytes stay where they are, into the rows of `pool`. */
export function snapshotApply(pool: u32, ptr: usize): void {
  const count = load<u32>(ptr, SNAPSHOT_AT_ENDPOINTS);
  let next: u32 = 0;
  let ready: u32 = 0;
  store<u64>(onlyModels + ((<usize>pool) << 3), 0);
  for (let i: u32 = 0; i < count; i++) {
    const record = ptr + SNAPSHOT_HEADER_BYTES + <usize>i * SNAPSHOT_RECORD_BYTES;
    const slot = <u32>load<u16>(record, ENDPOINT_AT_SLOT);
    while (next < slot) clearRow(rowOf(pool, next++));
    next = slot + 1;
    applyEndpoint(pool, rowOf(pool, slot), record, ptr);
    if ((load<u32>(record, ENDPOINT_AT_FLAGS) & 3) == 1) ready++;
  }
  while (next < <u32>POOL_ENDPOINTS_MAX) clearRow(rowOf(pool, next++));
  store<u32>(readyCounts + ((<usize>pool) << 2), ready);
}

function clearRow(row: u32): void {
  if (rowU32(COLUMN_GENERATION, row) == 0) return;
  setRowU32(COLUMN_FLAGS, row, 0);
  setRowU32(COLUMN_GENERATION, row, 0);
  setRowRecord(row, 0, 0);
}

function applyEndpoint(pool: u32, row: u32, record: usize, snapshot: usize): void {
  const flags = load<u32>(record, ENDPOINT_AT_FLAGS);
  const generation = <u32>load<u16>(record, ENDPOINT_AT_GENERATION);
  if (rowU32(COLUMN_GENERATION, row) != generation) setRowF64(COLUMN_COLD_USED_MS, row, NaN);
  setRowU32(COLUMN_FLAGS, row, flags);
  setRowU32(COLUMN_GENERATION, row, generation);
  setRowU32(COLUMN_ROLES, row, load<u32>(record, ENDPOINT_AT_ROLES));
  const isRecent = load<u32>(record, ENDPOINT_AT_METRICS_AGE_MS) <= METRICS_AGE_MAX_MS;
  const hasLoad = isRecent && (flags & ENDPOINT_HAS_LOAD) != 0;
  setRowF64(COLUMN_WAITING, row, hasLoad ? <f64>load<u32>(record, ENDPOINT_AT_WAITING) : NaN);
  setRowF64(COLUMN_RUNNING, row, hasLoad ? <f64>load<u32>(record, ENDPOINT_AT_RUNNING) : NaN);
  setRowF64(COLUMN_KV_USAGE, row, hasLoad ? <f64>load<f32>(record, ENDPOINT_AT_KV_USAGE) : NaN);
  noteForeign(row);
  const hasGpu = (flags & ENDPOINT_HAS_GPU) != 0;
  setRowF64(COLUMN_GPU_UTILIZATION, row, hasGpu ? <f64>load<f32>(record, ENDPOINT_AT_GPU_UTILIZATION) : NaN);
  setRowF64(COLUMN_GPU_MEMORY, row, hasGpu ? <f64>load<f32>(record, ENDPOINT_AT_GPU_MEMORY) : NaN);
  setRowF64(COLUMN_KV_CAPACITY_TOKENS, row, load<u32>(record, ENDPOINT_AT_KV_CAPACITY_TOKENS));
  setRowF64(COLUMN_BLOCK_TOKENS, row, load<u32>(record, ENDPOINT_AT_BLOCK_TOKENS));
  setRowF64(COLUMN_LORA_MAX, row, load<u32>(record, ENDPOINT_AT_LORA_MAX));
  const models = <u32>load<u16>(record, ENDPOINT_AT_MODEL_COUNT);
  hashNames(snapshot, load<u32>(record, ENDPOINT_AT_MODELS), models, modelHashes(row));
  setRowU32(COLUMN_MODEL_COUNT, row, models);
  noteModels(pool, row, models);
  const active = <u32>load<u16>(record, ENDPOINT_AT_LORA_ACTIVE_COUNT);
  hashNames(snapshot, load<u32>(record, ENDPOINT_AT_LORA_ACTIVE), active, loraActiveHashes(row));
  setRowU32(COLUMN_LORA_ACTIVE_COUNT, row, active);
  const waiting = <u32>load<u16>(record, ENDPOINT_AT_LORA_WAITING_COUNT);
  hashNames(snapshot, load<u32>(record, ENDPOINT_AT_LORA_WAITING), waiting, loraWaitingHashes(row));
  setRowU32(COLUMN_LORA_WAITING_COUNT, row, waiting);
  setRowRecord(row, record, snapshot);
}

// What the engine reports beyond the most that our workers had there since the scrape before the last one, which is
// as old as these figures can be, was sent by others.
function noteForeign(row: u32): void {
  const requests = rowF64(COLUMN_INFLIGHT_REQUESTS, row);
  const most = Math.max(rowF64(COLUMN_INFLIGHT_PEAK, row), rowF64(COLUMN_INFLIGHT_PEAK_BEFORE, row));
  const reported = rowF64(COLUMN_WAITING, row) + rowF64(COLUMN_RUNNING, row);
  setRowF64(COLUMN_FOREIGN_REQUESTS, row, reported == reported ? Math.max(reported - most, 0) : NaN);
  setRowF64(COLUMN_INFLIGHT_PEAK_BEFORE, row, rowF64(COLUMN_INFLIGHT_PEAK, row));
  setRowF64(COLUMN_INFLIGHT_PEAK, row, requests);
}

function hashNames(snapshot: usize, refs: u32, count: u32, target: usize): void {
  for (let k: u32 = 0; k < count; k++) {
    const ref = snapshot + refs + ((<usize>k) << 3);
    store<u64>(target + ((<usize>k) << 3), hashBytes(snapshot + load<u32>(ref), load<u32>(ref, 4)));
  }
}

function noteModels(pool: u32, row: u32, models: u32): void {
  const only = onlyModels + ((<usize>pool) << 3);
  if (models == 0) return;
  const first = load<u64>(modelHashes(row)) | 2;
  const known = load<u64>(only);
  store<u64>(only, models > 1 || (known != 0 && known != first) ? SEVERAL_MODELS : first);
}
