// A gateway's exact index as a model: reads batches strictly, applies them, and works digests out on its own.
import * as wire from "../../assembly/wire/kv-deltas.ts";
import { POOL_ENDPOINTS_MAX } from "../../assembly/wire/limits.ts";
import { snapshotChecksum } from "../../sidecar/snapshot-encoder.ts";
import { mixPair } from "../envoy/kv-batches.ts";

const OPERATIONS = ["", "store", "remove", "begin", "exact", "degraded"] as const;

/** The wire's digest of entries. */
export function digestOf(entries: ReadonlyMap<bigint, number>): bigint {
  let digest = 0n;
  for (const [key, value] of entries) digest ^= mixPair(key, BigInt(value >>> 0));
  return digest;
}

export interface DecodedSection {
  readonly operation: (typeof OPERATIONS)[number];
  readonly slot: number;
  readonly generation: number;
  readonly entries: number;
  readonly keys: readonly bigint[];
  /** tier << 30 | tokens of each key that is stored. */
  readonly values: readonly number[];
  readonly digest: bigint;
}

export interface DecodedBatch {
  readonly session: bigint;
  readonly sequence: number;
  readonly sections: readonly DecodedSection[];
}

function check(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(`a bad batch: ${what}`);
}

/** @throws Error where the bytes are not just what assembly/wire/kv-deltas.ts says */
export function decodeKvBatch(bytes: Buffer): DecodedBatch {
  check(
    bytes.length >= wire.KV_HEADER_BYTES && bytes.length <= wire.KV_BATCH_BYTES_MAX,
    `${bytes.length} bytes`,
  );
  check(bytes.readUInt32LE(wire.KV_AT_MAGIC) === wire.KV_MAGIC, "magic");
  check(bytes.readUInt16LE(wire.KV_AT_VERSION) === wire.KV_WIRE_VERSION, "version");
  check(bytes.readUInt16LE(wire.KV_AT_HEADER_BYTES) === wire.KV_HEADER_BYTES, "header bytes");
  check(bytes.readUInt32LE(wire.KV_AT_TOTAL_BYTES) === bytes.length, "total bytes");
  check(bytes.readUInt32LE(wire.KV_AT_CHECKSUM) === snapshotChecksum(bytes), "checksum");
  check(
    bytes.subarray(32, wire.KV_HEADER_BYTES).every((byte) => byte === 0),
    "header's end",
  );
  const session = bytes.readBigUInt64LE(wire.KV_AT_SESSION);
  const sequence = bytes.readUInt32LE(wire.KV_AT_SEQUENCE);
  check(session !== 0n && sequence > 0, "session and sequence");
  const sections: DecodedSection[] = [];
  let at = wire.KV_HEADER_BYTES;
  for (let i = bytes.readUInt32LE(wire.KV_AT_SECTIONS); i > 0; i--) {
    const [section, end] = decodeSection(bytes, at);
    sections.push(section);
    at = end;
  }
  check(at === bytes.length, `sections end at ${at} of ${bytes.length}`);
  return { session, sequence, sections };
}

function decodeSection(bytes: Buffer, at: number): [DecodedSection, number] {
  check(at + wire.KV_SECTION_BYTES <= bytes.length, "a section's header");
  const operation = OPERATIONS[bytes.readUInt8(at + wire.KV_SECTION_AT_OPERATION)];
  check(operation !== undefined && operation !== "", "operation");
  const tier = bytes.readUInt8(at + wire.KV_SECTION_AT_TIER);
  check(tier <= (operation === "store" ? wire.KV_TIER_DISK : 0), "tier");
  const slot = bytes.readUInt16LE(at + wire.KV_SECTION_AT_SLOT);
  const generation = bytes.readUInt16LE(at + wire.KV_SECTION_AT_GENERATION);
  check(slot < POOL_ENDPOINTS_MAX && generation > 0, "slot and generation");
  check(bytes.readUInt16LE(at + 6) === 0 && bytes.readUInt32LE(at + 12) === 0, "zeros");
  const entries = bytes.readUInt32LE(at + wire.KV_SECTION_AT_ENTRIES);
  let end = at + wire.KV_SECTION_BYTES;
  const hasKeys = operation === "store" || operation === "remove";
  if (hasKeys) check(entries > 0 && end + entries * 8 <= bytes.length, "entries");
  const keys = Array.from({ length: hasKeys ? entries : 0 }, (_, i) => bytes.readBigUInt64LE(end + i * 8));
  check(new Set(keys).size === keys.length && !keys.includes(0n), "keys");
  end += keys.length * 8;
  const values: number[] = [];
  if (operation === "store") {
    for (; values.length < entries; end += 4) {
      const tokens = bytes.readUInt32LE(end);
      check(tokens >= 1 && tokens <= wire.KV_TOKENS_MAX, "tokens");
      values.push(((tier << 30) | tokens) >>> 0);
    }
    if (end % 8 !== 0) {
      check(bytes.readUInt32LE(end) === 0, "padding");
      end += 4;
    }
  }
  let digest = 0n;
  if (operation === "begin" || operation === "exact") {
    digest = bytes.readBigUInt64LE(end);
    end += 8;
  }
  if (operation === "degraded") check(entries === 0, "entries of a degraded slot");
  return [{ operation, slot, generation, entries, keys, values, digest }, end];
}

/** One slot as a worker has it. */
export interface ModelSlot {
  readonly generation: number;
  /** tier << 30 | tokens, by key. */
  readonly entries: Map<bigint, number>;
  state: "unknown" | "copying" | "exact" | "degraded";
  /** What KV_BEGIN said of the copy that is coming. */
  copy: { readonly digest: bigint; readonly entries: number } | null;
}

/** What a worker makes of one pool's batches. Throws where a batch breaks the rules of the wire. */
export class KvGatewayModel {
  session = 0n;
  sequence = 0;
  readonly slots = new Map<number, ModelSlot>();
  /** Slots that are asked for with the next answers, until they are begun. */
  readonly wanted = new Set<number>();
  readonly batches: DecodedBatch[] = [];
  /** Most entries of all slots at one time. */
  entriesMost = 0;

  /** @param knows whether the last snapshot has this generation in the slot */
  constructor(private readonly knows: (slot: number, generation: number) => boolean = () => true) {}

  /** Entries of all slots. */
  get entries(): number {
    let sum = 0;
    for (const { entries } of this.slots.values()) sum += entries.size;
    return sum;
  }

  /** All that a restart loses. */
  restart(): void {
    this.session = 0n;
    this.sequence = 0;
    this.slots.clear();
    this.wanted.clear();
  }

  /** Takes a batch. @returns the answer's status and body */
  take(bytes: Buffer): { status: number; body: string } {
    const batch = decodeKvBatch(bytes);
    if (batch.session !== this.session) {
      if (batch.sequence !== 1)
        return { status: 409, body: '{"error":{"field":"session","message":"unknown"}}' };
      this.restart();
      this.session = batch.session;
    }
    if (batch.sequence !== this.sequence) {
      check(batch.sequence === this.sequence + 1, `sequence ${batch.sequence} after ${this.sequence}`);
      this.sequence = batch.sequence;
      this.batches.push(batch);
      for (const section of batch.sections) this.apply(section);
      this.entriesMost = Math.max(this.entriesMost, this.entries);
    }
    return { status: 200, body: JSON.stringify({ sequence: this.sequence, wanted: [...this.wanted] }) };
  }

  private apply(section: DecodedSection): void {
    const { slot: index, generation, operation, keys, values } = section;
    check(this.knows(index, generation), `slot ${index} has no generation ${generation} in the snapshot`);
    let slot = this.slots.get(index);
    if (slot?.generation !== generation) {
      slot = { generation, entries: new Map(), state: "unknown", copy: null };
      this.slots.set(index, slot);
    }
    const { entries } = slot;
    switch (operation) {
      case "begin":
        entries.clear();
        slot.state = "copying";
        slot.copy = section;
        this.wanted.delete(index);
        return;
      case "store":
        check(slot.state !== "unknown", "a store before the first copy");
        keys.forEach((key, i) => void entries.set(key, values[i]!));
        return;
      case "remove":
        check(slot.state !== "unknown" && slot.state !== "copying", "a removal before the copy is whole");
        for (const key of keys) check(entries.delete(key), `removal of ${key}, which is not there`);
        return;
      case "exact":
        check(slot.state !== "unknown", "exact before the first copy");
        check(section.entries === entries.size, `${section.entries} entries, there are ${entries.size}`);
        check(section.digest === digestOf(entries), "digest");
        if (slot.copy !== null) {
          check(slot.copy.digest === section.digest, "a copy's digest");
          check(slot.copy.entries === section.entries, "a copy's entries");
        }
        slot.copy = null;
        slot.state = "exact";
        return;
      case "degraded":
        slot.copy = null;
        slot.state = "degraded";
    }
  }
}
