// What a view makes of events: copies, tiers, groups, chains, roots, limits, and what it tells its sink.
import { describe, expect, it } from "vitest";
import type { CachedBlock } from "../../sidecar/kv-events/block-sink.ts";
import type { ExtraKey } from "../../sidecar/kv-events/events.ts";
import { BLOCK_TOKENS_MAX, TOKEN_BYTES_MAX, VIEW_TEXT_BYTES_MIN } from "../../sidecar/kv-events/limits.ts";
import { TokenTable } from "../../sidecar/kv-events/token-table.ts";
import { makeView, removedEvent, storedEvent, type View } from "./kv-events-support.ts";
import { between, withSeeds } from "./seeds.ts";

/** The blocks that are held, by the bytes of their chains. */
function chains({ sink }: View): string[] {
  return [...sink.held.keys()].map(chainOf).sort();
}

function chainOf(block: CachedBlock): string {
  return (block.parent === null ? "" : chainOf(block.parent)) + Buffer.from(block.bytes).toString("latin1");
}

describe("chains", () => {
  it("join blocks by their parents, with the bytes of each", () => {
    const view = makeView();
    view.blocks.apply(storedEvent("ab", "wxyz"));
    view.blocks.apply(storedEvent("c", "12", { parent: "b" }));
    view.blocks.apply(storedEvent("d", "34", { parent: "a" }));
    expect(view.sink.take()).toEqual(["stored gpu wx", "stored gpu yz", "stored gpu 12", "stored gpu 34"]);
    expect(chains(view)).toEqual(["wx", "wx34", "wxyz", "wxyz12"]);
    const c = [...view.sink.held.keys()].find(({ hash }) => hash === "c")!;
    expect([c.startByte, c.endTokens, c.parent!.hash, c.root.hasMedia]).toEqual([4, 6, "b", false]);
  });

  it("are exact as bytes where a block ends inside a character", () => {
    const view = makeView();
    const text = Buffer.from("é€😀x");
    const hashes = ["a", "b", "c", "d", "e"];
    view.blocks.apply(storedEvent("", "", { hashes, tokens: [...text] }));
    const last = [...view.sink.held.keys()].at(-1)!;
    expect(Buffer.from(chainOf(last), "latin1")).toEqual(text);
    expect([...view.sink.held.keys()].map(({ startByte }) => startByte)).toEqual([0, 2, 4, 6, 8]);
  });

  it("stay known while a block descends from them, and are forgotten from the end", () => {
    const view = makeView();
    view.blocks.apply(storedEvent("abc", "uvwxyz"));
    view.blocks.apply(removedEvent("a"));
    expect([view.blocks.size, chains(view)]).toEqual([3, ["uvwx", "uvwxyz"]]);
    view.blocks.apply(storedEvent("d", "12", { parent: "c" }));
    view.blocks.apply(removedEvent("bc"));
    expect([view.blocks.size, chains(view)]).toEqual([4, ["uvwxyz12"]]);
    view.blocks.apply(storedEvent("a", "uv"));
    expect(chains(view)).toEqual(["uv", "uvwxyz12"]);
    view.blocks.apply(removedEvent("d"));
    expect([view.blocks.size, chains(view)]).toEqual([1, ["uv"]]);
    expect(String(view.state)).toBe("DEGRADED(starting)");
  });

  it("have no place without their parent, and get it when the block comes again", () => {
    const view = makeView();
    view.state.setProgress(null);
    view.blocks.apply(storedEvent("b", "yz", { parent: "a" }));
    expect([String(view.state), view.sink.take(), view.blocks.size]).toEqual([
      "DEGRADED(unknown-parent)",
      [],
      1,
    ]);
    view.blocks.apply(storedEvent("a", "wx"));
    view.blocks.apply(storedEvent("b", "yz", { parent: "a" }));
    expect(view.sink.take()).toEqual(["stored gpu wx", "stored gpu yz"]);
    view.blocks.apply(removedEvent("b"));
    expect(view.sink.take()).toEqual([]);
    view.blocks.apply(removedEvent("b"));
    expect(view.sink.take()).toEqual(["removed gpu yz"]);
  });

  it("tell when one hash has two places", () => {
    const view = makeView();
    view.state.setProgress(null);
    view.blocks.apply(storedEvent("ab", "wxyz"));
    view.blocks.apply(storedEvent("b", "yz"));
    expect(String(view.state)).toBe("DEGRADED(conflicting-block)");
    view.blocks.apply({ kind: "cleared" });
    expect([String(view.state), view.blocks.size]).toEqual(["EXACT", 0]);
  });

  it("leave the first space out that a tokenizer writes by itself, behind special tokens too", () => {
    const tokens = new TokenTable({ dropsFirstSpace: true });
    tokens.add(0, Buffer.from("<s>"), true);
    tokens.add(1, Buffer.from(" the"));
    const view = makeView({ tokens });
    view.blocks.apply(storedEvent("ab", "", { tokens: [0, 1, 1, 1] }));
    view.blocks.apply(storedEvent("c", "", { tokens: [1, 1] }));
    view.blocks.apply(storedEvent("d", "", { tokens: [0, 0] }));
    expect(chains(view)).toEqual(["<s><s>", "<s>the", "<s>the the the", "the the"]);
  });

  it("end before a token that is not known", () => {
    const view = makeView();
    view.state.setProgress(null);
    view.blocks.apply(storedEvent("abc", "", { tokens: [65, 66, 67, 999, 68, 69] }));
    expect([String(view.state), chains(view), view.blocks.size]).toEqual([
      "DEGRADED(unknown-token)",
      ["AB"],
      3,
    ]);
    view.blocks.apply(removedEvent("cba"));
    expect(view.blocks.size).toBe(0);
  });
});

describe("copies", () => {
  it("are counted by hash: the first and the last are told", () => {
    const view = makeView();
    for (let i = 0; i < 3; i++) view.blocks.apply(storedEvent("a", "wx"));
    for (let i = 0; i < 2; i++) view.blocks.apply(removedEvent("a"));
    expect(view.sink.take()).toEqual(["stored gpu wx"]);
    view.blocks.apply(removedEvent("aa"));
    expect(view.sink.take()).toEqual(["removed gpu wx"]);
    expect(view.blocks.counts).toMatchObject({ stored: 3, removed: 3, unmatched: 1 });
  });

  it("are counted by tier; a move without tokens keeps the place", () => {
    const view = makeView();
    view.blocks.apply(storedEvent("a", "wx"));
    view.blocks.apply(storedEvent("a", "", { tier: "cpu" }));
    view.blocks.apply(removedEvent("a"));
    view.blocks.apply(storedEvent("a", "", { tier: "disk" }));
    view.blocks.apply(removedEvent("a", "cpu"));
    expect(view.sink.take()).toEqual([
      "stored gpu wx",
      "stored cpu wx",
      "removed gpu wx",
      "stored disk wx",
      "removed cpu wx",
    ]);
    view.blocks.apply(removedEvent("a", "disk"));
    expect(view.blocks.size).toBe(0);
  });

  it("in a tier that came first are told once the place is known", () => {
    const view = makeView();
    view.blocks.apply(storedEvent("a", "", { tier: "cpu" }));
    expect(view.sink.take()).toEqual([]);
    view.blocks.apply(storedEvent("a", "wx"));
    expect(view.sink.take()).toEqual(["stored cpu wx", "stored gpu wx"]);
  });

  it("of groups without full attention, and of foreign media, do not count", () => {
    const view = makeView();
    view.blocks.apply(storedEvent("a", "wx"));
    view.blocks.apply(storedEvent("a", "wx", { group: 1, groupKind: "sliding_window" }));
    view.blocks.apply(storedEvent("a", "wx", { tier: null }));
    view.blocks.apply(removedEvent("a", "gpu", 1));
    expect(view.sink.take()).toEqual(["stored gpu wx"]);
    view.blocks.apply(removedEvent("a", "gpu", 0));
    expect(view.sink.take()).toEqual(["removed gpu wx"]);
    expect(view.blocks.counts).toMatchObject({ ignored: 3, unmatched: 0 });
  });

  it("of several groups with full attention count where all of them have one, as engines look in all", () => {
    const view = makeView();
    view.blocks.apply(storedEvent("ab", "wxyz"));
    expect(view.sink.take()).toEqual(["stored gpu wx", "stored gpu yz"]);
    view.blocks.apply(storedEvent("a", "wx", { group: 2 }));
    expect(view.sink.take()).toEqual(["removed gpu wx", "removed gpu yz", "stored gpu wx"]);
    view.blocks.apply(storedEvent("b", "yz", { group: 2, parent: "a" }));
    expect(view.sink.take()).toEqual(["stored gpu yz"]);
    view.blocks.apply(storedEvent("b", "", { group: 2, tier: "cpu" }));
    view.blocks.apply(removedEvent("b", "gpu", 2));
    view.blocks.apply(removedEvent("b", "gpu", 0));
    view.blocks.apply(removedEvent("a", "gpu", 0));
    expect(view.sink.take()).toEqual(["removed gpu yz", "removed gpu wx"]);
    expect([view.blocks.size, view.sink.held.size]).toEqual([2, 0]);
    view.blocks.apply(storedEvent("ab", "wxyz"));
    expect(view.sink.take()).toEqual(["stored gpu wx"]);
    view.blocks.apply({ kind: "cleared" });
    view.blocks.apply(storedEvent("a", "wx"));
    expect(view.sink.take()).toEqual(["cleared", "stored gpu wx"]);
  });

  it("of a group that says only later that it has no full attention are not asked for any more", () => {
    const view = makeView();
    view.blocks.apply(storedEvent("ab", "", { group: 1, groupKind: null, tier: "cpu" }));
    view.blocks.apply(storedEvent("ab", "wxyz"));
    expect(view.sink.take()).toEqual([]);
    view.blocks.apply(storedEvent("a", "wx", { group: 1, groupKind: "sliding_window" }));
    expect(view.sink.take()).toEqual(["stored gpu wx", "stored gpu yz"]);
  });

  it("of three groups in random order are told where none of the groups lacks one", () => {
    withSeeds(50, (random) => {
      const view = makeView();
      const groups = [0, 1, 2].map(() => new Map<string, number>());
      const store = (group: number): void => {
        view.blocks.apply(storedEvent("ab", "wxyz", { group }));
        for (const name of "ab") groups[group]!.set(name, (groups[group]!.get(name) ?? 0) + 1);
      };
      // All groups store in an engine's first step.
      for (const group of groups.keys()) store(group);
      for (let step = 0; step < 80; step++) {
        const group = between(random, 0, 2);
        const name = random() < 0.5 ? "a" : "b";
        if (random() < 0.5) {
          store(group);
        } else {
          view.blocks.apply(removedEvent(name, "gpu", group));
          groups[group]!.set(name, Math.max(0, groups[group]!.get(name)! - 1));
        }
        const expected = [..."ab"].filter((one) => groups.every((copies) => copies.get(one)! > 0));
        expect([...view.sink.held.keys()].map(({ hash }) => hash).sort()).toEqual(expected);
      }
    });
  });

  it("beyond the limit are left out, and the view says so until it is empty", () => {
    const view = makeView({ blocksMax: 2 });
    view.state.setProgress(null);
    view.blocks.apply(storedEvent("abc", "uvwxyz"));
    expect([String(view.state), chains(view)]).toEqual(["DEGRADED(too-many-blocks)", ["uv", "uvwx"]]);
    view.blocks.apply(removedEvent("ab"));
    expect([String(view.state), view.blocks.size]).toEqual(["DEGRADED(too-many-blocks)", 0]);
    view.blocks.apply({ kind: "cleared" });
    expect(String(view.state)).toBe("EXACT");
  });

  it("have no text beyond what is kept of one engine, however long its blocks are", () => {
    const table = new TokenTable({ dropsFirstSpace: false });
    table.add(0, Buffer.alloc(TOKEN_BYTES_MAX, "x"));
    const view = makeView({ tokens: table });
    view.state.setProgress(null);
    const blockTokens = BLOCK_TOKENS_MAX;
    const tokens = new Array<number>(blockTokens).fill(0);
    const most = VIEW_TEXT_BYTES_MIN / (BLOCK_TOKENS_MAX * TOKEN_BYTES_MAX);
    const names = [..."abcdefghijklmnopqrst"];
    expect(names.length).toBeGreaterThan(most);
    for (const name of names.slice(0, most))
      view.blocks.apply(storedEvent(name, "", { tokens, blockTokens }));
    expect([String(view.state), view.sink.held.size]).toEqual(["EXACT", most]);
    view.blocks.apply(removedEvent("a"));
    view.blocks.apply(storedEvent("a", "", { tokens, blockTokens }));
    expect(String(view.state)).toBe("EXACT");
    for (const name of names.slice(most)) view.blocks.apply(storedEvent(name, "", { tokens, blockTokens }));
    expect([String(view.state), view.sink.held.size]).toEqual(["DEGRADED(too-many-blocks)", most]);
    view.blocks.apply({ kind: "cleared" });
    view.blocks.apply(storedEvent("a", "", { tokens, blockTokens }));
    expect([String(view.state), view.sink.held.size]).toEqual(["EXACT", 1]);
  });

  it("agree with a plain count under random events, whatever their order", () => {
    withSeeds(200, (random) => {
      const view = makeView();
      const copies = new Map<string, number>();
      const names = "abcdef";
      for (let step = 0; step < 120; step++) {
        const length = between(random, 1, names.length);
        if (random() < 0.5) {
          const from = between(random, 0, length - 1);
          const parent = from === 0 ? null : names[from - 1]!;
          view.blocks.apply(storedEvent(names.slice(from, length), "..".repeat(length - from), { parent }));
          for (const name of names.slice(from, length)) copies.set(name, (copies.get(name) ?? 0) + 1);
        } else {
          const name = names[length - 1]!;
          view.blocks.apply(removedEvent(name));
          copies.set(name, Math.max(0, (copies.get(name) ?? 0) - 1));
        }
        const held: [unknown, number][] = [];
        view.blocks.forEachHeld((hash, _, count) => void held.push([hash, count]));
        const counted = [...copies].filter(([, count]) => count > 0);
        expect(Object.fromEntries(held)).toEqual(Object.fromEntries(counted));
      }
    });
  });
});

describe("roots", () => {
  /** The root of the last block of a chain of two. */
  function rootOf(
    keys: readonly (readonly ExtraKey[] | null)[] | null,
    lora: object = {},
  ): CachedBlock["root"] {
    const view = makeView();
    view.blocks.apply(storedEvent("ab", "wxyz", { extraKeys: keys, ...lora }));
    return [...view.sink.held.keys()][1]!.root;
  }

  it("tell base model, adapters and salts apart, and are equal over replicas", () => {
    const adapter = { loraName: "x", loraId: 1 };
    const roots = [
      rootOf(null),
      rootOf([["s"], null]),
      rootOf([["x"], ["x"]], adapter),
      rootOf([["x", "s"], ["x"]], adapter),
      rootOf(null, { loraId: 7 }),
    ];
    expect(roots.map(({ lora, cacheSalt }) => [lora, cacheSalt])).toEqual([
      [null, null],
      [null, "s"],
      ["x", null],
      ["x", "s"],
      ["#7", null],
    ]);
    expect(new Set(roots.map(({ key }) => key)).size).toBe(roots.length);
    expect(rootOf([["x", "s"], ["x"]], adapter).key).toBe(roots[3]!.key);
    expect(rootOf([null, null]).key).toBe(roots[0]!.key);
  });

  it("are another from the block on that holds a picture, by what it is and where it stands", () => {
    const text = rootOf([["s"], null]);
    const one = rootOf([["s"], [["pic", 3]]]);
    const moved = rootOf([["s"], [["pic", 4]]]);
    const two = rootOf([
      [["pic", 3], "s"],
      [["pic", -13], "digest"],
    ]);
    expect([text, one, two].map(({ cacheSalt, hasMedia }) => [cacheSalt, hasMedia])).toEqual([
      ["s", false],
      ["s", true],
      ["s", true],
    ]);
    expect(new Set([text, one, moved, two].map(({ key }) => key)).size).toBe(4);
  });

  it("have one size however many pictures stand before a block", () => {
    const pictures = Array.from({ length: 2_000 }, (_, i) => [[`${i}`.padStart(64, "p"), 0]] as const);
    const sizes = [1, 2_000].map((count) => JSON.stringify(rootOf(pictures.slice(0, count))).length);
    expect(sizes[1]).toBe(sizes[0]);
  });
});
