// Pool policies on a real gateway: taken whole or refused whole, shown, known to all workers, brought back by the sidecar.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "undici";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import * as wire from "../../assembly/wire/policy.ts";
import { ROOT, type RunningEnvoy, startEnvoy } from "../../cli/envoy.ts";
import { venvEnvoy } from "../../scripts/find-envoy.mjs";
import { Sidecar } from "../../sidecar/app.ts";
import { loadSettings } from "../../sidecar/config/load.ts";
import { StaticDiscovery } from "../../sidecar/discovery/static.ts";
import { makeLogger } from "../../sidecar/log.ts";
import { encodePolicy } from "../../sidecar/policy-encoder.ts";
import { send } from "./clients.ts";
import { ENVOY_VERSIONS, EnvoyMissingError, type Gateway, POOL, startGateway, until } from "./harness.ts";
import { policyOf, pushPolicy } from "./policy.ts";
import { encodeSnapshot, seal } from "./snapshot.ts";
import { settled, type Status } from "./status.ts";
import { startUpstream } from "./upstream.ts";

const GOOD = encodePolicy(policyOf({ m: { a: 1, b: 1 } }, { critical: 5 }));
const PATH = `/v1/pools/${POOL}/policy`;

/** A good policy with something wrong in it. */
function spoilt(spoil: (bytes: Buffer) => void): Buffer {
  const bytes = Buffer.from(GOOD.bytes);
  spoil(bytes);
  return seal(bytes);
}

interface PolicyStatus {
  readonly name: string;
  readonly snapshotAgeMs: number | null;
  readonly policyId: number;
  readonly policyAgeMs: number | null;
  readonly objectives: number;
  readonly rewriteRules: number;
}

describe.each(ENVOY_VERSIONS)("a pool's policy on Envoy %s", (version) => {
  let gateway: Gateway & { stop(): Promise<void> };
  beforeAll(async () => {
    gateway = await startGateway(version, { replicas: 1, concurrency: 3, snapshot: { models: [] } });
    // A worker shows its figures from its first request on.
    await modelOf("first");
  });
  afterAll(() => gateway?.stop());

  /** The model that a request for `model` arrives with. */
  async function modelOf(model: string): Promise<unknown> {
    gateway.replicas[0]!.forget();
    await send(gateway.url, { path: "/v1/completions", body: { model, prompt: "p" } });
    return (JSON.parse(gateway.replicas[0]!.received[0]!.body.toString()) as { model: unknown }).model;
  }
  const statusOf = async (name: string): Promise<PolicyStatus> => {
    const { pools } = await gateway.status<{ pools: PolicyStatus[] }>();
    return pools.find((pool) => pool.name === name)!;
  };

  it("is shown, and in force in every worker at once", async () => {
    expect(await statusOf(POOL)).toMatchObject({
      policyId: 0,
      policyAgeMs: null,
      objectives: 0,
      rewriteRules: 0,
    });
    expect((await pushPolicy(gateway, { m: "a" }, { critical: 5, low: -5 })).status).toBe(204);
    const status = await statusOf(POOL);
    expect(status).toMatchObject({ objectives: 2, rewriteRules: 1 });
    expect(status.policyId).toBe(encodePolicy(policyOf({ m: "a" }, { critical: 5, low: -5 })).id);
    expect(status.policyAgeMs).toBeGreaterThanOrEqual(0);
    for (let i = 0; i < 12; i++) expect(await modelOf("m")).toBe("a");
    await pushPolicy(gateway, { m: "b" });
    for (let i = 0; i < 12; i++) expect(await modelOf("m")).toBe("b");
  });

  it.each<[string, () => Buffer, string]>([
    ["a few bytes", () => Buffer.from("EPL1"), "totalBytes"],
    ["a snapshot", () => encodeSnapshot([{ address: "127.0.0.1:1" }]), "magic"],
    ["the next version", () => spoilt((bytes) => bytes.writeUInt16LE(2, wire.POLICY_AT_VERSION)), "version"],
    ["a bad checksum", () => Buffer.concat([GOOD.bytes.subarray(0, -1), Buffer.from("!")]), "checksum"],
    ["an empty objective", () => spoilt((bytes) => bytes.writeUInt32LE(0, 68)), "objectives[0].name"],
    ["a weight of 0", () => spoilt((bytes) => bytes.writeUInt32LE(0, 64 + 16 + 16 + 8)), "targets[0].weight"],
  ])("of %s is refused, its field named, and the last good one kept", async (_, bytes, field) => {
    await pushPolicy(gateway, { m: "kept" });
    const before = (await settled(gateway)).counters["policiesRefused"]!;
    const { status, text } = await gateway.control("POST", PATH, bytes());
    expect(status).toBe(400);
    expect(JSON.parse(text)).toMatchObject({
      error: { field, message: expect.stringContaining("expected") },
    });
    await until("the refusal is counted", async () => {
      const { counters } = await gateway.status<Status>();
      return counters["policiesRefused"] === before + 1;
    });
    expect(gateway.envoy.log()).toContain(`policy refused: ${field}`);
    expect(await modelOf("m")).toBe("kept");
  });

  it("may be as large as a policy can be, and no larger", async () => {
    const large = Object.fromEntries(
      Array.from({ length: 360 }, (_, i) => [`${i}`.padStart(250, "o"), i] as const),
    );
    expect((await pushPolicy(gateway, { m: "large" }, large)).status).toBe(204);
    expect(await modelOf("m")).toBe("large");
    const { status, text } = await gateway.control("POST", PATH, Buffer.alloc(wire.POLICY_BYTES_MAX + 1));
    expect([status, text]).toEqual([413, expect.stringContaining("98304")]);
  });

  it("holds for its own pool only, and makes no pool ready to serve", async () => {
    await pushPolicy(gateway, { m: "mine" });
    expect((await pushPolicy(gateway, { m: "other" }, {}, "other")).status).toBe(204);
    expect(await modelOf("m")).toBe("mine");
    expect(await statusOf("other")).toMatchObject({ rewriteRules: 1, snapshotAgeMs: null });
  });
});

describe.each(ENVOY_VERSIONS)("a sidecar's policy with Envoy %s", (version) => {
  it("arrives, and is back after a restart before the first request is served", async () => {
    const envoyPath = await venvEnvoy(ROOT, version);
    if (envoyPath === undefined) throw new EnvoyMissingError(version);
    const folder = await mkdtemp(join(tmpdir(), "epp-policy-"));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const controlSocket = join(folder, "control.sock");
    const replica = await startUpstream("replica");
    onTestFinished(() => replica.stop());
    const envoy = async (): Promise<RunningEnvoy> => {
      const running = await startEnvoy({
        envoyPath,
        poolName: POOL,
        endpoints: [replica.address],
        controlSocket,
      });
      onTestFinished(() => running.stop());
      return running;
    };
    const policy = policyOf({ m: "target" }, { critical: 5 });
    const sidecar = new Sidecar(
      loadSettings({ endpoints: replica.address, control: controlSocket, pool: POOL }, {}),
      {
        log: makeLogger("silent"),
        makeDiscovery: (settings) => {
          if (settings.kind !== "static") return undefined;
          const source = new StaticDiscovery(settings.endpoints);
          return {
            kind: "test",
            hasPolicy: true,
            start: (sink) => {
              source.start(sink);
              sink.policy?.(policy, null);
            },
            stop: () => source.stop(),
          };
        },
      },
    );
    onTestFinished(() => sidecar.stop());
    await sidecar.start();
    const pool = async (): Promise<PolicyStatus | undefined> => {
      const client = new Client("http://control", { socketPath: controlSocket });
      try {
        const { body } = await client.request({ path: "/status", method: "GET" });
        return ((await body.json()) as { pools: PolicyStatus[] }).pools.find(({ name }) => name === POOL);
      } catch {
        return undefined;
      } finally {
        await client.destroy();
      }
    };
    for (let round = 0; round < 3; round++) {
      const running = await envoy();
      const known = await until("the pool can be served", async () => {
        const seen = await pool();
        return seen?.snapshotAgeMs == null ? undefined : seen;
      });
      expect(known).toMatchObject({ policyId: encodePolicy(policy).id, rewriteRules: 1, objectives: 1 });
      await until("the snapshot came", async () => sidecar.readiness().ready);
      replica.forget();
      await send(running.url, { path: "/v1/completions", body: { model: "m", prompt: "p" } });
      // The sidecar scrapes the replica too.
      const asked = replica.received.filter(({ body }) => body.length > 0);
      expect(asked.map(({ body }) => body.toString())).toEqual(['{"model":"target","prompt":"p"}']);
      await running.stop();
      const { counts } = sidecar.pushers[0]!;
      const before = counts.failed;
      await until("the sidecar noticed", () => counts.failed > before);
    }
  });
});
