// Batches of index changes in the filter: what is refused and how it is named, and what becomes of the rows.
import { beforeAll, describe, expect, it } from "vitest";
import * as wire from "../../assembly/wire/kv-deltas.ts";
import { cellKeys, encodeKvBatch, type KvSection, KvSource, sealKv } from "../envoy/kv-batches.ts";
import { compileHarness, instantiateHarness } from "./support/harness.ts";
import { random } from "./support/random.ts";

let compiled: WebAssembly.Module;
beforeAll(async () => {
  compiled = await compileHarness("kv");
});

// biome-ignore lint/suspicious/noExplicitAny: every export of the harness by its name
type Exports = Record<string, any>;

const COLUMN_GENERATION = 2;
const SLOTS = 4;

class Rows {
  readonly h = instantiateHarness<Exports>(compiled);
  constructor() {
    for (let slot = 0; slot < SLOTS; slot++) this.generation(slot, 1);
  }
  generation(slot: number, generation: number): void {
    this.h["setRowU32"](COLUMN_GENERATION, slot, generation);
    this.h["kvRefreshRow"](slot);
  }
  put(bytes: Uint8Array): number {
    const ptr = this.h["scratchPtr"]();
    new Uint8Array(this.h["memory"].buffer, ptr, bytes.length).set(bytes);
    return ptr;
  }
  text(ptr: number, length: number): string {
    return Buffer.from(this.h["memory"].buffer, ptr, length).toString("utf8");
  }
  /** "field: message", or "" when the batch is good. */
  fault(bytes: Uint8Array): string {
    const { h } = this;
    if (h["kvCheck"](this.put(bytes), bytes.length)) return "";
    const field = this.text(h["faultField"](), h["faultFieldBytes"]());
    return `${field}: ${this.text(h["faultMessage"](), h["faultMessageBytes"]())}`;
  }
  apply(batches: Buffer | readonly Buffer[], nowMs = 1000): this {
    for (const batch of [batches].flat()) {
      expect(this.fault(batch)).toBe("");
      this.h["kvApply"](0, this.put(batch), nowMs);
    }
    return this;
  }
  /** "exact", "wanted", "degraded", or "copying", and the entries. */
  state(slot: number, nowMs = 1000): [string, number] {
    const { h } = this;
    const flags: number = h["exactFlags"](slot);
    const name = h["isExact"](slot)
      ? "exact"
      : h["kvIsWanted"](slot, nowMs)
        ? "wanted"
        : flags & 8
          ? "degraded"
          : flags & 2
            ? "copying"
            : "unwanted";
    return [name, h["exactEntries"](slot)];
  }
}

const KEYS = cellKeys("some prompt of many cells. ".repeat(100));

describe("the check of a batch", () => {
  const good = (): Buffer =>
    new KvSource(7n).store(1, KEYS.slice(0, 3), 1).remove(2, KEYS.slice(0, 2)).exact(0).batch();
  const spoilt = (spoil: (batch: Buffer) => void): Buffer => {
    const batch = good();
    spoil(batch);
    return sealKv(batch);
  };
  const [FIRST, SECOND, THIRD] = [64, 64 + 16 + 24 + 16, 64 + 16 + 24 + 16 + 16 + 16];
  const section = (fields: Partial<KvSection>): Buffer =>
    encodeKvBatch(7n, 1, [
      { operation: wire.KV_EXACT, slot: 0, generation: 1, entries: 0, payload: Buffer.alloc(8), ...fields },
    ]);

  it("accepts what is right, counts its changes, and takes an empty batch", () => {
    const rows = new Rows();
    expect(rows.fault(good())).toBe("");
    expect(rows.h["kvChanges"]()).toBe(5);
    expect(rows.fault(encodeKvBatch(1n, 1, []))).toBe("");
    expect(rows.h["kvChanges"]()).toBe(0);
    const [largest] = new KvSource()
      .store(
        0,
        Array.from({ length: 6000 }, (_, i) => BigInt(i + 1)),
      )
      .batches();
    expect(largest!.length).toBeGreaterThan(wire.KV_BATCH_BYTES_MAX - 32);
    expect(rows.fault(largest!)).toBe("");
  });

  it.each<[string, () => Buffer, string]>([
    ["a few bytes", () => Buffer.from("EPK1"), "totalBytes: 4: expected at least the 64-byte header"],
    ["too many", () => Buffer.alloc(65_537), "totalBytes: 65537: expected at most 65536"],
    ["another magic", () => spoilt((b) => b.writeUInt32LE(1, 0)), 'magic: 1: expected 827019333, "EPK1"'],
    ["the next version", () => spoilt((b) => b.writeUInt16LE(2, 4)), "version: 2: expected 1"],
    ["another header", () => spoilt((b) => b.writeUInt16LE(128, 6)), "headerBytes: 128: expected 64"],
    ["other bytes", () => good().subarray(0, -8), "totalBytes: 176: expected the number of bytes received"],
    ["a bad checksum", () => Buffer.concat([good().subarray(0, -1), Buffer.from([9])]), "checksum: "],
    ["session 0", () => spoilt((b) => b.writeBigUInt64LE(0n, 16)), "session: 0: expected"],
    ["sequence 0", () => spoilt((b) => b.writeUInt32LE(0, 24)), "sequence: 0: expected 1"],
    ["more sections", () => spoilt((b) => b.writeUInt32LE(4, 28)), "sections: 4: expected no more"],
    ["fewer sections", () => spoilt((b) => b.writeUInt32LE(2, 28)), "totalBytes: 176: expected the end"],
    [
      "no operation",
      () => spoilt((b) => b.writeUInt8(0, FIRST)),
      "sections[0].operation: 0: expected 1 to 5",
    ],
    [
      "operation 6",
      () => spoilt((b) => b.writeUInt8(6, SECOND)),
      "sections[1].operation: 6: expected 1 to 5",
    ],
    ["tier 3", () => spoilt((b) => b.writeUInt8(3, FIRST + 1)), "sections[0].tier: 3: expected 0 to 2"],
    ["a tier to remove", () => spoilt((b) => b.writeUInt8(1, SECOND + 1)), "sections[1].tier: 1: expected"],
    [
      "slot 256",
      () => spoilt((b) => b.writeUInt16LE(256, THIRD + 2)),
      "sections[2].slot: 256: expected 0 to 255",
    ],
    [
      "generation 0",
      () => spoilt((b) => b.writeUInt16LE(0, FIRST + 4)),
      "sections[0].generation: 0: expected 1",
    ],
    [
      "reserved bytes",
      () => spoilt((b) => b.writeUInt16LE(5, FIRST + 6)),
      "sections[0].reserved: 5: expected 0",
    ],
    ["others", () => spoilt((b) => b.writeUInt32LE(6, FIRST + 12)), "sections[0].reserved: 6: expected 0"],
    [
      "entries beyond",
      () => spoilt((b) => b.writeUInt32LE(50, SECOND + 8)),
      "sections[1].entries: 50: expected no",
    ],
    [
      "absurd ones",
      () => spoilt((b) => b.writeUInt32LE(2 ** 32 - 1, FIRST + 8)),
      "sections[0].entries: 4294967295",
    ],
    ["key 0", () => spoilt((b) => b.writeBigUInt64LE(0n, FIRST + 24)), "sections[0].key: 0: expected not 0"],
    [
      "no tokens",
      () => spoilt((b) => b.writeUInt32LE(0, FIRST + 40)),
      "sections[0].tokens: 0: expected 1 to",
    ],
    [
      "2^30 tokens",
      () => spoilt((b) => b.writeUInt32LE(2 ** 30, FIRST + 40)),
      "sections[0].tokens: 1073741824",
    ],
    [
      "a million and one",
      () => section({ entries: 1_000_001 }),
      "sections[0].entries: 1000001: expected at most",
    ],
    [
      "entries of a degraded slot",
      () => section({ operation: wire.KV_DEGRADED, entries: 1, payload: Buffer.alloc(0) }),
      "sections[0].entries: 1: expected at most 1000000, and 0",
    ],
    ["no digest", () => section({ payload: Buffer.alloc(0) }), "sections[0].entries: 0: expected no more"],
  ])("refuses %s and names the field", (_, batch, fault) => {
    expect(new Rows().fault(batch())).toContain(fault);
  });

  it("reads no byte beyond those that it is given, whatever they are", () => {
    const { seed, next } = random();
    const { h } = new Rows();
    const memory = new Uint8Array(h["memory"].buffer);
    for (let round = 0; round < 2000; round++) {
      const batch = good();
      for (let i = 0; i < 3; i++)
        batch[28 + Math.floor(next() * (batch.length - 28))] = Math.floor(next() * 256);
      // A read beyond would leave the linear memory, and trap.
      const end = memory.length - batch.length;
      memory.set(sealKv(batch), end);
      expect(() => h["kvCheck"](end, batch.length), `seed ${seed}, round ${round}`).not.toThrow();
    }
  });
});

describe("a row", () => {
  it("is exact after a copy whose digest and count agree, and stays so while changes come", () => {
    const rows = new Rows();
    const source = new KvSource();
    expect(rows.state(0)).toEqual(["wanted", 0]);
    rows.apply(source.store(0, KEYS).batch());
    expect(rows.state(0), "changes of what it lacks pass by").toEqual(["wanted", 0]);
    rows.apply(source.copy(0).batch());
    expect(rows.state(0)).toEqual(["copying", KEYS.length]);
    rows.apply(source.exact(0).batch());
    expect(rows.state(0)).toEqual(["exact", KEYS.length]);
    rows.apply(source.remove(0, KEYS.slice(10)).store(0, KEYS.slice(0, 12), 1).batch());
    expect(rows.state(0)).toEqual(["exact", 12]);
    rows.apply(source.exact(0).batch());
    expect(rows.state(0)).toEqual(["exact", 12]);
    expect(rows.h["kvDrifts"]()).toBe(0n);
  });

  it("is exact at once where it holds nothing and that is all", () => {
    expect(new Rows().apply(new KvSource().exact(2).batch()).state(2)).toEqual(["exact", 0]);
  });

  it("is wanted and empty when digest or count do not agree, and that is counted", () => {
    const rows = new Rows();
    const source = new KvSource();
    rows.apply(source.store(0, KEYS).copy(0).exact(0).store(1, KEYS).copy(1).exact(1).batches());
    expect(rows.state(0)[0]).toBe("exact");
    // Lost on the way: what the source holds and tells by digest alone.
    source.of(0).delete(KEYS[3]!);
    rows.apply(source.exact(0).exact(1).batch());
    expect([rows.state(0), rows.state(1)]).toEqual([
      ["wanted", 0],
      ["exact", KEYS.length],
    ]);
    expect(rows.h["kvDrifts"]()).toBe(1n);
    rows.apply(source.copy(0).exact(0).batch());
    expect(rows.state(0)).toEqual(["exact", KEYS.length - 1]);
  });

  it("passes over a copy of just what it has, and counts on meanwhile", () => {
    const rows = new Rows();
    const source = new KvSource();
    rows.apply(source.store(0, KEYS).copy(0).exact(0).batches());
    const dead = rows.h["deadExactEntries"]();
    rows.apply(source.copy(0).batch());
    expect(rows.state(0)).toEqual(["exact", KEYS.length]);
    rows.apply(source.exact(0).batch());
    expect(rows.state(0)).toEqual(["exact", KEYS.length]);
    expect(rows.h["deadExactEntries"]()).toBe(dead);
    rows.apply(source.store(0, KEYS.slice(0, 1), 2).exact(0).batch());
    expect(rows.state(0), "and follows again").toEqual(["exact", KEYS.length]);
  });

  it("keeps its entries up while degraded, is not wanted, and is exact again without a copy", () => {
    const rows = new Rows();
    const source = new KvSource();
    rows.apply(source.store(0, KEYS).copy(0).exact(0).degraded(0).batches());
    expect(rows.state(0)).toEqual(["degraded", KEYS.length]);
    rows.apply(source.remove(0, KEYS.slice(5)).exact(0).batch());
    expect(rows.state(0)).toEqual(["exact", 5]);
    rows.apply(source.degraded(1).batch());
    expect(rows.state(1)).toEqual(["degraded", 0]);
    rows.apply(source.store(1, KEYS).exact(1).batch());
    expect(rows.state(1), "of which it had nothing").toEqual(["wanted", 0]);
  });

  it("ends a copy that is degraded or begun again, and is not exact by half", () => {
    const rows = new Rows();
    const source = new KvSource();
    rows.apply(source.store(0, KEYS).copy(0).degraded(0).batches());
    expect(rows.state(0)).toEqual(["degraded", KEYS.length]);
    rows.apply(source.store(0, KEYS.slice(0, 9), 1).copy(0).copy(0).exact(0).batches());
    expect(rows.state(0)).toEqual(["exact", KEYS.length]);
  });

  it("forgets another generation's entries, and takes no changes of one that it does not show", () => {
    const rows = new Rows();
    const source = new KvSource();
    rows.apply(source.store(0, KEYS).copy(0).exact(0).batches());
    rows.generation(0, 2);
    expect(rows.state(0)).toEqual(["wanted", 0]);
    rows.apply(source.copy(0).exact(0).batch());
    expect(rows.state(0)).toEqual(["wanted", 0]);
    rows.generation(0, 0);
    expect(rows.state(0), "no endpoint").toEqual(["unwanted", 0]);
    const next = new KvSource(1n, () => 3).store(0, KEYS).copy(0).exact(0);
    rows.generation(0, 3);
    rows.apply(next.batches());
    expect(rows.state(0)).toEqual(["exact", KEYS.length]);
  });

  it("without room is dropped whole, and wanted again only after half a minute", () => {
    const rows = new Rows();
    for (let i = 0; i < 999_990; i++) rows.h["exactStore"](rows.h["avalanche"](BigInt(i + 1)), 3, 1, 0);
    const source = new KvSource();
    rows.apply(source.store(0, KEYS).copy(0).exact(0).batches(), 5_000);
    expect([rows.state(0, 5_000), rows.state(0, 34_999), rows.state(0, 35_000)]).toEqual([
      ["unwanted", 0],
      ["unwanted", 0],
      ["wanted", 0],
    ]);
    expect(rows.h["kvDropped"]()).toBe(1n);
    rows.h["exactClear"](3);
    rows.apply(source.copy(0).exact(0).batches(), 36_000);
    expect(rows.state(0)).toEqual(["exact", KEYS.length]);
  });

  it("agrees with its source after random changes in random batches; a lost batch is always seen", () => {
    const { seed, next } = random();
    const below = (limit: number) => Math.floor(next() * limit);
    const rows = new Rows();
    const source = new KvSource();
    for (let slot = 0; slot < SLOTS; slot++) source.copy(slot).exact(slot);
    rows.apply(source.batches());
    for (let round = 0; round < 300; round++) {
      const slot = below(SLOTS);
      const before = source.digest(slot);
      for (let i = below(6); i >= 0; i--) {
        const from = below(KEYS.length);
        const some = KEYS.slice(from, from + below(20));
        if (next() < 0.6) source.store(slot, some, below(3), () => 1 + below(1000));
        else source.remove(slot, some);
      }
      const batches = source.batches();
      const isLost = next() < 0.1;
      if (!isLost) rows.apply(batches);
      rows.apply(source.exact(slot).batch());
      const expected = isLost && source.digest(slot) !== before ? "wanted" : "exact";
      expect(rows.state(slot)[0], `seed ${seed}, round ${round}`).toBe(expected);
      if (expected === "wanted") rows.apply(source.copy(slot).exact(slot).batches());
      expect(rows.state(slot), `seed ${seed}, round ${round}`).toEqual(["exact", source.of(slot).size]);
    }
  });
});
