// KV event messages: those of real engines, every encoding, bounds, and bytes that are no message.
import { readFileSync } from "node:fs";
import { Encoder } from "@msgpack/msgpack";
import { describe, expect, it } from "vitest";
import { BadEventError } from "../../sidecar/errors.ts";
import { decodeBatch, isFullAttention } from "../../sidecar/kv-events/decode.ts";
import type { BlockStored, KvEvent } from "../../sidecar/kv-events/events.ts";
import * as limits from "../../sidecar/kv-events/limits.ts";
import { checkShape } from "../../sidecar/kv-events/msgpack-shape.ts";
import { between, withSeeds } from "./seeds.ts";

const encoder = new Encoder({ useBigInt64: true });
const encode = (value: unknown): Uint8Array => encoder.encode(value);
const U64 = 17_499_890_819_549_492_790n;

/** A batch of one event, decoded. */
function eventOf(event: unknown): KvEvent {
  const { events } = decodeBatch(encode([1.5, [event], 3]));
  expect(events).toHaveLength(1);
  return events[0]!;
}

/** A stored event as vLLM 0.32 writes it. */
const STORED = {
  type: "BlockStored",
  block_hashes: [U64, 7],
  parent_block_hash: null,
  token_ids: [1, 2, 3, 4],
  block_size: 2,
  lora_id: null,
  medium: "GPU",
  lora_name: null,
  extra_keys: [["tenant-a"], null],
  group_idx: 0,
  kv_cache_spec_kind: "full_attention",
};

describe("messages of a real vLLM 0.32.0", () => {
  const { frames } = JSON.parse(
    readFileSync(new URL("../fixtures/kv-events/vllm-0.32.json", import.meta.url), "utf8"),
  ) as { frames: string[][] };
  const batches = frames.map(([, , payload]) => decodeBatch(Buffer.from(payload!, "base64")));
  const stored = batches.map(({ events }) => events[0] as BlockStored);

  it("are read whole", () => {
    expect(batches.map(({ rank, events }) => [rank, events.length])).toEqual([
      [0, 1],
      [0, 1],
      [0, 1],
    ]);
    expect(batches[0]!.timeSeconds).toBeCloseTo(1_795_273_822.948_862_8, 5);
    expect(stored[0]).toMatchObject({
      kind: "stored",
      hashes: [U64, 13_932_922_643_197_915_133n],
      parent: null,
      blockTokens: 32,
      tier: "gpu",
      group: 0,
      groupKind: "full_attention",
      loraName: null,
      extraKeys: [null, null],
    });
    expect(stored[0]!.tokens).toHaveLength(64);
  });

  it("tell salt and adapter apart by their places", () => {
    expect(stored.map(({ extraKeys }) => extraKeys)).toEqual([
      [null, null],
      [["tenant-a"], null],
      [["lora-a", "tenant-a"], ["lora-a"], ["lora-a"]],
    ]);
    expect(stored.map(({ loraId, loraName }) => [loraId, loraName])).toEqual([
      [null, null],
      [null, null],
      [1, "lora-a"],
    ]);
    expect(stored[1]!.tokens).toEqual(stored[0]!.tokens);
    expect(stored[1]!.hashes).not.toEqual(stored[0]!.hashes);
  });
});

describe("encodings", () => {
  const expected: BlockStored = {
    kind: "stored",
    hashes: [U64, 7n],
    parent: null,
    tokens: [1, 2, 3, 4],
    blockTokens: 2,
    loraId: null,
    loraName: null,
    tier: "gpu",
    group: 0,
    groupKind: null,
    extraKeys: null,
  };
  const array = ["BlockStored", [U64, 7], null, [1, 2, 3, 4], 2];

  it.each([
    ["an array of five fields (vLLM 0.9)", array],
    ["one with a medium (vLLM 0.10, SGLang)", [...array, null, "GPU"]],
    ["one with nil in all trailing fields", [...array, null, null, null, null, null, null, null, null]],
    ["one with fields that are newer", [...array, null, "GPU", null, null, 0, null, null, "LOCAL", "x", "y"]],
    [
      "a map without what is null",
      {
        type: "BlockStored",
        block_hashes: [U64, 7],
        token_ids: [1, 2, 3, 4],
        block_size: 2,
      },
    ],
    ["a parent of 0, as llm-d's simulator writes", array.with(2, 0)],
  ])("%s says the same", (_, event) => {
    expect(eventOf(event)).toEqual(expected);
  });

  it("reads removals and clears of both", () => {
    const removed = { kind: "removed", hashes: [9n], tier: "cpu", group: 0 };
    expect(eventOf(["BlockRemoved", [9], "CPU"])).toEqual(removed);
    expect(eventOf({ type: "BlockRemoved", block_hashes: [9], medium: "CPU", group_idx: 2 })).toEqual({
      ...removed,
      group: 2,
    });
    expect(eventOf(["AllBlocksCleared"])).toEqual({ kind: "cleared" });
    expect(eventOf({ type: "AllBlocksCleared" })).toEqual({ kind: "cleared" });
  });

  it("keeps 64-bit, signed and byte hashes apart and whole", () => {
    const bytes = Uint8Array.from({ length: 32 }, (_, i) => 255 - i);
    const event = eventOf(["BlockRemoved", [2n ** 64n - 1n, -(2n ** 63n), -5, 5, bytes]]);
    expect(event).toMatchObject({
      hashes: [2n ** 64n - 1n, -(2n ** 63n), -5n, 5n, Buffer.from(bytes).toString("latin1")],
    });
  });

  it("takes the batch as a map, and without a rank", () => {
    const batch = { ts: 2, events: [{ type: "AllBlocksCleared" }] };
    expect(decodeBatch(encode(batch))).toEqual({
      timeSeconds: 2,
      events: [{ kind: "cleared" }],
      rank: null,
    });
    expect(decodeBatch(encode([2, []])).rank).toBeNull();
  });

  it.each([
    ["GPU", "gpu"],
    ["gpu", "gpu"],
    [null, "gpu"],
    ["CPU", "cpu"],
    ["CPU_PINNED", "cpu"],
    ["STORAGE", "disk"],
    ["DISK", "disk"],
    ["EXTERNAL", null],
  ])("puts the medium %s into the tier %s", (medium, tier) => {
    expect(eventOf({ ...STORED, medium })).toMatchObject({ tier });
  });

  it("takes what another server holds for no tier", () => {
    expect(eventOf({ ...STORED, locality: "REMOTE" })).toMatchObject({ tier: null });
    expect(eventOf({ ...STORED, locality: "LOCAL" })).toMatchObject({ tier: "gpu" });
  });

  it("reads pictures with their offsets, and digests that come as bytes", () => {
    const keys = [[["ab12", -3], "salt"], [Uint8Array.of(1, 255)]];
    expect(eventOf({ ...STORED, extra_keys: keys })).toMatchObject({
      extraKeys: [[["ab12", -3], "salt"], ["01ff"]],
    });
  });

  it("reads blocks without tokens, as a move between tiers is told", () => {
    const moved = { ...STORED, token_ids: [], block_size: 0, medium: "CPU", extra_keys: null };
    expect(eventOf(moved)).toMatchObject({ tokens: [], tier: "cpu" });
  });

  it("does not look at the tokens of groups that leave blocks out", () => {
    const sparse = { ...STORED, token_ids: [1, 2, 3, 4, 5, 6], kv_cache_spec_kind: "sliding_window" };
    expect(eventOf(sparse)).toMatchObject({ tokens: [], groupKind: "sliding_window" });
    expect(isFullAttention("sliding_window")).toBe(false);
    expect(isFullAttention("mla_attention")).toBe(true);
    expect(isFullAttention(null)).toBe(true);
  });
});

describe("bad messages", () => {
  const inBatch = (event: unknown): unknown => [1, [{ type: "AllBlocksCleared" }, event]];
  const long = "x".repeat(limits.TEXT_BYTES_MAX + 1);
  it.each([
    ["ts", ["now", []], "ts is now, expected a time in seconds"],
    ["events", [1, "none"], "events is none, expected an array"],
    ["no batch", 5, "batch is 5, expected an array or a map"],
    ["rank", [1, [], -1], "data_parallel_rank is -1, expected a whole number from 0 to 65535"],
    [
      "event",
      inBatch(7),
      "events[1].type is missing, expected BlockStored, BlockRemoved or AllBlocksCleared",
    ],
    ["type", inBatch(["BlockMoved"]), "events[1].type is BlockMoved, expected BlockStored"],
    ["hashes", inBatch({ type: "BlockRemoved" }), "events[1].block_hashes is missing, expected an array"],
    [
      "hash",
      inBatch(["BlockRemoved", [1, 2.5]]),
      "events[1].block_hashes[1] is 2.5, expected an integer or 1 to 64",
    ],
    ["hash bytes", inBatch(["BlockRemoved", [new Uint8Array(65)]]), "events[1].block_hashes[0] is a map"],
    ["text hash", inBatch(["BlockRemoved", ["abc"]]), "events[1].block_hashes[0] is abc"],
    ["parent", inBatch({ ...STORED, parent_block_hash: [] }), "parent_block_hash is an array of 0"],
    ["tokens", inBatch({ ...STORED, token_ids: [1, 2, 3] }), "token_ids is 3 tokens, expected 2 blocks of 2"],
    ["token", inBatch({ ...STORED, token_ids: [1, 2, -3, 4] }), "token_ids[2] is -3, expected a token id"],
    [
      "size",
      inBatch({ ...STORED, block_size: 8_193 }),
      "block_size is 8193, expected a whole number from 0 to 8192",
    ],
    ["group", inBatch({ ...STORED, group_idx: 64 }), "group_idx is 64, expected a whole number from 0 to 63"],
    ["medium", inBatch({ ...STORED, medium: 1 }), "medium is 1, expected a text"],
    ["name", inBatch({ ...STORED, lora_name: long }), "MessagePack within limits: Max length exceeded"],
    ["keys", inBatch({ ...STORED, extra_keys: [null] }), "extra_keys is 1 entries, expected 2, one a block"],
    ["key", inBatch({ ...STORED, extra_keys: [[[1, 2]], null] }), "extra_keys[0][0] is an array of 2"],
    [
      "number in a picture's place",
      inBatch({ ...STORED, token_ids: [1, 2, 2n ** 63n, 4] }),
      "token_ids[2] is 9223372036854775808, expected a token id from 0 to 9223372036854775807",
    ],
    [
      "pair of tokens",
      inBatch({ ...STORED, token_ids: [[1, 2], [2, 3], [3], [4, 5]] }),
      "token_ids[2] is an array of 1",
    ],
    ["salt", inBatch({ ...STORED, extra_keys: null, cache_salt: 5 }), "cache_salt is 5, expected a text"],
    ["lora", inBatch({ ...STORED, lora_id: "a" }), "lora_id is a, expected a whole number"],
  ])("names a bad %s", (_, batch, message) => {
    expect(() => decodeBatch(encode(batch))).toThrow(BadEventError);
    expect(() => decodeBatch(encode(batch))).toThrow(message);
  });

  it("bounds the number of events, hashes, tokens and keys", () => {
    const events = (count: number): unknown => [1, new Array(count).fill(["AllBlocksCleared"])];
    expect(decodeBatch(encode(events(limits.EVENTS_PER_BATCH_MAX))).events).toHaveLength(65_536);
    expect(() => decodeBatch(encode(events(limits.EVENTS_PER_BATCH_MAX + 1)))).toThrow("at most 65536");
    const hashes = (count: number): unknown => [1, [["BlockRemoved", new Array(count).fill(1)]]];
    expect(decodeBatch(encode(hashes(limits.HASHES_PER_EVENT_MAX))).events).toHaveLength(1);
    expect(() => decodeBatch(encode(hashes(limits.HASHES_PER_EVENT_MAX + 1)))).toThrow("at most 524288");
    const keys = (count: number): unknown => [
      1,
      [{ ...STORED, extra_keys: [new Array(count).fill("k"), null] }],
    ];
    expect(decodeBatch(encode(keys(limits.EXTRA_KEYS_MAX))).events).toHaveLength(1);
    expect(() => decodeBatch(encode(keys(limits.EXTRA_KEYS_MAX + 1)))).toThrow("at most 256");
    expect(() => decodeBatch(new Uint8Array(limits.MESSAGE_BYTES_MAX + 1))).toThrow("at most 4194304 bytes");
  });

  it("allocates nothing for counts that the message has no room for", () => {
    // array32 of 2^32 − 1 entries, 1,000 deep.
    const bomb = Buffer.concat(new Array(1_000).fill(Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff])));
    expect(() => decodeBatch(bomb)).toThrow("4294967295 entries, expected at most 4995");
    const deep = Buffer.from([...new Array(limits.DEPTH_MAX + 1).fill(0x91), 0xc0]);
    expect(() => checkShape(deep)).toThrow("depth 9, expected ≤ 8");
    expect(() => checkShape(deep.subarray(1))).not.toThrow();
  });

  it("finds what is cut off and what is behind the end", () => {
    const whole = encode([1.5, [STORED, ["BlockRemoved", [U64, new Uint8Array(32)]]], 0]);
    expect(() => checkShape(whole)).not.toThrow();
    for (let length = 0; length < whole.length; length++) {
      expect(() => decodeBatch(whole.subarray(0, length))).toThrow(BadEventError);
    }
    expect(() => decodeBatch(Buffer.concat([whole, Buffer.of(0xc0)]))).toThrow("message is");
    expect(() => decodeBatch(Uint8Array.of(0xc1))).toThrow("0xc1, expected a MessagePack format");
  });

  it("walks every format of MessagePack", () => {
    const values = [
      ...[
        null,
        true,
        1.5,
        127,
        -32,
        -33,
        200,
        60_000,
        2 ** 31,
        -200,
        -40_000,
        -(2 ** 31),
        2n ** 63n,
        -(2n ** 62n),
      ],
      ...["", "x".repeat(31), "x".repeat(200), "x".repeat(70_000), new Uint8Array(3), new Uint8Array(300)],
      ...[
        new Uint8Array(70_000),
        new Array(20).fill(1),
        new Array(70_000).fill(0),
        new Date(0),
        new Date(1e15),
      ],
      Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`k${i}`, i])),
    ];
    for (const value of values) expect(() => checkShape(encode([value]))).not.toThrow();
    for (const ext of [
      [0xc7, 1, 9, 0],
      [0xc8, 0, 1, 9, 0],
      [0xc9, 0, 0, 0, 1, 9, 0],
      [0xd4, 9, 0],
    ]) {
      expect(() => checkShape(Uint8Array.from(ext))).not.toThrow();
      expect(() => checkShape(Uint8Array.from(ext.slice(0, -1)))).toThrow(BadEventError);
    }
  });

  it("says so of garbage, and never fails otherwise", () => {
    const samples = [
      encode([1.5, [STORED, STORED], 0]),
      encode([1.5, [["BlockStored", [U64], null, [1, 2], 2], ["BlockRemoved", [1]], ["AllBlocksCleared"]]]),
      encode({ ts: 1, events: [{ toString: 5, type: { valueOf: 1 } }], __proto: 1 }),
    ];
    withSeeds(3_000, (random) => {
      const sample = samples[between(random, 0, samples.length - 1)]!;
      const bytes = Buffer.from(sample.subarray(0, between(random, 1, sample.length)));
      for (let i = between(random, 1, 8); i > 0; i--) {
        bytes[between(random, 0, bytes.length - 1)] = between(random, 0, 255);
      }
      try {
        decodeBatch(bytes);
      } catch (error) {
        if (!(error instanceof BadEventError)) throw error;
      }
    });
  });
});
