// Each trap of the gateways is closed by a manifest: timeouts, limits, patches, sockets, volumes, names.
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { ROOT, WASM_PATH } from "../../cli/envoy.ts";
import { at, BASES, build, find, readYaml } from "./folders.ts";
import { PatchNotAppliedError } from "./json-patch.ts";
import { gatewayPod } from "./pods.ts";
import { CONTROL_SOCKET, having, type Json, MODULE_PATH, type Shape } from "./shape.ts";
import { envoyGatewayShape } from "./shape-envoy-gateway.ts";
import { FilterNotAppliedError, istioShape } from "./shape-istio.ts";
import { kgatewayShape } from "./shape-kgateway.ts";

const ENDPOINTS = ["10.0.0.1:8000"];
const STREAMS_MIN = 65_536;
const CONFIG_MAP_BYTES_MAX = 1_048_576;
const DESTINATION = "x-gateway-destination-endpoint";
const HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

const shapes: Readonly<Record<string, () => Shape>> = {
  "envoy/envoy-gateway/base": () => envoyGatewayShape(build(BASES[0]), ENDPOINTS),
  "envoy/envoy-gateway/overlays/https": () =>
    envoyGatewayShape(build("envoy/envoy-gateway/overlays/https"), ENDPOINTS),
  "envoy/kgateway/base": () => kgatewayShape(build(BASES[1]), ENDPOINTS, 15_001),
  "envoy/istio/base": () => istioShape(build(BASES[2]), ENDPOINTS),
};

/** The listener that holds bodies for the picker. */
function pickerListener({ front, listeners }: Shape): Json {
  return [front, ...listeners].find((listener) => having(listener, "root_id").some(isPicker))!;
}

const isPicker = ({ root_id: role }: Json): boolean => role === "picker";

describe.each(Object.entries(shapes))("%s", (_, make) => {
  const shape = make();
  const plugins = having(shape, "root_id");

  it("has both roles, which share one VM name, get bodies and come back after a trap", () => {
    expect(plugins.map(({ root_id: role }) => role).sort()).toEqual(["ingest", "picker"]);
    for (const plugin of plugins) {
      expect(plugin).toMatchObject({
        allow_on_headers_stop_iteration: true,
        failure_policy: "FAIL_RELOAD",
        vm_config: { vm_id: "epp", runtime: "envoy.wasm.runtime.v8" },
      });
      // Envoy refuses a listener with both; false is protobuf's own default and is no value there.
      expect(plugin["fail_open"] ?? false).toBe(false);
    }
  });

  it("sets no timeout on requests, and an hour on silent streams", () => {
    const actions = having(shape, "route").map(({ route }) => route as Json);
    const ours = actions.filter((action) => action["timeout"] !== undefined);
    expect(ours.length).toBeGreaterThan(0);
    for (const { timeout } of ours) expect(timeout).toBe("0s");
    const managers = [shape.front, pickerListener(shape)].flatMap((listener) =>
      having(listener, "http_filters"),
    );
    for (const manager of managers) {
      const [action] = having(manager, "route").map(({ route }) => route as Json);
      expect(action!["idle_timeout"] ?? manager["stream_idle_timeout"]).toBe("3600s");
    }
  });

  it("holds more than the picker waits for", () => {
    const picker = plugins.find(isPicker)!;
    const config = JSON.parse(at<string>(picker, "configuration.value")!) as {
      plugins: { parameters: Json }[];
    };
    const decisionBytesMax = config.plugins[0]!.parameters["decisionBytesMax"] as number;
    const limit = pickerListener(shape)["per_connection_buffer_limit_bytes"] as number;
    expect(decisionBytesMax).toBeGreaterThan(32_768);
    expect(limit).toBeGreaterThan(decisionBytesMax);
  });

  it("lets every stream that can be open through the circuit breakers, and every retry", () => {
    for (const cluster of shape.clusters) {
      const thresholds = at<Record<string, number>>(cluster, "circuit_breakers.thresholds.0")!;
      for (const field of ["max_connections", "max_pending_requests", "max_requests"])
        expect(thresholds[field], `${cluster.name} ${field}`).toBeGreaterThanOrEqual(STREAMS_MIN);
      if (cluster["load_balancing_policy"] === undefined) continue;
      const budget = at<number>(thresholds, "retry_budget.budget_percent.value");
      expect(budget ?? thresholds["max_retries"]).toBeGreaterThanOrEqual(100);
    }
  });

  it("ends idle connections before the replicas do, and takes the pick away behind the choice", () => {
    const pools = shape.clusters.filter((cluster) => cluster["load_balancing_policy"] !== undefined);
    expect(pools).toHaveLength(1);
    const options = at<Json>(pools[0], "typed_extension_protocol_options")![HTTP_OPTIONS];
    expect(at(options, "common_http_protocol_options.idle_timeout")).toBe("4s");
    const filters = at<Json[]>(options, "http_filters")!;
    expect(at(filters[0], "typed_config.mutations.request_mutations")).toEqual([{ remove: DESTINATION }]);
    expect(filters.at(-1)!["name"]).toBe("envoy.filters.http.upstream_codec");
  });

  it("reads the pick from the header that the filter writes, and takes it away nowhere before", () => {
    const [balancer] = having(shape.clusters, "override_host_sources");
    expect(balancer!["override_host_sources"]).toEqual([{ header: DESTINATION }]);
    expect(having(shape, "request_headers_to_remove")).toEqual([]);
  });

  it("opens the control socket to the group", () => {
    const pipes = having(shape.listeners, "pipe").map(({ pipe }) => pipe);
    expect(pipes).toEqual([{ path: CONTROL_SOCKET, mode: 0o660 }]);
  });
});

describe.each(BASES)("the pods of %s", (folder) => {
  const resources = build(folder);
  const { fsGroup, volumes, envoyMounts, sidecar, namespace } = gatewayPod(resources);
  const mounts = (path: string): Json[] =>
    [envoyMounts, sidecar["volumeMounts"] as Json[]].map((list) =>
      list.find(({ mountPath }) => mountPath === path)!,
    );

  it("share the socket's folder, in memory of the pod, with a group that the sidecar is in", () => {
    const [envoy, ours] = mounts(dirname(CONTROL_SOCKET));
    expect(envoy!["name"]).toBe(ours!["name"]);
    expect(volumes.find(({ name }) => name === envoy!["name"])).toHaveProperty("emptyDir");
    expect(fsGroup).toBe(65_532);
  });

  it("run the sidecar without rights, and never take the gateway out of service for it", () => {
    expect(sidecar["securityContext"]).toMatchObject({
      runAsNonRoot: true,
      readOnlyRootFilesystem: true,
      allowPrivilegeEscalation: false,
      capabilities: { drop: ["ALL"] },
    });
    expect(sidecar).not.toHaveProperty("readinessProbe");
    expect(sidecar).not.toHaveProperty("startupProbe");
  });

  it("mount the module where the configuration looks for it", () => {
    const mount = envoyMounts.find(({ mountPath }) => mountPath === dirname(MODULE_PATH))!;
    const volume = volumes.find(({ name }) => name === mount["name"])!;
    expect(JSON.stringify(volume)).toContain('"configMap":{"name":"epp-filter"}');
    expect(statSync(WASM_PATH).size).toBeLessThan(CONFIG_MAP_BYTES_MAX);
  });

  it("find their ConfigMaps in their own namespace", () => {
    const mounted = [...JSON.stringify(volumes).matchAll(/"configMap":\{"name":"([^"]+)"/g)].map(
      ([, name]) => name!,
    );
    const made = resources.filter(({ kind }) => kind === "ConfigMap");
    for (const { metadata } of made) expect(metadata.namespace).toBe(namespace);
    const names = made.map(({ metadata }) => metadata.name);
    // The module is binary and is made from the file that was built.
    expect(mounted.filter((name) => !names.includes(name))).toEqual(["epp-filter"]);
  });

  it("ask for the names of every pod of the pool", () => {
    const service = find(resources, "Service");
    expect(at(service, "spec.clusterIP")).toBe("None");
    const { host, port } = at<{ host: string; port: number }>(
      parse(find(resources, "ConfigMap", "epp-sidecar").data!["sidecar.yaml"]!),
      "pools.0.discovery.dns",
    )!;
    expect(host).toBe(`${service.metadata.name}.${service.metadata.namespace}.svc.cluster.local`);
    expect(port).toBe(at(service, "spec.ports.0.port"));
  });
});

describe("patches that would be passed over in silence", () => {
  it("are found when the Gateway's listener has another name", () => {
    const resources = structuredClone(build(BASES[0]));
    Object.assign(at<Json>(find(resources, "Gateway"), "spec.listeners.0")!, { name: "web" });
    expect(() => envoyGatewayShape(resources, ENDPOINTS)).toThrow(PatchNotAppliedError);
  });

  it("are found when the filter has another name", () => {
    const resources = structuredClone(build(BASES[0]));
    Object.assign(at<Json>(find(resources, "EnvoyExtensionPolicy"), "spec.wasm.0")!, { name: "picker" });
    expect(() => envoyGatewayShape(resources, ENDPOINTS)).toThrow(PatchNotAppliedError);
  });

  it("are found when the route has another name than the cluster's patch", () => {
    const resources = structuredClone(build(BASES[0]));
    Object.assign(find(resources, "HTTPRoute").metadata, { name: "chat" });
    expect(() => envoyGatewayShape(resources, ENDPOINTS)).toThrow(PatchNotAppliedError);
  });

  it("are found when no timeout makes the place for the cluster's patch", () => {
    const resources = structuredClone(build(BASES[0]));
    delete at<Json>(find(resources, "BackendTrafficPolicy"), "spec.timeout.http")!["connectionIdleTimeout"];
    expect(() => envoyGatewayShape(resources, ENDPOINTS)).toThrow(PatchNotAppliedError);
  });

  it("are found when an EnvoyFilter names another port or Service", () => {
    for (const [name, path, value] of [
      ["epp-buffer-limit", "spec.configPatches.0.match.listener", { portNumber: 80 }],
      ["epp-endpoint-override", "spec.configPatches.0.match.cluster", { service: "other" }],
    ] as const) {
      const resources = structuredClone(build(BASES[2]));
      Object.assign(at<Json>(find(resources, "EnvoyFilter", name), path)!, value);
      expect(() => istioShape(resources, ENDPOINTS)).toThrow(FilterNotAppliedError);
    }
  });
});

describe("envoy/kgateway/base/picker.yaml", () => {
  const picker = readYaml<Json>("envoy/kgateway/base/picker.yaml");
  const plain = readYaml<Json>("envoy/plain/envoy-dns.yaml");

  it("has the cluster, the control listener and the metrics' labels of envoy/plain/envoy-dns.yaml", () => {
    expect(at(picker, "static_resources.clusters")).toEqual(at(plain, "static_resources.clusters"));
    expect(at(picker, "stats_config")).toEqual(at(plain, "stats_config"));
    const control = structuredClone(at<Json>(plain, "static_resources.listeners.1")!);
    Object.assign(at<Json>(control, "address.pipe")!, { mode: 0o660 });
    expect(at(picker, "static_resources.listeners.1")).toEqual(control);
  });

  it("has its filter, and its routes but for their name", () => {
    const manager = "static_resources.listeners.0.filter_chains.0.filters.0.typed_config";
    expect(at(picker, `${manager}.http_filters`)).toEqual(at(plain, `${manager}.http_filters`));
    expect(at(picker, `${manager}.route_config.virtual_hosts`)).toEqual(
      at(plain, `${manager}.route_config.virtual_hosts`),
    );
  });

  it("leaves kgateway's ports alone, and is reached from the pod only", () => {
    const sockets = having(at(picker, "static_resources.listeners"), "socket_address");
    expect(sockets).toEqual([{ socket_address: { address: "127.0.0.1", port_value: 15_001 } }]);
  });
});

describe("envoy/plain/compose.yaml", () => {
  const { services, volumes } = readYaml<{ services: Record<string, Json>; volumes: Json }>(
    "envoy/plain/compose.yaml",
  );
  const bootstrap = readYaml("envoy/plain/envoy.yaml");

  it("runs both as one user, for whom the socket's folder and the socket are", () => {
    const users = Object.values(services).map(({ user }) => user);
    expect(users).toEqual(["65532:65532", "65532:65532"]);
    expect(at(volumes, "epp-run.driver_opts.o")).toBe("uid=65532,gid=65532,mode=0700");
    expect(at(bootstrap, "static_resources.listeners.1.address.pipe.mode")).toBe(0o600);
  });

  it("mounts files that are there, where the configurations look for them", () => {
    const mounts = Object.values(services).flatMap((service) => service["volumes"] as string[]);
    const files = mounts.filter((mount) => mount.startsWith(".")).map((mount) => mount.split(":")[0]!);
    const missing = files.filter((file) => !existsSync(join(ROOT, "envoy", "plain", file)));
    expect(missing.filter((file) => !file.includes("/build/"))).toEqual([]);
    expect(mounts).toContain(`../../build/epp.wasm:${MODULE_PATH}:ro`);
    expect(mounts.filter((mount) => mount === `epp-run:${dirname(CONTROL_SOCKET)}`)).toHaveLength(2);
  });

  it("runs the sidecar on the base of its image", () => {
    const containerfile = readFileSync(join(ROOT, "packaging", "Containerfile"), "utf8");
    expect(containerfile).toContain(`ARG BASE=${services["sidecar"]!["image"] as string}\n`);
  });

  it("gives neither more rights than it needs", () => {
    for (const service of Object.values(services))
      expect(service).toMatchObject({
        read_only: true,
        cap_drop: ["ALL"],
        security_opt: ["no-new-privileges:true"],
      });
  });

  it("has a sidecar that watches the cluster's replicas", () => {
    const endpoints = at<Json[]>(readYaml("envoy/plain/sidecar.yaml"), "pools.0.discovery.static.endpoints")!;
    const sockets = having(at(bootstrap, "static_resources.clusters.0"), "socket_address");
    expect(endpoints).toEqual(
      sockets.map(({ socket_address: socket }) => ({
        address: at(socket, "address"),
        port: at(socket, "port_value"),
      })),
    );
  });
});
