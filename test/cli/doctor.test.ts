// What doctor makes of dumps that gateways' control planes leave in Envoy, and of what no Envoy does on demand.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import { describeExamination, examine, exitCodeOf, judge } from "../../cli/commands/doctor.ts";
import type { Observation } from "../../cli/commands/doctor/collect.ts";
import { number, readConfigDump, seconds } from "../../cli/commands/doctor/gateway-view.ts";
import { codes, dumpOf, managerOf, observation, SNAPSHOT, section, shipped } from "./gateway-dumps.ts";

describe("a gateway view", () => {
  it("of the shipped configuration has both roles, and no findings", () => {
    const { plugins } = readConfigDump(dumpOf(shipped()));
    expect(plugins.map(({ role, listener, vmId }) => [role, listener, vmId])).toEqual([
      ["picker", "inference", "epp"],
      ["ingest", "epp-control", "epp"],
    ]);
    expect(codes(observation())).toEqual([]);
  });

  it("follows routes by RDS, filters by ECDS and dynamic listeners", () => {
    const bootstrap = shipped();
    const manager = managerOf(bootstrap);
    const routes = manager.route_config;
    routes.virtual_hosts[0].routes[0].route.timeout = "15s";
    delete manager.route_config;
    manager.rds = { route_config_name: "inference" };
    const [filter] = manager.http_filters;
    manager.http_filters[0] = { name: filter.name, config_discovery: {} };
    const dump = dumpOf(bootstrap);
    const [listener, control] = bootstrap.static_resources.listeners;
    dump.configs[1] = section("Listeners", {
      static_listeners: [{ listener: control }],
      dynamic_listeners: [{ name: "inference", active_state: { listener } }],
    });
    dump.configs.push(
      section("Routes", { dynamic_route_configs: [{ route_config: routes }] }),
      section("Ecds", { ecds_filters: [{ ecds_filter: filter }] }),
    );
    expect(codes(observation({ view: readConfigDump(dump) }))).toEqual(["route-timeout"]);
  });

  it("has only the routes for which a disabled filter is enabled", () => {
    const bootstrap = shipped();
    const manager = managerOf(bootstrap);
    manager.http_filters[0].disabled = true;
    const host = manager.route_config.virtual_hosts[0];
    const plain = structuredClone(host.routes[0]);
    plain.route.cluster = "elsewhere";
    host.routes[0].typed_per_filter_config = { epp: { config: {} } };
    host.routes.push(plain);
    const [picker] = readConfigDump(dumpOf(bootstrap)).plugins;
    expect(picker!.routes.map(({ clusters }) => clusters)).toEqual([["pool"]]);
  });

  it("leaves out the routes for which a filter is disabled, and redirects", () => {
    const bootstrap = shipped();
    const host = managerOf(bootstrap).route_config.virtual_hosts[0];
    host.routes.push({ match: {}, redirect: {} });
    host.routes[0].typed_per_filter_config = { epp: { disabled: true } };
    expect(readConfigDump(dumpOf(bootstrap)).plugins[0]!.routes).toEqual([]);
  });

  it("knows weighted clusters, and that Envoy lacks one", () => {
    const bootstrap = shipped();
    const { route } = managerOf(bootstrap).route_config.virtual_hosts[0].routes[0];
    delete route.cluster;
    route.weighted_clusters = { clusters: [{ name: "pool" }, { name: "gone" }] };
    expect(codes(observation({}, bootstrap))).toEqual(["cluster-missing"]);
  });

  it("of something else is empty", () => {
    for (const dump of [null, {}, { configs: "x" }, { configs: [{ "@type": "ListenersConfigDump" }] }])
      expect(readConfigDump(dump).plugins).toEqual([]);
  });
});

describe("doctor", () => {
  it.each<[code: string, fields: Partial<Observation>]>([
    ["envoy-version", { version: "1.35.9" }],
    ["envoy-version", { version: "unknown" }],
    ["vm-dead", { stats: new Map([["wasm.envoy.wasm.runtime.v8.active", 0]]) }],
    ["vm-dead", { stats: new Map([["wasm.epp.vm_reload_failure", 1]]) }],
    ["vm-trapped", { stats: new Map([["wasm.epp-ingest.vm_reload_success", 2]]) }],
    ["header-only", { stats: new Map([["wasmcustom.epp_header_only", 1]]) }],
    [
      "snapshot-old",
      { status: { target: "x", value: { version: 1, pools: [{ snapshotAgeMs: 3001, readyEndpoints: 1 }] } } },
    ],
    [
      "snapshot-missing",
      { status: { target: "x", value: { version: 1, pools: [{ snapshotAgeMs: null }] } } },
    ],
    ["foreign-module", { status: { target: "x", failure: "answered 404", answered: 404 } }],
    ["control-unreachable", { status: { target: "x", failure: "answered 401", answered: 401 } }],
    ["module-version", { status: { target: "x", value: { version: 2, pools: [SNAPSHOT] } } }],
    ["sidecar-unreachable", { readiness: { failure: "refused" } }],
    ["sidecar-not-ready", { readiness: { value: { status: 503, body: { reasons: ["a", "b"] } } } }],
    [
      "sidecar-degraded",
      { readiness: { value: { status: 200, body: { status: "degraded", reasons: ["a"] } } } },
    ],
  ])("finds %s in %j", (code, fields) => {
    expect(codes(observation(fields))).toEqual([code]);
  });

  it.each<[string, Partial<Observation>]>([
    ["the oldest Envoy", { version: "1.36.0" }],
    ["a later major version", { version: "2.0.0" }],
    [
      "a snapshot as old as may be",
      { status: { target: "x", value: { version: 1, pools: [{ snapshotAgeMs: 3000 }] } } },
    ],
  ])("finds nothing in %s", (_, fields) => {
    expect(codes(observation(fields))).toEqual([]);
  });

  it.each<[string, unknown]>([
    ["an answer of another server", { hello: "world" }],
    ["a version without pools", { version: 1 }],
  ])("takes %s for a foreign module", (_, value) => {
    expect(codes(observation({ status: { target: "x", value } }))).toContain("foreign-module");
  });

  it.each<[string, object, object, string[]]>([
    ["two files", { local: { filename: "/a" } }, { local: { filename: "/b" } }, ["module-differs"]],
    ["one file", { local: { filename: "/a" } }, { local: { filename: "/a" } }, []],
    ["two sums", { remote: { sha256: "ours" } }, { remote: { sha256: "b" } }, ["module-differs"]],
    ["the sum of the file beside it", { remote: { sha256: "ours" } }, { local: { filename: "/a" } }, []],
    ["another sum", { remote: { sha256: "b" } }, { local: { filename: "/a" } }, ["module-differs"]],
    ["bytes inside the configuration", { local: { inline_bytes: "" } }, { local: { filename: "/a" } }, []],
  ])("compares the modules of both roles: %s", (_, picker, ingest, expected) => {
    const bootstrap = shipped();
    managerOf(bootstrap).http_filters[0].typed_config.config.vm_config.code = picker;
    const [, control] = bootstrap.static_resources.listeners;
    const [filter] = control.filter_chains[0].filters[0].typed_config.http_filters;
    filter.typed_config.config.vm_config.code = ingest;
    expect(codes(observation({}, bootstrap))).toEqual(expected);
    const unknown = codes(observation({ moduleSha256: null }, bootstrap));
    expect(unknown).toEqual(expected.filter(() => !("remote" in picker) || "remote" in ingest));
  });

  it("reports what Envoy refused of its control plane", () => {
    const dump = dumpOf(shipped());
    const refused = { name: "default/llm/http", error_state: { details: "failOpen with failure_policy" } };
    dump.configs.push(section("Listeners", { dynamic_listeners: [refused] }));
    const [finding] = judge(observation({ view: readConfigDump(dump) })).findings;
    expect(finding).toMatchObject({ code: "config-refused", severity: "error" });
    expect(finding!.what).toContain("default/llm/http: failOpen with failure_policy");
  });

  it.each([500, 60_000])("goes by the filter's own age limit of %i ms", (snapshotAgeMaxMs) => {
    const bootstrap = shipped();
    const { configuration } = managerOf(bootstrap).http_filters[0].typed_config.config;
    const parameters = { decisionBytesMax: 1024, snapshotAgeMaxMs };
    configuration.value = JSON.stringify({ plugins: [{ type: "epp-wasm-gateway", parameters }] });
    const codesAt = (snapshotAgeMs: number): string[] => {
      const status = { target: "x", value: { version: 1, pools: [{ snapshotAgeMs }] } };
      return codes(observation({ status }, bootstrap));
    };
    expect(codesAt(snapshotAgeMaxMs)).toEqual([]);
    expect(codesAt(snapshotAgeMaxMs + 1)).toEqual(["snapshot-old"]);
  });

  it("puts errors first, gives each its mend, and exits 0, 1 or 2", () => {
    const both = judge(
      observation({ stats: new Map([["wasm.epp.vm_reload_success", 1]]), readiness: { failure: "refused" } }),
    );
    expect(both.findings.map(({ severity }) => severity)).toEqual(["error", "warning"]);
    const text = describeExamination({ ...both, version: "1.40.0" });
    expect(text.split("\n").filter((line) => line.includes("→"))).toHaveLength(2);
    expect(text).toMatch(/Envoy 1\.40\.0: 1 error, 1 warning$/);
    expect([[], [both.findings[1]!], both.findings].map(exitCodeOf)).toEqual([0, 1, 2]);
  });

  it("notes a second sidecar, which is no fault", () => {
    const pools = [
      { ...SNAPSHOT, sidecar: "a-1", standbySidecar: "b-2" },
      { ...SNAPSHOT, name: "other", sidecar: "a-1", standbySidecar: null },
    ];
    const seen = judge(observation({ status: { target: "x", value: { version: 1, pools } } }));
    expect(seen.findings).toEqual([]);
    expect(seen.notes).toEqual(["sidecar a-1 brings pool pool, and b-2 stands by"]);
    expect(describeExamination(seen)).toMatch(/^note: sidecar a-1 brings pool pool, and b-2 stands by$/m);
  });

  it("says what it did not look at", () => {
    expect(judge(observation({ status: null, readiness: null })).unseen).toHaveLength(2);
  });

  it("reports an Envoy that cannot be reached, or answers something else", async () => {
    const server = createServer((_, response) => response.end("hello"));
    await new Promise<void>((settle) => server.listen(0, "127.0.0.1", settle));
    const admin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    onTestFinished(() => void server.close());
    const foreign = await examine({ admin, token: "" });
    expect(foreign.findings.map(({ code }) => code)).toEqual(["admin-unreachable"]);
    server.close();
    server.closeAllConnections();
    const absent = await examine({ admin, token: "" });
    expect(absent.findings.map(({ code }) => code)).toEqual(["admin-unreachable"]);
  });

  it.each([
    ["0.250s", 0.25],
    ["0s", 0],
    ["15s", 15],
    ["15", null],
    [undefined, null],
  ])("reads the duration %j", (value, expected) => {
    expect(seconds(value)).toBe(expected);
  });

  it.each([
    ["16777216", 16_777_216],
    [3, 3],
    ["", null],
    ["x", null],
  ])("reads the number %j", (value, expected) => {
    expect(number(value)).toBe(expected);
  });
});
