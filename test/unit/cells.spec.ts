// The cells of rendered prompts: every 64 bytes have a key, however the text came; pages, limits and what is cut.
import { chainKey, chainKeyCount, chainRelease, chainReset, chainText } from "../../assembly/prefix/chain";
import {
  CELLS_BYTES,
  CELLS_MAX,
  cellKey,
  cellsBreak,
  cellsBroken,
  cellsBytes,
  cellsCount,
  cellsCutTotal,
  cellsOpen,
  cellsRelease,
  cellsReset,
  cellsText,
} from "../../assembly/prefix/cells";
import { PAGES, pagesInUse } from "../../assembly/prefix/pages";

const SEED: u32 = 20261121;
let state: u32 = SEED;
function random(below: u32): u32 {
  state = state * 1664525 + 1013904223;
  return (state >>> 8) % below;
}

const CELL: u32 = 64;
const TEXT_BYTES: u32 = 600000;
const text: usize = memory.data(600000, 16);
const cells: usize = memory.data(88 * 72, 8);
const chain: usize = memory.data(112, 8);
const keys: usize = memory.data(8192 * 8, 8);

function fill(): void {
  for (let i: u32 = 0; i < TEXT_BYTES; i++) store<u8>(text + i, <u8>random(256));
}

function begin(index: u32): usize {
  const record = cells + <usize>index * CELLS_BYTES;
  cellsReset(record);
  return record;
}

// The keys of the record, laid down for comparison; returns how many.
function note(record: usize, root: u64): u32 {
  const count = cellsOpen(record);
  for (let i: u32 = 0; i < count; i++) store<u64>(keys + ((<usize>i) << 3), cellKey(i, root));
  return count;
}

function expectNoted(record: usize, root: u64, what: string): void {
  const count = cellsOpen(record);
  for (let i: u32 = 0; i < count; i++) {
    expect(cellKey(i, root)).toBe(load<u64>(keys + ((<usize>i) << 3)), `${what}, cell ${i.toString()}`);
  }
}

describe("cells", () => {
  beforeAll(() => {
    fill();
  });

  it("have the same keys however the text is split", () => {
    const whole = begin(0);
    cellsText(whole, text + 3, 20000);
    expect(note(whole, 7)).toBe(312);
    for (let round = 0; round < 20; round++) {
      const record = begin(1);
      for (let at: u32 = 0; at < 20000;) {
        const step = min(1 + random(round < 10 ? 90 : 3000), 20000 - at);
        cellsText(record, text + 3 + at, step);
        at += step;
      }
      expect(cellsCount(record)).toBe(312);
      expect(cellsBytes(record)).toBe(20000);
      expectNoted(record, 7, `seed ${SEED.toString()}, round ${round.toString()}`);
      cellsRelease(record);
    }
    cellsRelease(whole);
    expect(pagesInUse()).toBe(0);
  });

  it("count whole cells only, at both sides of the boundary", () => {
    for (let bytes: u32 = 0; bytes <= 3 * CELL; bytes++) {
      const record = begin(0);
      cellsText(record, text, bytes);
      expect(cellsCount(record)).toBe(bytes / CELL);
      expect(cellsBytes(record)).toBe(bytes);
      cellsRelease(record);
    }
  });

  it("have the prefix chain's running hash, at every depth instead of some", () => {
    const record = begin(0);
    cellsText(record, text, 4096);
    chainReset(chain);
    chainText(chain, text, 4096);
    cellsOpen(record);
    expect(chainKeyCount(chain)).toBe(64);
    for (let i: u32 = 0; i < 64; i++) expect(cellKey(i, 99)).toBe(chainKey(chain, i, 99));
    chainRelease(chain);
    cellsRelease(record);
  });

  it("differ by what is before them, and by the root", () => {
    const record = begin(0);
    cellsText(record, text, 1024);
    note(record, 1);
    expect(cellKey(0, 1)).not.toBe(cellKey(0, 2));
    const other = begin(1);
    store<u8>(text + 70, load<u8>(text + 70) ^ 1);
    cellsText(other, text, 1024);
    store<u8>(text + 70, load<u8>(text + 70) ^ 1);
    cellsOpen(other);
    expect(cellKey(0, 1)).toBe(load<u64>(keys));
    for (let i: u32 = 1; i < 16; i++) expect(cellKey(i, 1)).not.toBe(load<u64>(keys + ((<usize>i) << 3)));
    cellsRelease(record);
    cellsRelease(other);
  });

  it("keep two prompts apart whose text comes in turns", () => {
    const whole = begin(0);
    cellsText(whole, text, 30000);
    note(whole, 5);
    const a = begin(1);
    const b = begin(2);
    for (let at: u32 = 0; at < 30000; at += 100) {
      cellsText(a, text + at, 100);
      cellsText(b, text + 40000 + at, 100);
    }
    expectNoted(a, 5, "in turns");
    cellsRelease(a);
    cellsRelease(b);
    cellsRelease(whole);
    cellsRelease(whole);
    expect(pagesInUse()).toBe(0);
  });

  it("end at 512 KiB; what follows counts towards the length", () => {
    const record = begin(0);
    cellsText(record, text, TEXT_BYTES);
    expect(cellsCount(record)).toBe(CELLS_MAX);
    note(record, 3);
    cellsText(record, text, 5000);
    expect(cellsCount(record)).toBe(CELLS_MAX);
    expect(cellsBytes(record)).toBe(TEXT_BYTES + 5000);
    expectNoted(record, 3, "beyond the limit");
    expect(cellsCutTotal()).toBe(0, "the limit is not the arena's");
    cellsRelease(record);
  });

  it("end, and are counted, where only the chains' share of the arena is left", () => {
    let made: u32 = 0;
    while (cellsCutTotal() == 0 && made < 70) {
      cellsText(begin(made), text, 524288);
      made++;
    }
    expect(cellsCutTotal()).toBe(1);
    expect(pagesInUse()).toBe(PAGES - PAGES / 4);
    const last = cells + <usize>(made - 1) * CELLS_BYTES;
    const cut = cellsCount(last);
    expect(cut).toBeLessThan(CELLS_MAX);
    cellsText(last, text, 6400);
    expect(cellsCount(last)).toBe(cut, "no key of text behind a gap");
    chainReset(chain);
    chainText(chain, text, 100000);
    expect(chainKeyCount(chain)).toBeGreaterThan(200, "a chain still has its pages");
    chainRelease(chain);
    for (let i: u32 = 0; i < made; i++) cellsRelease(cells + <usize>i * CELLS_BYTES);
    expect(pagesInUse()).toBe(0);
    const after = begin(0);
    cellsText(after, text, 64);
    expect(cellsCount(after)).toBe(1, "a released record begins anew");
    cellsRelease(after);
  });

  it("are not used, and no more are made, once broken", () => {
    const record = begin(0);
    expect(cellsBroken(record)).toBe(false);
    cellsText(record, text, 6400);
    cellsBreak(record);
    cellsText(record, text, 6400);
    expect(cellsBroken(record)).toBe(true);
    expect(cellsCount(record)).toBe(100);
    expect(cellsBytes(record)).toBe(12800);
    cellsRelease(record);
    expect(cellsBroken(record)).toBe(false);
    expect(pagesInUse()).toBe(0);
  });
});
