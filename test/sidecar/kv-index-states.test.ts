// What the gateway is told of an endpoint's state: gaps, losses, other slots, copies instead of changes, and limits.
import { describe, expect, it } from "vitest";
import type { BlockHash } from "../../sidecar/kv-events/events.ts";
import { CellTable } from "../../sidecar/kv-index/cell-table.ts";
import { EndpointIndex } from "../../sidecar/kv-index/endpoint-index.ts";
import { LOOKED_AT_MAX } from "../../sidecar/kv-index/limits.ts";
import { removedEvent, storedEvent } from "./kv-events-support.ts";
import { type EngineView, IndexSetting } from "./kv-index-support.ts";
import { between, withSeeds } from "./seeds.ts";

const A = "10.0.0.1:8000";
const B = "10.0.0.2:8000";
const C = "10.0.0.3:8000";

/** Stores chains of one cell each, named by their numbers. */
function store(view: EngineView, from: number, to: number): void {
  for (let number = from; number < to; number++) {
    const text = Buffer.from(`${view.replica.address} ${number}`.padStart(64, "."));
    const hashes: BlockHash[] = [String(number)];
    view.blocks.apply(storedEvent("", "", { hashes, tokens: [...text], blockTokens: 64 }));
  }
}

function remove(view: EngineView, from: number, to: number): void {
  for (let number = from; number < to; number++) {
    view.blocks.apply({ kind: "removed", hashes: [String(number)], tier: "gpu", group: 0 });
  }
}

/** Sections of the last batch, by operation and slot. */
const lastSections = ({ model }: IndexSetting): string[] =>
  model.batches.at(-1)!.sections.map(({ operation, slot, entries }) => `${operation} ${slot} ${entries}`);

describe("an endpoint's state", () => {
  it("is told at a gap, whose end needs no copy: its entries stay, and changes go on", () => {
    const setting = new IndexSetting();
    const view = setting.follow(A);
    store(view, 0, 10);
    setting.pushAll();
    view.state.setProgress("catching-up");
    setting.pushAll();
    expect(lastSections(setting)).toEqual(["degraded 0 0"]);
    store(view, 10, 12);
    remove(view, 0, 1);
    setting.pushAll();
    expect(lastSections(setting)).toEqual(["remove 0 1", "store 0 2"]);
    expect(setting.slot(A)!.state).toBe("degraded");
    view.state.setProgress(null);
    setting.pushAll();
    expect(lastSections(setting)).toEqual(["exact 0 11"]);
    expect(setting.composer.counts.copies).toBe(1);
  });

  it("takes its entries away when events were lost for good, and comes back when its cache is empty", () => {
    const setting = new IndexSetting();
    const view = setting.follow(A);
    store(view, 0, 10);
    setting.pushAll();
    view.state.fault("unknown-parent");
    setting.pushAll();
    expect(lastSections(setting)).toEqual(["begin 0 0", "degraded 0 0"]);
    expect(setting.budget.used).toBe(0);
    store(view, 10, 20);
    expect(setting.push(false)).toBe(false);
    view.blocks.apply({ kind: "cleared" });
    store(view, 20, 23);
    setting.pushAll();
    expect(lastSections(setting)).toEqual(["begin 0 3", "store 0 3", "exact 0 3"]);
    expect(setting.slot(A)!.entries).toEqual(setting.expected(A));
  });

  it("is degraded while it holds blocks of an adapter without a name", () => {
    const setting = new IndexSetting();
    const view = setting.follow(A);
    store(view, 0, 3);
    const tokens = Array.from({ length: 64 }, () => 1);
    view.blocks.apply(storedEvent("x", "", { tokens, blockTokens: 64, loraId: 2 }));
    setting.pushAll();
    const endpoint = setting.index.endpoints.get(A)!;
    expect([setting.slot(A)!.state, endpoint.reason]).toEqual(["degraded", "unnamed-adapter"]);
    view.blocks.apply(removedEvent("x"));
    setting.pushAll();
    expect([setting.slot(A)!.state, setting.slot(A)!.entries.size]).toEqual(["exact", 3]);
  });

  it("is the first reason of its ranks, in the order of the views' reasons", () => {
    const endpoint = new EndpointIndex(A, () => undefined);
    endpoint.followed(0);
    endpoint.followed(1);
    expect(endpoint.reason).toBe("starting");
    endpoint.setState(0, "too-many-blocks");
    endpoint.setState(1, "catching-up");
    expect(endpoint.reason).toBe("catching-up");
    endpoint.setState(1, null);
    expect(endpoint.reason).toBe("too-many-blocks");
    endpoint.setState(0, null);
    expect([endpoint.reason, endpoint.shownReason]).toEqual([null, "not-sent"]);
  });

  it("is told again with every heartbeat", () => {
    const setting = new IndexSetting();
    store(setting.follow(A), 0, 4);
    setting.follow(B).state.setProgress("unreachable");
    setting.pushAll();
    setting.nowMs += 500;
    setting.push(true);
    expect(lastSections(setting).sort()).toEqual(["degraded 1 0", "exact 0 4"]);
  });
});

describe("an endpoint's slot", () => {
  it("of another generation is told from the start, and so is another slot", () => {
    const setting = new IndexSetting();
    const view = setting.follow(A);
    store(view, 0, 5);
    setting.pushAll();
    setting.places.set(A, { slot: 0, generation: 2 });
    setting.pushAll();
    expect(setting.slot(A)).toMatchObject({ generation: 2, state: "exact", entries: { size: 5 } });
    setting.places.set(A, { slot: 9, generation: 2 });
    setting.pushAll();
    expect(setting.model.slots.get(9)!.entries.size).toBe(5);
    expect(setting.budget.used).toBe(5);
    setting.places.delete(A);
    store(view, 5, 9);
    expect([setting.push(false), setting.budget.used]).toEqual([false, 0]);
  });

  it("that a session ago was told of is told again, with what changed since", () => {
    const setting = new IndexSetting();
    const view = setting.follow(A);
    store(view, 0, 5);
    setting.pushAll();
    store(view, 5, 7);
    setting.beginSession();
    setting.pushAll();
    expect(setting.slot(A)).toMatchObject({ state: "exact", entries: { size: 7 } });
  });

  it("is free for another endpoint when its own has left", () => {
    const setting = new IndexSetting();
    const view = setting.follow(A);
    store(view, 0, 5);
    setting.pushAll();
    view.blocks.clear();
    setting.index.left(view.replica);
    setting.places.delete(A);
    setting.places.set(B, { slot: 0, generation: 2 });
    store(setting.follow(B), 0, 3);
    setting.pushAll();
    expect(setting.model.slots.get(0)).toMatchObject({ generation: 2, state: "exact", entries: { size: 3 } });
    expect([setting.index.endpoints.size, setting.budget.used]).toEqual([1, 3]);
  });
});

describe("copies", () => {
  it("are sent instead of changes that are more than what there is", () => {
    const setting = new IndexSetting();
    const view = setting.follow(A);
    store(view, 0, 3_000);
    setting.pushAll();
    remove(view, 0, 1_400);
    setting.pushAll();
    expect(setting.composer.counts).toMatchObject({ copies: 1, changes: 1_400 });
    remove(view, 1_400, 2_950);
    setting.pushAll();
    expect(setting.composer.counts).toMatchObject({ copies: 2, changes: 1_400 });
    expect(lastSections(setting)).toEqual(["degraded 0 0", "begin 0 50", "store 0 50", "exact 0 50"]);
    expect(setting.slot(A)!.entries).toEqual(setting.expected(A));
  });

  it("of an endpoint of many entries are made ready in parts, a batch each", () => {
    const setting = new IndexSetting();
    const view = setting.follow(A);
    store(view, 0, LOOKED_AT_MAX + 10);
    setting.push();
    expect([setting.slot(A)?.entries.size ?? 0, setting.composer.hasMore]).toEqual([0, true]);
    store(view, LOOKED_AT_MAX + 10, LOOKED_AT_MAX + 20);
    remove(view, 0, 10);
    setting.pushAll();
    expect(setting.slot(A)!.state).toBe("exact");
    expect(setting.slot(A)!.entries).toEqual(setting.expected(A));
  });

  it("of one endpoint take turns with changes of others, and changes of its own wait", () => {
    const setting = new IndexSetting();
    const small = setting.follow(B);
    store(small, 0, 10);
    setting.pushAll();
    const large = setting.follow(A);
    store(large, 0, 30_000);
    setting.push(false);
    let between = 0;
    for (; setting.slot(A)?.state !== "exact"; between++) {
      store(small, 10 * (between + 1), 10 * (between + 2));
      store(large, 30_000 + between, 30_001 + between);
      setting.push(false);
      expect(setting.slot(B)!.entries.size).toBe(10 * (between + 2));
      expect(setting.slot(B)!.state).toBe("exact");
    }
    expect(between).toBeGreaterThan(3);
    setting.pushAll();
    expect(setting.slot(A)!.entries).toEqual(setting.expected(A));
  });

  it("that a worker wants wait for one another, and changes go on meanwhile for the others", () => {
    const setting = new IndexSetting();
    const [one, two] = [setting.follow(A), setting.follow(B)];
    store(one, 0, 20_000);
    store(two, 0, 20_010);
    setting.pushAll();
    setting.nowMs += 1_000;
    setting.model.wanted.add(0).add(1);
    setting.push(true);
    remove(two, 0, 3);
    setting.push(false);
    expect(lastSections(setting).slice(0, 2)).toEqual(["remove 1 3", "exact 1 20007"]);
    expect([setting.slot(A)!.state, setting.slot(B)!.state]).toEqual(["copying", "exact"]);
    setting.pushAll();
    expect([setting.slot(A)!.state, setting.slot(B)!.state]).toEqual(["exact", "exact"]);
    expect([setting.model.wanted.size, setting.composer.counts.copies]).toEqual([0, 4]);
  });

  it("begin anew when the endpoint's cache is cleared meanwhile", () => {
    const setting = new IndexSetting();
    const view = setting.follow(A);
    store(view, 0, 30_000);
    setting.push(false);
    expect(setting.slot(A)!.state).toBe("copying");
    view.blocks.apply({ kind: "cleared" });
    store(view, 0, 5);
    setting.pushAll();
    expect(setting.slot(A)).toMatchObject({ state: "exact", entries: { size: 5 } });
  });
});

describe("the gateway's limit of entries", () => {
  it("leaves the largest endpoint out as a whole, and takes it in again when there is ample room", () => {
    const setting = new IndexSetting(1_000);
    const [a, b, c] = [setting.follow(A), setting.follow(B), setting.follow(C)];
    store(a, 0, 300);
    store(b, 0, 500);
    setting.pushAll();
    store(c, 0, 400);
    setting.pushAll();
    setting.pushAll();
    const reasons = (): unknown[] => [A, B, C].map((each) => setting.index.endpoints.get(each)!.reason);
    expect(reasons()).toEqual([null, "index-full", null]);
    expect([A, B, C].map((each) => setting.slot(each)!.state)).toEqual(["exact", "degraded", "exact"]);
    expect(setting.model.entries).toBe(700);
    // 200 fewer elsewhere are room for all, but not ample.
    remove(c, 0, 200);
    for (let beats = 0; beats < 3; beats++) setting.push(true);
    expect(reasons()).toEqual([null, "index-full", null]);
    remove(c, 200, 300);
    for (let beats = 0; beats < 3; beats++) setting.push(true);
    expect(reasons()).toEqual([null, null, null]);
    setting.pushAll();
    expect([setting.model.entries, setting.slot(B)!.state]).toEqual([900, "exact"]);
    expect(setting.model.entriesMost).toBeLessThanOrEqual(1_000);
  });

  it("is kept under growth and shrinking of many, and whoever is exact has all its entries", () => {
    withSeeds(20, (random) => {
      const setting = new IndexSetting(400);
      const views = [A, B, C, "10.0.0.4:8000"].map((address) => ({ view: setting.follow(address), size: 0 }));
      for (let step = 0; step < 200; step++) {
        const each = views[between(random, 0, views.length - 1)]!;
        const size = Math.max(0, each.size + between(random, -60, 70));
        store(each.view, each.size, size);
        remove(each.view, size, each.size);
        each.size = size;
        setting.push(random() < 0.2);
      }
      for (let beats = 0; beats < 5; beats++) setting.push(true);
      setting.pushAll();
      expect(setting.model.entriesMost).toBeLessThanOrEqual(400);
      for (const { view } of views) {
        const { address } = view.replica;
        const { state, entries } = setting.slot(address)!;
        if (state === "exact") expect(entries).toEqual(setting.expected(address));
        else expect([entries.size, setting.index.endpoints.get(address)!.reason]).toEqual([0, "index-full"]);
      }
    });
  });
});

describe("a table of cells", () => {
  it("that is full holds nothing until it is cleared", () => {
    const table = new CellTable(2_048);
    for (let i = 0; i < 2_048; i++) table.add(i, i, 1);
    expect([table.count, table.isFull]).toEqual([2_048, false]);
    table.add(-1, -1, 1);
    expect([table.count, table.isFull]).toEqual([0, true]);
    table.remove(5, 5, 1);
    table.add(6, 6, 1);
    expect(table.count).toBe(0);
    table.clear();
    table.add(6, 6, 1);
    expect([table.count, table.isFull]).toEqual([1, false]);
  });

  it("is made ready for a copy in parts, and loses nothing of what changes meanwhile", () => {
    withSeeds(5, (random) => {
      const table = new CellTable();
      const held: number[] = [];
      const store = (): void => {
        held.push(between(random, 1, 600));
        table.add(0, held.at(-1)!, 7);
      };
      const change = (): void => {
        for (let i = 0; i < 40; i++) {
          if (held.length < 400 || random() < 0.5) {
            store();
            continue;
          }
          const at = between(random, 0, held.length - 1);
          table.remove(0, held[at]!, 7);
          held[at] = held.at(-1)!;
          held.pop();
        }
      };
      for (let round = 0; round < 20; round++) {
        let parts = 0;
        for (; !table.isReady; parts++) {
          change();
          expect(table.track(25)).toBeLessThanOrEqual(25);
        }
        if (round > 0) expect(parts).toBeGreaterThan(10);
        const gateway = new Set<number>();
        const cell = (_: number, key: number, value: number): void => {
          if (value === 0) gateway.delete(key);
          else gateway.add(key);
        };
        for (let from = 0; from >= 0;) from = table.tellCopy(from, 50, { cell });
        expect(gateway.size).toBe(table.toldCount);
        while (table.changes > 0) table.tellChanges(30, { cell });
        expect([...gateway].sort()).toEqual([...new Set(held)].sort());
        expect(table.toldCount).toBe(gateway.size);
        const digest = [table.toldDigestHigh, table.toldDigestLow];
        table.untrack();
        table.track(1_000);
        expect([table.toldDigestHigh, table.toldDigestLow, table.isReady]).toEqual([...digest, true]);
        table.untrack();
      }
    });
  });

  it("throws when something is taken out that was never put in", () => {
    const table = new CellTable();
    table.add(1, 2, 16);
    expect(() => table.remove(1, 3, 16)).toThrow("a cell was removed that is not there");
    expect(() => table.remove(1, 2, 17)).toThrow("a cell was removed with a value that it does not have");
    table.remove(1, 2, 16);
    expect(() => table.remove(1, 2, 16)).toThrow("a cell was removed that is not there");
  });

  it("grows with its entries, by doubling, and is small again when it is cleared", () => {
    const table = new CellTable();
    const empty = table.bytes;
    for (let i = 0; i < 100_000; i++) table.add(Math.imul(i, 0x9e3779b1), i, 1);
    expect(table.bytes / 131_072).toBeLessThan(34);
    table.clear();
    expect(table.bytes).toBe(empty);
  });
});
