// The exact index before two real engines: what the picker predicts, and what they then find in their caches.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Random } from "../../host-sim/workload/random.ts";
import { PORT_LABEL, REPLAY_PORT_LABEL } from "../../sidecar/kv-events/labels.ts";
import { until } from "../envoy/harness.ts";
import { isKnown, warmUp } from "../envoy/kv-fleet.ts";
import { type Judgement, showDecision, verdictOf } from "../envoy/kv-judge.ts";
import {
  chats,
  completions,
  documents,
  type KvSetting,
  library,
  repeats,
  roots,
} from "../envoy/kv-scenarios.ts";
import { settings } from "../envoy/support.ts";
import { seedOf } from "../sidecar/seeds.ts";
import { askServer, type Fleet, withFleet } from "./fleet.ts";
import {
  ADAPTERS,
  BLOCK_TOKENS,
  freePort,
  MODEL,
  startVllm,
  startVllms,
  type Vllm,
  type VllmOptions,
} from "./server.ts";

const SEED = seedOf();
const SHARE_MIN = 0.99;
const WORKERS = 2;
/** Fewer than the prompts of the tests have. */
const FEW_BLOCKS = 300;
/** A server that starts on a busy machine. */
const RESTART_TIMEOUT_MS = 300_000;
/** Nothing new from an engine for this long: it has told all. */
const QUIET_MS = 150;
const LANGUAGES = ["english", "german", "russian", "japanese", "emoji", "code"];

interface Publishing {
  readonly options: VllmOptions;
  readonly labels: Readonly<Record<string, string>>;
}

/** A server that publishes its events, takes /reset_prefix_cache, and serves both adapters. */
async function publishing(args: readonly string[] = []): Promise<Publishing> {
  const [port, replayPort] = [await freePort(), await freePort()];
  const events = {
    enable_kv_cache_events: true,
    publisher: "zmq",
    // vLLM binds an endpoint that has an asterisk, and connects to any other.
    endpoint: `tcp://*:${port}`,
    replay_endpoint: `tcp://127.0.0.1:${replayPort}`,
    topic: "kv@tiny",
  };
  return {
    options: {
      adapters: true,
      args: ["--kv-events-config", JSON.stringify(events), ...args],
      env: { VLLM_SERVER_DEV_MODE: "1" },
    },
    labels: { [PORT_LABEL]: String(port), [REPLAY_PORT_LABEL]: String(replayPort) },
  };
}

let servers: Vllm[] = [];
let all: Publishing[] = [];
beforeAll(async () => {
  all = [await publishing(), await publishing(["--num-gpu-blocks-override", String(FEW_BLOCKS)])];
  servers = await startVllms(all.map(({ options }) => options));
});
afterAll(() => Promise.all(servers.map((server) => server.stop())));

/** Runs a test before servers whose events are followed; random words of theirs stay within a block. */
async function withIndex(test: (setting: KvSetting, fleet: Fleet) => Promise<void>): Promise<void> {
  const options = {
    labels: all.map(({ labels }) => labels),
    concurrency: WORKERS,
    pluginConfig: settings({ exposeDecision: true }),
    edit: showDecision,
    pool: { kvEvents: { idleCheckMs: 500, replayTimeoutMs: 1_000 } },
  };
  await withFleet(servers, options, async (fleet) => {
    const setting: KvSetting = {
      model: MODEL,
      random: new Random(SEED),
      answerTokensMax: 8,
      scale: 0.35,
      post: fleet.ask,
      settled: () => settled(fleet),
    };
    await warmUp(fleet.gateway, WORKERS, () =>
      fleet.ask("/v1/completions", { model: MODEL, prompt: "x", max_tokens: 1 }),
    );
    await test(setting, fleet);
  });
}

/** Waits until the engines have told nothing new for a while, and every worker knows what they told. */
async function settled({ gateway, sidecar }: Fleet): Promise<void> {
  const addresses = servers.map(({ address }) => address);
  let seen = "";
  let sinceMs = performance.now();
  try {
    await until("the engines were quiet and known", async () => {
      const engines = [...sidecar.pools[0]!.kvEvents!.engines];
      const state = JSON.stringify(engines.map(({ counts, state: one }) => [counts, String(one)]));
      if (state !== seen) {
        seen = state;
        sinceMs = performance.now();
      }
      if (performance.now() - sinceMs < QUIET_MS || state.includes("DEGRADED")) return false;
      return isKnown(gateway, sidecar, addresses);
    });
  } catch (error) {
    const { text } = await gateway.control("GET", "/status");
    throw new Error(`the sidecar: ${seen}\nthe gateway: ${text}`, { cause: error });
  }
}

function expectRight(judgements: readonly Judgement[], warmMin: number): void {
  const { share, warm, wrong } = verdictOf(judgements, BLOCK_TOKENS);
  process.stdout.write(`${warm} warm of ${judgements.length}, share ${share.toFixed(4)}\n`);
  expect(warm).toBeGreaterThanOrEqual(warmMin);
  expect(share, `seed ${SEED}:\n${wrong.join("\n")}`).toBeGreaterThanOrEqual(SHARE_MIN);
}

describe(`real engines (seed ${SEED})`, () => {
  it("have of chats, documents and completions in their caches what was predicted", async () => {
    await withIndex(async (setting) => {
      const judgements = [
        ...(await chats(setting, 5, LANGUAGES)),
        ...(await documents(setting, 20)),
        ...(await completions(setting, 8)),
      ];
      expectRight(judgements, 40);
    });
  });

  it("keep adapters and salts apart, as predicted", async () => {
    await withIndex(async (setting) => {
      expectRight(await roots(setting, [MODEL, ...ADAPTERS], 4), 20);
    });
  });

  it("evict what is not predicted any more", async () => {
    await withIndex(async (setting) => {
      expectRight(await repeats(setting, 50, library(setting, 10)), 15);
    });
  });

  it("forget everything at a reset", async () => {
    await withIndex(async (setting) => {
      await documents(setting, 4);
      for (const server of servers) {
        expect((await askServer(server, "/reset_prefix_cache", {})).status).toBe(200);
        // The engine tells of it with its next step.
        const step = await askServer(server, "/v1/completions", { model: MODEL, prompt: "x", max_tokens: 1 });
        expect(step.status).toBe(200);
      }
      const judgements = await documents(setting, 12);
      expect(judgements[0]).toMatchObject({ index: "exact", predicted: 0, cached: 0 });
      expectRight(judgements, 3);
    });
  });

  it(
    "hold nothing after a restart, and are known anew",
    async () => {
      await withIndex(async (setting) => {
        await documents(setting, 4);
        const [{ port }] = servers as [Vllm, Vllm];
        await servers[0]!.stop();
        servers[0] = await startVllm({ ...all[0]!.options, port });
        expectRight([...(await documents(setting, 12)), ...(await chats(setting, 3, LANGUAGES))], 10);
      });
    },
    RESTART_TIMEOUT_MS,
  );
});
