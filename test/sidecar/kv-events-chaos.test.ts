// Simulated engines that publish badly, and the view that the sidecar has of them afterwards.
import { describe, expect, it, onTestFinished } from "vitest";
import type { EngineConfig } from "../../host-sim/model-server/engine-types.ts";
import { type KvEventsConfig, kvEventsConfig } from "../../host-sim/model-server/kv-events/config.ts";
import type { SimulatedReplica } from "../../host-sim/model-server/server.ts";
import type { CachedBlock } from "../../sidecar/kv-events/block-sink.ts";
import { Subscriber } from "../../sidecar/kv-events/subscriber.ts";
import { send, startReplica } from "../sim/support/replica.ts";
import {
  heldInEngine,
  heldInView,
  makeView,
  SILENT,
  simulatedTable,
  type View,
} from "./kv-events-support.ts";
import { between, seeded } from "./seeds.ts";
import { eventually } from "./servers.ts";

const TOKENS = simulatedTable();

interface Followed extends View {
  readonly replica: SimulatedReplica;
  readonly subscriber: Subscriber;
  /** Waits until the view is exact and what the engine holds. */
  settled(): Promise<void>;
}

/** A simulated replica with 60 blocks, and a subscription to its only engine. */
async function follow(
  events: Partial<KvEventsConfig> = {},
  engine: Partial<EngineConfig> = {},
  isReplayed = true,
): Promise<Followed> {
  const config = kvEventsConfig({ topic: "kv@replica@tiny", ...events });
  const replica = await startReplica(
    { kvEvents: config, loraModules: ["lora-a", "lora-b"] },
    { blockCount: 61, ...engine },
  );
  const view = makeView({ tokens: TOKENS });
  const { endpoint, replayEndpoint } = replica.kvEvents!.sources[0]!;
  const settings = { endpoint, replayEndpoint: isReplayed ? replayEndpoint : null, topic: "kv@" };
  const subscriber = new Subscriber(
    { ...settings, replayTimeoutMs: 500, idleCheckMs: 100 },
    { ...view, log: SILENT, learn: null },
  );
  onTestFinished(() => subscriber.stop());
  void subscriber.run();
  const isTrue = (): boolean =>
    view.state.degraded === null &&
    heldInView(view.blocks).join() === heldInEngine(cacheOf(replica), config.hashes).join();
  const settled = async (): Promise<void> => {
    await eventually("the view was the engine's cache", isTrue);
  };
  return { ...view, replica, subscriber, settled };
}

function cacheOf(replica: SimulatedReplica): SimulatedReplica["generation"]["engines"][0]["engine"]["cache"] {
  return replica.generation.engines[0]!.engine.cache;
}

const WORDS = ["server", "naïve", "日本語", "cache", "😀", "router", "prefix", "Ünïcode"];

/**
 * A completion whose prompt is about 20 to 200 tokens, out of few, so that prefixes repeat and blocks are evicted. Some
 * are of whole blocks, of which the last is stored anew at every repetition.
 */
async function complete(replica: SimulatedReplica, random: () => number): Promise<void> {
  const words = Array.from({ length: between(random, 20, 200) }, (_, i) => WORDS[(i * i) % WORDS.length]);
  const text = [`tenant ${between(random, 1, 4)}`, ...words].join(" ");
  const whole = Array.from({ length: 16 * between(random, 1, 4) }, (_, i) => 400 + i);
  await send(replica, "/v1/completions", {
    prompt: random() < 0.4 ? whole : text,
    max_tokens: between(random, 1, 40),
    model: random() < 0.3 ? "lora-a" : "tiny",
    ...(random() < 0.3 ? { cache_salt: `salt ${between(random, 1, 2)}` } : {}),
  });
}

/** The text of a whole chain. */
function chainText(block: CachedBlock): Buffer {
  const parts: Uint8Array[] = [];
  for (let at: CachedBlock | null = block; at !== null; at = at.parent) parts.unshift(at.bytes);
  return Buffer.concat(parts);
}

describe("the view of a simulated engine", () => {
  const forms: readonly Partial<KvEventsConfig>[] = [
    { encoding: "map", hashes: "uint64" },
    { encoding: "map", hashes: "bytes" },
    { encoding: "array", hashes: "int64" },
  ];
  it.each(forms)("is its cache, with the text of each chain ($encoding, $hashes)", async (form) => {
    const { replica, blocks, sink, settled } = await follow(form, { blockCount: 1025 });
    const prompt = "The router compares prefix caches: naïve café 日本語 😀. ".repeat(12);
    await send(replica, "/v1/completions", {
      prompt,
      max_tokens: 1,
      cache_salt: "tenant-a",
      model: "lora-b",
    });
    await send(replica, "/v1/completions", { prompt: prompt.slice(0, 300), max_tokens: 1 });
    await settled();
    expect(blocks.size).toBeGreaterThan(5);
    const texts = [...sink.held.keys()].map((block) => {
      expect(block.startByte).toBe(chainText(block).length - block.bytes.length);
      return chainText(block);
    });
    for (const text of texts) expect(Buffer.from(prompt).subarray(0, text.length)).toEqual(text);
    const roots = new Set([...sink.held.keys()].map(({ root }) => `${root.lora} ${root.cacheSalt}`));
    const salted = form.encoding === "map" ? "lora-b tenant-a" : "#2 null";
    expect(roots).toEqual(new Set([salted, "null null"]));
  });

  it("is true from the start for a subscriber that comes late", async () => {
    const { replica, settled } = await follow();
    await settled();
    const random = seeded(1);
    for (let i = 0; i < 5; i++) await complete(replica, random);
    await settled();
    const late = await followAgain(replica);
    await eventually("the late view was exact", () => late.state.degraded === null);
    expect(heldInView(late.blocks)).toEqual(heldInEngine(cacheOf(replica), "uint64"));
    expect(late.subscriber.history.counts.replayedBatches).toBeGreaterThan(0);
  });

  it("counts copies: a prompt of whole blocks stores its last block at every repetition", async () => {
    const { replica, blocks, settled } = await follow();
    const prompt = Array.from({ length: 32 }, (_, i) => 400 + i);
    for (let i = 0; i < 3; i++) await send(replica, "/v1/completions", { prompt, max_tokens: 1 });
    await settled();
    const copies: number[] = [];
    blocks.forEachHeld((_hash, _tier, count) => void copies.push(count));
    expect(copies.sort()).toEqual([1, 3]);
  });

  it("is empty after the cache was reset, as soon as the engine tells", async () => {
    const { replica, blocks, settled } = await follow();
    const random = seeded(2);
    await complete(replica, random);
    await settled();
    expect(blocks.size).toBeGreaterThan(0);
    await send(replica, "/reset_prefix_cache", "");
    await complete(replica, random);
    await settled();
    expect(blocks.counts.cleared).toBe(1);
  });

  it("finds the last batch before a pause that got lost, by asking", async () => {
    const { replica, settled, subscriber } = await follow();
    const random = seeded(3);
    await complete(replica, random);
    await settled();
    const { gaps } = subscriber.history.counts;
    replica.inject({ kvEventsDrop: 1_000 });
    await complete(replica, random);
    await settled();
    expect(subscriber.history.counts.gaps).toBe(gaps);
  });

  it("is that of the new process when one has passed the old one's number unseen", async () => {
    const { replica, settled, subscriber } = await follow();
    const random = seeded(4);
    await complete(replica, random);
    await settled();
    const { batches } = subscriber.history.counts;
    // It publishes while nobody can hear it, more than the old one did.
    await replica.restart();
    replica.inject({ kvEventsDrop: 1_000 });
    while (replica.generation.engines[0]!.engine.counters.steps < 40 * batches)
      await complete(replica, random);
    replica.inject({ kvEventsDrop: 0 });
    await settled();
    expect(subscriber.history.counts.restarts).toBe(1);
  });

  async function followAgain(replica: SimulatedReplica): Promise<View & { subscriber: Subscriber }> {
    const view = makeView({ tokens: TOKENS });
    const source = replica.kvEvents!.sources[0]!;
    const subscriber = new Subscriber(
      { ...source, topic: "", replayTimeoutMs: 500, idleCheckMs: 100 },
      { ...view, log: SILENT, learn: null },
    );
    onTestFinished(() => subscriber.stop());
    void subscriber.run();
    return { ...view, subscriber };
  }
});

describe("chaos", () => {
  const CHAOS: readonly ((replica: SimulatedReplica, random: () => number) => void | Promise<void>)[] = [
    (replica, random) => replica.inject({ kvEventsDrop: between(random, 1, 4) }),
    (replica, random) => replica.inject({ kvEventsDuplicate: between(random, 1, 4) }),
    (replica, random) => replica.inject({ kvEventsGarbage: between(random, 1, 3) }),
    (replica, random) => replica.inject({ kvEventsReorder: between(random, 1, 3) }),
    (replica) => replica.kvEvents!.reconnect(),
    (replica) => replica.restart(),
    async (replica) => void (await send(replica, "/reset_prefix_cache", "")),
  ];
  const fixed = process.env["EPP_TEST_SEED"];
  const first = fixed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(fixed);
  const seeds = fixed === undefined ? [first, first + 1, first + 2, first + 3] : [first];
  const FORMS: readonly Partial<KvEventsConfig>[] = [
    { encoding: "map", hashes: "uint64" },
    { encoding: "array", hashes: "int64" },
    { encoding: "map", hashes: "bytes" },
  ];

  it.each(seeds)("leaves the view true once it is over (EPP_TEST_SEED=%i)", async (seed) => {
    const random = seeded(seed);
    const form = FORMS[seed % FORMS.length]!;
    const { replica, settled, state } = await follow(form);
    for (let round = 0; round < 12; round++) {
      if (random() < 0.6) await CHAOS[between(random, 0, CHAOS.length - 1)]!(replica, random);
      const requests = Array.from({ length: between(random, 1, 4) }, () => complete(replica, random));
      await Promise.all(requests);
      if (random() < 0.3) await settled();
    }
    await settled();
    expect(String(state)).toBe("EXACT");
  });
});
