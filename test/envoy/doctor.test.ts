// `epp-wasm doctor` on real Envoys: a healthy gateway has no findings, each trap of the field has exactly its own.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { type Examination, examine, exitCodeOf } from "../../cli/commands/doctor.ts";
import { type Bootstrap, connectionManager } from "../../cli/envoy-config.ts";
import { ROOT, startEnvoy } from "../../cli/envoy.ts";
import { ENVOY_NEWEST, venvEnvoy } from "../../scripts/find-envoy.mjs";
import { Sidecar } from "../../sidecar/app.ts";
import { loadSettings } from "../../sidecar/config/load.ts";
import { makeLogger } from "../../sidecar/log.ts";
import { PROBE_PATH, probeWasm } from "../host/probe.ts";
import { VLLM_032 } from "../sidecar/pages.ts";
import { FakeModelServer } from "../sidecar/servers.ts";
import { send } from "./clients.ts";
import { ENVOY_VERSIONS, type Gateway, type GatewayOptions, POOL, until, withEnvoy } from "./harness.ts";
import { ask, inference, settings } from "./support.ts";

const look = (gateway: Gateway): Promise<Examination> =>
  examine({ admin: gateway.envoy.adminUrl, token: "" });
const codes = ({ findings }: Examination): string[] => findings.map(({ code }) => code);

// biome-ignore lint/suspicious/noExplicitAny: parts of Envoy's configuration that the tests break on purpose.
type Any = any;
const route = (bootstrap: Bootstrap): Any =>
  (inference(bootstrap).route_config.virtual_hosts[0] as Any).routes[0].route;
const plugin = (bootstrap: Bootstrap, listener = "inference"): Any =>
  connectionManager(bootstrap, listener).http_filters[0]!.typed_config.config;
const cluster = (bootstrap: Bootstrap): Any => bootstrap.static_resources.clusters[0];

describe.each(ENVOY_VERSIONS)("doctor with Envoy %s", (version) => {
  it("finds nothing in a healthy gateway with its sidecar, and says so when the sidecar dies", async () => {
    const envoyPath = (await venvEnvoy(ROOT, version))!;
    const folder = await mkdtemp(join(tmpdir(), "epp-doctor-"));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const controlSocket = join(folder, "control.sock");
    const { address } = await new FakeModelServer(VLLM_032).start();
    const envoy = await startEnvoy({ envoyPath, poolName: POOL, endpoints: [address], controlSocket });
    onTestFinished(() => envoy.stop());
    const flags = { endpoints: address, control: controlSocket, pool: POOL, listen: "127.0.0.1:0" };
    const sidecar = new Sidecar(loadSettings(flags, {}), { log: makeLogger("silent") });
    onTestFinished(() => sidecar.stop());
    await sidecar.start();
    const places = { admin: envoy.adminUrl, sidecar: `http://127.0.0.1:${sidecar.httpPort}`, token: "" };
    const healthy = await until("doctor found nothing", async () => {
      const seen = await examine(places);
      return seen.findings.length === 0 && seen;
    });
    expect(healthy).toEqual({ findings: [], unseen: [], notes: [], version });
    expect(exitCodeOf(healthy.findings)).toBe(0);
    await sidecar.stop();
    await until(
      "the snapshot grew old",
      async () => codes(await examine(places)).join() === "snapshot-old,sidecar-unreachable",
    );
  });
});

/** The shipped configuration, under which the snapshot does not grow old while doctor looks. */
const PATIENT = settings({ decisionBytesMax: 1_048_576, snapshotAgeMaxMs: 600_000 });

describe("doctor finds", () => {
  const found = async (options: GatewayOptions): Promise<string[]> =>
    withEnvoy(ENVOY_NEWEST, { pluginConfig: PATIENT, ...options }, async (gateway) =>
      codes(await look(gateway)),
    );

  it.each<[code: string, trap: string, edit: (bootstrap: Bootstrap) => void]>([
    [
      "failure-policy",
      "a picker that stays dead after a trap",
      (bootstrap) => void delete plugin(bootstrap).failure_policy,
    ],
    [
      "buffer-limit",
      "a buffer smaller than what the filter waits for",
      ({ static_resources: { listeners } }) => {
        listeners[0]!.per_connection_buffer_limit_bytes = 32_768;
      },
    ],
    [
      "override-host",
      "a cluster that does not read the pick",
      (bootstrap) => {
        const policy = cluster(bootstrap).load_balancing_policy.policies[0];
        const fallback = policy.typed_extension_config.typed_config.fallback_policy.policies;
        cluster(bootstrap).load_balancing_policy.policies = fallback;
      },
    ],
    [
      "pick-removed",
      "a route that removes the pick",
      (bootstrap) => {
        const host: Any = inference(bootstrap).route_config.virtual_hosts[0];
        host.routes[0].request_headers_to_remove = ["x-gateway-destination-endpoint"];
      },
    ],
    [
      "retry-policy",
      "a route without a retry policy",
      (bootstrap) => void delete route(bootstrap).retry_policy,
    ],
    [
      "retry-backoff",
      "Envoy's own back-off between the replicas of a list",
      (bootstrap) => void delete route(bootstrap).retry_policy.retry_back_off,
    ],
    ["route-timeout", "Envoy's own timeout of 15 s", (bootstrap) => void delete route(bootstrap).timeout],
    [
      "stream-idle-timeout",
      "Envoy's own idle timeout of 5 min",
      (bootstrap) => void delete inference(bootstrap)["stream_idle_timeout"],
    ],
    [
      "circuit-breakers",
      "Envoy's own limit of 1,024 requests",
      (bootstrap) => void delete cluster(bootstrap).circuit_breakers.thresholds[0].max_requests,
    ],
    [
      "retry-circuit-breaker",
      "Envoy's own limit of 3 retries",
      (bootstrap) => void delete cluster(bootstrap).circuit_breakers.thresholds[0].retry_budget,
    ],
    [
      "connect-timeout",
      "Envoy's own connect timeout of 5 s",
      (bootstrap) => void delete cluster(bootstrap).connect_timeout,
    ],
    [
      "stats-tags",
      "a bootstrap without stats_tags",
      (bootstrap) => void delete (bootstrap as Any).stats_config.stats_tags,
    ],
  ])("%s: %s", async (code, _, edit) => {
    expect(await found({ edit })).toEqual([code]);
  });

  it("decode-retry: a route that retries by itself, and none with the copy that bodies with KV parameters take", async () => {
    const patient = JSON.parse(PATIENT) as { plugins: object[] };
    const inline = { mode: "inline", decodeRetry: "connect-failure" };
    const pluginConfig = JSON.stringify({
      ...patient,
      plugins: [
        ...patient.plugins,
        { type: "disagg-profile-handler", parameters: { deciders: { prefill: "always-disagg-pd-decider" } } },
        { type: "always-disagg-pd-decider" },
        { type: "epp-wasm-disaggregation", parameters: inline },
      ],
    });
    expect(await found({ pluginConfig })).toEqual(["decode-retry"]);
    const withCopy = (bootstrap: Bootstrap): void => {
      const { routes } = inference(bootstrap).route_config.virtual_hosts[0] as Any;
      const copy = structuredClone(routes[0]);
      copy.match.headers = [{ name: "x-envoy-retry-on", string_match: { exact: "connect-failure" } }];
      delete copy.route.retry_policy.retry_on;
      routes.unshift(copy);
    };
    expect(await found({ pluginConfig, edit: withCopy })).toEqual([]);
  });

  it("stop-iteration: a gateway whose patch did not apply, in both roles", async () => {
    const options: GatewayOptions = { stopIteration: false, snapshot: false };
    const seen = await withEnvoy(ENVOY_NEWEST, options, look);
    const { findings } = seen;
    expect(codes(seen).filter((code) => code === "stop-iteration")).toHaveLength(2);
    expect(new Set(codes(seen))).toEqual(new Set(["stop-iteration", "snapshot-missing"]));
    expect(findings[0]!.mend).toContain("EnvoyPatchPolicy");
    expect(exitCodeOf(findings)).toBe(2);
  });

  it.each<[code: string, listener: string]>([
    ["module-differs", "inference"],
    ["foreign-module", "epp-control"],
  ])("%s: another module on listener %s, before any request", async (code, listener) => {
    await probeWasm();
    const edit = (bootstrap: Bootstrap): void => {
      plugin(bootstrap, listener).vm_config.code.local.filename = PROBE_PATH;
    };
    expect(await found({ edit, snapshot: false })).toContain(code);
  });

  it("vm-id: roles that do not share their state, and that the picker heard nothing", async () => {
    const edit = (bootstrap: Bootstrap): void => {
      plugin(bootstrap).vm_config.vm_id = "another";
    };
    expect(await found({ edit })).toEqual(["vm-id"]);
  });

  it("retry-buffer: Envoy Gateway's 32 KiB with the filter's own default", async () => {
    const options = { bufferLimitBytes: 32_768, pluginConfig: "" };
    expect(await found(options)).toEqual(["retry-buffer"]);
  });

  it("snapshot-missing: a gateway that no sidecar talks to", async () => {
    expect(await found({ snapshot: false })).toEqual(["snapshot-missing"]);
  });

  it("no-ready-endpoint: a pool of endpoints that are all down", async () => {
    expect(await found({ snapshot: { flags: 0 } })).toEqual(["no-ready-endpoint"]);
  });

  it("picker-missing and ingest-missing: an Envoy without the filter", async () => {
    const seen = await withEnvoy(ENVOY_NEWEST, { policy: "round_robin" }, look);
    expect(codes(seen)).toEqual(["picker-missing", "ingest-missing"]);
    expect(seen.unseen).toContain("the snapshot: there is no control listener to ask");
  });

  it("vm-trapped: a VM that trapped and was made anew", async () => {
    await probeWasm();
    const edit = (bootstrap: Bootstrap): void => {
      plugin(bootstrap).vm_config.code.local.filename = PROBE_PATH;
    };
    await withEnvoy(ENVOY_NEWEST, { edit }, async (gateway) => {
      const headers = { "x-tag": "trap", "x-probe": "qh=trap" };
      expect((await send(gateway.url, { path: "/", headers })).status).toBe(503);
      await until("a new VM served", async () => (await send(gateway.url, { path: "/" })).status === 200);
      await gateway.push();
      expect(codes(await look(gateway))).toEqual(["module-differs", "vm-trapped"]);
    });
  });

  it("unknown-upstream: a cluster that knows other addresses than the pool", async () => {
    await withEnvoy(ENVOY_NEWEST, { pluginConfig: PATIENT }, async (gateway) => {
      await gateway.push([{ address: "127.0.0.1:9" }, { address: "127.0.0.1:10" }]);
      await ask(gateway, "hello");
      const seen = await until("the answer's address was counted", async () => {
        const examination = await look(gateway);
        return examination.findings.length > 0 && examination;
      });
      expect(codes(seen)).toEqual(["unknown-upstream"]);
      expect(exitCodeOf(seen.findings)).toBe(1);
    });
  });

  it("control-unreachable: a control listener that doctor cannot open", async () => {
    const seen = await withEnvoy(ENVOY_NEWEST, {}, (gateway) =>
      examine({ admin: gateway.envoy.adminUrl, control: `${gateway.envoy.controlSocket}.not`, token: "" }),
    );
    expect(codes(seen)).toEqual(["control-unreachable"]);
  });
});
