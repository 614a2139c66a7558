// The whole sidecar while endpoints fail, come back, come and go.
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import * as wire from "../../assembly/wire/snapshot.ts";
import type { NameResolver } from "../../sidecar/discovery/dns.ts";
import { DnsDiscovery } from "../../sidecar/discovery/dns.ts";
import { FileDiscovery } from "../../sidecar/discovery/file.ts";
import * as pages from "./pages.ts";
import { eventually, FakeModelServer, temporaryFolder } from "./servers.ts";
import { errorsOf, FAST, isReady, start, staticPool } from "./whole-sidecar.ts";

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
    const said = errorsOf(log).filter((line) => "surplus" in line);
    expect(said).toMatchObject([{ surplus: 2, limit: 256 }]);
  });

  it("with a label that is no role are told by /readyz, and stay ready", async () => {
    const servers = await Promise.all([1, 2].map(() => new FakeModelServer(pages.VLLM_032).start()));
    const endpoints = servers.map(({ address }, index) => {
      const [ip, port] = address.split(":") as [string, string];
      return { address: ip, port, labels: { "llm-d.ai/role": index === 0 ? "both" : "prefil" } };
    });
    const { control, sidecar } = await start([staticPool([], { discovery: { static: { endpoints } } })]);
    await eventually("both were ready", () => servers.every(({ address }) => isReady(control.row(address))));
    // The listener has it before the sidecar knows.
    await eventually("the snapshot's answer was read", () => sidecar.readiness().ready);
    expect(sidecar.readiness()).toEqual({
      ready: true,
      status: "degraded",
      reasons: [
        'pool default: 1 of 2 endpoints have no known role: label llm-d.ai/role: "prefil": expected one of ' +
          "decode, prefill, encode, prefill-decode, both, encode-prefill, encode-prefill-decode",
      ],
    });
  });

  it("do not hold up pools that are empty: an empty snapshot is a fact too", async () => {
    const { control, sidecar } = await start([staticPool([])]);
    await eventually("an empty snapshot came", () => control.last()?.endpoints.length === 0);
    // The listener has it before the sidecar knows.
    await eventually("it was ready", () => sidecar.readiness().ready);
    expect(sidecar.readiness()).toMatchObject({ ready: true, status: "degraded" });
  });
});
