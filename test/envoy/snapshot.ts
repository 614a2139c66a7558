// Encodes pool snapshots for tests straight from the byte layout, so that a test can also get one wrong on purpose.
import * as wire from "../../assembly/wire/snapshot.ts";

/** One endpoint of a test's pool; what is left out is ready, idle and serves "test-model". */
export interface TestEndpoint {
  readonly address: string;
  readonly name?: string;
  readonly slot?: number;
  readonly generation?: number;
  readonly flags?: number;
  readonly roles?: number;
  readonly waiting?: number;
  readonly running?: number;
  readonly kvUsage?: number;
  readonly gpuUtilization?: number;
  readonly gpuMemory?: number;
  readonly metricsAgeMs?: number;
  readonly kvCapacityTokens?: number;
  readonly blockTokens?: number;
  readonly loraMax?: number;
  readonly models?: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  readonly lorasActive?: readonly string[];
  readonly lorasWaiting?: readonly string[];
  readonly preemptions?: number;
  readonly promptTokens?: number;
  readonly generationTokens?: number;
}

export const TEST_MODEL = "test-model";
const DEFAULT_FLAGS = wire.ENDPOINT_READY | wire.ENDPOINT_HAS_LOAD;
const NO_RANK = 0xffffffff;
const REFERENCE_BYTES = 8;

/** A snapshot as assembly/wire/snapshot.ts lays it out, checksum included. */
export function encodeSnapshot(endpoints: readonly TestEndpoint[], id = 1n): Buffer {
  const texts = new TextArea();
  const records = endpoints.map((endpoint, index) => encodeRecord(endpoint, index, texts));
  const referencesAt = wire.SNAPSHOT_HEADER_BYTES + endpoints.length * wire.SNAPSHOT_RECORD_BYTES;
  const { references, bytes } = texts.finish(referencesAt, records);
  const header = Buffer.alloc(wire.SNAPSHOT_HEADER_BYTES);
  const snapshot = Buffer.concat([header, ...records.map(({ record }) => record), references, bytes]);
  snapshot.writeUInt32LE(wire.SNAPSHOT_MAGIC, wire.SNAPSHOT_AT_MAGIC);
  snapshot.writeUInt16LE(wire.SNAPSHOT_VERSION, wire.SNAPSHOT_AT_VERSION);
  snapshot.writeUInt16LE(wire.SNAPSHOT_HEADER_BYTES, wire.SNAPSHOT_AT_HEADER_BYTES);
  snapshot.writeUInt32LE(snapshot.length, wire.SNAPSHOT_AT_TOTAL_BYTES);
  snapshot.writeBigUInt64LE(id, wire.SNAPSHOT_AT_ID);
  snapshot.writeUInt32LE(endpoints.length, wire.SNAPSHOT_AT_ENDPOINTS);
  snapshot.writeUInt32LE(wire.SNAPSHOT_RECORD_BYTES, wire.SNAPSHOT_AT_RECORD_BYTES);
  return seal(snapshot);
}

/** Writes the checksum that fits the bytes: call it again after changing a snapshot on purpose. */
export function seal(snapshot: Buffer): Buffer {
  let hash = wire.SNAPSHOT_CHECKSUM_SEED;
  const words = Buffer.alloc(Math.ceil((snapshot.length - wire.SNAPSHOT_CHECKED_FROM) / 4) * 4);
  snapshot.copy(words, 0, wire.SNAPSHOT_CHECKED_FROM);
  for (let at = 0; at < words.length; at += 4) {
    const mixed = hash ^ words.readUInt32LE(at);
    const rotate = wire.SNAPSHOT_CHECKSUM_ROTATE;
    hash = Math.imul((mixed << rotate) | (mixed >>> (32 - rotate)), wire.SNAPSHOT_CHECKSUM_PRIME);
  }
  snapshot.writeUInt32LE(hash >>> 0, wire.SNAPSHOT_AT_CHECKSUM);
  return snapshot;
}

interface EncodedRecord {
  readonly record: Buffer;
  /** Texts that the record points at itself: where its (offset, bytes) pair is. */
  readonly direct: { at: number; text: number }[];
  /** Reference lists: where the list's offset is, and the first of its references. */
  readonly lists: { at: number; first: number }[];
}

function encodeRecord(endpoint: TestEndpoint, index: number, texts: TextArea): EncodedRecord {
  const record = Buffer.alloc(wire.SNAPSHOT_RECORD_BYTES);
  const direct = [
    { at: wire.ENDPOINT_AT_ADDRESS, text: texts.add(endpoint.address) },
    { at: wire.ENDPOINT_AT_NAME, text: texts.add(endpoint.name ?? endpoint.address) },
  ];
  const models = endpoint.models ?? [TEST_MODEL];
  const labels = Object.entries(endpoint.labels ?? {});
  const active = endpoint.lorasActive ?? [];
  const waiting = endpoint.lorasWaiting ?? [];
  const lists = [
    { at: wire.ENDPOINT_AT_MODELS, first: texts.list(models) },
    { at: wire.ENDPOINT_AT_LABELS, first: texts.list(labels.flat()) },
    { at: wire.ENDPOINT_AT_LORA_ACTIVE, first: texts.list(active) },
    { at: wire.ENDPOINT_AT_LORA_WAITING, first: texts.list(waiting) },
  ];
  record.writeUInt16LE(endpoint.slot ?? index, wire.ENDPOINT_AT_SLOT);
  record.writeUInt16LE(endpoint.generation ?? 1, wire.ENDPOINT_AT_GENERATION);
  record.writeUInt16LE(models.length, wire.ENDPOINT_AT_MODEL_COUNT);
  record.writeUInt16LE(labels.length, wire.ENDPOINT_AT_LABEL_COUNT);
  record.writeUInt16LE(active.length, wire.ENDPOINT_AT_LORA_ACTIVE_COUNT);
  record.writeUInt16LE(waiting.length, wire.ENDPOINT_AT_LORA_WAITING_COUNT);
  writeNumbers(record, endpoint);
  return { record, direct, lists };
}

function writeNumbers(record: Buffer, endpoint: TestEndpoint): void {
  const u32: [number, number][] = [
    [wire.ENDPOINT_AT_FLAGS, endpoint.flags ?? DEFAULT_FLAGS],
    [wire.ENDPOINT_AT_ROLES, endpoint.roles ?? wire.ROLE_DECODE],
    [wire.ENDPOINT_AT_WAITING, endpoint.waiting ?? 0],
    [wire.ENDPOINT_AT_RUNNING, endpoint.running ?? 0],
    [wire.ENDPOINT_AT_METRICS_AGE_MS, endpoint.metricsAgeMs ?? 0],
    [wire.ENDPOINT_AT_KV_CAPACITY_TOKENS, endpoint.kvCapacityTokens ?? 1_000_000],
    [wire.ENDPOINT_AT_BLOCK_TOKENS, endpoint.blockTokens ?? 16],
    [wire.ENDPOINT_AT_LORA_MAX, endpoint.loraMax ?? 0],
    [wire.ENDPOINT_AT_RANK, NO_RANK],
    [wire.ENDPOINT_AT_PREEMPTIONS, endpoint.preemptions ?? 0],
  ];
  for (const [at, value] of u32) record.writeUInt32LE(value, at);
  record.writeFloatLE(endpoint.kvUsage ?? 0, wire.ENDPOINT_AT_KV_USAGE);
  record.writeFloatLE(endpoint.gpuUtilization ?? 0, wire.ENDPOINT_AT_GPU_UTILIZATION);
  record.writeFloatLE(endpoint.gpuMemory ?? 0, wire.ENDPOINT_AT_GPU_MEMORY);
  record.writeDoubleLE(endpoint.promptTokens ?? 0, wire.ENDPOINT_AT_PROMPT_TOKENS);
  record.writeDoubleLE(endpoint.generationTokens ?? 0, wire.ENDPOINT_AT_GENERATION_TOKENS);
}

/** Collects texts, and the lists of references to them, until their offsets are known. */
class TextArea {
  private readonly texts: Buffer[] = [];
  private readonly references: number[] = [];

  /** @returns the text's number */
  add(text: string): number {
    return this.texts.push(Buffer.from(text)) - 1;
  }

  /** @returns number of the first reference, or -1 for an empty list */
  list(texts: readonly string[]): number {
    if (texts.length === 0) return -1;
    const first = this.references.length;
    this.references.push(...texts.map((text) => this.add(text)));
    return first;
  }

  /** Lays everything out from `referencesAt` on and writes the offsets into the records. */
  finish(referencesAt: number, records: readonly EncodedRecord[]): { references: Buffer; bytes: Buffer } {
    const bytesAt = referencesAt + this.references.length * REFERENCE_BYTES;
    const offsets: number[] = [];
    let end = bytesAt;
    for (const text of this.texts) {
      offsets.push(end);
      end += text.length;
    }
    const pointTo = (target: Buffer, at: number, text: number): void => {
      target.writeUInt32LE(offsets[text]!, at);
      target.writeUInt32LE(this.texts[text]!.length, at + 4);
    };
    const references = Buffer.alloc(this.references.length * REFERENCE_BYTES);
    for (const [index, text] of this.references.entries()) pointTo(references, index * REFERENCE_BYTES, text);
    for (const { record, direct, lists } of records) {
      for (const { at, text } of direct) pointTo(record, at, text);
      for (const { at, first } of lists)
        record.writeUInt32LE(first < 0 ? 0 : referencesAt + first * REFERENCE_BYTES, at);
    }
    return { references, bytes: Buffer.concat(this.texts) };
  }
}
