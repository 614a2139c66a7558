// The sidecar's hashes of cells, names and roots against the filter's own, compiled from its sources.
import { beforeAll, describe, expect, it } from "vitest";
import * as hash from "../../sidecar/kv-index/hash64.ts";
import { startHarness } from "../unit/support/harness.ts";
import { between, withSeeds } from "./seeds.ts";

/** test/unit/harness/kv-hash.ts. */
interface Filter {
  readonly memory: WebAssembly.Memory;
  scratchPtr(): number;
  nameHash(bytes: number): bigint;
  mixPair(left: bigint, right: bigint): bigint;
  begin(bytes: number): void;
  keyAt(index: number, root: bigint): bigint;
}

let filter: Filter;
beforeAll(async () => {
  filter = await startHarness<Filter>("kv-hash");
}, 120_000);

const wide = (high: number, low: number): bigint =>
  BigInt.asUintN(64, (BigInt(high) << 32n) | BigInt(low >>> 0));
const last = (): bigint => wide(hash.high, hash.low);
const word = (random: () => number): number => Math.floor(random() * 2 ** 32) | 0;

/** Lays bytes down in the filter's memory. @returns how many */
function lay(bytes: Uint8Array): number {
  new Uint8Array(filter.memory.buffer).set(bytes, filter.scratchPtr());
  return bytes.length;
}

const nameHash = (name: string): bigint => BigInt.asUintN(64, filter.nameHash(lay(Buffer.from(name))));

describe("64-bit hashes in halves", () => {
  it("mix pairs as the filter does", () => {
    withSeeds(200, (random) => {
      const [a, b, c, d] = Array.from({ length: 4 }, () => (random() < 0.2 ? 0 : word(random))) as [
        number,
        number,
        number,
        number,
      ];
      hash.mixPair(a, b, c, d);
      expect(last()).toBe(BigInt.asUintN(64, filter.mixPair(wide(a, b), wide(c, d))));
    });
  });

  it("hash names of every length as the filter does", () => {
    for (const name of [
      "",
      "é",
      "日本語😀",
      ...Array.from({ length: 70 }, (_, i) => "adapter-name ".repeat(6).slice(0, i)),
    ]) {
      const { high, low } = hash.hashName(name);
      expect(wide(high, low), name).toBe(nameHash(name));
    }
  });

  it("hash chains of cells to the filter's keys, under every root", () => {
    withSeeds(20, (random) => {
      const cells = between(random, 1, 64);
      const bytes = Uint8Array.from({ length: cells * 64 }, () => between(random, 0, 255));
      const root = { high: word(random), low: word(random) };
      filter.begin(lay(bytes));
      const view = new DataView(bytes.buffer);
      const words = new Int32Array(hash.CELL_WORDS);
      let [high, low] = [hash.CHAIN_START_HIGH, hash.CHAIN_START_LOW];
      for (let cell = 0; cell < cells; cell++) {
        for (let i = 0; i < words.length; i++) words[i] = view.getInt32(cell * 64 + i * 4, true);
        hash.hashCell(high, low, words);
        ({ high, low } = hash);
        hash.cellKey(high, low, root);
        const key = filter.keyAt(cell, wide(root.high, root.low));
        expect(last(), `cell ${cell} of ${cells}`).toBe(BigInt.asUintN(64, key));
      }
    });
  });

  it("make roots of adapter and salt: what is not there is 0, not the hash of an empty name", () => {
    const rootOf = (adapter: string | null, salt: string | null): bigint => {
      const { high, low } = hash.hashRoot(adapter, salt);
      return wide(high, low);
    };
    const expected = (left: bigint, right: bigint): bigint => BigInt.asUintN(64, filter.mixPair(left, right));
    expect(rootOf(null, null)).toBe(expected(0n, 0n));
    expect(rootOf("sql", null)).toBe(expected(nameHash("sql"), 0n));
    expect(rootOf(null, "tenant")).toBe(expected(0n, nameHash("tenant")));
    expect(rootOf("sql", "tenant")).toBe(expected(nameHash("sql"), nameHash("tenant")));
    expect(rootOf("", null)).toBe(expected(nameHash(""), 0n));
  });
});
