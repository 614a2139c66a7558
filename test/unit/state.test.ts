// The filter's state modules against models in plain JavaScript: chain, index, journal, cells, health, snapshots.
import { beforeAll, describe, expect, it } from "vitest";
import { encodeSnapshot, seal } from "../envoy/snapshot.ts";
import { compileHarness, instantiateHarness } from "./support/harness.ts";
import { random } from "./support/random.ts";

let compiled: WebAssembly.Module;
beforeAll(async () => {
  compiled = await compileHarness("state");
});

const COLUMN_KV_CAPACITY_TOKENS = 5;
const COLUMN_INFLIGHT_REQUESTS = 8;
const COLUMN_INFLIGHT_TOKENS = 9;
const COLUMN_CONTEXT_TOKENS = 23;
const COLUMN_FLAGS = 0;
const COLUMN_GENERATION = 2;

// biome-ignore lint/suspicious/noExplicitAny: every export of the harness by its name
type Exports = Record<string, any>;

/** One instance of the module, with helpers for its memory. */
class Helper {
  constructor(private readonly exports: Exports) {}
  bytes(ptr: number, length: number): Uint8Array {
    return new Uint8Array(this.exports["memory"].buffer, ptr, length);
  }
  put(bytes: Uint8Array, at = 0): number {
    const ptr = this.exports["scratchPtr"]() + at;
    this.bytes(ptr, bytes.length).set(bytes);
    return ptr;
  }
  text(ptr: number, length: number): string {
    return Buffer.from(this.bytes(ptr, length)).toString("utf8");
  }
}
type Harness = Exports & Pick<Helper, "bytes" | "put" | "text">;

function fresh(): Harness {
  const exports = instantiateHarness<Exports>(compiled);
  const helper = new Helper(exports);
  const methods = {
    bytes: helper.bytes.bind(helper),
    put: helper.put.bind(helper),
    text: helper.text.bind(helper),
  };
  return { ...exports, ...methods } as Harness;
}

const sealed = (bytes: Uint8Array) => seal(Buffer.from(bytes));
const utf8 = (text: string) => new TextEncoder().encode(text);

function keysOf(h: Harness, chain: number, root = 1n): bigint[] {
  const keys: bigint[] = [];
  for (let i = 0; i < h.chainKeyCount(chain); i++) keys.push(BigInt.asUintN(64, h.chainKey(chain, i, root)));
  return keys;
}

function chainOf(h: Harness, text: Uint8Array, i = 0): number {
  const chain = h.chainAt(i);
  h.chainReset(chain);
  h.chainText(chain, h.put(text), text.length);
  return chain;
}

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

describe("journal and cells", () => {
  const name = utf8("pool-a");
  function worker(): Harness {
    const h = fresh();
    h.poolAdd(h.put(name), name.length);
    for (let row = 0; row < 4; row++) h.setRowU32(COLUMN_GENERATION, row, 1);
    return h;
  }

  it("replays stored and removed keys, and the new tokens, on another worker", () => {
    const a = worker();
    const b = worker();
    const text = utf8("shared system prompt ".repeat(100));
    const chain = chainOf(a, text);
    const count = a.chainKeyCount(chain);
    a.journalReset();
    a.journalWrite(1, 0, 2, 500, chain, 1n, 0, count);
    a.journalWrite(2, 0, 2, 0, chain, 1n, 20, count);
    const bytes = a.bytes(a.journalSegment(), a.journalSegmentBytes()).slice();
    const ptr = b.put(bytes, 65536);
    expect(b.segmentCheck(ptr, bytes.length, 0n)).toBe(1);
    expect(b.segmentCheck(ptr, bytes.length, 4080n)).toBe(0);
    expect(b.segmentReplay(ptr, bytes.length, 0, 5)).toBe(bytes.length - 16);
    b.indexLookup(chainOf(b, text), 1n, 0);
    expect([b.matchedKeys(2), b.matchedKeys(1)]).toEqual([20, 0]);
  });

  it("replays keys before their tokens, so that what another worker's prompt noted is in flight as long as it is", () => {
    const a = worker();
    const b = worker();
    const chain = chainOf(a, utf8("a prompt that another worker sent ".repeat(40)));
    const count = a.chainKeyCount(chain);
    a.journalReset();
    a.journalWrite(1, 0, 2, 320, chain, 1n, 0, count);
    const bytes = a.bytes(a.journalSegment(), a.journalSegmentBytes()).slice();
    b.segmentReplay(b.put(bytes, 65536), bytes.length, 0, 5);
    const same = chainOf(b, utf8("a prompt that another worker sent ".repeat(40)));
    const inFlight = (tokens: number): number => {
      b.setRowF64(COLUMN_INFLIGHT_TOKENS, 2, tokens);
      return b.inFlightKeys(same, 1n, 2, 0);
    };
    expect(inFlight(320)).toBe(count);
    // Its tokens are computed: what is in flight now is another prompt's.
    b.indexStored(2, 200);
    expect(inFlight(200)).toBe(0);
  });

  it("ignores records of another pool or generation, and stops at a record that is cut", () => {
    const a = worker();
    const b = worker();
    const chain = chainOf(a, utf8("z".repeat(640)));
    a.journalReset();
    a.journalWrite(1, 0, 1, 0, chain, 1n, 0, 10);
    const bytes = a.bytes(a.journalSegment(), a.journalSegmentBytes()).slice();
    b.setRowU32(COLUMN_GENERATION, 1, 9);
    b.segmentReplay(b.put(bytes, 65536), bytes.length, 0, 0);
    expect(b.indexEntries()).toBe(0);
    const c = worker();
    const short = bytes.slice(0, 60);
    expect(c.segmentReplay(c.put(short, 65536), short.length, 0, 0)).toBe(44);
    expect(c.indexEntries()).toBe(0);
  });

  it("sums the others' work by pool name and slot, and drops it at the next reading", () => {
    const a = worker();
    const b = worker();
    a.reserve(1, 700, 900, 1000);
    a.reserve(1, 300, 300, 1000);
    a.reserve(3, 5, 5, 1000);
    a.releaseTokens(1, 300);
    a.cellBuild(7n, 1000, 0n);
    const bytes = a.bytes(a.cellPtr(), a.cellBytes()).slice();
    const ptr = b.put(bytes, 65536);
    expect(b.cellCheck(ptr, bytes.length)).toBe(1);
    b.reserve(1, 11, 100, 1000);
    b.cellsBegin();
    b.cellAdd(ptr);
    expect(b.rowF64(COLUMN_INFLIGHT_REQUESTS, 1)).toBe(3);
    expect(b.rowF64(COLUMN_INFLIGHT_TOKENS, 1)).toBe(711);
    expect(b.rowF64(COLUMN_CONTEXT_TOKENS, 1)).toBe(1300);
    a.releaseRequest(1, 300);
    expect(a.rowF64(COLUMN_CONTEXT_TOKENS, 1)).toBe(900);
    b.cellsBegin();
    b.cellAdd(ptr);
    expect(b.rowF64(COLUMN_INFLIGHT_REQUESTS, 1)).toBe(3);
    b.cellsBegin();
    expect(b.rowF64(COLUMN_INFLIGHT_REQUESTS, 1)).toBe(1);
    expect(b.rowF64(COLUMN_INFLIGHT_TOKENS, 3)).toBe(0);
    expect(b.rowF64(COLUMN_CONTEXT_TOKENS, 1)).toBe(100);
  });

  it("refuses a cell whose parts do not add up", () => {
    const a = worker();
    a.reserve(0, 1, 1, 1000);
    a.cellBuild(7n, 1000, 0n);
    const bytes = a.bytes(a.cellPtr(), a.cellBytes()).slice();
    const put = (values: number[], at: number) => (copy: Uint8Array) => {
      copy.set(values, at);
      return copy;
    };
    const refuse = (change: (copy: Uint8Array) => Uint8Array) => {
      const changed = change(bytes.slice());
      return a.cellCheck(a.put(changed, 65536), changed.length);
    };
    expect(refuse((copy) => copy)).toBe(1);
    expect(refuse((copy) => copy.slice(0, -1))).toBe(0);
    expect(refuse((copy) => copy.slice(0, 632))).toBe(0);
    expect(refuse(put([9], 0))).toBe(0);
    expect(refuse(put([200], 6))).toBe(0);
    expect(refuse(put([255, 255, 255, 255], 648))).toBe(0);
  });

  it("carries hosts that were set aside to the other workers", () => {
    const a = worker();
    const b = worker();
    a.noteFailure(2, 1000, 1000, 60000);
    a.markBusy(2);
    a.cellBuild(7n, 1000, 0n);
    const bytes = a.bytes(a.cellPtr(), a.cellBytes()).slice();
    b.cellsBegin();
    b.cellAdd(b.put(bytes, 65536));
    expect(b.isSetAside(2, 1999)).toBe(1);
    expect(b.isSetAside(2, 2000)).toBe(0);
    expect(b.failuresInARow(2)).toBe(1);
    a.cellBuild(7n, 2500, 0n);
    expect(a.busyRowCount()).toBe(0);
  });
});

describe("host health", () => {
  it("doubles the back-off at each failure up to the maximum, and a success forgets it", () => {
    const h = fresh();
    h.setRowU32(COLUMN_GENERATION, 0, 1);
    let now = 0;
    for (const expected of [1000, 2000, 4000, 5000, 5000]) {
      h.noteFailure(0, now, 1000, 5000);
      expect(h.ownAsideUntilMs(0) - now).toBe(expected);
      h.noteFailure(0, now + 1, 1000, 5000);
      expect(h.ownAsideUntilMs(0) - now).toBe(expected);
      now += expected;
      expect(h.isSetAside(0, now)).toBe(0);
    }
    h.noteSuccess(0);
    h.noteFailure(0, now, 1000, 5000);
    expect(h.ownAsideUntilMs(0) - now).toBe(1000);
    h.setRowU32(COLUMN_GENERATION, 0, 2);
    expect(h.isSetAside(0, now)).toBe(0);
  });

  it("sets a host aside at the fifth 5xx in a row and not when they are far apart", () => {
    const h = fresh();
    h.setRowU32(COLUMN_GENERATION, 0, 1);
    for (let i = 0; i < 4; i++) expect(h.noteServerError(0, i, 1000, 60000)).toBe(0);
    h.noteSuccess(0);
    for (let i = 0; i < 4; i++) expect(h.noteServerError(0, i, 1000, 60000)).toBe(0);
    expect(h.noteServerError(0, 5, 1000, 60000)).toBe(1);
    expect(h.isSetAside(0, 900)).toBe(1);
    for (let i = 1; i < 9; i++) expect(h.noteServerError(0, 20000 * i, 1000, 60000)).toBe(0);
  });
});

describe("pool snapshots", () => {
  function take(h: Harness, bytes: Uint8Array): void {
    const ptr = h.put(bytes, 65536);
    expect(h.snapshotCheck(ptr, bytes.length), h.text(h.faultMessage(), h.faultMessageBytes())).toBe(1);
    h.poolTake(0, ptr, bytes.length, 1n, 0);
  }
  function errorOf(h: Harness, bytes: Uint8Array): string {
    expect(h.snapshotCheck(h.put(bytes, 65536), bytes.length)).toBe(0);
    const field = h.text(h.faultField(), h.faultFieldBytes());
    return `${field}: ${h.text(h.faultMessage(), h.faultMessageBytes())}`;
  }

  it("fills the rows by slot and empties those that are gone", () => {
    const h = fresh();
    h.poolAdd(h.put(utf8("p")), 1);
    take(
      h,
      encodeSnapshot([
        { slot: 0, address: "10.0.0.1:80" },
        { slot: 7, address: "[::1]:8000" },
      ]),
    );
    expect(h.readyEndpoints(0)).toBe(2);
    expect(h.text(h.rowAddressPtr(7), h.rowAddressLen(7))).toBe("[::1]:8000");
    take(h, encodeSnapshot([{ slot: 7, generation: 3, address: "[::1]:8000" }]));
    expect([h.rowU32(COLUMN_GENERATION, 0), h.rowU32(COLUMN_FLAGS, 0)]).toEqual([0, 0]);
    expect(h.rowU32(COLUMN_GENERATION, 7)).toBe(3);
    expect(h.readyEndpoints(0)).toBe(1);
  });

  it("knows whether the pool serves one model", () => {
    const h = fresh();
    h.poolAdd(h.put(utf8("p")), 1);
    const pool = (...models: string[][]) =>
      encodeSnapshot(models.map((list, slot) => ({ slot, address: `10.0.0.${slot + 1}:80`, models: list })));
    for (const [models, one] of [
      [[["m"], ["m"]], 1],
      [[[], []], 1],
      [[["m"], ["n"]], 0],
      [
        [
          ["m", "lora"],
          ["m", "lora"],
        ],
        0,
      ],
    ] as const) {
      take(h, pool(...models.map((list) => [...list])));
      expect(h.hasOneModel(0), JSON.stringify(models)).toBe(one);
    }
  });

  it("names the field, the value and what was expected", () => {
    const h = fresh();
    const good = Uint8Array.from(
      encodeSnapshot([
        { slot: 0, address: "10.0.0.1:80" },
        { slot: 1, address: "10.0.0.2:80" },
      ]),
    );
    const patched = (at: number, bytes: number[]) => {
      const copy = good.slice();
      copy.set(bytes, at);
      return sealed(copy);
    };
    expect(errorOf(h, good.slice(0, 40))).toBe("totalBytes: 40: expected at least the 64-byte header");
    expect(errorOf(h, good.slice(0, -1))).toContain("totalBytes");
    const flipped = good.slice();
    flipped[100] = (flipped[100] as number) ^ 1;
    expect(errorOf(h, flipped)).toContain("checksum");
    expect(errorOf(h, patched(4, [2]))).toBe("version: 2: expected 1, the version this filter reads");
    expect(errorOf(h, patched(64 + 128, [0]))).toBe("endpoints[1].slot: 0: expected ascending, below 256");
    expect(errorOf(h, patched(64 + 2, [0, 0]))).toBe("endpoints[0].generation: 0: expected 1 to 65535");
    expect(errorOf(h, patched(64 + 36, [0, 0, 0, 64]))).toBe("endpoints[0].kvUsage: 2: expected 0 to 1");
    expect(errorOf(h, patched(64 + 36, [0, 0, 192, 127]))).toBe(
      "endpoints[0].kvUsage: null: expected 0 to 1",
    );
    expect(errorOf(h, patched(64 + 12, [255, 255, 255, 0]))).toContain("endpoints[0].address");
    expect(errorOf(h, patched(64 + 72, [65, 0]))).toContain("endpoints[0].models: 65");
    for (const address of [
      "host:80",
      "1.2.3.4",
      "1.2.3.4:0",
      "1.2.3.4:99999",
      ":80",
      "[::1:80",
      "1.2.3.4:80,5.6.7.8:80",
    ]) {
      expect(errorOf(h, encodeSnapshot([{ slot: 0, address }]))).toBe(
        `endpoints[0].address: "${address}": expected ip:port`,
      );
    }
  });

  it("survives any damaged byte without reading outside", () => {
    const { seed, next } = random();
    const h = fresh();
    const good = Uint8Array.from(
      encodeSnapshot([
        { slot: 0, address: "10.0.0.1:80", models: ["a", "b"], labels: { role: "decode" } },
        { slot: 9, address: "10.0.0.2:80", lorasActive: ["x"] },
      ]),
    );
    for (let i = 0; i < 3000; i++) {
      const copy = good.slice();
      for (let k = 0; k < 3; k++) copy[64 + Math.floor(next() * (copy.length - 64))] = next() * 256;
      const bytes = sealed(copy);
      const ptr = h.put(bytes, 65536);
      if (h.snapshotCheck(ptr, bytes.length)) {
        h.poolAdd(h.put(utf8("p")), 1);
        expect(() => h.poolTake(0, ptr, bytes.length, BigInt(i), 0), `seed ${seed}`).not.toThrow();
      }
    }
  });
});
