// Batches of index changes for tests (assembly/wire/kv-deltas.ts), and a source that remembers what it told.
import * as wire from "../../assembly/wire/kv-deltas.ts";
import { snapshotChecksum } from "../../sidecar/snapshot-encoder.ts";

const MASK = (1n << 64n) - 1n;
const [P1, P2, P3, P4, P5] = [
  0x9e3779b185ebca87n,
  0xc2b2ae3d27d4eb4fn,
  0x165667b19e3779f9n,
  0x85ebca77c2b2ae63n,
  0x27d4eb2f165667c5n,
] as const;

const times = (left: bigint, right: bigint): bigint => (left * right) & MASK;
const rotate = (value: bigint, by: bigint): bigint => ((value << by) | (value >> (64n - by))) & MASK;

function mixWord(hash: bigint, word: bigint): bigint {
  const mixed = hash ^ times(rotate(times(word, P2), 31n), P1);
  return (times(rotate(mixed, 27n), P1) + P4) & MASK;
}

/** assembly/text/hash.ts, mixPair, in plain BigInts. */
export function mixPair(left: bigint, right: bigint): bigint {
  let value = mixWord(mixWord(P5, left), right);
  value = times(value ^ (value >> 33n), P2);
  value = times(value ^ (value >> 29n), P3);
  return value ^ (value >> 32n);
}

function hashCell(hash: bigint, cell: Buffer): bigint {
  const word = (at: number): bigint => cell.readBigUInt64LE(at);
  const lane = (at: number, p: bigint, by: bigint, q: bigint): bigint =>
    times(rotate((times(word(at), p) + word(at + 8)) & MASK, by), q);
  const [a, b] = [lane(0, P1, 31n, P2), lane(16, P2, 29n, P3)];
  const [c, d] = [lane(32, P3, 37n, P4), lane(48, P4, 27n, P1)];
  let mixed = times(a ^ rotate(b, 17n), P3);
  mixed = times(((mixed ^ (mixed >> 32n)) + c + rotate(d, 41n)) & MASK, P2);
  return (times(rotate(hash ^ mixed ^ (mixed >> 29n), 27n), P1) + P4) & MASK;
}

/** Root of prompts without adapter and salt. */
export const PLAIN_ROOT = mixPair(0n, 0n);

/** Keys of the whole cells of a rendered prompt (assembly/prefix/cells.ts). */
export function cellKeys(text: string | Buffer, root = PLAIN_ROOT): bigint[] {
  const bytes = Buffer.from(text);
  const keys: bigint[] = [];
  let hash: bigint = P5;
  for (let at = 0; at + wire.KV_CELL_BYTES <= bytes.length; at += wire.KV_CELL_BYTES) {
    hash = hashCell(hash, bytes.subarray(at, at + wire.KV_CELL_BYTES));
    keys.push(mixPair(hash, root) || P3);
  }
  return keys;
}

export interface KvEntry {
  readonly key: bigint;
  readonly tokens: number;
  readonly tier: number;
}

/** One section, its payload as it stands on the wire. */
export interface KvSection {
  readonly operation: number;
  readonly slot: number;
  readonly generation: number;
  readonly tier?: number;
  readonly entries: number;
  readonly payload: Buffer;
}

/** A batch as assembly/wire/kv-deltas.ts lays it out, checksum included. */
export function encodeKvBatch(session: bigint, sequence: number, sections: readonly KvSection[]): Buffer {
  const parts = sections.map((section) => {
    const head = Buffer.alloc(wire.KV_SECTION_BYTES);
    head.writeUInt8(section.operation, wire.KV_SECTION_AT_OPERATION);
    head.writeUInt8(section.tier ?? 0, wire.KV_SECTION_AT_TIER);
    head.writeUInt16LE(section.slot, wire.KV_SECTION_AT_SLOT);
    head.writeUInt16LE(section.generation, wire.KV_SECTION_AT_GENERATION);
    head.writeUInt32LE(section.entries, wire.KV_SECTION_AT_ENTRIES);
    return Buffer.concat([head, section.payload]);
  });
  const batch = Buffer.concat([Buffer.alloc(wire.KV_HEADER_BYTES), ...parts]);
  batch.writeUInt32LE(wire.KV_MAGIC, wire.KV_AT_MAGIC);
  batch.writeUInt16LE(wire.KV_WIRE_VERSION, wire.KV_AT_VERSION);
  batch.writeUInt16LE(wire.KV_HEADER_BYTES, wire.KV_AT_HEADER_BYTES);
  batch.writeUInt32LE(batch.length, wire.KV_AT_TOTAL_BYTES);
  batch.writeBigUInt64LE(session, wire.KV_AT_SESSION);
  batch.writeUInt32LE(sequence, wire.KV_AT_SEQUENCE);
  batch.writeUInt32LE(sections.length, wire.KV_AT_SECTIONS);
  return sealKv(batch);
}

/** Writes the checksum that fits the bytes: for a test that changed a batch on purpose. */
export function sealKv(batch: Buffer): Buffer {
  batch.writeUInt32LE(snapshotChecksum(batch), wire.KV_AT_CHECKSUM);
  return batch;
}

function words(values: readonly bigint[]): Buffer {
  const payload = Buffer.alloc(values.length * 8);
  for (const [i, value] of values.entries()) payload.writeBigUInt64LE(value, i * 8);
  return payload;
}

/** Most entries that one KV_STORE section of a whole batch can have. */
const STORES_MAX = Math.floor(
  (wire.KV_BATCH_BYTES_MAX - wire.KV_HEADER_BYTES - wire.KV_SECTION_BYTES - 4) / 12,
);

/** What one pool's engines hold and the batches that tell it, in one session. */
export class KvSource {
  sequence = 0;
  private readonly held = new Map<number, Map<bigint, KvEntry>>();
  private readonly sections: KvSection[] = [];

  constructor(
    readonly session = 1n,
    private readonly generations: (slot: number) => number = () => 1,
  ) {}

  of(slot: number): Map<bigint, KvEntry> {
    let entries = this.held.get(slot);
    if (entries === undefined) this.held.set(slot, (entries = new Map()));
    return entries;
  }

  /** Entries of a text's first cells, 16 tokens each unless told otherwise. */
  store(
    slot: number,
    keys: readonly bigint[],
    tier = wire.KV_TIER_GPU,
    tokens = (i: number) => (i + 1) * 16,
  ): this {
    const entries = keys.map((key, i) => ({ key, tokens: tokens(i), tier }));
    for (const entry of entries) this.of(slot).set(entry.key, entry);
    return this.storeSections(slot, entries);
  }

  remove(slot: number, keys: readonly bigint[]): this {
    for (const key of keys) this.of(slot).delete(key);
    return this.add(wire.KV_REMOVE, slot, keys.length, words(keys));
  }

  /** KV_BEGIN and a copy of all that the slot holds; KV_EXACT is apart. */
  copy(slot: number): this {
    const entries = [...this.of(slot).values()];
    this.add(wire.KV_BEGIN, slot, entries.length, words([this.digest(slot)]));
    for (const tier of [wire.KV_TIER_GPU, wire.KV_TIER_CPU, wire.KV_TIER_DISK]) {
      this.storeSections(
        slot,
        entries.filter((entry) => entry.tier === tier),
      );
    }
    return this;
  }

  exact(slot: number): this {
    return this.add(wire.KV_EXACT, slot, this.of(slot).size, words([this.digest(slot)]));
  }

  degraded(slot: number): this {
    return this.add(wire.KV_DEGRADED, slot, 0, Buffer.alloc(0));
  }

  digest(slot: number): bigint {
    let digest = 0n;
    for (const { key, tokens, tier } of this.of(slot).values()) {
      digest ^= mixPair(key, (BigInt(tier) << 30n) | BigInt(tokens));
    }
    return digest;
  }

  /** The next batch, of the sections since the last one. @throws if they do not fit into one */
  batch(): Buffer {
    const [batch, ...more] = this.batches();
    if (batch === undefined || more.length > 0) throw new RangeError("not one batch");
    return batch;
  }

  /** All sections since the last one, in as many batches as they take; one without sections if there are none. */
  batches(): Buffer[] {
    const batches: KvSection[][] = [[]];
    let room = wire.KV_BATCH_BYTES_MAX - wire.KV_HEADER_BYTES;
    for (const section of this.sections.splice(0)) {
      const bytes = wire.KV_SECTION_BYTES + section.payload.length;
      if (bytes > room) {
        batches.push([]);
        room = wire.KV_BATCH_BYTES_MAX - wire.KV_HEADER_BYTES;
      }
      batches.at(-1)!.push(section);
      room -= bytes;
    }
    return batches.map((sections) => encodeKvBatch(this.session, ++this.sequence, sections));
  }

  private storeSections(slot: number, entries: readonly KvEntry[]): this {
    for (let at = 0; at < entries.length; at += STORES_MAX) {
      const some = entries.slice(at, at + STORES_MAX);
      const tokens = Buffer.alloc((some.length * 4 + 7) & ~7);
      for (const [i, entry] of some.entries()) tokens.writeUInt32LE(entry.tokens, i * 4);
      const payload = Buffer.concat([words(some.map(({ key }) => key)), tokens]);
      this.add(wire.KV_STORE, slot, some.length, payload, some[0]!.tier);
    }
    return this;
  }

  private add(operation: number, slot: number, entries: number, payload: Buffer, tier = 0): this {
    this.sections.push({ operation, slot, generation: this.generations(slot), tier, entries, payload });
    return this;
  }
}
