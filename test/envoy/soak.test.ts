// Tens of thousands of requests that end in every way there is, at random: afterwards all counters are zero.
//
// EPP_SOAK sets the number of requests (`npm run soak`: 100,000), EPP_SEED the seed; the seed is printed.
import { availableParallelism } from "node:os";
import { Readable } from "node:stream";
import { Agent, type Dispatcher, request } from "undici";
import { afterAll, beforeAll, expect, it } from "vitest";
import { chat, ENVOY_VERSIONS, type Gateway, startGateway } from "./harness.ts";
import { HELD, settled, type Status } from "./status.ts";
import { CHAT_PATH } from "./support.ts";
import type { Behaviour } from "./upstream.ts";

const REQUESTS = Number(process.env["EPP_SOAK"] ?? 10_000);
const SEED = Number(process.env["EPP_SEED"] ?? Date.now() % 1_000_000_007);
const CONCURRENT = 64;
const REPLICAS = 4;
/** Time one request may need on a slow machine, all of them together more than that. */
const TIMEOUT_MS = 60_000 + REQUESTS * 10;

/** A small, fast generator with a seed (Steele, Lea & Flood, "Fast splittable pseudorandom number generators"). */
class Random {
  constructor(private state: number) {}
  below(limit: number): number {
    this.state = (this.state + 0x9e3779b9) | 0;
    let mixed = Math.imul(this.state ^ (this.state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) % limit;
  }
  chance(percent: number): boolean {
    return this.below(100) < percent;
  }
}

/** What the replica does is chosen by the client, so that the seed decides all of it. */
const asTold: Behaviour = async ({ received, response, socket, bodyRead }) => {
  const told = received.headers["x-do"];
  if (told === "reset") return void socket.resetAndDestroy();
  await bodyRead;
  if (told === "error") return void response.writeHead(500).end("{}");
  if (told === "silent") return;
  if (told === "whole") return void response.writeHead(200).end('{"choices":[]}');
  response.writeHead(200, { "content-type": "text/event-stream" });
  await new Promise((settle) => response.write('data: {"choices":[]}\n\n', settle));
  if (told === "cut") return void socket.destroy();
  response.end("data: [DONE]\n\n");
};

const ACTIONS = [
  "whole",
  "whole",
  "whole",
  "stream",
  "stream",
  "stream",
  "cut",
  "error",
  "silent",
  "reset",
] as const;

let gateway: Gateway & { stop(): Promise<void> };
let agent: Dispatcher;

beforeAll(async () => {
  const concurrency = Math.min(4, availableParallelism());
  gateway = await startGateway(ENVOY_VERSIONS.at(-1)!, { replicas: REPLICAS, concurrency });
  for (const replica of gateway.replicas) replica.behave(asTold);
  agent = new Agent({ connections: CONCURRENT, pipelining: 1 });
});
afterAll(async () => {
  await agent?.destroy();
  await gateway?.stop();
});

/** One request from the generator; whatever becomes of it. */
async function one(random: Random): Promise<"answered" | "aborted" | "cut"> {
  const action = ACTIONS[random.below(ACTIONS.length)]!;
  const isAborted = action === "silent" || random.chance(20);
  const abortAfterMs = random.below(action === "silent" ? 20 : 12);
  const prompt = `${random.below(50)} `.repeat(random.chance(5) ? 20_000 : 1 + random.below(400));
  const body = JSON.stringify(chat(prompt));
  const isBad = random.chance(3);
  const isGet = random.chance(3);
  const abort = new AbortController();
  const timer = isAborted ? setTimeout(() => abort.abort(), abortAfterMs) : undefined;
  try {
    const reply = await request(gateway.url + (isGet ? "/v1/models" : CHAT_PATH), {
      method: isGet ? "GET" : "POST",
      headers: { "content-type": "application/json", "x-do": action },
      body: isGet ? null : isBad ? body.slice(0, -1) : slowly(body, random),
      signal: abort.signal,
      dispatcher: agent,
    });
    await reply.body.arrayBuffer();
    return "answered";
  } catch {
    return isAborted ? "aborted" : "cut";
  } finally {
    clearTimeout(timer);
  }
}

/** The body whole, or, of one in eight, in two pieces with a pause between them. */
function slowly(body: string, random: Random): string | Readable {
  if (!random.chance(12)) return body;
  const at = random.below(body.length);
  const pauseMs = random.below(15);
  async function* pieces(): AsyncGenerator<Buffer> {
    yield Buffer.from(body.slice(0, at));
    await new Promise((settle) => setTimeout(settle, pauseMs));
    yield Buffer.from(body.slice(at));
  }
  return Readable.from(pieces());
}

it(
  `${REQUESTS} requests with random ends leave nothing behind (EPP_SEED=${SEED})`,
  { timeout: TIMEOUT_MS },
  async () => {
    process.stdout.write(`soak: EPP_SOAK=${REQUESTS} EPP_SEED=${SEED}\n`);
    const random = new Random(SEED);
    const ends = { answered: 0, aborted: 0, cut: 0 };
    let started = 0;
    let generation = 1;
    const client = async (): Promise<void> => {
      while (started < REQUESTS) {
        // A snapshot now and then: its endpoints are new processes, so nobody stays set aside for the whole soak.
        if (++started % 500 === 0) await gateway.push({ generation: (++generation % 65_535) + 1 });
        ends[await one(random)]++;
      }
    };
    await Promise.all(Array.from({ length: CONCURRENT }, client));
    expect(ends.answered).toBeGreaterThan(REQUESTS / 4);
    expect(ends.aborted).toBeGreaterThan(REQUESTS / 10);
    expect(ends.cut).toBeGreaterThan(REQUESTS / 100);

    const { counters, pools, workers } = await settled(gateway);
    expect(workers).toBe(Math.min(4, availableParallelism()));
    for (const name of HELD) expect(counters[name], name).toBe(0);
    for (const { inflightRequests, inflightTokens } of pools[0]!.endpoints) {
      expect({ inflightRequests, inflightTokens }).toEqual({ inflightRequests: 0, inflightTokens: 0 });
    }
    expect(counters).toMatchObject({
      streamTableOverflows: 0,
      chainsCut: 0,
      cellEntriesDropped: 0,
      unknownUpstreams: 0,
    });
    const memory = counters["memoryBytes"];
    expect((await gateway.status<Status>()).counters["memoryBytes"]).toBe(memory);
  },
);
