// Reads pool snapshots (wire/snapshot.ts): checks one whole, then copies its columns into the rows.
import {
  ADDRESS_BYTES_MAX,
  LABELS_MAX,
  LORAS_MAX,
  MODELS_MAX,
  POOL_ENDPOINTS_MAX,
  SNAPSHOT_BYTES_MAX,
} from "../wire/limits";
import {
  ENDPOINT_AT_ADDRESS,
  ENDPOINT_AT_ADDRESS_BYTES,
  ENDPOINT_AT_BLOCK_TOKENS,
  ENDPOINT_AT_FLAGS,
  ENDPOINT_AT_GENERATION,
  ENDPOINT_AT_GPU_MEMORY,
  ENDPOINT_AT_GPU_UTILIZATION,
  ENDPOINT_AT_KV_CAPACITY_TOKENS,
  ENDPOINT_AT_KV_USAGE,
  ENDPOINT_AT_LABELS,
  ENDPOINT_AT_LABEL_COUNT,
  ENDPOINT_AT_LORA_ACTIVE,
  ENDPOINT_AT_LORA_ACTIVE_COUNT,
  ENDPOINT_AT_LORA_MAX,
  ENDPOINT_AT_LORA_WAITING,
  ENDPOINT_AT_LORA_WAITING_COUNT,
  ENDPOINT_AT_METRICS_AGE_MS,
  ENDPOINT_AT_MODELS,
  ENDPOINT_AT_MODEL_COUNT,
  ENDPOINT_AT_NAME,
  ENDPOINT_AT_NAME_BYTES,
  ENDPOINT_AT_ROLES,
  ENDPOINT_AT_RUNNING,
  ENDPOINT_AT_SLOT,
  ENDPOINT_AT_WAITING,
  ENDPOINT_HAS_GPU,
  ENDPOINT_HAS_LOAD,
  SNAPSHOT_AT_CHECKSUM,
  SNAPSHOT_AT_ENDPOINTS,
  SNAPSHOT_AT_HEADER_BYTES,
  SNAPSHOT_AT_RECORD_BYTES,
  SNAPSHOT_AT_TOTAL_BYTES,
  SNAPSHOT_AT_VERSION,
  SNAPSHOT_CHECKED_FROM,
  SNAPSHOT_CHECKSUM_PRIME,
  SNAPSHOT_CHECKSUM_ROTATE,
  SNAPSHOT_CHECKSUM_SEED,
  SNAPSHOT_HEADER_BYTES,
  SNAPSHOT_MAGIC,
  SNAPSHOT_RECORD_BYTES,
  SNAPSHOT_VERSION,
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
import { fault as noteFault, faultText, isInside } from "./fault";
import { setRowRecord } from "./labels";

/** Checksum of a snapshot; `ptr` is 4-byte aligned and readable up to the next multiple of 4. */
export function snapshotChecksum(ptr: usize, bytes: u32): u32 {
  let hash: u32 = SNAPSHOT_CHECKSUM_SEED;
  const end = ptr + bytes;
  let at = ptr + SNAPSHOT_CHECKED_FROM;
  for (; at + 4 <= end; at += 4) {
    hash = rotl<u32>(hash ^ load<u32>(at), SNAPSHOT_CHECKSUM_ROTATE) * <u32>SNAPSHOT_CHECKSUM_PRIME;
  }
  if (at < end) {
    const used = <u32>(end - at) * 8;
    const word = load<u32>(at) & ((1 << used) - 1);
    hash = rotl<u32>(hash ^ word, SNAPSHOT_CHECKSUM_ROTATE) * <u32>SNAPSHOT_CHECKSUM_PRIME;
  }
  return hash;
}

// Faults name an endpoint's field, or with −1 the header's.
function fault(endpoint: i32, name: string, value: f64, expected: string): bool {
  return noteFault("endpoints", endpoint, name, value, expected);
}

/** Whether the bytes are a well-formed snapshot; if not, fault.ts names the field. 4-byte aligned. */
export function snapshotCheck(ptr: usize, bytes: u32): bool {
  if (bytes < <u32>SNAPSHOT_HEADER_BYTES)
    return fault(-1, "totalBytes", bytes, "at least the 64-byte header");
  if (bytes > <u32>SNAPSHOT_BYTES_MAX) return fault(-1, "totalBytes", bytes, "at most 262144");
  if (load<u32>(ptr) != SNAPSHOT_MAGIC) return fault(-1, "magic", load<u32>(ptr), '827543621, "EPS1"');
  const version = load<u16>(ptr, SNAPSHOT_AT_VERSION);
  if (version != SNAPSHOT_VERSION) return fault(-1, "version", version, "1, the version this filter reads");
  const headerBytes = load<u16>(ptr, SNAPSHOT_AT_HEADER_BYTES);
  if (headerBytes != SNAPSHOT_HEADER_BYTES) return fault(-1, "headerBytes", headerBytes, "64");
  const total = load<u32>(ptr, SNAPSHOT_AT_TOTAL_BYTES);
  if (total != bytes) return fault(-1, "totalBytes", total, "the number of bytes received");
  const recordBytes = load<u32>(ptr, SNAPSHOT_AT_RECORD_BYTES);
  if (recordBytes != SNAPSHOT_RECORD_BYTES) return fault(-1, "recordBytes", recordBytes, "128");
  const count = load<u32>(ptr, SNAPSHOT_AT_ENDPOINTS);
  if (count > <u32>POOL_ENDPOINTS_MAX) return fault(-1, "endpointCount", count, "at most 256");
  if (<u32>SNAPSHOT_HEADER_BYTES + count * SNAPSHOT_RECORD_BYTES > bytes) {
    return fault(-1, "endpointCount", count, "no more records than bytes");
  }
  if (load<u32>(ptr, SNAPSHOT_AT_CHECKSUM) != snapshotChecksum(ptr, bytes)) {
    return fault(-1, "checksum", load<u32>(ptr, SNAPSHOT_AT_CHECKSUM), "the checksum of the bytes received");
  }
  let previous: i32 = -1;
  for (let i: u32 = 0; i < count; i++) {
    const record = ptr + SNAPSHOT_HEADER_BYTES + <usize>i * SNAPSHOT_RECORD_BYTES;
    const slot = <i32>load<u16>(record, ENDPOINT_AT_SLOT);
    if (slot <= previous || slot >= POOL_ENDPOINTS_MAX) return fault(i, "slot", slot, "ascending, below 256");
    previous = slot;
    if (!checkEndpoint(ptr, bytes, record, <i32>i)) return false;
  }
  return true;
}

function checkEndpoint(ptr: usize, bytes: u32, record: usize, i: i32): bool {
  if (load<u16>(record, ENDPOINT_AT_GENERATION) == 0) return fault(i, "generation", 0, "1 to 65535");
  const addressBytes = load<u32>(record, ENDPOINT_AT_ADDRESS_BYTES);
  if (!isInside(bytes, load<u32>(record, ENDPOINT_AT_ADDRESS), addressBytes)) {
    return fault(i, "address", load<u32>(record, ENDPOINT_AT_ADDRESS), "an offset inside the snapshot");
  }
  const address = ptr + load<u32>(record, ENDPOINT_AT_ADDRESS);
  if (!isAddress(address, addressBytes))
    return faultText("endpoints", i, "address", address, addressBytes, "ip:port");
  if (!isInside(bytes, load<u32>(record, ENDPOINT_AT_NAME), load<u32>(record, ENDPOINT_AT_NAME_BYTES))) {
    return fault(i, "name", load<u32>(record, ENDPOINT_AT_NAME), "an offset inside the snapshot");
  }
  if (!isShare(load<f32>(record, ENDPOINT_AT_KV_USAGE))) {
    return fault(i, "kvUsage", load<f32>(record, ENDPOINT_AT_KV_USAGE), "0 to 1");
  }
  if (!isShare(load<f32>(record, ENDPOINT_AT_GPU_UTILIZATION))) {
    return fault(i, "gpuUtilization", load<f32>(record, ENDPOINT_AT_GPU_UTILIZATION), "0 to 1");
  }
  if (!isShare(load<f32>(record, ENDPOINT_AT_GPU_MEMORY))) {
    return fault(i, "gpuMemory", load<f32>(record, ENDPOINT_AT_GPU_MEMORY), "0 to 1");
  }
  return (
    checkRefs(
      ptr,
      bytes,
      i,
      "models",
      load<u32>(record, ENDPOINT_AT_MODELS),
      load<u16>(record, ENDPOINT_AT_MODEL_COUNT),
      MODELS_MAX,
    ) &&
    checkRefs(
      ptr,
      bytes,
      i,
      "labels",
      load<u32>(record, ENDPOINT_AT_LABELS),
      <u32>load<u16>(record, ENDPOINT_AT_LABEL_COUNT) * 2,
      LABELS_MAX * 2,
    ) &&
    checkRefs(
      ptr,
      bytes,
      i,
      "activeLoras",
      load<u32>(record, ENDPOINT_AT_LORA_ACTIVE),
      load<u16>(record, ENDPOINT_AT_LORA_ACTIVE_COUNT),
      LORAS_MAX,
    ) &&
    checkRefs(
      ptr,
      bytes,
      i,
      "waitingLoras",
      load<u32>(record, ENDPOINT_AT_LORA_WAITING),
      load<u16>(record, ENDPOINT_AT_LORA_WAITING_COUNT),
      LORAS_MAX,
    )
  );
}

function checkRefs(ptr: usize, bytes: u32, i: i32, name: string, offset: u32, count: u32, most: u32): bool {
  if (count > most) return fault(i, name, count, "no more than the named limit of entries");
  if (count == 0) return true;
  if (!isInside(bytes, offset, count * 8)) return fault(i, name, offset, "an offset inside the snapshot");
  for (let k: u32 = 0; k < count; k++) {
    const ref = ptr + offset + ((<usize>k) << 3);
    if (!isInside(bytes, load<u32>(ref), load<u32>(ref, 4))) {
      return fault(i, name, load<u32>(ref), "text inside the snapshot");
    }
  }
  return true;
}

function isShare(value: f32): bool {
  return value >= 0 && value <= 1;
}

// "1.2.3.4:80", "[::1]:80": override_host compares it with Envoy's own rendering of the host's address.
function isAddress(ptr: usize, bytes: u32): bool {
  if (bytes < 3 || bytes > <u32>ADDRESS_BYTES_MAX) return false;
  let colon: u32 = bytes - 1;
  while (colon > 0 && load<u8>(ptr + colon) != 58) colon--;
  if (colon == 0 || colon == bytes - 1) return false;
  let port: u32 = 0;
  for (let i = colon + 1; i < bytes; i++) {
    const digit = <u32>load<u8>(ptr + i) - 48;
    if (digit > 9) return false;
    port = port * 10 + digit;
    if (port > 65535) return false;
  }
  if (port == 0) return false;
  if (load<u8>(ptr) == 91)
    return colon > 3 && load<u8>(ptr + colon - 1) == 93 && isHost(ptr + 1, colon - 2, true);
  return isHost(ptr, colon, false);
}

function isHost(ptr: usize, bytes: u32, v6: bool): bool {
  for (let i: u32 = 0; i < bytes; i++) {
    const c = <u32>load<u8>(ptr + i);
    const isDigit = c - 48 < 10;
    if (isDigit || c == 46) continue;
    if (v6 && (c == 58 || c == 37 || (c | 32) - 97 < 26)) continue;
    return false;
  }
  return true;
}

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
