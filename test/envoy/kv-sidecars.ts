// A real Envoy and whole sidecars with the exact index: they and the engines outlive one another.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "undici";
import { onTestFinished } from "vitest";
import { type RunningEnvoy, ROOT, startEnvoy } from "../../cli/envoy.ts";
import { kvEventsConfig } from "../../host-sim/model-server/kv-events/config.ts";
import type { SimulatedReplica } from "../../host-sim/model-server/server.ts";
import { venvEnvoy } from "../../scripts/find-envoy.mjs";
import { Sidecar } from "../../sidecar/app.ts";
import { loadSettings } from "../../sidecar/config/load.ts";
import { makeLogger } from "../../sidecar/log.ts";
import { endpointOf } from "../sidecar/kv-events-sidecar.ts";
import { startReplica } from "../sim/support/replica.ts";
import { EnvoyMissingError, POOL, until } from "./harness.ts";

/** Cells that the sidecar knows of all endpoints. */
export function cellsOf({ kvPushes }: Sidecar): number {
  return [...kvPushes[0]!.index.endpoints.values()].reduce((sum, { entries }) => sum + entries, 0);
}

/** The part of GET /status that tells of the exact index. */
export interface IndexStatus {
  readonly pools: readonly {
    /** Sidecars that bring the pool, and that wait; null = none. */
    readonly sidecar: string | null;
    readonly standbySidecar: string | null;
    readonly kvIndex: { readonly workers: number; readonly entries: number };
    readonly endpoints: readonly { readonly address: string; readonly kv: string }[];
  }[];
}

/** Two simulated replicas that publish, and a socket path that outlives each Envoy. */
export interface Setting {
  readonly replicas: readonly [SimulatedReplica, SimulatedReplica];
  envoy(): Promise<RunningEnvoy>;
  /** Undefined while there is no Envoy. */
  status(): Promise<IndexStatus | undefined>;
  sidecar(): Promise<Sidecar>;
  /** Waits until the gateway takes all engines for exact and has as many cells as the sidecar; asks it meanwhile. */
  settled(envoy: RunningEnvoy, sidecar: Sidecar): Promise<number>;
}

export async function setUp(version: string): Promise<Setting> {
  const envoyPath = await venvEnvoy(ROOT, version);
  if (envoyPath === undefined) throw new EnvoyMissingError(version);
  const folder = await mkdtemp(join(tmpdir(), "epp-kv-envoy-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const controlSocket = join(folder, "control.sock");
  const replicas = [
    await startReplica({ name: "one", kvEvents: kvEventsConfig({}) }),
    await startReplica({ name: "two", kvEvents: kvEventsConfig({}) }),
  ] as const;
  const config = join(folder, "sidecar.json");
  const pool = {
    name: POOL,
    scrape: { intervalMs: 20 },
    discovery: { static: { endpoints: replicas.map(endpointOf) } },
    kvEvents: { idleCheckMs: 100, replayTimeoutMs: 300 },
  };
  await writeFile(config, JSON.stringify({ control: { socket: controlSocket }, pools: [pool] }));
  return {
    replicas,
    status: () => statusOf(controlSocket),
    envoy: async () => {
      const endpoints = replicas.map(({ address }) => address);
      const envoy = await startEnvoy({ envoyPath, poolName: POOL, endpoints, controlSocket });
      onTestFinished(() => envoy.stop());
      return envoy;
    },
    sidecar: async () => {
      const sidecar = new Sidecar(loadSettings({ config }, {}), { log: makeLogger("silent") });
      onTestFinished(() => sidecar.stop());
      await sidecar.start();
      return sidecar;
    },
    settled: async (envoy, sidecar) => {
      const { entries } = await until("the gateway had what the sidecar has", async () => {
        // A worker follows the index from its first request on. Too short to be kept by an engine.
        await ask(envoy, "x");
        // What the gateway has may be another sidecar's until this one had a session of its own.
        if (sidecar.kvPushes[0]!.counts.accepted === 0) return undefined;
        const [known] = (await statusOf(controlSocket))?.pools ?? [];
        if (known === undefined || known.kvIndex.workers === 0) return undefined;
        if (known.endpoints.some(({ kv }) => kv !== "exact")) return undefined;
        return known.kvIndex.entries === cellsOf(sidecar) ? known.kvIndex : undefined;
      });
      return entries;
    },
  };
}

async function statusOf(controlSocket: string): Promise<IndexStatus | undefined> {
  const client = new Client("http://control", { socketPath: controlSocket });
  try {
    const { body } = await client.request({ path: "/status", method: "GET" });
    return (await body.json()) as IndexStatus;
  } catch {
    return undefined;
  } finally {
    await client.destroy();
  }
}

/** A request for one token. */
export async function ask({ url }: RunningEnvoy, prompt: string): Promise<void> {
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "tiny", prompt, max_tokens: 1 }),
  });
  await response.text();
}
