// The control listener: which snapshots are taken, which are refused and why, its token, its paths, and /status.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { request as httpRequest } from "node:http";
import type { Bootstrap } from "../../cli/envoy-config.ts";
import { POOLS_MAX, SNAPSHOT_BYTES_MAX } from "../../assembly/wire/limits.ts";
import * as wire from "../../assembly/wire/snapshot.ts";
import { send } from "./clients.ts";
import { ENVOY_VERSIONS, type Gateway, POOL, startGateway, until, withEnvoy } from "./harness.ts";
import { encodeSnapshot, seal, type TestEndpoint } from "./snapshot.ts";
import { settled, type Status } from "./status.ts";
import { ask, destinationsOf, showDestination, text } from "./support.ts";

const ENDPOINT: TestEndpoint = { address: "127.0.0.1:9", name: "bad" };
const RECORD = wire.SNAPSHOT_HEADER_BYTES;
const TOKEN = "a-token-of-32-characters-or-more";

/** A snapshot of one or two endpoints with something wrong in it. */
function spoilt(spoil: (bytes: Buffer) => void, endpoints: readonly TestEndpoint[] = [ENDPOINT]): Buffer {
  const bytes = encodeSnapshot(endpoints, 7);
  spoil(bytes);
  return seal(bytes);
}

const two = [ENDPOINT, { address: "127.0.0.1:10" }];
const BAD: readonly [string, Buffer, string][] = [
  ["nothing but a few bytes", Buffer.from("EPS1"), "totalBytes"],
  ["another magic", spoilt((bytes) => bytes.write("JSON")), "magic"],
  ["the next wire version", spoilt((bytes) => bytes.writeUInt16LE(2, wire.SNAPSHOT_AT_VERSION)), "version"],
  [
    "a longer header",
    spoilt((bytes) => bytes.writeUInt16LE(72, wire.SNAPSHOT_AT_HEADER_BYTES)),
    "headerBytes",
  ],
  ["fewer bytes than it says", encodeSnapshot([ENDPOINT]).subarray(0, -1), "totalBytes"],
  ["more bytes than it says", Buffer.concat([encodeSnapshot([ENDPOINT]), Buffer.alloc(4)]), "totalBytes"],
  [
    "longer records",
    spoilt((bytes) => bytes.writeUInt32LE(136, wire.SNAPSHOT_AT_RECORD_BYTES)),
    "recordBytes",
  ],
  ["257 endpoints", spoilt((bytes) => bytes.writeUInt32LE(257, wire.SNAPSHOT_AT_ENDPOINTS)), "endpointCount"],
  [
    "more endpoints than bytes",
    spoilt((bytes) => bytes.writeUInt32LE(9, wire.SNAPSHOT_AT_ENDPOINTS)),
    "endpointCount",
  ],
  ["a flipped bit", flipped(), "checksum"],
  ["one slot twice", spoilt((bytes) => bytes.writeUInt16LE(1, RECORD), two), "endpoints[1].slot"],
  ["slot 256", spoilt((bytes) => bytes.writeUInt16LE(256, RECORD)), "endpoints[0].slot"],
  ["generation 0", spoilt((bytes) => bytes.writeUInt16LE(0, RECORD + 2)), "endpoints[0].generation"],
  ["a name for an address", encodeSnapshot([{ address: "localhost:80" }]), "endpoints[0].address"],
  ["an address without a port", encodeSnapshot([{ address: "127.0.0.1" }]), "endpoints[0].address"],
  ["two addresses in one", encodeSnapshot([{ address: "127.0.0.1:1,127.0.0.1:2" }]), "endpoints[0].address"],
  ["a header in an address", encodeSnapshot([{ address: "127.0.0.1:1\r\nx: y" }]), "endpoints[0].address"],
  [
    "KV usage NaN",
    spoilt((bytes) => bytes.writeFloatLE(NaN, RECORD + wire.ENDPOINT_AT_KV_USAGE)),
    "endpoints[0].kvUsage",
  ],
  [
    "KV usage 1.5",
    spoilt((bytes) => bytes.writeFloatLE(1.5, RECORD + wire.ENDPOINT_AT_KV_USAGE)),
    "endpoints[0].kvUsage",
  ],
  [
    "models outside",
    spoilt((bytes) => bytes.writeUInt32LE(1e6, RECORD + wire.ENDPOINT_AT_MODELS)),
    "endpoints[0].models",
  ],
  [
    "a name outside",
    spoilt((bytes) => bytes.writeUInt32LE(0xffffffff, RECORD + wire.ENDPOINT_AT_NAME)),
    "endpoints[0].name",
  ],
];

function flipped(): Buffer {
  const bytes = encodeSnapshot([ENDPOINT]);
  bytes[bytes.length - 1]! ^= 1;
  return bytes;
}

describe.each(ENVOY_VERSIONS)("the control listener on Envoy %s", (version) => {
  let gateway: Gateway & { stop(): Promise<void> };
  beforeAll(async () => {
    gateway = await startGateway(version, { replicas: 2, edit: showDestination });
    // A worker shows its figures from its first request on.
    await ask(gateway, text("first"));
  });
  afterAll(() => gateway?.stop());

  it.each(BAD)(
    "refuses a snapshot with %s whole, names the field and keeps the last good one",
    async (_, bytes, field) => {
      const before = (await settled(gateway)).counters["snapshotsRefused"]!;
      const { status, text: answer } = await gateway.pushBytes(bytes);
      expect(status).toBe(400);
      expect(JSON.parse(answer)).toMatchObject({
        error: { field, message: expect.stringContaining("expected") },
      });
      const after = await until("the refusal is counted", async () => {
        const now = await gateway.status<Status>();
        return now.counters["snapshotsRefused"] === before + 1 && now;
      });
      expect(after.pools[0]!.endpoints.map(({ address }) => address)).toEqual(
        gateway.replicas.map(({ address }) => address),
      );
      expect(gateway.envoy.log()).toContain(`snapshot refused: ${field}`);
      expect(destinationsOf(await ask(gateway, text(field)))).toHaveLength(2);
    },
  );

  it.each([
    ["an empty body", "POST", `/v1/pools/${POOL}/snapshot`, "", 400],
    ["no pool name", "POST", "/v1/pools//snapshot", "x", 400],
    ["a pool name of 254 bytes", "POST", `/v1/pools/${"n".repeat(254)}/snapshot`, "x", 400],
    [
      "more bytes than a snapshot may have",
      "POST",
      `/v1/pools/${POOL}/snapshot`,
      "x".repeat(SNAPSHOT_BYTES_MAX + 1),
      413,
    ],
    ["another path", "POST", "/v1/pools", "x", 404],
    ["another method", "PUT", `/v1/pools/${POOL}/snapshot`, "x", 404],
    ["POST to /status", "POST", "/status", "x", 404],
    ["a path that begins like /status", "GET", "/statuses", undefined, 404],
  ])("answers %s in JSON, with what it expects", async (_, method, path, body, status) => {
    const reply = await gateway.control(method, path, body);
    expect(reply.status).toBe(status);
    expect(JSON.parse(reply.text)).toMatchObject({
      error: { field: expect.any(String), message: expect.any(String) },
    });
  });

  it("takes the largest snapshot there can be", async () => {
    const many = Array.from({ length: 256 }, (_, i) => ({
      address: `127.0.0.1:${20_000 + i}`,
      name: `endpoint-${i}`,
      labels: { filler: String(i).padStart(850, "x") },
    }));
    const bytes = encodeSnapshot(many);
    expect(bytes.length).toBeGreaterThan(0.9 * SNAPSHOT_BYTES_MAX);
    expect((await gateway.pushBytes(bytes)).status).toBe(204);
    const { pools, truncated } = await gateway.status<Status>();
    expect(pools[0]).toMatchObject({ readyEndpoints: 256 });
    expect(pools[0]!.endpoints).toHaveLength(256);
    expect(truncated).toBe(false);
    await gateway.push();
    expect((await gateway.status<Status>()).pools[0]!.endpoints).toHaveLength(2);
  });

  it("shows in /status what was pushed", async () => {
    interface KvPool {
      readonly kvIndex: { readonly workers: number };
    }
    await until("a worker told of its index", async () => {
      const { pools } = await gateway.status<{ pools: KvPool[] }>();
      return pools[0]!.kvIndex.workers > 0;
    });
    // Its load counts for a while only, and so nothing is waited for from here on.
    await gateway.push([
      { waiting: 3, running: 2, kvUsage: 0.5 },
      { flags: 0, generation: 9 },
    ]);
    const { version: wireVersion, pools } = await gateway.status<Status>();
    expect(wireVersion).toBe(1);
    expect(pools).toMatchObject([
      {
        name: POOL,
        loadIgnored: false,
        readyEndpoints: 1,
        sidecar: null,
        standbySidecar: null,
        // Nobody tells what its engines hold, and no worker waits for it.
        kvIndex: { sequence: 0, workers: expect.any(Number), exactEndpoints: 0, wantedEndpoints: 0 },
        endpoints: [
          { name: "replica-0", ready: true, waiting: 3, running: 2, kvUsage: 0.5, generation: 1 },
          { name: "replica-1", ready: false, waiting: null, running: null, kvUsage: null, generation: 9 },
        ],
      },
    ]);
    await gateway.push();
  });

  it("takes 16 pools and says that a 17th is too many", async () => {
    const own = (await gateway.status<Status>()).pools.length;
    for (let i = own; i < POOLS_MAX; i++) {
      expect((await gateway.pushBytes(encodeSnapshot([ENDPOINT]), `pool-${i}`)).status).toBe(204);
    }
    const { status, text: answer } = await gateway.pushBytes(encodeSnapshot([ENDPOINT]), "one-too-many");
    expect(status).toBe(507);
    expect(answer).toContain("16 pools");
    expect((await gateway.status<Status>()).pools).toHaveLength(POOLS_MAX);
    expect((await ask(gateway, text("still"))).status).toBe(200);
  });
});

/** Puts the token's variable into the module's environment, as a deployment does. */
function withToken(bootstrap: Bootstrap): void {
  for (const { filter_chains: chains } of bootstrap.static_resources.listeners) {
    const manager = chains[0]!.filters[0]!.typed_config;
    const { vm_config: vm } = manager.http_filters[0]!.typed_config.config;
    Object.assign(vm, { environment_variables: { host_env_keys: ["EPP_CONTROL_TOKEN"] } });
  }
}

describe.each(ENVOY_VERSIONS)("the control listener's token on Envoy %s", (version) => {
  const options = { edit: withToken, env: { EPP_CONTROL_TOKEN: TOKEN }, snapshot: false } as const;

  it("is asked of every request, is compared whole, and is not shown", async () => {
    await withEnvoy(version, options, async (gateway) => {
      const call = (path: string, authorization?: string, method = "GET"): Promise<number> =>
        new Promise((settle, fail) => {
          const headers = authorization === undefined ? {} : { authorization };
          httpRequest({ socketPath: gateway.envoy.controlSocket, path, method, headers }, (response) => {
            response.resume().on("end", () => settle(response.statusCode!));
          })
            .on("error", fail)
            .end(method === "POST" ? encodeSnapshot([ENDPOINT]) : undefined);
        });
      for (const wrong of [
        undefined,
        TOKEN,
        `Bearer ${TOKEN}x`,
        `Bearer ${TOKEN.slice(1)}`,
        "Bearer ",
        `Basic ${TOKEN}`,
      ]) {
        expect(await call("/status", wrong), String(wrong)).toBe(401);
        expect(await call(`/v1/pools/${POOL}/snapshot`, wrong, "POST"), String(wrong)).toBe(401);
      }
      expect(await call(`/v1/pools/${POOL}/snapshot`, `Bearer ${TOKEN}`, "POST")).toBe(204);
      expect(await call("/status", `Bearer ${TOKEN}`)).toBe(200);
      expect((await send(gateway.envoy.adminUrl, { path: "/config_dump" })).text).not.toContain(TOKEN);
      expect(gateway.envoy.log()).not.toContain(TOKEN);
    });
  });
});
