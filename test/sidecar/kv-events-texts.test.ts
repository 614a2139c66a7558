// The memory of blocks' texts while blocks come and go at random: bounded, and every text stays what it was.
import { describe, expect, it } from "vitest";
import { NO_SINK } from "../../sidecar/kv-events/block-sink.ts";
import type { BlockHash } from "../../sidecar/kv-events/events.ts";
import { ReplicaBlocks } from "../../sidecar/kv-events/replica-blocks.ts";
import { ReplicaState } from "../../sidecar/kv-events/replica-state.ts";
import { byteTable, storedEvent } from "./kv-events-support.ts";
import { between, withSeeds } from "./seeds.ts";

/** Beyond it what is of no use is taken away. */
const FACTOR = 1.5;
const SPARE_BYTES = 65_536;

/** A token without bytes, as some special ones are. */
const EMPTY = 256;

describe("texts of blocks of two lengths in turn", () => {
  it("take little more memory than they have bytes: a long one leaves room to the short ones around it", () => {
    const blocks = new ReplicaBlocks({
      replica: { address: "a", rank: 0 },
      tokens: byteTable(),
      state: new ReplicaState(),
      sink: NO_SINK,
      blocksMax: 10_000,
    });
    let bytes = 0;
    for (let i = 0; i < 1_000; i++) {
      const length = i % 2 === 0 ? 400 : 600;
      const ids = Array.from({ length }, () => i % 256);
      blocks.apply(storedEvent("", "", { hashes: [`h${i}`], tokens: ids, blockTokens: length }));
      bytes += length;
      expect(blocks.textBytesTaken).toBeGreaterThanOrEqual(bytes);
      expect(blocks.textBytesTaken).toBeLessThanOrEqual(FACTOR * bytes + SPARE_BYTES);
    }
    for (let i = 0; i < 1_000; i++) {
      blocks.apply({ kind: "removed", hashes: [`h${i}`], tier: "gpu", group: 0 });
    }
    // What is left is the array that the next short text goes to, and a long one's last place.
    expect(blocks.textBytesTaken).toBeLessThanOrEqual(4_096 + 600);
  });
});

describe("texts of blocks that go at random", () => {
  it.each([
    ["short ones", 1, 200],
    ["long ones", 400, 1_500],
    ["some of no bytes", 0, 2],
  ])("%s take little more memory than they have bytes, and stay what they were", (_, least, most) => {
    withSeeds(2, (random) => {
      const tokens = byteTable();
      tokens.add(EMPTY, new Uint8Array(0));
      const blocks = new ReplicaBlocks({
        replica: { address: "a", rank: 0 },
        tokens,
        state: new ReplicaState(),
        sink: NO_SINK,
        blocksMax: 10_000,
      });
      const held = new Map<BlockHash, string>();
      const hashes: BlockHash[] = [];
      let next = 0;
      const store = (): void => {
        const hash = `h${next++}`;
        const text = String(next)
          .repeat(200)
          .slice(0, between(random, least, most));
        hashes.push(hash);
        held.set(hash, text);
        const ids = text === "" ? [EMPTY] : [...Buffer.from(text)];
        blocks.apply(storedEvent("", "", { hashes: [hash], tokens: ids, blockTokens: ids.length }));
      };
      const remove = (): void => {
        const at = between(random, 0, hashes.length - 1);
        const hash = hashes[at]!;
        hashes[at] = hashes.at(-1)!;
        hashes.pop();
        held.delete(hash);
        blocks.apply({ kind: "removed", hashes: [hash], tier: "gpu", group: 0 });
      };
      const check = (): void => {
        let bytes = 0;
        let count = 0;
        blocks.forEachHeld((hash, _tier, copies, block) => {
          expect([Buffer.from(block!.bytes).toString(), copies]).toEqual([held.get(hash), 1]);
          bytes += block!.bytes.length;
          count += 1;
        });
        expect(count).toBe(held.size);
        expect(blocks.textBytesTaken).toBeGreaterThanOrEqual(bytes);
        expect(blocks.textBytesTaken).toBeLessThanOrEqual(FACTOR * bytes + SPARE_BYTES);
      };
      for (let round = 0; round < 4; round++) {
        while (hashes.length < 2_000) store();
        check();
        while (hashes.length > 250) remove();
        check();
      }
      while (hashes.length > 0) remove();
      check();
      blocks.clear();
      expect(blocks.textBytesTaken).toBe(0);
    });
  });
});
