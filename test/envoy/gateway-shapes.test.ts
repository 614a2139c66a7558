// What the gateways make of our manifests loads and serves in real Envoys; without a manifest its trap snaps.
import { stat } from "node:fs/promises";
import { Client } from "undici";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { examine } from "../../cli/commands/doctor.ts";
import { ENVOY_NEWEST, ENVOY_OLDEST } from "../../scripts/find-envoy.mjs";
import { Sidecar } from "../../sidecar/app.ts";
import { loadSettings } from "../../sidecar/config/load.ts";
import { makeLogger } from "../../sidecar/log.ts";
import { at, build } from "../gateways/folders.ts";
import type { Resource } from "../gateways/resource-schemas.ts";
import { having, type Json, type Shape } from "../gateways/shape.ts";
import { VLLM_032 } from "../sidecar/pages.ts";
import { FakeModelServer } from "../sidecar/servers.ts";
import { send } from "./clients.ts";
import { type GatewayKind, type ShapedGateway, type ShapeOptions, startShape } from "./gateway-shapes.ts";
import { POOL, until } from "./harness.ts";
import type { Status } from "./status.ts";
import { ask, destinationsOf, echoOf, text } from "./support.ts";

/** kgateway 2.4's own bootstrap needs a newer Envoy than 1.36. */
const MATRIX: readonly (readonly [GatewayKind, string])[] = [
  ["envoy-gateway", ENVOY_OLDEST],
  ["envoy-gateway", ENVOY_NEWEST],
  ["istio", ENVOY_OLDEST],
  ["istio", ENVOY_NEWEST],
  ["kgateway", ENVOY_NEWEST],
];
/** More than the 32 KiB that the gateways hold by default, less than decisionBytesMax. */
const LONG_BYTES = 200_000;

const manifests = (kind: GatewayKind): Resource[] => build(`envoy/${kind}/base`);

async function start(
  kind: GatewayKind,
  version: string,
  options: ShapeOptions & { without?: string } = {},
): Promise<ShapedGateway> {
  const { without, ...rest } = options;
  const resources = manifests(kind).filter(
    ({ kind: type, metadata }) => ![type, metadata.name].includes(without ?? ""),
  );
  const gateway = await startShape(kind, version, resources, rest);
  onTestFinished(() => gateway.stop());
  return gateway;
}

/** Codes of what `epp-wasm doctor` finds, with a snapshot as young as a sidecar keeps it. */
async function findings(gateway: ShapedGateway): Promise<string[]> {
  const { adminUrl, controlSocket } = gateway.envoy;
  expect((await gateway.push()).status).toBe(204);
  const examination = await examine({ admin: adminUrl, control: `unix:${controlSocket}`, token: "" });
  return examination.findings.map(({ code }) => code);
}

describe.each(MATRIX)("the manifests of %s on Envoy %s", (kind, version) => {
  let gateway: ShapedGateway;
  beforeAll(async () => {
    gateway = await startShape(kind, version, manifests(kind));
  });
  afterAll(() => gateway?.stop());

  it("send a prompt where its prefix is held", async () => {
    const prompt = text(kind, 8_000);
    const first = await ask(gateway, prompt);
    expect(first.status).toBe(200);
    for (let i = 0; i < 4; i++) {
      expect(gateway.servedBy((await ask(gateway, prompt)).headers)).toBe(gateway.servedBy(first.headers));
    }
    await until(
      "matched tokens",
      async () => (await gateway.status<Status>()).counters["matchedTokens"]! > 0,
    );
  });

  it("hold a body of more than 32 KiB and pass it on whole", async () => {
    const reply = await ask(gateway, text("long", LONG_BYTES));
    expect(reply.status).toBe(200);
    expect(echoOf(reply).bodyBytes).toBeGreaterThan(LONG_BYTES);
  });

  it("keep the pick to themselves: the replica does not see it", async () => {
    const reply = await ask(gateway, text("unseen", 4_000));
    expect(reply.status).toBe(200);
    expect(Object.keys(echoOf(reply).headers)).not.toContain("x-gateway-destination-endpoint");
  });

  it("let the sidecar's group, and nobody else, open the control socket", async () => {
    const socket = await stat(gateway.envoy.controlSocket);
    expect(socket.mode & 0o777).toBe(0o660);
    expect(socket.gid).toBe((await stat(gateway.folder)).gid);
  });

  it("leave Envoy without its timeouts of 15 s and 5 minutes", async () => {
    const { text: dump } = await send(gateway.envoy.adminUrl, {
      path: "/config_dump?include_eds",
      bodyless: true,
    });
    const routes = [...dump.matchAll(/"route": \{\s*"cluster": "[^"]+",\s*"timeout": "([^"]+)"/g)];
    expect(routes.length).toBeGreaterThan(0);
    expect(routes.filter(([, timeout]) => timeout !== "0s")).toEqual([]);
  });

  it("give doctor nothing to complain of", async () => {
    expect(await findings(gateway)).toEqual([]);
  });

  it("try the next replica when the picked one is gone", async () => {
    const prompt = text("doomed", 4_000);
    const name = gateway.servedBy((await ask(gateway, prompt)).headers);
    const picked = gateway.replicas.find((replica) => replica.name === name)!;
    await picked.kill();
    const reply = await ask(gateway, prompt);
    expect(reply.status).toBe(200);
    expect(gateway.servedBy(reply.headers)).not.toBe(name);
    await picked.revive();
  });
});

describe.each([ENVOY_OLDEST, ENVOY_NEWEST])("Envoy Gateway's traps on Envoy %s", (version) => {
  it("a route that no policy names has no filter", async () => {
    const gateway = await start("envoy-gateway", version);
    expect((await send(gateway.url, { path: "/other/path", body: { any: "thing" } })).status).toBe(200);
    await ask(gateway, "counted");
    const { counters } = await until("the counted request", async () => {
      const status = await gateway.status<Status>();
      return status.counters["decisions"]! > 0 && status;
    });
    expect(counters["requests"]).toBe(1);
    expect(gateway.replicas.flatMap(({ received }) => received)).toHaveLength(2);
  });

  it("no patches: the picker shares nothing with the control listener, and Envoy balances", async () => {
    const gateway = await start("envoy-gateway", version, { without: "EnvoyPatchPolicy" });
    expect((await ask(gateway, text("unseen"))).status).toBe(200);
    await until(
      "no decision",
      async () => (await gateway.metric("epp_decisions_total", { kind: "none" })) === 1,
    );
    expect((await gateway.status<Status>()).counters["requests"]).toBe(0);
    expect(await findings(gateway)).toEqual(
      expect.arrayContaining(["vm-id", "stop-iteration", "failure-policy"]),
    );
  });

  it("no patch for stop-iteration: the watchdog lets the request go, and says so", async () => {
    const change = ({ front }: Shape): void => {
      const filter = at<Json>(
        front,
        "filter_chains.0.filters.0.typed_config.http_filters.0.typed_config.config",
      )!;
      delete filter["allow_on_headers_stop_iteration"];
    };
    const gateway = await start("envoy-gateway", version, { change });
    expect((await ask(gateway, text("held"))).status).toBe(200);
    await until("a resumed stream", async () => (await gateway.metric("epp_watchdog_resumes_total")) === 1);
    expect(await findings(gateway)).toContain("stop-iteration");
  });

  it("no patch of the cluster: the replica sees the pick, and doctor tells", async () => {
    const gateway = await start("envoy-gateway", version, { without: "epp-pick-header" });
    expect(destinationsOf(await ask(gateway, text("seen")))[0]).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(await findings(gateway)).toEqual(["pick-passed-on"]);
  });

  it("no ClientTrafficPolicy: a body beyond 32 KiB is 413", async () => {
    const gateway = await start("envoy-gateway", version, { without: "ClientTrafficPolicy" });
    expect((await ask(gateway, text("long", LONG_BYTES))).status).toBe(413);
    expect(await findings(gateway)).toContain("buffer-limit");
  });
});

describe("Istio's traps", () => {
  it("no buffer-limit.yaml: a body beyond 32 KiB is 413", async () => {
    const gateway = await start("istio", ENVOY_NEWEST, { without: "epp-buffer-limit" });
    expect((await ask(gateway, text("long", LONG_BYTES))).status).toBe(413);
    expect(await findings(gateway)).toContain("buffer-limit");
  });
});

describe("a bootstrap's listener", () => {
  it("accepts nothing while the control plane has not answered", async () => {
    let answers = 0;
    let probes = 0;
    let timer: NodeJS.Timeout | undefined;
    onTestFinished(() => clearInterval(timer));
    const probe = async (socketPath: string): Promise<void> => {
      probes++;
      const client = new Client("http://control", { socketPath, headersTimeout: 1_000, bodyTimeout: 1_000 });
      await client.request({ path: "/status", method: "GET" }).then(
        () => answers++,
        () => undefined,
      );
      await client.destroy();
    };
    const starting = start("envoy-gateway", ENVOY_NEWEST, {
      silentXdsMs: 0,
      readyTimeoutMs: 2_000,
      change: (_, controlSocket) => {
        timer = setInterval(() => void probe(controlSocket), 100);
      },
    });
    await expect(starting).rejects.toMatchObject({ code: "ERR_ENVOY_NOT_READY" });
    expect(probes).toBeGreaterThan(1);
    expect(answers).toBe(0);
  });

  it("whose module is missing ends Envoy at start, FAIL_RELOAD or not", async () => {
    const change = ({ listeners }: Shape): void => {
      for (const plugin of having(listeners, "vm_config"))
        Object.assign(at<Json>(plugin, "vm_config.code.local")!, { filename: "/etc/epp/none.wasm" });
    };
    await expect(start("envoy-gateway", ENVOY_NEWEST, { change })).rejects.toMatchObject({
      code: "ERR_ENVOY_EXITED",
      message: expect.stringContaining("none.wasm"),
    });
  });

  it("has the sidecar's state as soon as it opens: the sidecar goes on trying", async () => {
    const server = await new FakeModelServer(VLLM_032).start();
    onTestFinished(() => server.stop());
    let sidecar: Promise<Sidecar> | undefined;
    onTestFinished(async () => (await sidecar)?.stop());
    const gateway = await start("envoy-gateway", ENVOY_NEWEST, {
      snapshot: false,
      // Long enough that the sidecar has tried, however slowly it starts.
      silentXdsMs: 4_000,
      change: (_, control) => {
        const settings = loadSettings({ endpoints: server.address, control, pool: POOL }, {});
        const started = new Sidecar(settings, { log: makeLogger("silent") });
        sidecar = started.start().then(() => started);
      },
    });
    await until(
      "the first snapshot",
      async () => (await gateway.status<Status>()).pools[0]?.readyEndpoints === 1,
    );
    expect((await sidecar)!.pushers[0]!.counts.failed).toBeGreaterThan(0);
  });
});
