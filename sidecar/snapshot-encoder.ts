// Encodes a pool as the binary snapshot of assembly/wire/snapshot.ts.
import * as limits from "../assembly/wire/limits.ts";
import * as wire from "../assembly/wire/snapshot.ts";
import { SnapshotTooLargeError } from "./errors.ts";

/** One endpoint as it goes over the wire. Counts are rounded and clamped to their fields. */
export interface SnapshotEndpoint {
  readonly slot: number;
  readonly generation: number;
  /** ENDPOINT_* bits. */
  readonly flags: number;
  /** ROLE_* bits. */
  readonly roles: number;
  /** "ip:port". */
  readonly address: string;
  readonly name: string;
  readonly waiting: number;
  readonly running: number;
  readonly kvUsage: number;
  readonly gpuUtilization: number;
  readonly gpuMemory: number;
  /** Age of waiting, running and KV usage, ms. */
  readonly metricsAgeMs: number;
  readonly kvCapacityTokens: number;
  readonly blockTokens: number;
  readonly loraMax: number;
  /** Data-parallel rank; null = none. */
  readonly rank: number | null;
  readonly models: readonly string[];
  readonly labels: readonly (readonly [string, string])[];
  readonly loraActive: readonly string[];
  readonly loraWaiting: readonly string[];
  readonly preemptions: number;
  readonly promptTokens: number;
  readonly generationTokens: number;
}

const NO_RANK = 0xffffffff;
const U32_MAX = 0xffffffff;
const U32_RANGE = 0x100000000;
const REFERENCE_BYTES = 8;

/**
 * An encoder with its own buffer. Equal strings, and equal lists of strings, are written once: the endpoints
 * of a pool share most of theirs.
 */
export class SnapshotEncoder {
  private readonly bytes = Buffer.alloc(limits.SNAPSHOT_BYTES_MAX);
  private readonly texts = new Map<string, TextPlace>();
  private readonly lists = new Map<string, number>();
  private readonly keys = new WeakMap<readonly unknown[], string>();
  private textList: TextPlace[] = [];
  private references: TextPlace[] = [];

  /**
   * @param endpoints at most POOL_ENDPOINTS_MAX, slots strictly ascending
   * @param id snapshot id, a whole number below 2^53
   * @returns a view of the encoder's buffer, valid until the next call
   * @throws SnapshotTooLargeError when it needs more than SNAPSHOT_BYTES_MAX
   */
  encode(endpoints: readonly SnapshotEndpoint[], id: number): Buffer {
    this.texts.clear();
    this.lists.clear();
    this.textList = [];
    this.references = [];
    const recordsEnd = wire.SNAPSHOT_HEADER_BYTES + endpoints.length * wire.SNAPSHOT_RECORD_BYTES;
    for (const endpoint of endpoints) this.collect(endpoint);
    const textsStart = recordsEnd + this.references.length * REFERENCE_BYTES;
    let total = textsStart;
    for (const text of this.textList) {
      text.offset = total;
      total += text.bytes.length;
    }
    if (total > limits.SNAPSHOT_BYTES_MAX) throw new SnapshotTooLargeError(total, limits.SNAPSHOT_BYTES_MAX);
    this.bytes.fill(0, 0, recordsEnd);
    let at = wire.SNAPSHOT_HEADER_BYTES;
    for (const endpoint of endpoints) {
      this.writeRecord(endpoint, at, recordsEnd);
      at += wire.SNAPSHOT_RECORD_BYTES;
    }
    this.writeTexts(recordsEnd);
    this.writeHeader(endpoints.length, id, total);
    return this.bytes.subarray(0, total);
  }

  private collect(endpoint: SnapshotEndpoint): void {
    this.place(endpoint.address);
    this.place(endpoint.name);
    this.placeList(endpoint.models);
    this.placeLabels(endpoint.labels);
    this.placeList(endpoint.loraActive);
    this.placeList(endpoint.loraWaiting);
  }

  private place(text: string): TextPlace {
    let place = this.texts.get(text);
    if (place === undefined) {
      place = { bytes: Buffer.from(text, "utf8"), offset: 0 };
      this.texts.set(text, place);
      this.textList.push(place);
    }
    return place;
  }

  private placeList(list: readonly string[]): void {
    if (list.length === 0) return;
    const key = this.keyOf(list);
    if (this.lists.has(key)) return;
    this.lists.set(key, this.references.length);
    for (const text of list) this.references.push(this.place(text));
  }

  private placeLabels(labels: readonly (readonly [string, string])[]): void {
    if (labels.length === 0) return;
    const key = this.keyOf(labels);
    if (this.lists.has(key)) return;
    this.lists.set(key, this.references.length);
    for (const [name, value] of labels) this.references.push(this.place(name), this.place(value));
  }

  private listOffset(list: readonly unknown[], recordsEnd: number): number {
    if (list.length === 0) return 0;
    return recordsEnd + this.lists.get(this.keyOf(list))! * REFERENCE_BYTES;
  }

  /** Lists live much longer than one snapshot, so their keys are remembered with them. */
  private keyOf(list: readonly unknown[]): string {
    let key = this.keys.get(list);
    if (key === undefined) {
      key = JSON.stringify(list);
      this.keys.set(list, key);
    }
    return key;
  }

  private writeRecord(endpoint: SnapshotEndpoint, at: number, recordsEnd: number): void {
    const bytes = this.bytes;
    const address = this.texts.get(endpoint.address)!;
    const name = this.texts.get(endpoint.name)!;
    const u32 = (field: number, value: number): number => bytes.writeUInt32LE(value, at + field);
    const u16 = (field: number, value: number): number => bytes.writeUInt16LE(value, at + field);
    u16(wire.ENDPOINT_AT_SLOT, endpoint.slot);
    u16(wire.ENDPOINT_AT_GENERATION, endpoint.generation);
    u32(wire.ENDPOINT_AT_FLAGS, endpoint.flags);
    u32(wire.ENDPOINT_AT_ROLES, endpoint.roles);
    u32(wire.ENDPOINT_AT_ADDRESS, address.offset);
    u32(wire.ENDPOINT_AT_ADDRESS_BYTES, address.bytes.length);
    u32(wire.ENDPOINT_AT_NAME, name.offset);
    u32(wire.ENDPOINT_AT_NAME_BYTES, name.bytes.length);
    u32(wire.ENDPOINT_AT_WAITING, clampU32(endpoint.waiting));
    u32(wire.ENDPOINT_AT_RUNNING, clampU32(endpoint.running));
    bytes.writeFloatLE(clampShare(endpoint.kvUsage), at + wire.ENDPOINT_AT_KV_USAGE);
    bytes.writeFloatLE(clampShare(endpoint.gpuUtilization), at + wire.ENDPOINT_AT_GPU_UTILIZATION);
    bytes.writeFloatLE(clampShare(endpoint.gpuMemory), at + wire.ENDPOINT_AT_GPU_MEMORY);
    u32(wire.ENDPOINT_AT_METRICS_AGE_MS, clampU32(endpoint.metricsAgeMs));
    u32(wire.ENDPOINT_AT_KV_CAPACITY_TOKENS, clampU32(endpoint.kvCapacityTokens));
    u32(wire.ENDPOINT_AT_BLOCK_TOKENS, clampU32(endpoint.blockTokens));
    u32(wire.ENDPOINT_AT_LORA_MAX, clampU32(endpoint.loraMax));
    u32(wire.ENDPOINT_AT_RANK, endpoint.rank ?? NO_RANK);
    u32(wire.ENDPOINT_AT_MODELS, this.listOffset(endpoint.models, recordsEnd));
    u16(wire.ENDPOINT_AT_MODEL_COUNT, endpoint.models.length);
    u16(wire.ENDPOINT_AT_LABEL_COUNT, endpoint.labels.length);
    u32(wire.ENDPOINT_AT_LABELS, this.listOffset(endpoint.labels, recordsEnd));
    u32(wire.ENDPOINT_AT_LORA_ACTIVE, this.listOffset(endpoint.loraActive, recordsEnd));
    u32(wire.ENDPOINT_AT_LORA_WAITING, this.listOffset(endpoint.loraWaiting, recordsEnd));
    u16(wire.ENDPOINT_AT_LORA_ACTIVE_COUNT, endpoint.loraActive.length);
    u16(wire.ENDPOINT_AT_LORA_WAITING_COUNT, endpoint.loraWaiting.length);
    u32(wire.ENDPOINT_AT_PREEMPTIONS, wrapU32(endpoint.preemptions));
    bytes.writeDoubleLE(endpoint.promptTokens, at + wire.ENDPOINT_AT_PROMPT_TOKENS);
    bytes.writeDoubleLE(endpoint.generationTokens, at + wire.ENDPOINT_AT_GENERATION_TOKENS);
  }

  private writeTexts(recordsEnd: number): void {
    let at = recordsEnd;
    for (const text of this.references) {
      this.bytes.writeUInt32LE(text.offset, at);
      this.bytes.writeUInt32LE(text.bytes.length, at + 4);
      at += REFERENCE_BYTES;
    }
    for (const text of this.textList) text.bytes.copy(this.bytes, text.offset);
  }

  private writeHeader(endpointCount: number, id: number, total: number): void {
    const bytes = this.bytes;
    bytes.writeUInt32LE(wire.SNAPSHOT_MAGIC, wire.SNAPSHOT_AT_MAGIC);
    bytes.writeUInt16LE(wire.SNAPSHOT_VERSION, wire.SNAPSHOT_AT_VERSION);
    bytes.writeUInt16LE(wire.SNAPSHOT_HEADER_BYTES, wire.SNAPSHOT_AT_HEADER_BYTES);
    bytes.writeUInt32LE(total, wire.SNAPSHOT_AT_TOTAL_BYTES);
    bytes.writeBigUInt64LE(BigInt(id), wire.SNAPSHOT_AT_ID);
    bytes.writeUInt32LE(endpointCount, wire.SNAPSHOT_AT_ENDPOINTS);
    bytes.writeUInt32LE(wire.SNAPSHOT_RECORD_BYTES, wire.SNAPSHOT_AT_RECORD_BYTES);
    bytes.writeUInt32LE(snapshotChecksum(bytes.subarray(0, total)), wire.SNAPSHOT_AT_CHECKSUM);
  }
}

interface TextPlace {
  readonly bytes: Buffer;
  offset: number;
}

/** The checksum of a whole snapshot, as defined in assembly/wire/snapshot.ts. */
export function snapshotChecksum(snapshot: Buffer): number {
  const rotate = wire.SNAPSHOT_CHECKSUM_ROTATE;
  let hash = wire.SNAPSHOT_CHECKSUM_SEED | 0;
  let at = wire.SNAPSHOT_CHECKED_FROM;
  for (; at + 4 <= snapshot.length; at += 4) {
    const word = hash ^ snapshot.readInt32LE(at);
    hash = Math.imul((word << rotate) | (word >>> (32 - rotate)), wire.SNAPSHOT_CHECKSUM_PRIME);
  }
  if (at < snapshot.length) {
    let tail = 0;
    for (let index = 0; at + index < snapshot.length; index++) tail |= snapshot[at + index]! << (8 * index);
    const word = hash ^ tail;
    hash = Math.imul((word << rotate) | (word >>> (32 - rotate)), wire.SNAPSHOT_CHECKSUM_PRIME);
  }
  return hash >>> 0;
}

function clampU32(value: number): number {
  return value > 0 ? Math.min(U32_MAX, Math.round(value)) : 0;
}

/** A total that wraps around at 2^32, as the field's reader takes differences. */
function wrapU32(value: number): number {
  return value > 0 ? Math.floor(value) % U32_RANGE : 0;
}

function clampShare(value: number): number {
  return value > 0 ? Math.min(1, value) : 0;
}
