// What workers tell each other through journals and cells: prefixes, work in flight, hosts set aside.
import { beforeAll, describe, expect, it } from "vitest";
import { compileHarness } from "./support/harness.ts";
import {
  COLUMN_CONTEXT_TOKENS,
  COLUMN_GENERATION,
  COLUMN_INFLIGHT_REQUESTS,
  COLUMN_INFLIGHT_TOKENS,
  chainOf,
  freshState,
  type Harness,
  utf8,
} from "./support/state.ts";

let compiled: WebAssembly.Module;
beforeAll(async () => {
  compiled = await compileHarness("state");
});
const fresh = () => freshState(compiled);

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
