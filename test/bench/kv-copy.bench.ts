// Benchmark of copies of the exact index: how long workers of a real Envoy that have nothing of it take to have it all.
//
//   npm run bench -- kv-copy
//
// A million cells of 64 endpoints. Once the gateway has restarted and all its workers begin at once, and once a single
// worker gets its first request long after the other. From that request on until every worker takes all endpoints for exact.
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "undici";
import { KV_ENTRIES_MAX } from "../../assembly/wire/kv-deltas.ts";
import { EntryBudget } from "../../sidecar/kv-index/entry-budget.ts";
import { KvIndex } from "../../sidecar/kv-index/kv-index.ts";
import { KvPush } from "../../sidecar/kv-index/kv-push.ts";
import { makeLogger } from "../../sidecar/log.ts";
import { ControlClient } from "../../sidecar/push/control-client.ts";
import { Ticker } from "../../sidecar/scrape/ticker.ts";
import { place } from "./support/cpu.ts";
import { benchEnvoy, type Gateway, POOL, startGateway } from "./support/gateway.ts";
import { benchOptions } from "./support/options.ts";
import { printFigures, printHead } from "./support/report.ts";

const ENDPOINTS = 64;
const CELLS = KV_ENTRIES_MAX / ENDPOINTS;
const WORKERS = 2;
const DEADLINE_MS = 30_000;
const FIRST_TICK_MS = 60;
const GENERATION = 1;
const addresses = Array.from({ length: ENDPOINTS }, (_, i) => `127.0.0.1:${20_000 + i}`);

/** The part of GET /status that tells of the exact index. */
interface IndexStatus {
  readonly pools: readonly {
    readonly kvIndex: {
      readonly workers: number;
      readonly exactEndpoints: number;
      readonly sequence: number;
      readonly appliedSequence: number;
    };
  }[];
}

function fullIndex(now: () => number): KvIndex {
  const index = new KvIndex(new EntryBudget(), now);
  for (const address of addresses) {
    const replica = { address, rank: 0 };
    index.followed(replica);
    index.state(replica, null);
    const { table } = index.endpoints.get(address)!;
    const keys = randomBytes(8 * CELLS);
    for (let i = 0; i < CELLS; i++)
      table.add(keys.readInt32LE(8 * i), keys.readInt32LE(8 * i + 4), 1 + 16 * i);
  }
  return index;
}

/** A request over a connection of its own, that some worker gets; no endpoint answers it. */
async function ask({ envoy }: Gateway): Promise<void> {
  const client = new Client(envoy.url);
  const body = JSON.stringify({ model: "m", prompt: "x", max_tokens: 1 });
  const headers = { "content-type": "application/json" };
  const answer = await client.request({ path: "/v1/completions", method: "POST", headers, body });
  await answer.body.dump();
  await client.close();
}

async function workersOf(gateway: Gateway): Promise<number> {
  return ((await gateway.status()) as IndexStatus).pools[0]?.kvIndex.workers ?? 0;
}

/** Waits until that many workers have all. */
async function complete(gateway: Gateway, workers: number): Promise<void> {
  const endMs = performance.now() + DEADLINE_MS;
  for (;;) {
    const index = ((await gateway.status()) as IndexStatus).pools[0]?.kvIndex;
    if (
      index?.workers === workers &&
      index.exactEndpoints === ENDPOINTS &&
      index.appliedSequence >= index.sequence - 1
    ) {
      return;
    }
    if (performance.now() > endMs) throw new Error(`not complete: ${JSON.stringify(index)}`);
    await sleep(2);
  }
}

/** Asks until so many workers have had a request. @returns when the last of these requests was sent */
async function wake(gateway: Gateway, workers: number): Promise<number> {
  for (;;) {
    const sentAtMs = performance.now();
    await ask(gateway);
    // A worker counts from its first tick on.
    await sleep(FIRST_TICK_MS);
    if ((await workersOf(gateway)) >= workers) return sentAtMs;
  }
}

interface Round {
  readonly restartMs: number;
  readonly lateMs: number;
}

async function round(envoyPath: string, wasmPath: string): Promise<Round> {
  const ticker = new Ticker();
  const index = fullIndex(() => ticker.now());
  const places = addresses.map((address, slot) => [address, { slot, generation: GENERATION }] as const);
  const measure = async (workers: number, work: (gateway: Gateway) => Promise<number>): Promise<number> => {
    const gateway = await startGateway({
      name: "filter",
      envoyPath,
      endpoints: addresses,
      workers,
      placement: place(WORKERS, true),
      wasmPath,
      fields: () => ({ generation: GENERATION }),
    });
    const settings = {
      socketPath: gateway.envoy.controlSocket,
      origin: "",
      token: "",
      statusIntervalMs: 1_000,
    };
    const control = new ControlClient(settings, () => ticker.now());
    const taken = { takenSlots: new Map(places), acceptedAtMs: ticker.now() };
    const push = new KvPush(POOL, index, taken, control, ticker, makeLogger("silent"));
    try {
      return await gateway.during(() => work(gateway));
    } finally {
      push.stop();
      await control.close();
      await gateway.stop();
    }
  };
  const restartMs = await measure(WORKERS, async (gateway) => {
    const startedAtMs = performance.now();
    await wake(gateway, WORKERS);
    await complete(gateway, WORKERS);
    return performance.now() - startedAtMs;
  });
  const lateMs = await measure(WORKERS, async (gateway) => {
    await wake(gateway, 1);
    await complete(gateway, 1);
    await sleep(2_000);
    const sentAtMs = await wake(gateway, WORKERS);
    await complete(gateway, WORKERS);
    return performance.now() - sentAtMs;
  });
  return { restartMs, lateMs };
}

async function main(): Promise<void> {
  const options = benchOptions("kv-copy", { rounds: 5, seconds: 1 });
  const { path, version } = await benchEnvoy();
  await printHead("A million cells brought to workers that have none", {
    command: options.command,
    rounds: `${options.rounds} of each, in turns`,
    gateway: `Envoy ${version}, ${WORKERS} workers; ${ENDPOINTS} endpoints of ${CELLS} cells`,
  });
  const rounds: Round[] = [];
  for (let i = 0; i < options.rounds; i++) rounds.push(await round(path, options.wasmPath));
  const target = { atMost: 2_000 };
  printFigures("until every worker has all", [
    {
      name: "after a restart of the gateway",
      unit: "ms",
      values: rounds.map(({ restartMs }) => restartMs),
      target,
    },
    {
      name: "after a late worker's first request",
      unit: "ms",
      values: rounds.map(({ lateMs }) => lateMs),
      target,
    },
  ]);
}

await main();
