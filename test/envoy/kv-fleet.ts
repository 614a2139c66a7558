// A real Envoy with two workers, a real sidecar, and simulated engines with real tokenizers that publish their caches.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defaultEngineConfig } from "../../host-sim/model-server/engine.ts";
import type { EngineConfig } from "../../host-sim/model-server/engine-types.ts";
import { type KvEventsConfig, kvEventsConfig } from "../../host-sim/model-server/kv-events/config.ts";
import { replicaConfig } from "../../host-sim/model-server/replica-types.ts";
import { SimulatedReplica } from "../../host-sim/model-server/server.ts";
import type { TextModel } from "../../host-sim/model-server/text-model.ts";
import { Random } from "../../host-sim/workload/random.ts";
import { ENVOY_NEWEST } from "../../scripts/find-envoy.mjs";
import { Sidecar } from "../../sidecar/app.ts";
import { loadSettings } from "../../sidecar/config/load.ts";
import { REPLAY_PORT_LABEL } from "../../sidecar/kv-events/labels.ts";
import { makeLogger } from "../../sidecar/log.ts";
import { endpointOf } from "../sidecar/kv-events-sidecar.ts";
import { heldInEngine, heldInView } from "../sidecar/kv-events-support.ts";
import { FAST_RATES } from "../sim/support/replica.ts";
import { send } from "./clients.ts";
import { type Gateway, POOL, startGateway, until } from "./harness.ts";
import { showDecision } from "./kv-judge.ts";
import type { KvSetting } from "./kv-scenarios.ts";
import { settings } from "./support.ts";

export const MODEL = "tiny";
export const ADAPTERS = ["adapter-a", "adapter-b"] as const;
const CONTEXT_TOKENS = 16_384;
const WORKERS = 2;

export interface KvFleetOptions {
  readonly textModel: TextModel;
  readonly events?: Partial<KvEventsConfig>;
  readonly engine?: Partial<EngineConfig>;
  readonly seed: number;
  /** Path of the tokenizer's file; none = the sidecar learns its tokens from the engines. */
  readonly tokenizer?: string;
  /** False: nothing that was missed can be asked for. */
  readonly replay?: boolean;
}

export interface KvFleet extends KvSetting {
  readonly gateway: Gateway;
  readonly sidecar: Sidecar;
  readonly replicas: readonly SimulatedReplica[];
  /** `settled` of these alone. */
  settledOf(replicas: readonly SimulatedReplica[]): Promise<void>;
}

/** What /status says of a pool's exact index. */
interface IndexStatus {
  readonly counters: { readonly inflightTokens: number };
  readonly pools: readonly {
    readonly promptModels: number;
    readonly kvIndex: {
      readonly sequence: number;
      readonly appliedSequence: number;
      readonly workers: number;
    };
    readonly endpoints: readonly { readonly address: string; readonly kv: string }[];
  }[];
}

/** Runs a test before two engines; everything is gone afterwards, however it ends. */
export async function withKvFleet(
  options: KvFleetOptions,
  test: (fleet: KvFleet) => Promise<void>,
): Promise<void> {
  const { textModel, events, engine, seed, tokenizer } = options;
  const config = kvEventsConfig(events);
  const replicas = [0, 1].map(
    (index) =>
      new SimulatedReplica(
        replicaConfig({
          name: `replica-${index}`,
          modelName: MODEL,
          loraModules: [...ADAPTERS],
          modelTokensMax: CONTEXT_TOKENS,
          engine: { ...defaultEngineConfig(), blockCount: 4_097, rates: FAST_RATES, ...engine },
          textModel,
          kvEvents: config,
        }),
      ),
  );
  const folder = await mkdtemp(join(tmpdir(), "epp-kv-"));
  const started: { stop(): Promise<void> }[] = [];
  try {
    for (const replica of replicas) {
      await replica.start();
      started.push(replica);
    }
    const gateway = await startGateway(ENVOY_NEWEST, {
      concurrency: WORKERS,
      replicas: 0,
      extraEndpoints: replicas.map(({ address }) => address),
      snapshot: false,
      pluginConfig: settings({ exposeDecision: true }),
      edit: showDecision,
    });
    started.push(gateway);
    const path = join(folder, "sidecar.json");
    const kvEvents = {
      idleCheckMs: 200,
      replayTimeoutMs: 500,
      ...(tokenizer === undefined ? {} : { tokenizer }),
    };
    const discovery = {
      static: { endpoints: replicas.map((replica) => listed(replica, options.replay ?? true)) },
    };
    await writeFile(
      path,
      JSON.stringify({
        control: { socket: gateway.envoy.controlSocket },
        pools: [{ name: POOL, scrape: { intervalMs: 50 }, discovery, kvEvents }],
      }),
    );
    const sidecar = new Sidecar(loadSettings({ config: path }, {}), { log: makeLogger("silent") });
    started.push(sidecar);
    await sidecar.start();
    const fleet = fleetOf(gateway, sidecar, replicas, config.hashes, seed);
    await warmUp(gateway, WORKERS, () =>
      fleet.post("/v1/completions", { model: MODEL, prompt: "x", max_tokens: 1 }),
    );
    await test(fleet);
  } finally {
    for (const one of started.reverse()) await one.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

function fleetOf(
  gateway: Gateway,
  sidecar: Sidecar,
  replicas: readonly SimulatedReplica[],
  form: KvEventsConfig["hashes"],
  seed: number,
): KvFleet {
  const settledOf = async (some: readonly SimulatedReplica[]): Promise<void> => {
    await until("the sidecar's views were the engines' caches", () =>
      some.every((replica) => isSeen(sidecar, replica, form)),
    );
    const addresses = some.map(({ address }) => address);
    await until("every worker knew them", () => isKnown(gateway, sidecar, addresses));
  };
  return {
    gateway,
    sidecar,
    replicas,
    model: MODEL,
    random: new Random(seed),
    answerTokensMax: 80,
    scale: 1,
    post: (path, body) => send(gateway.url, { path, method: "POST", body }),
    settled: () => settledOf(replicas),
    settledOf,
  };
}

/** An entry of the endpoints list. */
function listed(replica: SimulatedReplica, replay: boolean): object {
  const entry = endpointOf(replica) as { labels: Record<string, string> };
  if (!replay) delete entry.labels[REPLAY_PORT_LABEL];
  return entry;
}

/**
 * Asks until every worker follows the index, which it does from its first request on, and the gateway knows how
 * prompts are rendered.
 */
export async function warmUp(gateway: Gateway, workers: number, ask: () => Promise<unknown>): Promise<void> {
  await until("all workers were warm", async () => {
    await ask();
    const [pool] = (await gateway.status<IndexStatus>()).pools;
    return pool !== undefined && pool.kvIndex.workers === workers && pool.promptModels > 0;
  });
}

/**
 * Whether every worker of the gateway knows all that the sidecar knows, takes these engines' index for exact, and knows of
 * no prompt in flight, which would be matched by guess.
 */
export async function isKnown(
  gateway: Gateway,
  { kvPushes }: Sidecar,
  addresses: readonly string[],
): Promise<boolean> {
  if (!kvPushes.every((push) => push.isCurrent)) return false;
  const { pools, counters } = await gateway.status<IndexStatus>();
  const [pool] = pools;
  if (pool === undefined || counters.inflightTokens > 0) return false;
  if (pool.kvIndex.appliedSequence !== pool.kvIndex.sequence) return false;
  return addresses.every((one) => pool.endpoints.find(({ address }) => address === one)?.kv === "exact");
}

/** What the gateway says of each endpoint's exact index, by address. */
export async function kvStates(gateway: Gateway): Promise<ReadonlyMap<string, string>> {
  const { pools } = await gateway.status<IndexStatus>();
  return new Map(pools[0]?.endpoints.map(({ address, kv }) => [address, kv]));
}

/** Has an engine compute something, past the gateway: it tells then what happened since it last did. */
export async function step(replica: SimulatedReplica, prompt: string): Promise<void> {
  const body = { model: MODEL, prompt, max_tokens: 1 };
  const { status, text } = await send(replica.url, { path: "/v1/completions", method: "POST", body });
  if (status !== 200) throw new Error(`${replica.address} answered ${status}: ${text}`);
}

/** Has an idle engine forget what it holds, and say so. */
export async function reset(replica: SimulatedReplica): Promise<void> {
  const { text } = await send(replica.url, { path: "/reset_prefix_cache", method: "POST" });
  if (text !== '{"success":true}') throw new Error(`${replica.address} was not reset: ${text}`);
  await step(replica, "x");
}

/** Whether the sidecar's view of a replica is what its engine holds. */
function isSeen(
  sidecar: Sidecar,
  { address, generation }: SimulatedReplica,
  form: KvEventsConfig["hashes"],
): boolean {
  const engines = [...sidecar.pools[0]!.kvEvents!.engines];
  const view = engines.find(({ replica }) => replica.address === address);
  if (view === undefined || view.state.degraded !== null) return false;
  const { cache } = generation.engines[0]!.engine;
  return heldInView(view.blocks).join() === heldInEngine(cache, form).join();
}
