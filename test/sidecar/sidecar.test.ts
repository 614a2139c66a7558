// The whole sidecar between fake model servers and a fake control listener: what it brings, and its own pages.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import * as wire from "../../assembly/wire/snapshot.ts";
import * as pages from "./pages.ts";
import { eventually, FakeControl, FakeModelServer, temporaryFolder } from "./servers.ts";
import { FAST, isReady, start, staticPool } from "./whole-sidecar.ts";

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
    const accepted = /epp_sidecar_pushes_total\{pool="default",result="accepted"\} [1-9]/;
    const { status, text } = await eventually("the gateway's status and answers were read", async () => {
      const page = await get("/metrics");
      return page.text.includes("epp_gateway_status_up 1") && accepted.test(page.text) && page;
    });
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
    expect(text).toMatch(accepted);
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
    // At once: the port may be given to somebody else later.
    await expect(get("/healthz")).rejects.toThrow();
    await eventually("nothing is on its way", () => server.open + control.open === 0);
    const [asked, pushed] = [server.metricsRequests, control.received.length];
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect([server.metricsRequests, control.received.length]).toEqual([asked, pushed]);
  });
});
