// The whole sidecar between fake model servers and a fake control listener.
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished } from "vitest";
import * as wire from "../../assembly/wire/snapshot.ts";
import type { Replacements } from "../../sidecar/app.ts";
import type { NameResolver } from "../../sidecar/discovery/dns.ts";
import { DnsDiscovery } from "../../sidecar/discovery/dns.ts";
import { FileDiscovery } from "../../sidecar/discovery/file.ts";
import type { SnapshotEndpoint } from "../../sidecar/snapshot-encoder.ts";
import * as pages from "./pages.ts";
import { eventually, FakeControl, FakeModelServer, temporaryFolder } from "./servers.ts";
import { startWhole, type WholeSidecar } from "./whole-sidecar.ts";

const FAST = { intervalMs: 20, timeoutMs: 300 };

/** Starts a sidecar over `pools` (documents of the own configuration). */
const start = (
  pools: readonly object[],
  replacements: Replacements = {},
  listener?: FakeControl,
): Promise<WholeSidecar> => startWhole(pools, { replacements, listener, control: { statusIntervalMs: 100 } });

const staticPool = (servers: readonly FakeModelServer[], more: object = {}): object => ({
  name: "default",
  discovery: { static: { endpoints: servers.map(({ address }) => address) } },
  scrape: FAST,
  ...more,
});

const isReady = (row: SnapshotEndpoint | undefined): boolean =>
  row !== undefined && (row.flags & wire.ENDPOINT_READY) !== 0;

const errorsOf = (log: Record<string, unknown>[]): Record<string, unknown>[] =>
  log.filter(({ level }) => Number(level) >= 50);

/** A listener that takes connections and never answers. */
async function hangOn(socketPath: string): Promise<{ stop(): Promise<void> }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => sockets.add(socket.on("error", () => socket.destroy())));
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  const stop = async (): Promise<void> => {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  onTestFinished(stop);
  return { stop };
}

describe("from pages to snapshots", () => {
  it("brings load, models, roles and capacity of every endpoint to the gateway, with the token", async () => {
    const [vllm, sglang] = [
      await new FakeModelServer(pages.VLLM_032).start(),
      await new FakeModelServer(pages.SGLANG).start(),
    ];
    vllm.models = { data: [{ id: "lora-a", parent: "base" }, { id: "base" }] };
    const { control } = await start([
      {
        name: "fleet/8000",
        discovery: {
          static: {
            endpoints: [
              {
                address: "127.0.0.1",
                port: vllm.port,
                name: "vllm-0",
                labels: { "llm-d.ai/role": "prefill" },
              },
              { address: "127.0.0.1", port: sglang.port, rank: 3 },
            ],
          },
        },
        scrape: FAST,
      },
    ]);
    const row = await eventually("both had models", () => {
      const rows = [vllm, sglang].map(({ address }) => control.row(address, "fleet/8000"));
      return rows.every((found) => found !== undefined && found.models.length > 0) ? rows[0] : undefined;
    });
    expect(row).toMatchObject({
      name: "vllm-0",
      flags: wire.ENDPOINT_READY | wire.ENDPOINT_HAS_LOAD,
      roles: wire.ROLE_PREFILL,
      waiting: 4,
      running: 2,
      kvUsage: Math.fround(0.2222222222222222),
      kvCapacityTokens: 4_352,
      blockTokens: 32,
      models: ["base", "lora-a"],
      labels: [["llm-d.ai/role", "prefill"]],
      promptTokens: 2_099,
      rank: null,
    });
    expect(control.row(sglang.address, "fleet/8000")).toMatchObject({
      running: 10,
      rank: 3,
      roles: wire.ROLE_DECODE,
    });
    expect(control.last("fleet/8000")!.authorization).toBe("Bearer control-token");
    const ids = control.received.map(({ id }) => id);
    expect([...ids].sort((a, b) => a - b)).toEqual(ids);
  });

  it("has the first snapshot wait until each endpoint was tried", async () => {
    const slow = await new FakeModelServer(pages.VLLM_032).start();
    slow.answer = (_, response) => void setTimeout(() => response.end(pages.VLLM_032), 100);
    const quick = await new FakeModelServer(pages.VLLM_032).start();
    const { control } = await start([staticPool([slow, quick])]);
    await eventually("a snapshot came", () => control.last());
    expect(control.received[0]!.endpoints.every(isReady)).toBe(true);
  });

  it("pushes changes, but no more than 20 a second, and beats when nothing changes", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const { control, sidecar } = await start([staticPool([server], { models: { enabled: false } })]);
    await eventually("the first beats came", () => control.received.length >= 3);
    expect(sidecar.pushers[0]!.counts.accepted).toBeLessThan(10);
    server.page = pages.withValue(pages.VLLM_032, "vllm:num_requests_waiting", 99);
    await eventually("the change arrived", () => control.row(server.address)!.waiting === 99);
  });

  it("brings GPU figures from a DCGM exporter to the endpoint whose pod they are of", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const other = await new FakeModelServer(pages.VLLM_032).start();
    const exporter = await new FakeModelServer(pages.DCGM).start();
    const endpoints = [
      { address: "127.0.0.1", port: server.port, name: "vllm-0", namespace: "prod" },
      { address: "127.0.0.1", port: other.port, name: "vllm-9" },
    ];
    const { control } = await start([
      staticPool([], {
        discovery: { static: { endpoints } },
        dcgm: { urls: [`http://${exporter.address}/metrics`], intervalMs: 100 },
      }),
    ]);
    const row = await eventually("GPU figures came", () => {
      const found = control.row(server.address);
      return found !== undefined && (found.flags & wire.ENDPOINT_HAS_GPU) !== 0 ? found : undefined;
    });
    expect(row).toMatchObject({ gpuUtilization: Math.fround(0.92), gpuMemory: 0.75 });
    expect(control.row(other.address)!.flags & wire.ENDPOINT_HAS_GPU).toBe(0);
  });

  it("sends the bearer token with the pages", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const token = join(temporaryFolder(), "token");
    writeFileSync(token, "page-token\n");
    await start([staticPool([server], { scrape: { ...FAST, bearerTokenFile: token } })]);
    await eventually("it was asked", () => server.lastAuthorization === "Bearer page-token");
  });
});

describe("servers that speak TLS", () => {
  const path = (name: string): string => fileURLToPath(new URL(`../fixtures/tls/${name}`, import.meta.url));
  const pem = {
    key: readFileSync(path("server-key.pem"), "utf8"),
    cert: readFileSync(path("server.pem"), "utf8"),
  };

  it("are read when the authority and the name are right, and not otherwise", async () => {
    const server = await new FakeModelServer(pages.VLLM_032, pem).start();
    const pool = (name: string, tls: object): object => ({
      ...staticPool([server], { scrape: { ...FAST, scheme: "https", tls } }),
      name,
    });
    const serverName = "model-server.test";
    const { control } = await start([
      pool("right", { caFile: path("ca.pem"), serverName }),
      pool("unknown", { serverName }),
    ]);
    await eventually("the right one was ready", () => isReady(control.row(server.address, "right")));
    const row = await eventually("the other was tried", () => control.row(server.address, "unknown"));
    expect(isReady(row)).toBe(false);
    await eventually("models came", () => control.row(server.address, "right")!.models.includes("base"));
  });
});

describe("a pool that does not fit into a snapshot", () => {
  it("loses labels and names, not endpoints, and that is counted", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const labels = Object.fromEntries(
      Array.from({ length: 60 }, (_, index) => [`l${index}`, "v".repeat(300)]),
    );
    const endpoints = Array.from({ length: 20 }, (_, index) => ({
      address: "127.0.0.1",
      port: index === 0 ? server.port : 1 + index,
      labels: {
        ...Object.fromEntries(Object.entries(labels).map(([key, value]) => [key, `${value}${key}${index}`])),
        "llm-d.ai/role": "prefill",
      },
    }));
    const { control, sidecar } = await start([staticPool([], { discovery: { static: { endpoints } } })]);
    const row = await eventually("it came", () => control.row(server.address));
    expect(row.labels).toEqual([["llm-d.ai/role", "prefill"]]);
    expect(control.last()!.endpoints).toHaveLength(20);
    expect(sidecar.pushers[0]!.counts.shortened).toBeGreaterThan(0);
  });

  it("loses names of models last, and then any model may go anywhere", async () => {
    const servers = await Promise.all(
      Array.from({ length: 18 }, async (_, server) => {
        const started = await new FakeModelServer(pages.VLLM_LORA).start();
        const data = Array.from({ length: 64 }, (_, model) => ({
          id: `${server}-${model}-`.padEnd(256, "m"),
        }));
        started.models = { data };
        return started;
      }),
    );
    const { control, sidecar } = await start([staticPool(servers)]);
    await eventually("it did not fit", () => sidecar.pushers[0]!.counts.shortened > 0);
    const before = control.received.length;
    await eventually("two more came", () => control.received.length > before + 1);
    const row = control.row(servers[0]!.address);
    expect(row).toMatchObject({
      models: [],
      loraActive: [],
      flags: wire.ENDPOINT_READY | wire.ENDPOINT_HAS_LOAD,
    });
    expect(control.last()!.endpoints).toHaveLength(18);
  });
});

describe("endpoints that fail", () => {
  it("are not ready once they are gone, and ready again when they are back", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const { control, sidecar, log } = await start([staticPool([server])]);
    await eventually("it was ready", () => isReady(control.row(server.address)));
    await server.stop();
    await eventually("it was not ready", () => !isReady(control.row(server.address)));
    const before = control.row(server.address)!;
    expect(before.waiting).toBe(4);
    expect(sidecar.readiness()).toMatchObject({ ready: true, status: "degraded" });
    await eventually(
      "its figures grew old",
      () => control.row(server.address)!.metricsAgeMs > before.metricsAgeMs,
    );
    await server.start();
    await eventually("it was ready again", () => isReady(control.row(server.address)));
    expect(control.row(server.address)!.generation).toBe(before.generation);
    expect(log.some(({ msg }) => msg === "endpoint is back")).toBe(true);
  });

  it("get another generation when they come back with counters that fell", async () => {
    const server = await new FakeModelServer(pages.VLLM_TWO_ENGINES).start();
    const { control } = await start([staticPool([server])]);
    const { generation } = await eventually("it was ready", () => {
      const row = control.row(server.address);
      return isReady(row) ? row : undefined;
    });
    const modelsRequests = server.modelsRequests;
    server.page = pages.withValue(pages.VLLM_TWO_ENGINES, "vllm:prompt_tokens_total", 0);
    await eventually(
      "it had another generation",
      () => control.row(server.address)!.generation !== generation,
    );
    await eventually("its models were read again", () => server.modelsRequests > modelsRequests);
    const next = control.row(server.address)!.generation;
    server.page = pages.withValue(server.page, "process_start_time_seconds", 1_800_000_000);
    await eventually("it had another one again", () => control.row(server.address)!.generation !== next);
  });

  it.each<[string, (server: FakeModelServer) => void]>([
    ["slow beyond the timeout", (server) => (server.answer = () => undefined)],
    ["a server error", (server) => (server.status = 500)],
    [
      "bytes that are not HTTP",
      (server) => (server.answer = (request) => request.socket.end("garbage\r\n\r\n")),
    ],
    [
      "half a page",
      (server) =>
        (server.answer = (_, response) => {
          response.writeHead(200, { "content-length": "9" }).write("half");
          setTimeout(() => response.destroy(), 5);
        }),
    ],
  ])("with %s are not ready", async (_, spoil) => {
    const bad = await new FakeModelServer(pages.VLLM_032).start();
    const good = await new FakeModelServer(pages.VLLM_032).start();
    const { control, log } = await start([staticPool([bad, good])]);
    await eventually("both were ready", () => control.last()?.endpoints.every(isReady));
    spoil(bad);
    await eventually("the bad one was not ready", () => !isReady(control.row(bad.address)));
    expect(isReady(control.row(good.address))).toBe(true);
    expect(errorsOf(log)).toEqual([]);
  });

  it.each<[string, (server: FakeModelServer) => void]>([
    ["no metrics page", (server) => (server.status = 404)],
    ["a page of another kind", (server) => (server.page = Buffer.from("<html>hello</html>"))],
    ["an endless page", (server) => (server.page = Buffer.alloc(300_000, "x"))],
  ])("only at their metrics, with %s, stay ready without load", async (_, spoil) => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    spoil(server);
    const { control, get } = await start([
      staticPool([server], { scrape: { ...FAST, pageBytesMax: 200_000 } }),
    ]);
    const row = await eventually("it was ready", () => {
      const found = control.row(server.address);
      return isReady(found) && found!.models.length > 0 ? found : undefined;
    });
    expect(row!.flags & wire.ENDPOINT_HAS_LOAD).toBe(0);
    expect((await get("/readyz")).text).toContain("publish no load");
  });

  it("and sleep are not ready, though they answer", async () => {
    const server = await new FakeModelServer(pages.VLLM_ASLEEP).start();
    const { control } = await start([staticPool([server])]);
    const row = await eventually("it had load", () => {
      const found = control.row(server.address);
      return found !== undefined && (found.flags & wire.ENDPOINT_HAS_LOAD) !== 0 ? found : undefined;
    });
    expect(isReady(row)).toBe(false);
  });
});

describe("a control listener that", () => {
  it("is not there at the start is found when it comes", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const control = new FakeControl(join(temporaryFolder(), "control.sock"));
    const { sidecar, get, log } = await start([staticPool([server])], {}, control);
    await eventually("it failed to push", () => sidecar.pushers[0]!.counts.failed > 2);
    const readiness = await get("/readyz");
    expect(readiness.status).toBe(503);
    expect(readiness.text).toContain("was never taken by the gateway: connection to control listener");
    await control.start();
    await eventually("a snapshot came", () => control.last());
    await eventually("it was ready", () => sidecar.readiness().ready);
    expect(log.filter(({ msg }) => msg === "gateway takes snapshots again")).toHaveLength(1);
    // Failures are said once, not at each of several tries a second.
    expect(errorsOf(log).length).toBeLessThan(3);
  });

  it("restarts has all pools' state back", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const { control } = await start([staticPool([server]), staticPool([server], { name: "second" })]);
    for (let round = 0; round < 3; round++) {
      await eventually(
        "both pools came",
        () => control.last() !== undefined && control.last("second") !== undefined,
      );
      await control.stop();
      control.received.length = 0;
      await control.start();
    }
  });

  it("is on loopback gets the token, over new connections now and then", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const control = await new FakeControl("").start();
    const { sidecar } = await start([staticPool([server])], {}, control);
    await eventually("snapshots came", () => control.received.length > 2);
    expect(control.last()!.authorization).toBe("Bearer control-token");
    await eventually("several connections were made", () => control.connections > 2);
    expect(sidecar.pushers[0]!.counts).toMatchObject({ failed: 0, refused: 0 });
  });

  it("hangs does not stop the sidecar, which tries again", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const { control, sidecar } = await start([staticPool([server])]);
    await eventually("a snapshot came", () => control.last());
    await control.stop();
    const hanging = await hangOn(control.socketPath);
    await eventually("it gave up twice", () => sidecar.pushers[0]!.counts.failed > 1);
    await hanging.stop();
    const before = control.received.length;
    await control.start();
    await eventually("a snapshot came again", () => control.received.length > before);
  });

  it("refuses a snapshot has its reason logged once and counted, and gets the next one", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const { control, sidecar, log, get } = await start([staticPool([server])]);
    await eventually("a snapshot came", () => control.last());
    control.pushAnswer = { status: 400, body: '{"error":{"field":"checksum","message":"is 1, expected 2"}}' };
    await eventually("it was refused twice", () => sidecar.pushers[0]!.counts.refused >= 2);
    const refusals = errorsOf(log);
    expect(refusals).toHaveLength(1);
    expect(refusals[0]).toMatchObject({ code: "control-refused" });
    expect(String(refusals[0]!["msg"])).toContain("400 for field checksum: is 1, expected 2");
    expect((await get("/metrics")).text).toMatch(
      /epp_sidecar_pushes_total\{pool="default",result="refused"\} [2-9]/,
    );
    control.pushAnswer = { status: 204, body: "" };
    const before = control.received.length;
    await eventually("it was taken again", () => control.received.length > before);
  });
});

const listFile = (servers: readonly FakeModelServer[], labels = "{}"): string =>
  `endpoints:\n${servers.map(({ port }) => `- {address: 127.0.0.1, port: ${port}, labels: ${labels}}\n`).join("")}`;

describe("endpoints that come and go", () => {
  it("follow the file: slots stay, a bad file changes nothing, labels are taken over", async () => {
    const servers = await Promise.all([0, 1, 2].map(() => new FakeModelServer(pages.VLLM_032).start()));
    const [a, b, c] = servers as [FakeModelServer, FakeModelServer, FakeModelServer];
    const folder = temporaryFolder();
    const path = join(folder, "endpoints.yaml");
    const put = (text: string): void => {
      writeFileSync(`${path}.next`, text);
      renameSync(`${path}.next`, path);
    };
    put(listFile([a, b]));
    const { control, sidecar, get } = await start([staticPool([], { discovery: { file: { path } } })], {
      makeDiscovery: (settings) =>
        settings.kind === "file"
          ? new FileDiscovery(settings.path, true, { pollMs: 20, settleMs: 10 })
          : undefined,
    });
    await eventually("two were ready", () => control.last()?.endpoints.filter(isReady).length === 2);
    const slotOfB = control.row(b.address)!;
    put("endpoints: [{address: nowhere, port: 1}]");
    await eventually("the bad file was noticed", () => sidecar.pools[0]!.discoveryFailures === 1);
    expect(control.last()!.endpoints).toHaveLength(2);
    expect((await get("/readyz")).text).toContain("nowhere");
    put(listFile([b, c], '{llm-d.ai/role: "encode"}'));
    await eventually("the third came", () => isReady(control.row(c.address)));
    expect(control.row(a.address)).toBeUndefined();
    expect(control.row(b.address)).toMatchObject({
      slot: slotOfB.slot,
      generation: slotOfB.generation,
      roles: wire.ROLE_ENCODE,
    });
    const asked = a.metricsRequests;
    const since = c.metricsRequests;
    await eventually("the others were asked on", () => c.metricsRequests > since + 3);
    expect(a.metricsRequests).toBe(asked);
    expect(sidecar.readiness()).toMatchObject({ ready: true });
  });

  it("follow DNS, and stay while it fails", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const answers = { addresses: ["127.0.0.1"], failing: false };
    const resolver: NameResolver = {
      addresses: async () => {
        if (answers.failing) throw new Error("SERVFAIL");
        return answers.addresses.map((address) => ({ address, ttl: 0 }));
      },
      services: async () => [],
    };
    const { control, sidecar } = await start(
      [staticPool([], { discovery: { dns: { host: "fleet.test", port: server.port } } })],
      {
        makeDiscovery: (settings) =>
          settings.kind === "dns" ? new DnsDiscovery(settings, resolver, { intervalMinMs: 20 }) : undefined,
      },
    );
    await eventually("it was ready", () => isReady(control.row(server.address)));
    answers.failing = true;
    await eventually("the failure was noticed", () => sidecar.pools[0]!.discoveryError !== null);
    expect(isReady(control.row(server.address))).toBe(true);
    answers.failing = false;
    answers.addresses = [];
    await eventually("it went", () => control.last()!.endpoints.length === 0);
  });

  it("beyond the limit of a pool are left out, counted and said", async () => {
    const endpoints = Array.from(
      { length: 258 },
      (_, index) => `127.0.${Math.floor(index / 250)}.${1 + (index % 250)}:9`,
    );
    const { sidecar, get, log } = await start([
      staticPool([], { discovery: { static: { endpoints } }, models: { enabled: false } }),
    ]);
    expect(sidecar.pools[0]!.monitors.size).toBe(256);
    expect((await get("/metrics")).text).toContain('epp_sidecar_dropped{pool="default",what="endpoints"} 2');
    expect((await get("/readyz")).text).toContain("2 endpoints are beyond the limit");
    expect(errorsOf(log)).toMatchObject([{ surplus: 2, limit: 256 }]);
  });

  it("do not hold up pools that are empty: an empty snapshot is a fact too", async () => {
    const { control, sidecar } = await start([staticPool([])]);
    await eventually("an empty snapshot came", () => control.last()?.endpoints.length === 0);
    expect(sidecar.readiness()).toMatchObject({ ready: true, status: "degraded" });
  });
});

describe("its own pages", () => {
  it("show endpoints, pushes, scrapes and the gateway's status", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const control = await new FakeControl(join(temporaryFolder(), "control.sock")).start();
    control.statusAnswer = {
      pools: [
        {
          name: "default",
          endpoints: [{ address: "10.0.0.1:8000", inflightRequests: 3, inflightTokens: 700, odd: 5 }],
        },
      ],
      counters: { decisions: 42 },
      newer: { parts: true },
    };
    const { get } = await start([staticPool([server])], {}, control);
    await eventually("a snapshot came", () => isReady(control.row(server.address)));
    await new Promise((resolve) => setTimeout(resolve, 250));
    const { status, text } = await get("/metrics");
    expect(status).toBe(200);
    const label = `pool="default",endpoint="${server.address}"`;
    for (const line of [
      `epp_endpoint_ready{${label}} 1`,
      `epp_endpoint_waiting_requests{${label}} 4`,
      `epp_endpoint_running_requests{${label}} 2`,
      'epp_sidecar_endpoints{pool="default"} 1',
      'epp_sidecar_endpoints_ready{pool="default"} 1',
      'epp_gateway_endpoint_inflight_requests{pool="default",endpoint="10.0.0.1:8000"} 3',
      'epp_gateway_endpoint_inflight_tokens{pool="default",endpoint="10.0.0.1:8000"} 700',
      'epp_gateway_endpoint_status{pool="default",endpoint="10.0.0.1:8000",field="odd"} 5',
      'epp_gateway_counter{name="decisions"} 42',
      "epp_gateway_status_up 1",
    ]) {
      expect(text).toContain(line);
    }
    expect(text).toMatch(/epp_sidecar_scrapes_total\{pool="default",page="metrics"\} [1-9]/);
    expect(text).toMatch(/epp_sidecar_pushes_total\{pool="default",result="accepted"\} [1-9]/);
    expect(text).not.toContain("epp_endpoint_gpu_utilization{");
  });

  it("say whether it lives and is ready, and nothing else", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const { get, control, sidecar } = await start([staticPool([server])]);
    await eventually("it was ready", () => isReady(control.row(server.address)) && sidecar.readiness().ready);
    expect(await get("/healthz")).toEqual({ status: 200, text: "ok\n" });
    expect(JSON.parse((await get("/readyz")).text)).toEqual({ ready: true, status: "ready", reasons: [] });
    expect((await get("/other")).status).toBe(404);
    const posted = await fetch(`http://127.0.0.1:${sidecar.httpPort}/metrics`, { method: "POST", body: "x" });
    expect(posted.status).toBe(405);
  });

  it("end with it: after the stop nothing is asked, pushed or served", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const { sidecar, control, get } = await start([staticPool([server])]);
    await eventually("a snapshot came", () => control.last());
    const stopped = sidecar.stop();
    expect(sidecar.readiness()).toMatchObject({ ready: false, status: "stopping" });
    await stopped;
    const [asked, pushed] = [server.metricsRequests, control.received.length];
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect([server.metricsRequests, control.received.length]).toEqual([asked, pushed]);
    await expect(get("/healthz")).rejects.toThrow();
  });
});
