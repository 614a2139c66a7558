// The block pool: references, lookup by hash, eviction order, twins.
import { describe, expect, it } from "vitest";
import { KvCache } from "../../host-sim/model-server/kv-cache.ts";

/** Allocates and publishes one block a hash. */
function fill(cache: KvCache, hashes: readonly number[]): number[] {
  return hashes.map((hash) => {
    const block = cache.allocate();
    cache.publish(block, hash);
    return block;
  });
}

describe("KvCache", () => {
  it("hands out every block once and then none", () => {
    const cache = new KvCache(3);
    expect([cache.allocate(), cache.allocate(), cache.allocate()].sort()).toEqual([0, 1, 2]);
    expect(cache.allocate()).toBe(-1);
    expect(cache.freeCount).toBe(0);
    expect(cache.usage).toBe(1);
    cache.verify();
  });

  it("finds a released prefix and stops at the first block it does not have", () => {
    const cache = new KvCache(8);
    const blocks = fill(cache, [11, 12, 13]);
    cache.releaseAll(blocks);
    expect(cache.findPrefix([11, 12, 13, 14], 9)).toEqual(blocks);
    expect(cache.findPrefix([11, 99, 13], 9)).toEqual(blocks.slice(0, 1));
    expect(cache.findPrefix([12], 9)).toEqual([blocks[1]]);
    expect(cache.findPrefix([11, 12, 13], 2)).toEqual(blocks.slice(0, 2));
    expect(cache.findPrefix([99], 9)).toEqual([]);
  });

  it("counts a released block as free though its content stays findable", () => {
    const cache = new KvCache(4);
    cache.releaseAll(fill(cache, [1, 2]));
    expect(cache.usage).toBe(0);
    expect(cache.cachedCount).toBe(2);
  });

  it("evicts the least recently used prefix, its tail before its head", () => {
    const cache = new KvCache(4);
    const [a, b] = [fill(cache, [1, 2]), fill(cache, [3, 4])];
    cache.releaseAll(a);
    cache.releaseAll(b);
    expect([cache.allocate(), cache.allocate()]).toEqual([a[1], a[0]]);
    expect(cache.findPrefix([1, 2], 9)).toEqual([]);
    expect(cache.findPrefix([3, 4], 9)).toEqual(b);
    expect(cache.allocate()).toBe(b[1]);
    expect(cache.findPrefix([3, 4], 9)).toEqual([b[0]]);
    expect(cache.evictions).toBe(3);
    cache.verify();
  });

  it("reuses blocks without content before it evicts anything", () => {
    const cache = new KvCache(3);
    const cached = fill(cache, [1]);
    const blank = cache.allocate();
    cache.releaseAll(cached);
    cache.releaseAll([blank]);
    expect(cache.allocate()).toBe(blank);
    expect(cache.evictions).toBe(0);
  });

  it("keeps a block in use from eviction and frees it with its last reference", () => {
    const cache = new KvCache(2);
    const blocks = fill(cache, [1]);
    cache.acquire(blocks[0]!);
    cache.releaseAll(blocks);
    expect(cache.freeCount).toBe(1);
    expect(cache.allocate()).not.toBe(blocks[0]);
    expect(cache.allocate()).toBe(-1);
    cache.releaseAll(blocks);
    expect(cache.freeCount).toBe(1);
    expect(cache.countFree(blocks)).toBe(1);
    cache.verify();
  });

  it("keeps content findable while one of the blocks that hold it lives", () => {
    const cache = new KvCache(3);
    const twins = fill(cache, [7, 7, 7]);
    for (const twin of twins) cache.releaseAll([twin]);
    for (const left of [2, 1]) {
      cache.allocate();
      expect(cache.findPrefix([7], 1), `${left} twins left`).toHaveLength(1);
      cache.verify();
    }
    cache.allocate();
    expect(cache.findPrefix([7], 1)).toEqual([]);
    cache.verify();
  });

  it("refuses to forget its content while a block is in use", () => {
    const cache = new KvCache(2);
    const blocks = fill(cache, [1]);
    expect(cache.reset()).toBe(false);
    expect(cache.findPrefix([1], 1)).toEqual(blocks);
    cache.releaseAll(blocks);
    expect(cache.reset()).toBe(true);
    expect(cache.cachedCount).toBe(0);
    cache.verify();
  });

  it("throws when a block is released more often than acquired", () => {
    const cache = new KvCache(1);
    const blocks = fill(cache, [1]);
    cache.releaseAll(blocks);
    expect(() => cache.releaseAll(blocks)).toThrow("KV block 0 was released more often than acquired");
  });
});
