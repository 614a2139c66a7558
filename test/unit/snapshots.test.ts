// Endpoints as the filter knows them: pool snapshots, checked and taken, and the health of hosts.
import { beforeAll, describe, expect, it } from "vitest";
import { encodeSnapshot, seal } from "../envoy/snapshot.ts";
import { compileHarness } from "./support/harness.ts";
import { random } from "./support/random.ts";
import { COLUMN_FLAGS, COLUMN_GENERATION, freshState, type Harness, utf8 } from "./support/state.ts";

let compiled: WebAssembly.Module;
beforeAll(async () => {
  compiled = await compileHarness("state");
});
const fresh = () => freshState(compiled);

const sealed = (bytes: Uint8Array) => seal(Buffer.from(bytes));

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
