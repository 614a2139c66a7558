// The prefix chain and its index against models in plain JavaScript.
import { beforeAll, describe, expect, it } from "vitest";
import { compileHarness } from "./support/harness.ts";
import { random } from "./support/random.ts";
import {
  COLUMN_GENERATION,
  COLUMN_KV_CAPACITY_TOKENS,
  chainOf,
  freshState,
  type Harness,
  keysOf,
  utf8,
} from "./support/state.ts";

let compiled: WebAssembly.Module;
beforeAll(async () => {
  compiled = await compileHarness("state");
});
const fresh = () => freshState(compiled);

describe("prefix chain", () => {
  it("gives the same keys however the text is split", () => {
    const { seed, next } = random();
    const h = fresh();
    const text = Uint8Array.from({ length: 9000 }, () => next() * 256);
    const whole = keysOf(h, chainOf(h, text));
    for (let round = 0; round < 40; round++) {
      const chain = h.chainAt(1);
      h.chainReset(chain);
      for (let at = 0; at < text.length;) {
        const step = Math.min(text.length - at, 1 + Math.floor(next() * (round < 20 ? 90 : 3000)));
        h.chainText(chain, h.put(text.subarray(at, at + step)), step);
        at += step;
      }
      expect(keysOf(h, chain), `seed ${seed}`).toEqual(whole);
      h.chainRelease(chain);
    }
  });

  it("shares exactly the keys whose depth lies inside the common prefix", () => {
    const { seed, next } = random();
    const h = fresh();
    for (let round = 0; round < 30; round++) {
      const common = Math.floor(next() * 20000);
      const a = Uint8Array.from({ length: common + 500 }, () => next() * 256);
      const b = a.slice();
      b[common] = (b[common] as number) ^ 1;
      const left = keysOf(h, chainOf(h, a, 0));
      const right = keysOf(h, chainOf(h, b, 1));
      let shared = 0;
      while (left[shared] === right[shared] && shared < left.length) shared++;
      let expected = 0;
      while (expected < left.length && h.keyDepthBytes(expected) <= common) expected++;
      expect(shared, `seed ${seed}, common ${common}`).toBe(expected);
      for (let i = shared; i < left.length; i++) expect(left[i]).not.toBe(right[i]);
      h.chainRelease(h.chainAt(0));
      h.chainRelease(h.chainAt(1));
    }
  });

  it("keeps 288 keys for 512 KiB, the last at that depth, and counts what lies beyond", () => {
    const h = fresh();
    const text = new Uint8Array(600000);
    const chain = chainOf(h, text);
    expect(h.chainKeyCount(chain)).toBe(288);
    expect(h.keyDepthBytes(287)).toBe(524288);
    expect(h.chainTextBytes(chain)).toBe(600000);
    for (const [bytes, keys] of [
      [0, 0],
      [63, 0],
      [64, 1],
      [4096, 64],
      [4160, 64],
      [4224, 65],
    ] as const) {
      h.chainRelease(chain);
      expect(h.chainKeyCount(chainOf(h, text.subarray(0, bytes))), `${bytes} bytes`).toBe(keys);
    }
  });

  it("changes every key with the root, and later keys with a message boundary", () => {
    const h = fresh();
    const text = utf8("x".repeat(640));
    const chain = chainOf(h, text);
    const plain = keysOf(h, chain, 1n);
    expect(keysOf(h, chain, 2n).some((key) => plain.includes(key))).toBe(false);
    const other = h.chainAt(1);
    h.chainReset(other);
    h.chainText(other, h.put(text.subarray(0, 128)), 128);
    h.chainBoundary(other, 77n);
    h.chainText(other, h.put(text.subarray(128)), 512);
    expect(keysOf(h, other).slice(0, 2)).toEqual(plain.slice(0, 2));
    expect(keysOf(h, other)[2]).not.toBe(plain[2]);
    expect(h.chainTextBytes(other)).toBe(640);
  });

  it("gives the text that stands before the messages one key of its own, the shallowest", () => {
    const h = fresh();
    const chain = chainOf(h, utf8("x".repeat(200)));
    const plain = keysOf(h, chain, 1n);
    h.chainSetHead(chain, 63);
    expect(keysOf(h, chain, 1n)).toEqual(plain);
    expect(h.chainDepthBytes(chain, 0)).toBe(63 + 64);
    h.chainSetHead(chain, 5000);
    const headed = keysOf(h, chain, 1n);
    expect(headed.slice(1)).toEqual(plain);
    expect(headed[0]).not.toBe(keysOf(h, chain, 2n)[0]);
    expect([0, 1, 3].map((i) => h.chainDepthBytes(chain, i))).toEqual([5000, 5064, 5192]);
    h.chainRelease(chain);
    expect(h.chainKeyCount(chain)).toBe(0);
    expect(h.pagesInUse()).toBe(0);
  });

  it("cuts a chain when the key arena is full, counts it, and gives every page back", () => {
    const h = fresh();
    const text = new Uint8Array(524288);
    h.put(text);
    let made = 0;
    for (; made < 4096 && h.chainsCutTotal() === 0n; made++) chainOf(h, text, made);
    expect(h.chainsCutTotal()).toBe(1n);
    expect(h.chainKeyCount(h.chainAt(made - 1))).toBeLessThan(288);
    for (let i = 0; i < made; i++) {
      h.chainRelease(h.chainAt(i));
      h.chainRelease(h.chainAt(i));
    }
    expect(h.pagesInUse()).toBe(0);
    expect(h.chainKeyCount(chainOf(h, text, 0))).toBe(288);
  });
});

describe("prefix index", () => {
  function withRows(rows: number, capacity = 0): Harness {
    const h = fresh();
    for (let row = 0; row < rows; row++) {
      h.setRowU32(COLUMN_GENERATION, row, 1);
      h.setRowF64(COLUMN_KV_CAPACITY_TOKENS, row, capacity);
    }
    return h;
  }
  function insert(h: Harness, chain: number, row: number, keys = h.chainKeyCount(chain)): void {
    for (let i = 0; i < keys; i++) h.indexInsert(h.chainKey(chain, i, 1n), row);
  }

  it("finds each endpoint's own depth", () => {
    const h = withRows(8);
    const chain = chainOf(h, utf8("a".repeat(6400)));
    insert(h, chain, 0, 64);
    insert(h, chain, 1, 10);
    insert(h, chain, 2, 1);
    expect(h.indexLookup(chain, 1n, 0)).toBe(3);
    expect([0, 1, 2, 3].map((slot) => h.matchedKeys(slot))).toEqual([64, 10, 1, 0]);
    expect(h.matchedBytes(chain, 1)).toBe(640);
    expect(h.indexLookup(chain, 2n, 0)).toBe(0);
    expect(h.indexLookup(chain, 1n, 1)).toBe(0);
  });

  it("forgets an endpoint at once when its generation changes", () => {
    const h = withRows(2);
    const chain = chainOf(h, utf8("b".repeat(640)));
    insert(h, chain, 0);
    insert(h, chain, 1);
    h.setRowU32(COLUMN_GENERATION, 0, 2);
    h.indexLookup(chain, 1n, 0);
    expect([h.matchedKeys(0), h.matchedKeys(1)]).toEqual([0, 10]);
    insert(h, chain, 0, 4);
    h.indexLookup(chain, 1n, 0);
    expect([h.matchedKeys(0), h.matchedKeys(1)]).toEqual([4, 10]);
  });

  it("lets an entry live until its endpoint stored its KV capacity since the last touch", () => {
    const h = withRows(1, 16000);
    const chain = chainOf(h, utf8("c".repeat(640)));
    insert(h, chain, 0);
    h.indexStored(0, 15984);
    expect(h.indexLookup(chain, 1n, 0)).toBe(1);
    insert(h, chain, 0);
    h.indexStored(0, 15984);
    expect(h.indexLookup(chain, 1n, 0)).toBe(1);
    h.indexStored(0, 16);
    expect(h.indexLookup(chain, 1n, 0)).toBe(0);
  });

  it("agrees with a map under random inserts, removals and restarts", () => {
    const { seed, next } = random();
    const h = withRows(16);
    const model = new Map<string, number>();
    const generations = Array.from({ length: 16 }, () => 1);
    const chains = Array.from({ length: 40 }, (_, i) => chainOf(h, utf8(`${i}|`.repeat(400)), i));
    for (let step = 0; step < 6000; step++) {
      const c = Math.floor(next() * chains.length);
      const chain = chains[c] as number;
      const row = Math.floor(next() * 16);
      const count = h.chainKeyCount(chain) as number;
      const choice = next();
      if (choice < 0.6) {
        const keys = 1 + Math.floor(next() * count);
        insert(h, chain, row, keys);
        for (let i = 0; i < keys; i++) model.set(`${c}/${i}/${row}`, generations[row] as number);
      } else if (choice < 0.9) {
        const from = Math.floor(next() * count);
        for (let i = from; i < count; i++) {
          h.indexRemove(h.chainKey(chain, i, 1n), row);
          model.delete(`${c}/${i}/${row}`);
        }
      } else if (choice < 0.92) {
        generations[row] = (generations[row] as number) + 1;
        h.setRowU32(COLUMN_GENERATION, row, generations[row]);
      } else {
        h.indexLookup(chain, 1n, 0);
        for (let r = 0; r < 16; r++) {
          let depth = 0;
          while (depth < count && model.get(`${c}/${depth}/${r}`) === generations[r]) depth++;
          expect(h.matchedKeys(r), `seed ${seed}, step ${step}, row ${r}`).toBe(depth);
        }
      }
    }
  });

  it("never holds more than its million entries: the untouched go first", () => {
    const h = withRows(1, 4e9);
    const hot = chainOf(h, utf8("hot".repeat(300)), 0);
    insert(h, hot, 0);
    for (let i = 0; i < 1_100_000; i++) {
      h.indexInsert(h.avalanche(BigInt(i + 1)), 0);
      if (i % 1000 === 0) insert(h, hot, 0);
    }
    expect(h.indexEntries()).toBe(1048576);
    expect(h.indexEvictions()).toBeGreaterThan(0n);
    h.indexLookup(hot, 1n, 0);
    expect(h.matchedKeys(0)).toBe(h.chainKeyCount(hot));
    expect(h.memory.buffer.byteLength).toBeLessThanOrEqual(64 * 1024 * 1024);
  });
});
