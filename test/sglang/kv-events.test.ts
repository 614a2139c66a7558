// SGLang's own caches and publisher against the sidecar's view of them: the same tokens, block by block.
import { createServer } from "node:net";
import { afterAll, describe, expect, it, onTestFinished } from "vitest";
import type { CachedBlock } from "../../sidecar/kv-events/block-sink.ts";
import { Subscriber } from "../../sidecar/kv-events/subscriber.ts";
import { makeView, SILENT, type View } from "../sidecar/kv-events-support.ts";
import { between, seeded, seedOf } from "../sidecar/seeds.ts";
import { eventually } from "../sidecar/servers.ts";
import { Engine, type EngineOptions, type Namespace } from "./process.ts";

const SEED = seedOf();
const CACHES = ["rust", "python", "radix"] as const;
const engine = new Engine();
afterAll(() => engine.stop());

/** A port of which the next one is free too, where rank 1 would publish. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port < 65_000 ? port : freePort();
}

interface Followed extends View {
  readonly subscriber: Subscriber;
  readonly options: EngineOptions;
}

/** An empty engine and who follows it. */
async function follow(
  more: Partial<EngineOptions> & { publisher?: object } = {},
  isFollowed = true,
): Promise<Followed> {
  const [port, replayPort] = [await freePort(), await freePort()];
  const publisher = {
    publisher: "zmq",
    endpoint: `tcp://*:${port}`,
    replay_endpoint: `tcp://*:${replayPort}`,
    ...more.publisher,
  };
  const options = { cache: "rust", page: 16, eagle: false, rank: 0, ...more, publisher } as const;
  await engine.start(options);
  const view = makeView();
  const at = (first: number): string => `tcp://127.0.0.1:${first + options.rank}`;
  const subscriber = new Subscriber(
    {
      endpoint: at(port),
      replayEndpoint: at(replayPort),
      topic: "",
      replayTimeoutMs: 2_000,
      idleCheckMs: 300,
    },
    { ...view, log: SILENT, learn: null },
  );
  onTestFinished(() => subscriber.stop());
  if (isFollowed) void subscriber.run();
  return { ...view, subscriber, options };
}

function tokensOf(block: CachedBlock): number[] {
  return [...(block.parent === null ? [] : tokensOf(block.parent)), ...block.bytes];
}

const nameOf = (under: Namespace): string => JSON.stringify([under.lora ?? null, under.salt ?? null]);

/** Texts of the chains that the view holds, by what they are under. */
function chainsOf({ sink }: View): Map<string, Set<string>> {
  const chains = new Map<string, Set<string>>();
  for (const block of sink.held.keys()) {
    const name = JSON.stringify([block.root.lora, block.root.cacheSalt]);
    const texts = chains.get(name) ?? new Set();
    chains.set(name, texts.add(tokensOf(block).join(" ")));
  }
  return chains;
}

/** Says how many tokens of a prompt are cached by what the view holds now. */
function predictor(view: Followed): (tokens: readonly number[], under: Namespace) => number {
  const chains = chainsOf(view);
  const { page } = view.options;
  return (tokens, under) => {
    const held = chains.get(nameOf(under)) ?? new Set();
    let found = 0;
    while (found + page <= tokens.length && held.has(tokens.slice(0, found + page).join(" "))) found += page;
    return found;
  };
}

/** Blocks held by the view are as many as the engine's, and each prompt finds as much as it foretells. */
async function agree(view: Followed, prompts: readonly (readonly [number[], Namespace])[]): Promise<void> {
  const size = await engine.size();
  await eventually("the view has as much as the cache", () => {
    return String(view.state) === "EXACT" && view.sink.held.size * view.options.page === size;
  });
  const predicted = predictor(view);
  for (const [tokens, under] of prompts) {
    expect(predicted(tokens, under), `${nameOf(under)} ${tokens.join(" ")}`).toBe(
      await engine.match(tokens, under),
    );
  }
}

/** Prompts of a small alphabet, many of which begin alike. */
function makePrompts(random: () => number, unders: readonly Namespace[]): [number[], Namespace][] {
  const prompts: [number[], Namespace][] = [];
  for (let made = 0; made < 60; made++) {
    const [before] = prompts[between(random, 0, Math.max(0, made - 1))] ?? [[]];
    const kept = before.slice(0, between(random, 0, before.length));
    const fresh = Array.from({ length: between(random, 1, 60) }, () => between(random, 0, 3));
    prompts.push([[...kept, ...fresh], unders[made % unders.length]!]);
  }
  return prompts;
}

const UNDERS: Namespace[] = [
  {},
  { salt: "tenant-a" },
  { lora: "adapter-a" },
  { lora: "adapter-a", salt: "adapter-a" },
];

describe.each(CACHES)("the cache of kind %s", (cache) => {
  it.each([1, 16])(
    "holds what the view says, in pages of %i: stored, split, matched, evicted",
    async (page) => {
      const view = await follow({ cache, page });
      const random = seeded(SEED + page);
      const prompts = makePrompts(random, UNDERS);
      for (const [index, [tokens, under]] of prompts.entries()) {
        await engine.insert(tokens, under);
        if (random() < 0.3) await engine.match(...prompts[between(random, 0, prompts.length - 1)]!);
        if (random() < 0.3) await engine.evict(between(random, 1, 100));
        await engine.publish();
        if (index % 10 === 9) await agree(view, prompts);
      }
      await engine.evict(1_000_000);
      await engine.publish();
      await agree(view, prompts);
      expect([view.sink.held.size, view.blocks.size, view.blocks.counts.unmatched]).toEqual([0, 0, 0]);
      await engine.insert(...prompts[0]!);
      await engine.reset();
      await engine.publish();
      await agree(view, prompts);
    },
  );

  it("keeps adapters and salts apart with hashes in Dynamo's form", async () => {
    const view = await follow({ cache, page: 4, publisher: { format: "dynamo" } });
    const prompts = UNDERS.map((under): [number[], Namespace] => [[1, 2, 3, 4, 5, 6, 7, 8], under]);
    for (const prompt of prompts.slice(0, 3)) await engine.insert(...prompt);
    await engine.publish();
    await agree(view, prompts);
  });

  it("is foretold within a page where pairs of tokens are cached (EAGLE)", async () => {
    const view = await follow({ cache, page: 4, eagle: true });
    const prompts = makePrompts(seeded(SEED), [{}]);
    for (const [tokens] of prompts) await engine.insert(tokens);
    await engine.evict(200);
    await engine.publish();
    const size = await engine.size();
    await eventually("all of it is known", () => view.sink.held.size * 4 === size);
    expect(String(view.state)).toBe("EXACT");
    const predicted = predictor(view);
    for (const [tokens] of prompts) {
      const more = predicted(tokens, {}) - (await engine.match(tokens));
      expect(more, tokens.join(" ")).toBeGreaterThanOrEqual(0);
      expect(more, tokens.join(" ")).toBeLessThanOrEqual(4);
    }
  });
});

describe("the publisher", () => {
  const prompt = (first: number): number[] => Array.from({ length: 32 }, (_, index) => first + index);

  it("replays what was before the subscription, on the ports of its rank", async () => {
    const view = await follow({ rank: 1 }, false);
    for (let first = 0; first < 4; first++) {
      await engine.insert(prompt(first));
      await engine.publish();
    }
    void view.subscriber.run();
    await agree(view, [[prompt(2), {}]]);
    expect(view.subscriber.history.counts).toMatchObject({ replayedBatches: 4, bad: 0, replayFailures: 0 });
  });

  it("replays what was lost on its way", async () => {
    const view = await follow();
    await engine.insert(prompt(0));
    await engine.publish();
    await agree(view, [[prompt(0), {}]]);
    await engine.drop(2);
    for (let first = 1; first < 5; first++) {
      await engine.insert(prompt(first));
      await engine.publish();
    }
    await agree(view, [[prompt(1), {}]]);
    expect(view.subscriber.history.counts).toMatchObject({ gaps: 1, historiesLost: 0 });
    await engine.drop(1);
    await engine.evict(64);
    await engine.publish();
    // Nothing comes behind it: the idle check finds it.
    await agree(view, [[prompt(0), {}]]);
  });

  it("has lost a history that is longer than it keeps, until the cache is emptied", async () => {
    const view = await follow({ publisher: { buffer_steps: 2 } });
    await engine.insert(prompt(0));
    await engine.publish();
    await agree(view, []);
    await engine.drop(4);
    for (let first = 1; first < 6; first++) {
      await engine.insert(prompt(first));
      await engine.publish();
    }
    await eventually("it is told", () => String(view.state) === "DEGRADED(history-lost)");
    await engine.reset();
    await engine.insert(prompt(9));
    await engine.publish();
    await agree(view, [
      [prompt(9), {}],
      [prompt(1), {}],
    ]);
  });

  it("that starts anew has an empty cache", async () => {
    const view = await follow();
    for (let first = 0; first < 3; first++) {
      await engine.insert(prompt(first));
      await engine.publish();
    }
    await agree(view, []);
    await engine.start(view.options);
    await engine.insert(prompt(7));
    await engine.publish();
    await agree(view, [
      [prompt(7), {}],
      [prompt(0), {}],
    ]);
    expect(view.subscriber.history.counts.restarts).toBe(1);
  });
});
