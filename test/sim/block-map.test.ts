// The table of block hashes: against a Map under random use, at its limit, and with hashes that share their place.
import { describe, expect, it } from "vitest";
import { BlockMap } from "../../host-sim/model-server/block-map.ts";
import { Random } from "../../host-sim/workload/random.ts";

const ENTRIES_MAX = 64;
const OPERATIONS = 20_000;

function contents(map: BlockMap): Map<number, number> {
  const found = new Map<number, number>();
  map.forEach((hash, block) => {
    found.set(hash, block);
  });
  return found;
}

describe("BlockMap", () => {
  const seed = (Date.now() ^ process.pid) >>> 0;
  it(`does as a Map does, full or nearly empty (seed ${seed})`, () => {
    const random = new Random(seed);
    const hashes = Array.from({ length: 3 * ENTRIES_MAX }, (_, i) =>
      i % 3 === 0 ? i + 1 : 1 + Math.floor(random.uniform() * (2 ** 53 - 1)),
    );
    const map = new BlockMap(ENTRIES_MAX);
    const expected = new Map<number, number>();
    for (let i = 0; i < OPERATIONS; i++) {
      const hash = random.pick(hashes);
      if (random.uniform() < 0.5 && (expected.size < ENTRIES_MAX || expected.has(hash))) {
        map.set(hash, i);
        expected.set(hash, i);
      } else {
        map.delete(hash);
        expected.delete(hash);
      }
      const probe = random.pick(hashes);
      expect(map.get(probe)).toBe(expected.get(probe) ?? -1);
      if (i % 500 === 0) expect(contents(map)).toEqual(expected);
    }
    expect(contents(map)).toEqual(expected);
  });

  it("keeps entries findable that were pushed aside by one that is removed", () => {
    const map = new BlockMap(2);
    // Eight places: some of these hashes must meet in one.
    for (let hash = 1; hash < 40; hash++) {
      map.set(hash, hash);
      map.set(hash + 1, hash + 1);
      map.delete(hash);
      expect(map.get(hash)).toBe(-1);
      expect(map.get(hash + 1)).toBe(hash + 1);
      map.delete(hash + 1);
    }
    expect(contents(map).size).toBe(0);
  });

  it("tells hashes apart that differ in their upper bits alone", () => {
    const map = new BlockMap(4);
    map.set(1, 10);
    map.set(1 + 2 ** 32, 11);
    map.set(1 + 2 ** 52, 12);
    expect([map.get(1), map.get(1 + 2 ** 32), map.get(1 + 2 ** 52), map.get(1 + 2 ** 33)]).toEqual([
      10, 11, 12, -1,
    ]);
  });
});
