// The sidecar and a real Envoy: what it pushes arrives, over restarts of Envoy and of itself.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { type RunningEnvoy, ROOT, startEnvoy } from "../../cli/envoy.ts";
import { venvEnvoy } from "../../scripts/find-envoy.mjs";
import { Sidecar } from "../../sidecar/app.ts";
import { loadSettings } from "../../sidecar/config/load.ts";
import { makeLogger } from "../../sidecar/log.ts";
import { Client } from "undici";
import { VLLM_032, VLLM_TWO_ENGINES, withValue } from "../sidecar/pages.ts";
import { FakeModelServer } from "../sidecar/servers.ts";
import { EnvoyMissingError, ENVOY_VERSIONS, POOL, until } from "./harness.ts";
import type { EndpointStatus, Status } from "./status.ts";

/** Two model servers, and a socket path that outlives each Envoy. */
interface Setting {
  readonly servers: readonly [FakeModelServer, FakeModelServer];
  readonly controlSocket: string;
  envoy(): Promise<RunningEnvoy>;
  sidecar(): Promise<Sidecar>;
  /** The gateway's view of an endpoint; undefined while it has none. */
  seen(server: FakeModelServer): Promise<EndpointStatus | undefined>;
}

async function setUp(version: string): Promise<Setting> {
  const envoyPath = await venvEnvoy(ROOT, version);
  if (envoyPath === undefined) throw new EnvoyMissingError(version);
  const folder = await mkdtemp(join(tmpdir(), "epp-sidecar-envoy-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const controlSocket = join(folder, "control.sock");
  const servers = [
    await new FakeModelServer(VLLM_032).start(),
    await new FakeModelServer(VLLM_TWO_ENGINES).start(),
  ] as const;
  const endpoints = servers.map(({ address }) => address);
  const status = async (): Promise<Status | undefined> => {
    const client = new Client("http://control", { socketPath: controlSocket });
    try {
      const { body } = await client.request({ path: "/status", method: "GET" });
      return (await body.json()) as Status;
    } catch {
      return undefined;
    } finally {
      await client.destroy();
    }
  };
  return {
    servers,
    controlSocket,
    envoy: async () => {
      const envoy = await startEnvoy({ envoyPath, poolName: POOL, endpoints, controlSocket });
      onTestFinished(() => envoy.stop());
      return envoy;
    },
    sidecar: async () => {
      const flags = { endpoints: endpoints.join(","), control: controlSocket, pool: POOL };
      const sidecar = new Sidecar(loadSettings(flags, {}), { log: makeLogger("silent") });
      onTestFinished(() => sidecar.stop());
      await sidecar.start();
      return sidecar;
    },
    seen: async ({ address }) => {
      const pool = (await status())?.pools.find(({ name }) => name === POOL);
      return pool?.endpoints.find((endpoint) => endpoint.address === address);
    },
  };
}

describe.each(ENVOY_VERSIONS)("the sidecar with Envoy %s", (version) => {
  it("brings what servers publish to the picker, and what changes", async () => {
    const { servers, seen, envoy, sidecar } = await setUp(version);
    await envoy();
    await sidecar();
    // A server that answers late is listed before its figures are there.
    const figures = async (server: FakeModelServer): Promise<EndpointStatus | undefined> => {
      const endpoint = await seen(server);
      return endpoint?.waiting == null ? undefined : endpoint;
    };
    const first = await until("the first server's figures were known", () => figures(servers[0]));
    expect(first).toMatchObject({ ready: true, waiting: 4, running: 2, failures: 0, setAside: false });
    expect(first.kvUsage).toBeCloseTo(0.2222, 3);
    const second = await until("the second server's figures were known", () => figures(servers[1]));
    expect(second).toMatchObject({ ready: true, waiting: 8, running: 8, kvUsage: 0.5 });
    servers[0].page = withValue(VLLM_032, "vllm:num_requests_waiting", 77);
    await until("the new queue was known", async () => (await seen(servers[0]))?.waiting === 77);
    await servers[1].stop();
    await until("the dead server was not ready", async () => (await seen(servers[1]))?.ready === false);
    await servers[1].start();
    await until("it was ready again", async () => (await seen(servers[1]))?.ready === true);
  });

  it("waits for Envoy, and has the state back after its restart", async () => {
    const { servers, seen, envoy, sidecar } = await setUp(version);
    const running = await sidecar();
    const first = await envoy();
    const before = await until("the servers were known", () => seen(servers[0]));
    // It has failed before: there was no Envoy when it began.
    const { counts } = running.pushers[0]!;
    await first.stop();
    const failed = counts.failed;
    await until("the sidecar noticed", () => counts.failed > failed);
    await envoy();
    const after = await until("the servers were known again", () => seen(servers[0]));
    expect(after.generation).toBe(before.generation);
  });

  it("starts again itself without changing slots' generations: the gateway keeps its index", async () => {
    const { servers, seen, envoy, sidecar } = await setUp(version);
    await envoy();
    const first = await sidecar();
    const generations = async (): Promise<unknown[]> =>
      (await Promise.all(servers.map(seen))).map((endpoint) => endpoint?.generation);
    await until("both were known", async () =>
      (await generations()).every((generation) => generation !== undefined),
    );
    const before = await generations();
    await first.stop();
    servers[0].page = withValue(VLLM_032, "vllm:num_requests_waiting", 5);
    await sidecar();
    await until("the second sidecar's figures arrived", async () => (await seen(servers[0]))?.waiting === 5);
    expect(await generations()).toEqual(before);
    servers[0].page = withValue(servers[0].page, "vllm:prompt_tokens_total", 1);
    await until("a restarted engine has another", async () => (await generations())[0] !== before[0]);
    expect((await generations())[1]).toBe(before[1]);
  });
});
