// What policies remember of prompts: LRUs of blocks, llm-d's index and scores, SGLang's tree.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  kvCacheScore,
  prefixScore,
  queueScores,
  totalScore,
} from "../../host-sim/fleet/policies/llm-d-scorers.ts";
import {
  BLOCK_TOKENS_MIN,
  CLEAN_UP_MS,
  LLM_D,
  matchedBlocks,
  PREFIX_TOKENS_MAX,
  promptBlocks,
} from "../../host-sim/fleet/policies/llm-d.ts";
import { LruBlocks } from "../../host-sim/fleet/policies/lru-blocks.ts";
import { isImbalanced, SGLANG } from "../../host-sim/fleet/policies/sglang.ts";
import { SpanTree } from "../../host-sim/fleet/policies/span-tree.ts";
import type { Span } from "../../host-sim/fleet/types.ts";
import { Random } from "../../host-sim/workload/random.ts";
import { PolicyRig, prompt } from "./support/policy-gateway.ts";

const SEED = Number(process.env["TEST_SEED"] ?? 20_260_801);

function spans(...pairs: readonly (readonly [id: number, tokens: number])[]): Span[] {
  return pairs.map(([id, tokens]) => ({ id, tokens, role: "user" }));
}

describe("LruBlocks", () => {
  it("gives up the head of a chain first when it is used in order, the tail when used from behind", () => {
    const inOrder = new LruBlocks(4);
    inOrder.touch([1, 2, 3]);
    inOrder.touch([7, 8]);
    expect([1, 2, 3, 7, 8].filter((hash) => inOrder.has(hash))).toEqual([2, 3, 7, 8]);
    expect(inOrder.prefixLength([1, 2, 3])).toBe(0);
    const fromBehind = new LruBlocks(4);
    fromBehind.touchTailFirst([1, 2, 3]);
    fromBehind.touchTailFirst([7, 8]);
    expect(fromBehind.prefixLength([1, 2, 3])).toBe(2);
  });

  it("keeps the head of a chain longer than itself when used from behind", () => {
    const blocks = new LruBlocks(2);
    blocks.touchTailFirst([1, 2, 3, 4]);
    expect(blocks.size).toBe(2);
    expect(blocks.prefixLength([1, 2, 3, 4])).toBe(2);
  });

  it("visits the oldest first and forgets all", () => {
    const blocks = new LruBlocks(3);
    blocks.touch([1, 2, 3, 1]);
    const seen: number[] = [];
    blocks.visitOldest(9, (hash) => seen.push(hash));
    expect(seen).toEqual([2, 3, 1]);
    blocks.clear();
    expect([blocks.size, blocks.has(1)]).toEqual([0, false]);
    blocks.touch([5]);
    expect(blocks.prefixLength([5, 6])).toBe(1);
  });

  it(`agrees with a list in order of use (seed ${SEED})`, () => {
    const random = new Random(SEED);
    const capacity = random.integer(1, 20);
    const blocks = new LruBlocks(capacity);
    let list: number[] = [];
    for (let i = 0; i < 5_000; i++) {
      const hash = random.integer(1, 40);
      blocks.touch([hash]);
      list = [...list.filter((one) => one !== hash), hash].slice(-capacity);
      const seen: number[] = [];
      blocks.visitOldest(capacity, (one) => seen.push(one));
      expect(seen).toEqual(list);
      expect(blocks.size).toBe(list.length);
    }
  });
});

interface OracleCase {
  readonly plugin: string;
  readonly name: string;
  readonly input: {
    readonly plugin?: unknown;
    readonly endpoints: readonly {
      readonly metrics: { readonly waiting?: number; readonly kvUsage?: number } | null;
      readonly prefixMatch?: { readonly matchBlocks: number; readonly totalBlocks: number };
    }[];
  };
  readonly expect: { readonly scores: readonly number[] };
}

const ORACLE = new URL("../fixtures/oracles/scorers.json", import.meta.url);
const CASES = (JSON.parse(readFileSync(ORACLE, "utf8")) as { cases: OracleCase[] }).cases;

/** Cases of one scorer in its default configuration. */
function casesOf(plugin: string): (readonly [string, OracleCase])[] {
  return CASES.filter((one) => one.plugin === plugin && one.input.plugin === undefined).map((one) => [
    one.name,
    one,
  ]);
}

function expectScores(actual: readonly number[], expected: readonly number[]): void {
  expect(actual).toHaveLength(expected.length);
  for (const [i, score] of expected.entries()) expect(actual[i]).toBeCloseTo(score, 6);
}

describe("llm-d's scorers against llm-d's own answers", () => {
  it("has cases of all three", () => {
    const counts = ["queue-scorer", "kv-cache-utilization-scorer", "prefix-cache-scorer"].map(
      (plugin) => casesOf(plugin).length,
    );
    expect(counts).toEqual([4, 5, 15]);
  });

  it.each(casesOf("queue-scorer"))("queue: %s", (_, { input, expect: expected }) => {
    expectScores(queueScores(input.endpoints.map(({ metrics }) => metrics?.waiting ?? 0)), expected.scores);
  });

  it.each(casesOf("kv-cache-utilization-scorer"))("KV cache: %s", (_, { input, expect: expected }) => {
    expectScores(
      input.endpoints.map(({ metrics }) => kvCacheScore(metrics?.kvUsage ?? 0)),
      expected.scores,
    );
  });

  it.each(casesOf("prefix-cache-scorer"))("prefix: %s", (_, { input, expect: expected }) => {
    const scores = input.endpoints.map(({ prefixMatch }) =>
      prefixMatch === undefined ? 0 : prefixScore(prefixMatch.matchBlocks, prefixMatch.totalBlocks),
    );
    expectScores(scores, expected.scores);
  });

  it.each([
    [1, 1, 1, 7],
    [0, 0, 0, 0],
    [0.5, 0.25, 1, 4.5],
    [2, -1, 0.5, 3.5],
  ])("sums queue %d, KV cache %d and prefix %d to %d", (queue, kvCache, prefix, sum) => {
    expect(totalScore(queue, kvCache, prefix)).toBeCloseTo(sum, 9);
  });
});

describe("llm-d's index", () => {
  it("counts a block after a gap, and stops where nobody has one", () => {
    const [a, b] = [new LruBlocks(9), new LruBlocks(9)];
    a.touch([1, 2, 5]);
    b.touch([2, 3]);
    expect([...matchedBlocks([a, b, undefined], [1, 2, 3, 4, 5])]).toEqual([2, 2, 0]);
  });

  it("has the partial block at a prompt's end for prompts that end alike there", () => {
    const full = [11, 12];
    const blocks = (...pairs: [number, number][]): Float64Array =>
      promptBlocks({ spans: spans(...pairs), promptTokens: 150 }, full, 64);
    expect([...blocks([1, 100], [2, 50])].slice(0, 2)).toEqual(full);
    expect(blocks([1, 100], [2, 50])).toHaveLength(3);
    expect(blocks([1, 100], [2, 50])[2]).toBe(blocks([1, 100], [2, 50])[2]);
    expect(blocks([1, 100], [2, 50])[2]).not.toBe(blocks([1, 100], [3, 50])[2]);
    expect(promptBlocks({ spans: spans([1, 128]), promptTokens: 128 }, full, 64)).toHaveLength(2);
    expect(promptBlocks({ spans: spans([1, 9]), promptTokens: 9 }, [], 64)).toHaveLength(1);
  });

  it("ends at 131,072 tokens", () => {
    const full = new Float64Array(4_000).fill(1);
    const count = PREFIX_TOKENS_MAX / BLOCK_TOKENS_MIN;
    expect(count).toBe(2_048);
    expect(promptBlocks({ spans: [], promptTokens: 256_000 }, full, 64)).toHaveLength(count);
  });
});

describe("llm-d", () => {
  /** Replicas of `count` requests whose prompts share nothing. */
  async function cold(changes: Parameters<PolicyRig["scrape"]>[0], count = 30): Promise<Set<number>> {
    const rig = await PolicyRig.of(LLM_D, 3);
    rig.scrape(changes);
    return new Set(Array.from({ length: count }, (_, i) => rig.route(prompt(i, [[i, 640]]))));
  }

  it("chooses equal ones by chance", async () => {
    expect(await cold({})).toEqual(new Set([0, 1, 2]));
  });

  it("chooses by the last scrape, whatever it has sent since", async () => {
    expect(await cold({ 0: { waiting: 3 }, 1: { waiting: 2 } })).toEqual(new Set([2]));
    expect(await cold({ 0: { kvUsage: 0.2 }, 2: { kvUsage: 0.3 } })).toEqual(new Set([1]));
  });

  it.each([
    // 10 of 10 blocks are worth 3, the queue 2, the KV cache 2 × usage.
    ["a prefix outweighs the longest queue", { waiting: 9 }, true],
    ["a prefix outweighs a full cache", { kvUsage: 1 }, true],
    ["queue and cache together outweigh a prefix", { waiting: 9, kvUsage: 0.6 }, false],
    ["queue and a less full cache do not", { waiting: 9, kvUsage: 0.4 }, true],
  ] as const)("%s", async (_, metrics, kept) => {
    const rig = await PolicyRig.of(LLM_D, 2);
    const home = rig.serve(prompt(0, [[1, 640]]));
    rig.scrape({ [home]: metrics });
    expect(rig.route(prompt(1, [[1, 640]])) === home).toBe(kept);
  });

  it("keeps its index when an engine restarts, and drops it when a replica is gone for long", async () => {
    const rig = await PolicyRig.of(LLM_D, 2);
    const home = rig.serve(prompt(0, [[1, 640]]));
    rig.scrape({ [home]: { generation: 2, waiting: 9 } });
    expect(rig.route(prompt(1, [[1, 640]]))).toBe(home);
    rig.scrape({ [home]: { ready: false } });
    rig.serve(prompt(2, [[5, 640]]), CLEAN_UP_MS);
    rig.scrape({ [home]: { generation: 3, waiting: 9 } });
    expect(rig.route(prompt(3, [[1, 640]]), CLEAN_UP_MS + 1)).toBe(1 - home);
  });

  it.each([
    [128, true],
    [192, false],
  ])(
    "has 12 entries of 64 tokens for 12 blocks of 16: of 640 tokens %i more leave all: %s",
    async (more, kept) => {
      const rig = await PolicyRig.of(LLM_D, 2);
      const kvCapacityTokens = 12 * 16;
      rig.scrape({ 0: { kvCapacityTokens, waiting: 1 }, 1: { kvCapacityTokens } });
      expect(rig.serve(prompt(0, [[1, 640]]))).toBe(1);
      expect(rig.serve(prompt(1, [[2, more]]))).toBe(1);
      // The first block is the first to go, and nobody else has it.
      rig.scrape({ 0: {}, 1: { waiting: 1 } });
      expect(rig.route(prompt(2, [[1, 640]]))).toBe(kept ? 1 : 0);
    },
  );
});

describe("SpanTree", () => {
  it("splits where prompts part, within a span too", () => {
    const tree = new SpanTree();
    tree.insert(spans([1, 100], [2, 50]), 0);
    expect(tree.match(spans([1, 100], [2, 50]))).toEqual({ tokens: 150, replica: 0 });
    tree.insert(spans([1, 100], [3, 70]), 1);
    expect(tree.match(spans([1, 100], [3, 20]))).toEqual({ tokens: 120, replica: 1 });
    tree.insert(spans([1, 40], [4, 10]), 2);
    expect(tree.match(spans([1, 40], [4, 10]))).toEqual({ tokens: 50, replica: 2 });
    expect(tree.match(spans([1, 100], [2, 50])).tokens).toBe(150);
    expect(tree.match(spans([7, 100])).tokens).toBe(0);
    expect([0, 1, 2].map((replica) => tree.tokensOf(replica))).toEqual([150, 170, 50]);
  });

  it("names who made a node as long as that one has it", () => {
    const tree = new SpanTree();
    tree.insert(spans([1, 100]), 3);
    tree.insert(spans([1, 100]), 2);
    expect(tree.match(spans([1, 100])).replica).toBe(3);
    tree.remove(3);
    expect(tree.match(spans([1, 100])).replica).toBe(2);
    expect([tree.tokensOf(3), tree.tokensOf(2)]).toEqual([0, 100]);
    tree.remove(2);
    expect(tree.match(spans([1, 100]))).toEqual({ tokens: 0, replica: -1 });
  });

  it("takes the least recently used leaves of those that have too much", () => {
    const tree = new SpanTree();
    tree.insert(spans([1, 100], [2, 50]), 0);
    tree.insert(spans([1, 100], [3, 50]), 0);
    tree.insert(spans([1, 100], [2, 50]), 1);
    tree.evict(150);
    expect([tree.tokensOf(0), tree.tokensOf(1)]).toEqual([150, 150]);
    expect(tree.match(spans([1, 100], [3, 50]))).toEqual({ tokens: 150, replica: 0 });
    expect(tree.match(spans([1, 100], [2, 50]))).toEqual({ tokens: 150, replica: 1 });
    tree.evict(0);
    expect([tree.tokensOf(0), tree.tokensOf(1)]).toEqual([0, 0]);
    expect(tree.match(spans([1, 100])).tokens).toBe(0);
  });

  it(`agrees with a comparison of all prompts (seed ${SEED})`, () => {
    const random = new Random(SEED);
    const tree = new SpanTree();
    const inserted: Span[][] = [];
    for (let i = 0; i < 400; i++) {
      const length = random.integer(1, 5);
      // Few ids and two lengths, so that prompts part between spans and within them.
      const one = spans(
        ...Array.from({ length }, () => [random.integer(0, 2), random.pick([3, 5])] as [number, number]),
      );
      const expected = Math.max(0, ...inserted.map((other) => commonTokens(one, other)));
      expect(tree.match(one).tokens).toBe(expected);
      tree.insert(one, random.integer(0, 3));
      inserted.push(one);
    }
  });
});

/** Leading tokens that two prompts have in common. */
function commonTokens(a: readonly Span[], b: readonly Span[]): number {
  let common = 0;
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    if (a[i]!.id !== b[i]!.id) break;
    common += Math.min(a[i]!.tokens, b[i]!.tokens);
    if (a[i]!.tokens !== b[i]!.tokens) break;
  }
  return common;
}

describe("sglang", () => {
  it.each([
    [0, 64, false],
    [0, 65, true],
    [200, 300, false],
    [200, 301, true],
    [20, 84, false],
    [20, 85, true],
  ])("with loads from %i to %i is imbalanced: %s", (least, most, imbalanced) => {
    expect(isImbalanced(least, most)).toBe(imbalanced);
  });

  it("follows a match of more than 30 % and else takes the least loaded", async () => {
    const rig = await PolicyRig.of(SGLANG, 3);
    const home = rig.route(
      prompt(0, [
        [1, 300],
        [2, 700],
      ]),
    );
    expect(home).toBe(0);
    expect(
      rig.route(
        prompt(1, [
          [1, 300],
          [3, 700],
        ]),
      ),
    ).toBe(1);
    expect(
      rig.route(
        prompt(2, [
          [1, 300],
          [2, 1],
          [4, 699],
        ]),
      ),
    ).toBe(home);
  });

  it("balances while loads are far apart, and remembers what it did", async () => {
    const rig = await PolicyRig.of(SGLANG, 2);
    const chosen = Array.from({ length: 66 }, (_, i) => rig.route(prompt(i, [[1, 500]])));
    expect(chosen.slice(0, 65).every((replica) => replica === 0)).toBe(true);
    expect(chosen[65]).toBe(1);
    expect(
      rig.route(
        prompt(66, [
          [1, 500],
          [9, 10],
        ]),
      ),
    ).toBe(0);
  });

  it("forgets a replica whose process is another one", async () => {
    const rig = await PolicyRig.of(SGLANG, 2);
    expect(rig.route(prompt(0, [[1, 500]]))).toBe(0);
    rig.scrape({ 0: { generation: 2 } });
    expect(rig.route(prompt(1, [[1, 500]]))).toBe(1);
  });
});
