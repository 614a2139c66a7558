// Checks a pool snapshot (wire/snapshot.ts) whole, before it is stored and again before it is used.
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
  ENDPOINT_AT_GENERATION,
  ENDPOINT_AT_GPU_MEMORY,
  ENDPOINT_AT_GPU_UTILIZATION,
  ENDPOINT_AT_KV_USAGE,
  ENDPOINT_AT_LABELS,
  ENDPOINT_AT_LABEL_COUNT,
  ENDPOINT_AT_LORA_ACTIVE,
  ENDPOINT_AT_LORA_ACTIVE_COUNT,
  ENDPOINT_AT_LORA_WAITING,
  ENDPOINT_AT_LORA_WAITING_COUNT,
  ENDPOINT_AT_MODELS,
  ENDPOINT_AT_MODEL_COUNT,
  ENDPOINT_AT_NAME,
  ENDPOINT_AT_NAME_BYTES,
  ENDPOINT_AT_SLOT,
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
import { fault as noteFault, faultText, isInside } from "./fault";

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
