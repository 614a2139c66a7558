// Decodes and checks a pool snapshot (assembly/wire/snapshot.ts): for tests and for tools that show one.
import * as limits from "../assembly/wire/limits.ts";
import * as wire from "../assembly/wire/snapshot.ts";
import { SnapshotInvalidError } from "./errors.ts";
import { snapshotChecksum, type SnapshotEndpoint } from "./snapshot-encoder.ts";

/** A decoded snapshot. */
export interface DecodedSnapshot {
  readonly id: number;
  readonly endpoints: readonly SnapshotEndpoint[];
}

/**
 * Checks everything a reader relies on, then decodes.
 * @throws SnapshotInvalidError with the name of the first field that is wrong
 */
export function decodeSnapshot(bytes: Buffer): DecodedSnapshot {
  if (bytes.length < wire.SNAPSHOT_HEADER_BYTES || bytes.length > limits.SNAPSHOT_BYTES_MAX) {
    fail("bytes", bytes.length, `${wire.SNAPSHOT_HEADER_BYTES}–${limits.SNAPSHOT_BYTES_MAX}`);
  }
  expect(bytes.readUInt32LE(wire.SNAPSHOT_AT_MAGIC), wire.SNAPSHOT_MAGIC, "magic");
  expect(bytes.readUInt16LE(wire.SNAPSHOT_AT_VERSION), wire.SNAPSHOT_VERSION, "version");
  expect(bytes.readUInt16LE(wire.SNAPSHOT_AT_HEADER_BYTES), wire.SNAPSHOT_HEADER_BYTES, "header bytes");
  expect(bytes.readUInt32LE(wire.SNAPSHOT_AT_TOTAL_BYTES), bytes.length, "total bytes");
  expect(bytes.readUInt32LE(wire.SNAPSHOT_AT_CHECKSUM), snapshotChecksum(bytes), "checksum");
  expect(bytes.readUInt32LE(wire.SNAPSHOT_AT_RECORD_BYTES), wire.SNAPSHOT_RECORD_BYTES, "record bytes");
  const count = bytes.readUInt32LE(wire.SNAPSHOT_AT_ENDPOINTS);
  if (count > limits.POOL_ENDPOINTS_MAX)
    fail("endpoint count", count, `at most ${limits.POOL_ENDPOINTS_MAX}`);
  const recordsEnd = wire.SNAPSHOT_HEADER_BYTES + count * wire.SNAPSHOT_RECORD_BYTES;
  if (recordsEnd > bytes.length) fail("endpoint count", count, `records within ${bytes.length} bytes`);
  const endpoints: SnapshotEndpoint[] = [];
  let previousSlot = -1;
  for (let at = wire.SNAPSHOT_HEADER_BYTES; at < recordsEnd; at += wire.SNAPSHOT_RECORD_BYTES) {
    const endpoint = decodeRecord(bytes, at);
    if (endpoint.slot <= previousSlot || endpoint.slot >= limits.POOL_ENDPOINTS_MAX) {
      fail("slot", endpoint.slot, `above ${previousSlot} and below ${limits.POOL_ENDPOINTS_MAX}`);
    }
    if (endpoint.generation === 0) fail("generation", 0, "1–65535");
    previousSlot = endpoint.slot;
    endpoints.push(endpoint);
  }
  return { id: Number(bytes.readBigUInt64LE(wire.SNAPSHOT_AT_ID)), endpoints };
}

function decodeRecord(bytes: Buffer, at: number): SnapshotEndpoint {
  const u32 = (field: number): number => bytes.readUInt32LE(at + field);
  const u16 = (field: number): number => bytes.readUInt16LE(at + field);
  const share = (field: number, name: string): number => {
    const value = bytes.readFloatLE(at + field);
    if (!(value >= 0 && value <= 1)) fail(name, value, "0–1");
    return value;
  };
  const rank = u32(wire.ENDPOINT_AT_RANK);
  const labels = list(bytes, u32(wire.ENDPOINT_AT_LABELS), u16(wire.ENDPOINT_AT_LABEL_COUNT) * 2, "labels");
  return {
    slot: u16(wire.ENDPOINT_AT_SLOT),
    generation: u16(wire.ENDPOINT_AT_GENERATION),
    flags: u32(wire.ENDPOINT_AT_FLAGS),
    roles: u32(wire.ENDPOINT_AT_ROLES),
    address: text(bytes, u32(wire.ENDPOINT_AT_ADDRESS), u32(wire.ENDPOINT_AT_ADDRESS_BYTES), "address"),
    name: text(bytes, u32(wire.ENDPOINT_AT_NAME), u32(wire.ENDPOINT_AT_NAME_BYTES), "name"),
    waiting: u32(wire.ENDPOINT_AT_WAITING),
    running: u32(wire.ENDPOINT_AT_RUNNING),
    kvUsage: share(wire.ENDPOINT_AT_KV_USAGE, "KV usage"),
    gpuUtilization: share(wire.ENDPOINT_AT_GPU_UTILIZATION, "GPU utilisation"),
    gpuMemory: share(wire.ENDPOINT_AT_GPU_MEMORY, "GPU memory"),
    metricsAgeMs: u32(wire.ENDPOINT_AT_METRICS_AGE_MS),
    kvCapacityTokens: u32(wire.ENDPOINT_AT_KV_CAPACITY_TOKENS),
    blockTokens: u32(wire.ENDPOINT_AT_BLOCK_TOKENS),
    loraMax: u32(wire.ENDPOINT_AT_LORA_MAX),
    rank: rank === 0xffffffff ? null : rank,
    models: list(bytes, u32(wire.ENDPOINT_AT_MODELS), u16(wire.ENDPOINT_AT_MODEL_COUNT), "models"),
    labels: pairs(labels),
    loraActive: list(
      bytes,
      u32(wire.ENDPOINT_AT_LORA_ACTIVE),
      u16(wire.ENDPOINT_AT_LORA_ACTIVE_COUNT),
      "active LoRAs",
    ),
    loraWaiting: list(
      bytes,
      u32(wire.ENDPOINT_AT_LORA_WAITING),
      u16(wire.ENDPOINT_AT_LORA_WAITING_COUNT),
      "waiting LoRAs",
    ),
    preemptions: u32(wire.ENDPOINT_AT_PREEMPTIONS),
    promptTokens: bytes.readDoubleLE(at + wire.ENDPOINT_AT_PROMPT_TOKENS),
    generationTokens: bytes.readDoubleLE(at + wire.ENDPOINT_AT_GENERATION_TOKENS),
  };
}

function list(bytes: Buffer, offset: number, count: number, name: string): string[] {
  if (offset + count * 8 > bytes.length)
    fail(name, offset, `${count} references within ${bytes.length} bytes`);
  const texts: string[] = [];
  for (let index = 0; index < count; index++) {
    const at = offset + index * 8;
    texts.push(text(bytes, bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4), name));
  }
  return texts;
}

function text(bytes: Buffer, offset: number, length: number, name: string): string {
  if (offset + length > bytes.length) fail(name, offset, `${length} bytes within ${bytes.length}`);
  return bytes.toString("utf8", offset, offset + length);
}

function pairs(texts: readonly string[]): [string, string][] {
  const result: [string, string][] = [];
  for (let index = 0; index + 1 < texts.length; index += 2) result.push([texts[index]!, texts[index + 1]!]);
  return result;
}

function expect(value: number, expected: number, field: string): void {
  if (value !== expected) fail(field, value, String(expected));
}

function fail(field: string, value: number | string, expected: string): never {
  throw new SnapshotInvalidError(field, value, expected);
}
