// The exact entries against models in plain JavaScript: what is held, how deep, in which tier, and what has room.
import { beforeAll, describe, expect, it } from "vitest";
import { compileHarness, instantiateHarness } from "./support/harness.ts";
import { random } from "./support/random.ts";

let compiled: WebAssembly.Module;
beforeAll(async () => {
  compiled = await compileHarness("kv");
});

// biome-ignore lint/suspicious/noExplicitAny: every export of the harness by its name
type Exports = Record<string, any>;

const COLUMN_KV_CAPACITY_TOKENS = 5;
const COLUMN_INFLIGHT_TOKENS = 9;
const COLUMN_GENERATION = 2;
const FOLLOWS_AND_AGREES = 5;
const DEGRADED = 8;
const [GPU, CPU, DISK] = [0, 1, 2];
const CELL = 64;
/** Of the first pool's 256 rows; a key's entries are told apart by row, so this is enough of them. */
const ROWS = 16;
const CELLS = 120;
const ENTRIES_MAX = 1_000_000;
const TABLE_MAX = 1_048_576;

/** One instance of the module with `ROWS` exact rows, and texts as cells. */
class Index {
  readonly h = instantiateHarness<Exports>(compiled);
  constructor(rows = ROWS) {
    for (let row = 0; row < rows; row++) this.exact(row);
  }
  exact(row: number, generation = 1): void {
    this.h["setRowU32"](COLUMN_GENERATION, row, generation);
    this.h["setRowF64"](COLUMN_KV_CAPACITY_TOKENS, row, 4e9);
    this.h["setExactGeneration"](row, generation);
    this.h["setExactFlags"](row, FOLLOWS_AND_AGREES);
  }
  put(text: string): [ptr: number, bytes: number] {
    const bytes = Buffer.from(text);
    const ptr = this.h["scratchPtr"]();
    new Uint8Array(this.h["memory"].buffer, ptr, bytes.length).set(bytes);
    return [ptr, bytes.length];
  }
  /** The i-th record, holding `text`. */
  cells(text: string, i = 0): number {
    const record = this.h["cellsAt"](i);
    this.h["cellsRelease"](record);
    this.h["cellsText"](record, ...this.put(text));
    return record;
  }
  keys(record: number, root = 1n): bigint[] {
    const count = this.h["cellsOpen"](record);
    return Array.from({ length: count }, (_, i) => BigInt.asUintN(64, this.h["cellKey"](i, root)));
  }
  /** Weighted tokens and bytes of the first `slots` slots. */
  lookup(record: number, slots: number, root = 1n, pool = 0): [number, number][] {
    this.h["exactLookup"](record, root, pool);
    return Array.from({ length: slots }, (_, slot) => [
      this.h["exactTokens"](slot),
      this.h["exactBytes"](slot),
    ]);
  }
}

const text = (name: string, cells: number) => `${name}|`.repeat(cells * CELL).slice(0, cells * CELL);
const tokensAt = (cell: number) => (cell + 1) * 16;

describe("exact entries", () => {
  it("tell each engine's depth, and nothing of other pools, roots and texts", () => {
    const index = new Index(4);
    const record = index.cells(text("a", 100));
    const keys = index.keys(record);
    for (const [row, held] of [
      [0, 100],
      [1, 10],
      [2, 1],
    ] as const)
      for (const [i, key] of keys.slice(0, held).entries()) index.h["exactStore"](key, row, tokensAt(i), GPU);
    expect(index.lookup(record, 4)).toEqual([
      [1600, 6400],
      [160, 640],
      [16, 64],
      [0, 0],
    ]);
    expect(index.lookup(record, 2, 2n)).toEqual([
      [0, 0],
      [0, 0],
    ]);
    expect(index.lookup(record, 2, 1n, 1)).toEqual([
      [0, 0],
      [0, 0],
    ]);
    expect(index.lookup(index.cells(text("b", 100), 1), 1)).toEqual([[0, 0]]);
    index.h["cellsBreak"](record);
    expect(index.lookup(record, 1), "a text that is not known to be the engine's").toEqual([[0, 0]]);
  });

  it("weigh tiers: the GPU's cells wholly, those behind them by where they are", () => {
    const index = new Index(4);
    const record = index.cells(text("tiers", 60));
    const tiers = [(i: number) => (i < 20 ? GPU : i < 40 ? CPU : DISK), () => CPU, () => DISK, () => GPU];
    for (const [i, key] of index.keys(record).entries())
      for (const [row, tier] of tiers.entries()) index.h["exactStore"](key, row, tokensAt(i), tier(i));
    const expected = [320 + 0.8 * 320 + 0.3 * 320, 0.8 * 960, 0.3 * 960, 960];
    index.lookup(record, 4).forEach(([tokens, bytes], slot) => {
      expect(tokens).toBeCloseTo(expected[slot] as number, 9);
      expect(bytes).toBe(60 * CELL);
    });
  });

  it("count only while the row is exact and its engine the same", () => {
    const index = new Index(1);
    const record = index.cells(text("state", 5));
    for (const key of index.keys(record)) index.h["exactStore"](key, 0, 7, GPU);
    const tokens = () => index.lookup(record, 1)[0]?.[0];
    expect(tokens()).toBe(7);
    index.h["setExactFlags"](0, FOLLOWS_AND_AGREES | DEGRADED);
    expect(tokens()).toBe(0);
    index.h["setExactFlags"](0, FOLLOWS_AND_AGREES);
    index.h["setRowU32"](COLUMN_GENERATION, 0, 2);
    expect(tokens()).toBe(0);
    index.h["setExactGeneration"](0, 2);
    expect(tokens()).toBe(7);
    index.h["exactClear"](0);
    expect([tokens(), index.h["exactEntries"](0), index.h["exactDigest"](0)]).toEqual([0, 0, 0n]);
  });

  it("agree with a map, digests too, under random stores, removals, clears and sweeps", () => {
    const { seed, next } = random();
    const below = (limit: number) => Math.floor(next() * limit);
    const index = new Index();
    const { h } = index;
    const texts = Array.from({ length: 12 }, (_, i) => index.cells(text(`${i}`, CELLS), i));
    const keys = texts.map((record) => index.keys(record));
    const model = Array.from({ length: ROWS }, () => new Map<bigint, { tokens: number; tier: number }>());
    for (let step = 0; step < 4000; step++) {
      const row = below(ROWS);
      const held = model[row] as Map<bigint, { tokens: number; tier: number }>;
      const chain = keys[below(keys.length)] as bigint[];
      const choice = next();
      const at = `seed ${seed}, step ${step}`;
      if (choice < 0.5) {
        const tier = below(3);
        chain.slice(0, 1 + below(CELLS)).forEach((key, i) => {
          const tokens = tokensAt(i) + below(3);
          expect(h["exactStore"](key, row, tokens, tier), at).toBe(1);
          held.set(key, { tokens, tier });
        });
      } else if (choice < 0.8) {
        for (const key of chain.slice(below(CELLS)).reverse()) {
          h["exactRemove"](key, row);
          held.delete(key);
        }
      } else if (choice < 0.82) {
        h["exactClear"](row);
        held.clear();
      } else if (choice < 0.9) {
        h["sweepExact"](below(3000));
      } else {
        const which = below(texts.length);
        const looked = index.lookup(texts[which] as number, ROWS);
        model.forEach((entries, slot) => {
          const cells = keys[which] as bigint[];
          const depth = cells.findIndex((key) => !entries.has(key));
          expect(looked[slot]?.[1], `${at}, slot ${slot}`).toBe((depth < 0 ? CELLS : depth) * CELL);
        });
        let digest = 0n;
        for (const [key, { tokens, tier }] of held) {
          digest ^= BigInt.asUintN(64, h["mixPair"](key, BigInt(tier) * (1n << 30n) + BigInt(tokens)));
        }
        expect([h["exactEntries"](row), BigInt.asUintN(64, h["exactDigest"](row))], at).toEqual([
          held.size,
          digest,
        ]);
      }
    }
    h["sweepAllExact"]();
    expect(h["deadExactEntries"](), `seed ${seed}`).toBe(0);
    expect(h["exactEntriesTotal"](), `seed ${seed}`).toBe(model.reduce((sum, { size }) => sum + size, 0));
  });

  it("are a million and no more, are never pushed out by approximate ones, and leave these the rest", () => {
    const index = new Index(4);
    const { h } = index;
    const record = index.cells(text("kept", 50));
    for (const key of index.keys(record)) h["exactStore"](key, 0, 99, GPU);
    for (let i = 50; i < ENTRIES_MAX; i++) h["exactStore"](h["avalanche"](BigInt(i)), i & 3, 5, GPU);
    expect(h["exactEntriesTotal"]()).toBe(ENTRIES_MAX);
    expect(h["exactStore"](12345n, 1, 5, GPU), "no room").toBe(0);
    expect(h["exactStore"](h["avalanche"](60n), 0, 6, GPU), "one that is there changes").toBe(1);
    for (let i = 0; i < 200_000; i++) h["indexInsert"](h["avalanche"](BigInt(-i - 1)), 5);
    expect(h["indexEntries"]()).toBe(TABLE_MAX - ENTRIES_MAX);
    expect(h["indexEvictions"]()).toBe(BigInt(200_000 - (TABLE_MAX - ENTRIES_MAX)));
    expect(index.lookup(record, 1)).toEqual([[99, 50 * CELL]]);
    h["exactRemove"](h["avalanche"](61n), 1);
    expect(h["exactStore"](12345n, 1, 5, GPU), "a removed one made room").toBe(1);
  });

  it("take the room of approximate ones, and of those that died before they were swept", () => {
    const index = new Index(4);
    const { h } = index;
    for (let i = 0; i < TABLE_MAX; i++) h["indexInsert"](h["avalanche"](BigInt(-i - 1)), 5);
    for (let round = 0; round < 3; round++) {
      h["exactClear"](0);
      for (let i = 0; i < 600_000; i++)
        h["exactStore"](h["avalanche"](BigInt(round * 600_000 + i)), 0, 5, GPU);
      expect(h["exactEntries"](0)).toBe(600_000);
    }
    expect(h["indexEntries"]() + h["exactEntriesTotal"]() + h["deadExactEntries"]()).toBeLessThanOrEqual(
      TABLE_MAX,
    );
    for (let i = 0; i < 400_000; i++) h["exactStore"](h["avalanche"](BigInt(9_000_000 + i)), 1, 5, GPU);
    expect(h["exactEntriesTotal"]()).toBe(ENTRIES_MAX);
    expect(h["memory"].buffer.byteLength).toBeLessThanOrEqual(64 * 1024 * 1024);
  });

  it("stay dead when the epochs of their row have gone round", () => {
    const index = new Index(1);
    const { h } = index;
    const record = index.cells(text("old", 3));
    for (const key of index.keys(record)) h["exactStore"](key, 0, 9, GPU);
    const fresh = h["avalanche"](77n);
    for (let i = 0; i < 65_536; i++) {
      h["exactClear"](0);
      h["exactStore"](fresh, 0, 1, GPU);
    }
    expect(index.lookup(record, 1)).toEqual([[0, 0]]);
    expect([h["exactEntries"](0), h["deadExactEntries"]()]).toEqual([1, 0]);
  });
});

describe("approximate entries at an exact row", () => {
  it("count only from what the engine holds on, and only while they are being computed", () => {
    const index = new Index(1);
    const { h } = index;
    const chain = h["chainAt"](0);
    h["chainReset"](chain);
    h["chainText"](chain, ...index.put(text("burst", 60)));
    const note = (from: number, tokens: number) => {
      for (let i = from; i < 60; i++) h["indexInsert"](h["chainKey"](chain, i, 1n), 0);
      h["indexStored"](0, tokens);
    };
    const inFlight = (from: number, tokens: number) => {
      h["setRowF64"](COLUMN_INFLIGHT_TOKENS, 0, tokens);
      return h["inFlightKeys"](chain, 1n, 0, from);
    };
    expect(inFlight(0, 5000), "nothing was noted").toBe(0);
    note(20, 640);
    expect(inFlight(20, 640), "it is being computed").toBe(60);
    expect(inFlight(40, 640), "some of it is cached by now").toBe(60);
    expect(inFlight(0, 640), "what is before it is not cached and not on its way").toBe(0);
    expect(inFlight(20, 0), "its first token came").toBe(20);
    h["indexStored"](0, 4000);
    expect(inFlight(20, 4640), "another prompt behind it").toBe(60);
    expect(inFlight(20, 4000), "the other one alone is in flight").toBe(20);
    expect(inFlight(60, 4640)).toBe(60);
    h["setRowU32"](COLUMN_GENERATION, 0, 2);
    expect(inFlight(20, 4640), "another engine").toBe(20);
  });
});
