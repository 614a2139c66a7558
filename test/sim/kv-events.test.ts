// What simulated replicas publish: shapes of real engines, one batch a step, replays, and misbehaviour on demand.
import { decode } from "@msgpack/msgpack";
import { describe, expect, it, onTestFinished } from "vitest";
import { Dealer, Subscriber } from "zeromq";
import { addressOf, serveAdmin } from "../../host-sim/model-server/admin.ts";
import { type KvEventsConfig, kvEventsConfig } from "../../host-sim/model-server/kv-events/config.ts";
import { encodeBatch, publishedHash } from "../../host-sim/model-server/kv-events/encode.ts";
import type { SimulatedReplica } from "../../host-sim/model-server/server.ts";
import { get, send, startReplica } from "./support/replica.ts";

const TOPIC = "kv@replica-0@tiny";
const RECEIVE_TIMEOUT_MS = 20_000;
/** A subscription follows the handshake over the same connection; nothing tells when the publisher has read it. */
const SUBSCRIBED_MS = 400;
/** A prompt of two and a half blocks. */
const PROMPT = Array.from({ length: 40 }, (_, i) => 500 + i);

interface Message {
  readonly topic: string;
  readonly sequence: number;
  readonly batch: [number, Record<string, unknown>[] | unknown[][], number];
}

async function publishing(config: Partial<KvEventsConfig> = {}, blockCount = 101): Promise<SimulatedReplica> {
  const kvEvents = kvEventsConfig({ topic: TOPIC, ...config });
  return startReplica({ kvEvents, loraModules: ["lora-a", "lora-b"] }, { blockCount });
}

/** Reads what a replica publishes; the subscription is in force when this resolves. */
async function listen(replica: SimulatedReplica, rank = 0): Promise<{ next(): Promise<Message> }> {
  const socket = new Subscriber({ receiveTimeout: RECEIVE_TIMEOUT_MS, linger: 0 });
  onTestFinished(() => socket.close());
  const connected = new Promise((resolve) => socket.events.on("handshake", resolve));
  socket.connect(replica.kvEvents!.sources[rank]!.endpoint);
  socket.subscribe("kv@");
  await connected;
  await new Promise((resolve) => setTimeout(resolve, SUBSCRIBED_MS));
  return {
    next: async () => {
      const [topic, sequence, payload] = await socket.receive();
      return {
        topic: topic!.toString(),
        sequence: Number(sequence!.readBigUInt64BE()),
        batch: decode(payload!, { useBigInt64: true }) as Message["batch"],
      };
    },
  };
}

async function complete(
  replica: SimulatedReplica,
  prompt: readonly number[],
  more: object = {},
): Promise<void> {
  await send(replica, "/v1/completions", { prompt, max_tokens: 1, ...more });
}

/** The frames of a replay from `start` on, as hexadecimal where they are numbers. */
async function replay(replica: SimulatedReplica, start: number): Promise<Buffer[][]> {
  const socket = new Dealer({ receiveTimeout: RECEIVE_TIMEOUT_MS, linger: 0 });
  onTestFinished(() => socket.close());
  socket.connect(replica.kvEvents!.sources[0]!.replayEndpoint);
  const number = Buffer.alloc(8);
  number.writeBigUInt64BE(BigInt(start));
  await socket.send(["", number]);
  const answers: Buffer[][] = [];
  for (;;) {
    answers.push(await socket.receive());
    if (answers.at(-1)!.some((frame) => frame.equals(Buffer.alloc(8, 0xff)))) return answers;
  }
}

describe("batches", () => {
  it("are maps with vLLM 0.32's fields, numbered from 0, under the topic", async () => {
    const replica = await publishing();
    const events = await listen(replica);
    await complete(replica, PROMPT, { model: "lora-b", cache_salt: "tenant-a" });
    const { topic, sequence, batch } = await events.next();
    expect([topic, sequence, batch[2]]).toEqual([TOPIC, 0, 0]);
    expect(batch[0]).toBeGreaterThan(1.6e9);
    expect(batch[1]).toEqual([
      {
        type: "BlockStored",
        block_hashes: [expect.any(BigInt), expect.any(BigInt)],
        parent_block_hash: null,
        token_ids: PROMPT.slice(0, 32),
        block_size: 16,
        lora_id: 2,
        medium: "GPU",
        lora_name: "lora-b",
        extra_keys: [["lora-b", "tenant-a"], ["lora-b"]],
        group_idx: 0,
        kv_cache_spec_kind: "full_attention",
      },
    ]);
  });

  it("name the parent of what a longer prompt adds, and carry a rank of their own", async () => {
    const replica = await startReplica({ kvEvents: kvEventsConfig({ topic: TOPIC }), dataParallelSize: 2 });
    const events = await listen(replica, 1);
    const body = (prompt: readonly number[]): object => ({ prompt, max_tokens: 1 });
    await send(replica, "/v1/completions", body(PROMPT), { "x-data-parallel-rank": "1" });
    await send(replica, "/v1/completions", body([...PROMPT, ...PROMPT]), { "x-data-parallel-rank": "1" });
    const [first, second] = [await events.next(), await events.next()];
    const [stored] = first.batch[1] as { block_hashes: bigint[] }[];
    expect(second.batch[1]).toMatchObject([{ parent_block_hash: stored!.block_hashes[1] }]);
    expect(second.batch[2]).toBe(1);
  });

  it("are arrays without names and extra keys in the older shape", async () => {
    const replica = await publishing({ encoding: "array", hashes: "int64" });
    const events = await listen(replica);
    await complete(replica, PROMPT, { model: "lora-a" });
    const { batch } = await events.next();
    const hashes = [expect.any(BigInt), expect.any(BigInt)];
    expect(batch[1]).toEqual([["BlockStored", hashes, null, PROMPT.slice(0, 32), 16, 1, "GPU"]]);
  });

  it("tell of evictions, and of a reset with the next request", async () => {
    const replica = await publishing({}, 6);
    const events = await listen(replica);
    for (const shift of [0, 1000]) {
      await complete(
        replica,
        PROMPT.map((id) => id + shift),
      );
    }
    const [first, second] = [await events.next(), await events.next()];
    const stored = (first.batch[1] as { block_hashes: bigint[] }[])[0]!.block_hashes;
    const types = (second.batch[1] as { type: string; block_hashes: bigint[] }[]).map(
      ({ type, block_hashes: hashes }) => [type, hashes.length],
    );
    // Three blocks are free without content, so that the second prompt's third block evicts nothing.
    expect(types).toEqual([["BlockStored", 2]]);
    await complete(
      replica,
      PROMPT.map((id) => id + 2000),
    );
    expect((await events.next()).batch[1]).toMatchObject([
      { type: "BlockRemoved", block_hashes: [stored[1]], medium: "GPU", group_idx: 0 },
      { type: "BlockRemoved", block_hashes: [stored[0]] },
      { type: "BlockStored" },
    ]);
    await send(replica, "/reset_prefix_cache", "");
    await complete(replica, PROMPT);
    expect((await events.next()).batch[1]).toMatchObject([
      { type: "AllBlocksCleared" },
      { type: "BlockStored" },
    ]);
  });

  it("write hashes one to one in every form", () => {
    const hashes = [1, 2, 255, 2 ** 32, 2 ** 53 - 1];
    for (const form of ["uint64", "int64", "bytes"] as const) {
      const written = hashes.map((hash) => publishedHash(hash, form));
      expect(new Set(written.map((hash) => String(hash))).size).toBe(hashes.length);
      const event = { type: "BlockRemoved", hash: 2 ** 53 - 1 } as const;
      const bytes = encodeBatch([event], 1.5, 0, { encoding: "array", hashes: form });
      const read = decode(bytes, { useBigInt64: true });
      const hash = publishedHash(event.hash, form);
      const plain = typeof hash === "bigint" ? hash : Uint8Array.from(hash);
      expect(read).toEqual([1.5, [["BlockRemoved", [plain], "GPU"]], 0]);
    }
    expect(publishedHash(1, "int64")).toBeLessThan(0n);
  });
});

describe("replays", () => {
  it.each([
    { encoding: "map", frames: 4 },
    { encoding: "array", frames: 3 },
  ] as const)("answer $encoding engines' way, from the number asked for to the end mark", async (shape) => {
    const replica = await publishing({ encoding: shape.encoding, bufferSteps: 2 });
    for (const shift of [0, 100, 200]) {
      await complete(
        replica,
        PROMPT.map((id) => id + shift),
      );
    }
    const answers = await replay(replica, 0);
    expect(answers.map((frames) => frames.length)).toEqual([
      shape.frames,
      shape.frames,
      3 + shape.frames - 3,
    ]);
    const numbers = answers.map((frames) => frames.at(-2)!.toString("hex"));
    expect(numbers).toEqual(["0000000000000001", "0000000000000002", "f".repeat(16)]);
    expect(answers.map((frames) => frames[0]!.length)).toEqual([0, 0, 0]);
    expect(await replay(replica, 2)).toHaveLength(2);
    expect(await replay(replica, 9)).toHaveLength(1);
  });
});

describe("the control port", () => {
  it("drops, repeats, garbles and swaps batches; replays stay right", async () => {
    const replica = await publishing();
    const admin = await serveAdmin([replica], 0);
    onTestFinished(() => void admin.close());
    const post = async (action: string, body: object = {}): Promise<Response> =>
      fetch(`http://${addressOf(admin)}/replicas/all/${action}`, {
        method: "POST",
        body: JSON.stringify(body),
      });
    const events = await listen(replica);
    let shift = 0;
    const step = async (fault: object = {}): Promise<void> => {
      expect((await post("faults", fault)).status).toBe(200);
      shift += 50;
      await complete(
        replica,
        PROMPT.map((id) => id + shift),
      );
    };
    await step({ kvEventsDrop: 1 });
    await step({ kvEventsDuplicate: 1 });
    expect([(await events.next()).sequence, (await events.next()).sequence]).toEqual([1, 1]);
    await step({ kvEventsReorder: 1 });
    await step();
    expect([(await events.next()).sequence, (await events.next()).sequence]).toEqual([3, 2]);
    await step({ kvEventsGarbage: 1 });
    await expect(events.next()).rejects.toThrow();
    await post("kv-events-reconnect");
    const again = await listen(replica);
    await step();
    const numbers: number[] = [(await again.next()).sequence];
    for (let i = 0; i < 3; i++) numbers.push((await again.next()).sequence);
    expect(numbers).toEqual([5, 4, 3, 2]);
    expect(await replay(replica, 0)).toHaveLength(7);
    expect((await post("faults", { kvEventsDrop: "all" })).status).toBe(400);
  });

  it("tells where replicas publish, as their own page does; a restart begins at 0 at the same place", async () => {
    const replica = await publishing();
    const { endpoint, replayEndpoint } = replica.kvEvents!.sources[0]!;
    const page = JSON.parse(await get(replica, "/kv_event_sources")) as Record<string, object>;
    expect(page["0"]).toMatchObject({ endpoint, replay_endpoint: replayEndpoint, topic: TOPIC });
    await complete(replica, PROMPT);
    await replica.restart();
    expect(replica.kvEvents!.sources).toEqual([{ endpoint, replayEndpoint }]);
    expect(await replay(replica, 0)).toHaveLength(1);
    const events = await listen(replica);
    await complete(replica, PROMPT);
    expect((await events.next()).sequence).toBe(0);
    const silent = await startReplica();
    expect(await get(silent, "/kv_event_sources")).toBe("{}");
  });
});

describe("/tokenize", () => {
  it("spells tokens as a byte-level vocabulary does", async () => {
    const replica = await startReplica();
    const { text: answer } = await send(replica, "/tokenize", { prompt: "the é", return_token_strs: true });
    const { token_strs: pieces } = JSON.parse(answer) as { token_strs: string[] };
    expect(pieces.join("")).toBe("theĠÃ©");
  });
});
