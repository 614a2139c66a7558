// The exact index of a pool: which cells blocks become, whatever is stored, moved, removed and cleared.
import { describe, expect, it } from "vitest";
import type { BlockStored, Tier } from "../../sidecar/kv-events/events.ts";
import { TIERS } from "../../sidecar/kv-events/events.ts";
import { TokenTable } from "../../sidecar/kv-events/token-table.ts";
import { TAKEN_OUT_MAX } from "../../sidecar/kv-index/limits.ts";
import { cellKeys, PLAIN_ROOT } from "../envoy/kv-batches.ts";
import { removedEvent, storedEvent } from "./kv-events-support.ts";
import { IndexSetting } from "./kv-index-support.ts";
import { between, withSeeds } from "./seeds.ts";

const A = "10.0.0.1:8000";
const TEXT = Buffer.from(Array.from({ length: 400 }, (_, i) => `${i},`).join(""));

/** Blocks of `blockTokens` one-byte tokens that say `text`. */
function stored(
  names: string,
  text: Buffer,
  blockTokens: number,
  more: Partial<BlockStored> = {},
): BlockStored {
  return storedEvent(names, "", { tokens: [...text], blockTokens, ...more });
}

/** Entries of the endpoint as [cell's end, tier, tokens], where the cells are those of `text`. */
function cells(setting: IndexSetting, text: Buffer, root = PLAIN_ROOT): [number, Tier, number][] {
  setting.pushAll();
  const entries = setting.slot(A)?.entries ?? new Map<bigint, number>();
  return cellKeys(text, root).flatMap((key, i): [number, Tier, number][] => {
    const value = entries.get(key);
    return value === undefined ? [] : [[64 * (i + 1), TIERS[value >>> 30]!, value & 0x3fffffff]];
  });
}

describe("cells of a chain", () => {
  it("count the tokens of the last block that ends at most half a cell behind", () => {
    const setting = new IndexSetting();
    const { blocks } = setting.follow(A);
    // Ends at 96 (half a cell behind 64), 192 = a cell's end, and 288, which is nearer to 256 than to 320.
    blocks.apply(stored("abc", TEXT.subarray(0, 288), 96));
    expect(cells(setting, TEXT)).toEqual([
      [64, "gpu", 96],
      [128, "gpu", 96],
      [192, "gpu", 192],
      [256, "gpu", 288],
    ]);
  });

  it("count one token before the first block ends, so that deeper ones are found", () => {
    const setting = new IndexSetting();
    const { blocks } = setting.follow(A);
    blocks.apply(stored("ab", TEXT.subarray(0, 400), 200));
    expect(cells(setting, TEXT).map(([, , tokens]) => tokens)).toEqual([1, 1, 200, 200, 200, 400]);
  });

  it("of blocks shorter than a cell rise with each that ends near it, and fall when it goes", () => {
    const setting = new IndexSetting();
    const { blocks } = setting.follow(A);
    blocks.apply(stored("abcdefgh", TEXT.subarray(0, 80), 10));
    expect(cells(setting, TEXT)).toEqual([[64, "gpu", 80]]);
    blocks.apply(stored("ij", TEXT.subarray(80, 100), 10, { parent: "h" }));
    expect(cells(setting, TEXT)).toEqual([[64, "gpu", 90]]);
    blocks.apply(removedEvent("j"));
    blocks.apply(removedEvent("i"));
    expect(cells(setting, TEXT)).toEqual([[64, "gpu", 80]]);
    blocks.apply(removedEvent("h"));
    expect(cells(setting, TEXT)).toEqual([[64, "gpu", 70]]);
    blocks.apply(removedEvent("g"));
    expect(cells(setting, TEXT)).toEqual([]);
  });

  it("are shared by siblings that agree up to there, and stay while one is held", () => {
    const setting = new IndexSetting();
    const { blocks } = setting.follow(A);
    const other = Buffer.concat([TEXT.subarray(0, 70), Buffer.alloc(130, "x")]);
    blocks.apply(stored("a", TEXT.subarray(0, 100), 100));
    blocks.apply(stored("b", other.subarray(0, 80), 80));
    expect(cells(setting, TEXT)).toEqual([[64, "gpu", 80]]);
    blocks.apply(removedEvent("b"));
    expect(cells(setting, TEXT)).toEqual([[64, "gpu", 1]]);
    blocks.apply(stored("b", other.subarray(0, 80), 80));
    blocks.apply(removedEvent("a"));
    expect(cells(setting, TEXT)).toEqual([[64, "gpu", 80]]);
    expect(setting.index.endpoints.get(A)!.entries).toBe(1);
  });

  it("are of the fastest tier that holds them, and of no faster one than those before them", () => {
    const setting = new IndexSetting();
    const { blocks } = setting.follow(A);
    blocks.apply(stored("abc", TEXT.subarray(0, 192), 64));
    blocks.apply(stored("ab", TEXT.subarray(0, 128), 64, { tier: "cpu" }));
    blocks.apply(removedEvent("a"));
    expect(cells(setting, TEXT).map(([, tier]) => tier)).toEqual(["cpu", "cpu", "cpu"]);
    blocks.apply(stored("a", TEXT.subarray(0, 64), 64, { tier: "disk" }));
    blocks.apply(removedEvent("a", "cpu"));
    expect(cells(setting, TEXT).map(([, tier]) => tier)).toEqual(["disk", "disk", "disk"]);
    blocks.apply(stored("a", TEXT.subarray(0, 64), 64));
    expect(cells(setting, TEXT).map(([, tier]) => tier)).toEqual(["gpu", "gpu", "gpu"]);
  });

  it("are not told behind a block that is not held, and come back with it", () => {
    const setting = new IndexSetting();
    const { blocks } = setting.follow(A);
    blocks.apply(stored("abc", TEXT.subarray(0, 192), 64));
    blocks.apply(removedEvent("b"));
    expect(cells(setting, TEXT)).toEqual([[64, "gpu", 64]]);
    blocks.apply(stored("d", TEXT.subarray(192, 256), 64, { parent: "c" }));
    expect(cells(setting, TEXT)).toHaveLength(1);
    blocks.apply(stored("b", TEXT.subarray(64, 128), 64, { parent: "a" }));
    expect(cells(setting, TEXT)).toHaveLength(4);
  });

  it("have roots of adapter and salt; pictures have none, nor what follows them", () => {
    const setting = new IndexSetting();
    const { blocks } = setting.follow(A);
    const text = TEXT.subarray(0, 128);
    blocks.apply(stored("ab", text, 64, { loraName: "sql", extraKeys: [["sql", "salt"], ["sql"]] }));
    blocks.apply(stored("cd", text, 64, { extraKeys: [null, [["picture", 3]]] }));
    setting.pushAll();
    expect(setting.slot(A)!.entries).toEqual(setting.expected(A));
    expect(cells(setting, TEXT)).toHaveLength(1);
    expect(setting.slot(A)!.entries.size).toBe(3);
  });
});

describe("several ranks of one endpoint", () => {
  it("are united: what one holds is held, and it is exact when all are", () => {
    const setting = new IndexSetting();
    const [one, two] = [setting.follow(A, 0), setting.follow(A, 1)];
    one.blocks.apply(stored("ab", TEXT.subarray(0, 128), 64));
    two.blocks.apply(stored("a", TEXT.subarray(0, 64), 64));
    two.state.setProgress("catching-up");
    expect(cells(setting, TEXT)).toEqual([]);
    expect(setting.slot(A)!.state).toBe("degraded");
    two.state.setProgress(null);
    expect(cells(setting, TEXT)).toHaveLength(2);
    expect(setting.slot(A)!.state).toBe("exact");
    one.blocks.clear();
    expect(cells(setting, TEXT)).toEqual([[64, "gpu", 64]]);
    setting.index.left(one.replica);
    two.blocks.clear();
    expect(cells(setting, TEXT)).toEqual([]);
    setting.index.left(two.replica);
    expect(setting.index.endpoints.size).toBe(0);
    // What a subscription that ends tells yet makes nothing of it again.
    two.state.setProgress("unreachable");
    two.blocks.apply(stored("z", TEXT.subarray(0, 64), 64));
    two.blocks.clear();
    expect(setting.index.endpoints.size).toBe(0);
  });

  it("are catching up while what one of them lost is taken out, some of it with each batch", () => {
    const setting = new IndexSetting();
    const [one, two] = [setting.follow(A, 0), setting.follow(A, 1)];
    const blocks = 2.5 * TAKEN_OUT_MAX;
    const hashes = Array.from({ length: blocks }, (_, index) => BigInt(index + 1));
    const tokens = new Array<number>(64 * blocks).fill(65);
    two.blocks.apply({ ...storedEvent("", ""), hashes, tokens, blockTokens: 64 });
    one.blocks.apply(stored("ab", TEXT.subarray(0, 128), 64));
    setting.pushAll();
    const counts = [blocks + 2];
    expect(setting.slot(A)!.entries.size).toBe(counts[0]);
    two.blocks.clear();
    two.blocks.apply(stored("a", TEXT.subarray(0, 64), 64));
    const states: string[] = [];
    do {
      setting.push();
      counts.push(setting.index.endpoints.get(A)!.entries);
      states.push(setting.slot(A)!.state);
    } while (setting.composer.hasMore);
    expect(counts.slice(0, 4)).toEqual([0, 1, 2].map((step) => blocks + 2 - step * TAKEN_OUT_MAX).concat(2));
    expect([states[0], states.at(-1)]).toEqual(["degraded", "exact"]);
    expect(setting.slot(A)!.entries).toEqual(setting.expected(A));
  });

  it("have no end of what they lost when none of them holds anything", () => {
    const setting = new IndexSetting();
    const [one, two] = [setting.follow(A, 0), setting.follow(A, 1)];
    for (const each of [one, two]) each.blocks.apply(stored("ab", TEXT.subarray(0, 128), 64));
    setting.pushAll();
    for (const each of [one, two]) each.blocks.clear();
    one.blocks.apply(stored("a", TEXT.subarray(0, 64), 64));
    expect(cells(setting, TEXT)).toEqual([[64, "gpu", 64]]);
    expect(setting.slot(A)!.state).toBe("exact");
  });
});

/** Tokens of 0 to 100 bytes that say almost the same: many ways to write one text. */
function wildTokens(): TokenTable {
  const table = new TokenTable({ dropsFirstSpace: false });
  [0, 1, 1, 2, 3, 5, 9, 16, 31, 32, 33, 63, 64, 65, 100].forEach((length, id) => {
    table.add(id, Buffer.alloc(length, id === 2 ? "b" : "a"));
  });
  return table;
}

/** An engine that stores, moves, removes and clears at random, its parents first. */
function randomEvents(random: () => number, view: ReturnType<IndexSetting["follow"]>): () => void {
  const events: BlockStored[] = [];
  const roots: Partial<BlockStored>[] = [{}, { extraKeys: [["salt"]] }, { loraName: "sql" }];
  const pick = <T>(list: readonly T[]): T => list[between(random, 0, list.length - 1)]!;
  const tier = (): Tier => (random() < 0.7 ? "gpu" : pick(TIERS));
  return () => {
    const kind = random();
    if (events.length === 0 || kind < 0.45) {
      const parent = events.length === 0 || random() < 0.15 ? null : pick(events).hashes[0]!;
      const blockTokens = pick([1, 2, 4]);
      const tokens = Array.from({ length: blockTokens }, () => between(random, 0, 14));
      const more =
        parent === null
          ? random() < 0.01
            ? { loraId: 7 }
            : pick(roots)
          : random() < 0.03
            ? { extraKeys: [[["picture", 1]]] as const }
            : {};
      const event = storedEvent("", "", {
        hashes: [`${events.length}`],
        tokens,
        blockTokens,
        parent,
        tier: tier(),
        ...more,
      });
      events.push(event);
      view.blocks.apply(event);
    } else if (kind < 0.6) {
      view.blocks.apply({ ...pick(events), tier: tier() });
    } else if (kind < 0.99) {
      view.blocks.apply({
        kind: "removed",
        hashes: [pick(events.slice(-12)).hashes[0]!],
        tier: pick(TIERS),
        group: 0,
      });
    } else {
      view.blocks.apply({ kind: "cleared" });
      events.length = 0;
    }
  };
}

describe("random events of several engines", () => {
  it("leave the gateway with just the cells of what is held", () => {
    let compared = 0;
    withSeeds(120, (random) => {
      const setting = new IndexSetting();
      const tokens = wildTokens();
      const engines = [
        setting.follow(A, 0, { tokens }),
        setting.follow(A, 1, { tokens }),
        setting.follow("10.0.0.2:8000", 0, { tokens }),
      ];
      const steps = engines.map((view) => randomEvents(random, view));
      for (let step = 0; step < 150; step++) {
        steps[between(random, 0, steps.length - 1)]!();
        // Blocks come whose parents are gone: that is a fault of such a view, but not of its cells.
        for (const { state } of engines) state.emptied();
        if (random() < 0.3) setting.push(random() < 0.1);
      }
      setting.pushAll();
      for (const [address, endpoint] of setting.index.endpoints) {
        compared += endpoint.reason === null ? 1 : 0;
        if (endpoint.reason !== null) continue;
        expect(setting.slot(address)!.state).toBe("exact");
        expect(setting.slot(address)!.entries).toEqual(setting.expected(address));
      }
      for (const { blocks } of engines) blocks.clear();
      setting.pushAll();
      expect(setting.model.entries).toBe(0);
      expect(setting.index.endpoints.get(A)!.entries).toBe(0);
    });
    expect(compared).toBeGreaterThan(process.env["EPP_TEST_SEED"] === undefined ? 120 : 0);
  });
});
