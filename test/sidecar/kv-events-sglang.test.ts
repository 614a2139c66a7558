// What SGLang publishes, as its own code wrote it: read, and put into chains.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { CachedBlock } from "../../sidecar/kv-events/block-sink.ts";
import { decodeBatch } from "../../sidecar/kv-events/decode.ts";
import { type KvEvent, type KvEventBatch, MEDIA_TOKEN } from "../../sidecar/kv-events/events.ts";
import { makeView, storedEvent, type View } from "./kv-events-support.ts";

const recorded = JSON.parse(
  readFileSync(new URL("../fixtures/kv-events/sglang-0.5.23.json", import.meta.url), "utf8"),
) as {
  frames: string[][];
  eagle: string[][];
  pageOfOne: string[][];
  arrays: Record<string, string>;
};

const decoded = (payload: string): KvEventBatch => decodeBatch(Buffer.from(payload, "base64"));
const read = (frames: string[][]): KvEventBatch[] => frames.map(([, , payload]) => decoded(payload!));

/** A view that all of them were applied to. */
function viewOf(events: readonly KvEvent[]): View {
  const view = makeView();
  view.state.setProgress(null);
  for (const event of events) view.blocks.apply(event);
  return view;
}

/** The chains that are held: adapter, salt, tokens. */
function chains({ sink }: View): unknown[] {
  const tokens = (block: CachedBlock): number[] => [
    ...(block.parent === null ? [] : tokens(block.parent)),
    ...block.bytes,
  ];
  return [...sink.held.keys()].map((block) => [block.root.lora, block.root.cacheSalt, tokens(block)]);
}

const count = (first: number, last: number): number[] =>
  Array.from({ length: last - first + 1 }, (_, index) => first + index);

describe("messages of a real SGLang 0.5.23", () => {
  const batches = read(recorded.frames);
  const upTo = (batch: number): View => viewOf(batches.slice(0, batch).flatMap(({ events }) => events));

  it("are read whole, with the rank and signed hashes", () => {
    expect(batches.map(({ rank, events }) => [rank, events.map(({ kind }) => kind)])).toEqual([
      [1, ["cleared"]],
      [1, ["stored", "stored"]],
      [1, ["stored"]],
      [1, ["stored"]],
      [1, ["stored"]],
      [1, ["removed"]],
      [1, ["stored"]],
      [1, ["cleared"]],
    ]);
    expect(batches[1]!.events[0]).toMatchObject({
      hashes: [5_428_511_633_061_281_808n, -13_757_886_277_339_546n, 5_553_466_273_895_294_815n],
      parent: null,
      blockTokens: 4,
      tier: "gpu",
      extraKeys: null,
    });
  });

  it("put salt and adapter at the root of the chain, also where they are one word", () => {
    expect(chains(upTo(5))).toEqual([
      ...[count(10, 13), count(10, 17), count(10, 21)].map((tokens) => [null, null, tokens]),
      [null, null, [...count(10, 17), 1, 2, 3, 4]],
      ...[count(10, 13), count(10, 17), count(10, 21)].map((tokens) => [null, "tenant-a", tokens]),
      ...[count(10, 13), count(10, 17), count(10, 21)].map((tokens) => ["adapter-a", "adapter-a", tokens]),
      ["adapter-a", "adapter-a", [...count(10, 21), 99, 99, 99, 99]],
    ]);
  });

  it("take an evicted block away", () => {
    expect(chains(upTo(6))).not.toContainEqual([null, null, count(10, 21)]);
    expect(chains(upTo(6))).toHaveLength(10);
  });

  it("leave a picture's block and what is behind it out, which is no fault", () => {
    const view = upTo(7);
    expect(batches[6]!.events[0]).toMatchObject({ tokens: [10, 11, MEDIA_TOKEN, MEDIA_TOKEN] });
    expect([String(view.state), chains(view).length]).toEqual(["EXACT", 10]);
    const { hashes } = batches[6]!.events[0] as { hashes: readonly bigint[] };
    view.blocks.apply(storedEvent("x", "ab", { parent: hashes[0]! }));
    expect([String(view.state), chains(view).length]).toEqual(["EXACT", 10]);
    view.blocks.apply({ kind: "removed", hashes: ["x", ...hashes], tier: "gpu", group: 0 });
    expect([chains(view).length, view.blocks.counts.unmatched]).toEqual([10, 0]);
    expect(chains(upTo(8))).toEqual([]);
  });

  it("have pairs of tokens with EAGLE, of which the first counts", () => {
    const view = viewOf(read(recorded.eagle).flatMap(({ events }) => events));
    expect(chains(view)).toEqual([count(10, 13), count(10, 17)].map((tokens) => [null, null, tokens]));
  });

  it("may have blocks of one token", () => {
    const view = viewOf(read(recorded.pageOfOne).flatMap(({ events }) => events));
    expect(chains(view)).toEqual([[10], [10, 11], [10, 11, 12]].map((tokens) => [null, null, tokens]));
  });
});

describe("messages of older ones", () => {
  it("are arrays", () => {
    const { events, rank } = decoded(recorded.arrays["0.5.10"]!);
    expect([rank, events.length, events[2], events[3]]).toEqual([
      0,
      4,
      { kind: "removed", hashes: [-13_757_886_277_339_546n], tier: "cpu", group: 0 },
      { kind: "cleared" },
    ]);
    expect(chains(viewOf(events.slice(0, 2)))).toEqual(
      [count(10, 13), count(10, 17), [...count(10, 17), 1, 2, 3, 4]].map((tokens) => [null, null, tokens]),
    );
  });

  it("have the salt in a map behind the medium (0.5.18)", () => {
    expect(chains(viewOf(decoded(recorded.arrays["0.5.18"]!).events))).toEqual([
      [null, null, count(10, 13)],
      [null, "tenant-a", count(10, 13)],
      [null, "tenant-a", count(10, 17)],
    ]);
  });
});
