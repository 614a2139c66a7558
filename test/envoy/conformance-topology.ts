// The gateways, routes and pools of the conformance cases, written as a gateway's controller would have Envoy have them.
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { request } from "undici";
import type { Bootstrap, Cluster, ConnectionManager, Listener, VirtualHost } from "../../cli/envoy-config.ts";
import { type Pod, type PortProtocol, startPod } from "./conformance-fleet.ts";
import { type Gateway, startGateway } from "./harness.ts";
import { encodeSnapshot } from "./snapshot.ts";
import { settings } from "./support.ts";

/** A pool of three pods: ports by number; `listed` = those that the pool's targetPorts name. */
interface PoolShape {
  readonly pods: string;
  readonly ports: Readonly<Record<string, PortProtocol>>;
  readonly listed: readonly string[];
}
const HTTP_AND_H2C = { 3000: "http", 3001: "h2c" } as const;
const POOLS: Readonly<Record<string, PoolShape>> = {
  primary: { pods: "primary", ports: { 3000: "http" }, listed: ["3000"] },
  secondary: { pods: "secondary", ports: { 3000: "http" }, listed: ["3000"] },
  dp: { pods: "dp", ports: { 3000: "http", 3002: "http", 3004: "http" }, listed: ["3000", "3002", "3004"] },
  h2c: { pods: "app", ports: HTTP_AND_H2C, listed: ["3001"] },
  http: { pods: "app", ports: HTTP_AND_H2C, listed: ["3000"] },
};
const PODS_OF_A_POOL = 3;

/** Listeners. The first follows the test header; the others have the default profile, the last one fails closed. */
export type GatewayName = "inference" | "primary-gateway" | "secondary-gateway" | "closed-gateway";

export interface Route {
  readonly gateway: GatewayName;
  readonly host: string;
  readonly path: string;
  /** A pool, or weights of several. */
  readonly pool: string | Readonly<Record<string, number>>;
  /** The pool that the picker is asked for, where it is another than the one that Envoy knows. */
  readonly asked?: string;
  readonly header?: string;
}

/** Requests with this header go to a pool that nobody has told the picker of. */
export const PICKER_GONE = "x-picker-gone";
const ANY = "*";

export const ROUTES: readonly Route[] = [
  ...["/primary-gateway-test", "/destination-endpoint-served-test"].map((path) =>
    route("inference", "primary.example.com", path, "primary"),
  ),
  route("inference", "primary.example.com", "/primary-gateway-dp-test", "dp"),
  {
    ...route("inference", "secondary.example.com", "/failopen-pool-test", "secondary"),
    asked: "unheard-of",
    header: PICKER_GONE,
  },
  route("inference", "secondary.example.com", "/failopen-pool-test", "secondary"),
  route("inference", "primary.example.com", "/weighted-two-pools-test", { primary: 70, secondary: 30 }),
  route("inference", "appprotocol-h2c.example.com", "/inferencepool-app-protocol-h2c", "h2c"),
  route("inference", "appprotocol-http.example.com", "/inferencepool-app-protocol-http", "http"),
  route("inference", "appprotocol-default.example.com", "/inferencepool-app-protocol-default", "http"),
  ...["unspecified", "matching", "non-matching"].map((port) =>
    route("primary-gateway", `port-${port}.example.com`, `/test-port-${port}`, "primary"),
  ),
  route("primary-gateway", "primary.example.com", "/test-primary-gateway", "primary"),
  route("primary-gateway", "primary.example.com", "/primary-gateway-test", "primary"),
  route("primary-gateway", ANY, "/primary", "primary"),
  route("primary-gateway", ANY, "/secondary", "secondary"),
  route("secondary-gateway", "secondary.example.com", "/test-secondary-gateway", "secondary"),
  route("secondary-gateway", "secondary.example.com", "/secondary-gateway-test", "primary"),
  { ...route("closed-gateway", ANY, "/invalid-epp-test", "primary"), asked: "unheard-of" },
];

function route(gateway: GatewayName, host: string, path: string, pool: Route["pool"]): Route {
  return { gateway, host, path, pool };
}

const FOLLOWING = settings({ exposeDecision: true }, [{ type: "header-based-testing-filter" }]);
const CONFIGURATIONS: Readonly<Record<GatewayName, string>> = {
  inference: FOLLOWING,
  "primary-gateway": settings({}),
  "secondary-gateway": settings({}),
  "closed-gateway": settings({ fail: "closed" }),
};
/** What the picker says that it chose: wasm.epp_decision, shown as a response header. */
export const DECISION = "x-decision";

export interface Topology {
  readonly gateway: Gateway;
  /** Base URL of each listener. */
  readonly urls: Readonly<Record<GatewayName, string>>;
  /** The pods of a pool. */
  pods(pool: string): readonly Pod[];
  /** Has a listener serve these routes from now on. Envoy takes the file soon, not at once. */
  serve(gateway: GatewayName, routes: readonly Route[]): void;
  stop(): Promise<void>;
}

/** Starts pods, Envoy and filter, and tells the picker of every pool. */
export async function startTopology(version: string): Promise<Topology> {
  const folder = mkdtempSync(join(tmpdir(), "epp-rds-"));
  const pods = await startPods();
  let template!: VirtualHost;
  const write = (name: GatewayName, routes: readonly Route[]): void => {
    const path = join(folder, `${name}.json`);
    writeFileSync(`${path}.new`, routeFile(name, virtualHosts(template, routes)));
    renameSync(`${path}.new`, path);
  };
  const edit = (bootstrap: Bootstrap): void => {
    const { listeners, clusters } = bootstrap.static_resources;
    const [first] = listeners as [Listener];
    template = structuredClone(managerOf(first).route_config.virtual_hosts[0]!);
    const names = Object.keys(CONFIGURATIONS) as GatewayName[];
    listeners.push(...names.slice(1).map((name) => ({ ...structuredClone(first), name })));
    for (const name of names) {
      fillListener(
        listeners.find((listener) => listener.name === name)!,
        name,
        folder,
      );
      write(
        name,
        ROUTES.filter(({ gateway }) => gateway === name),
      );
    }
    const [cluster] = clusters as [Cluster];
    clusters.splice(0, 1, ...Object.keys(POOLS).map((name) => clusterOf(cluster, name, pods)));
    bootstrap["node"] = { id: "conformance", cluster: "conformance" };
  };
  const stopPods = async (): Promise<void> => {
    await Promise.all([...pods.values()].flat().map((pod) => pod.stop()));
    rmSync(folder, { recursive: true, force: true });
  };
  const options = { replicas: 0, extraEndpoints: ["127.0.0.1:1"], snapshot: false, edit } as const;
  const gateway = await startGateway(version, options).catch(async (error: unknown) => {
    await stopPods();
    throw error;
  });
  for (const name of Object.keys(POOLS)) {
    const endpoints = endpointsOf(name, pods).map((address) => ({ address, models: [] }));
    const reply = await gateway.pushBytes(encodeSnapshot(endpoints), name);
    if (reply.status !== 204) throw new Error(`pool ${name}: ${reply.status} ${reply.text}`);
  }
  return {
    gateway,
    urls: await urlsOf(gateway),
    pods: (pool) => pods.get(POOLS[pool]!.pods)!,
    serve: write,
    stop: async () => {
      await gateway.stop();
      await stopPods();
    },
  };
}

async function startPods(): Promise<Map<string, Pod[]>> {
  const started = new Map<string, Pod[]>();
  for (const { pods, ports } of Object.values(POOLS)) {
    if (started.has(pods)) continue;
    const net = started.size + 1;
    const starting = Array.from({ length: PODS_OF_A_POOL }, (_, index) =>
      startPod(`${pods}-${index}`, `127.0.${net}.${index + 1}`, ports),
    );
    started.set(pods, await Promise.all(starting));
  }
  return started;
}

function endpointsOf(pool: string, pods: ReadonlyMap<string, readonly Pod[]>): string[] {
  const shape = POOLS[pool]!;
  return pods.get(shape.pods)!.flatMap((pod) => shape.listed.map((port) => pod.endpoints.get(port)!));
}

function clusterOf(template: Cluster, name: string, pods: ReadonlyMap<string, readonly Pod[]>): Cluster {
  const cluster = structuredClone(template);
  cluster.name = cluster.load_assignment.cluster_name = name;
  cluster.load_assignment.endpoints[0]!.lb_endpoints = endpointsOf(name, pods).map((endpoint) => {
    const [address, port] = endpoint.split(":") as [string, string];
    return { endpoint: { address: { socket_address: { address, port_value: Number(port) } } } };
  });
  if (name === "h2c") {
    const [options] = Object.values(cluster.typed_extension_protocol_options);
    Object.assign(options!, { explicit_http_config: { http2_protocol_options: {} } });
  }
  return cluster;
}

function managerOf(listener: Listener): ConnectionManager {
  return listener.filter_chains[0]!.filters[0]!.typed_config;
}

/** Routes come from a watched file, as they come from a control plane elsewhere. */
function fillListener(listener: Listener, name: GatewayName, folder: string): void {
  const manager = managerOf(listener);
  manager.http_filters[0]!.typed_config.config.configuration.value = CONFIGURATIONS[name];
  delete (manager as { route_config?: object }).route_config;
  const path_config_source = { path: join(folder, `${name}.json`), watched_directory: { path: folder } };
  manager["rds"] = {
    route_config_name: name,
    config_source: { resource_api_version: "V3", path_config_source },
  };
}

function routeFile(name: string, hosts: readonly object[]): string {
  const type = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
  const resources = [{ "@type": type, name, virtual_hosts: hosts }];
  return JSON.stringify({ version_info: String(performance.now()), resources });
}

function virtualHosts(template: VirtualHost, routes: readonly Route[]): object[] {
  const hosts = [...new Set(routes.map(({ host }) => host))];
  return hosts.map((host) => ({
    ...structuredClone(template),
    name: host,
    domains: [host],
    response_headers_to_add: [
      { header: { key: DECISION, value: "%FILTER_STATE(wasm.epp_decision:PLAIN)%" } },
    ],
    routes: routes.filter((one) => one.host === host).map((one) => routeOf(template, one)),
  }));
}

function routeOf(template: VirtualHost, { path, pool, asked, header }: Route): object {
  const base = structuredClone(template.routes[0]!);
  const { cluster: _, ...action } = base.route;
  const headers = header === undefined ? [] : [{ name: header, present_match: true }];
  const match = { path, headers };
  if (typeof pool === "string") {
    base.metadata.filter_metadata.epp.pool = asked ?? pool;
    return { ...base, match, route: { ...action, cluster: pool } };
  }
  const clusters = Object.entries(pool).map(([name, weight]) => ({ name, weight }));
  // Without metadata the pool is that of the cluster which the weights gave this request.
  return { match, route: { ...action, weighted_clusters: { clusters } } };
}

async function urlsOf(gateway: Gateway): Promise<Record<GatewayName, string>> {
  const { body } = await request(`${gateway.envoy.adminUrl}/listeners?format=json`);
  const { listener_statuses: statuses } = (await body.json()) as {
    listener_statuses: { name: GatewayName; local_address: { socket_address?: { port_value: number } } }[];
  };
  return Object.fromEntries(
    statuses.map(({ name, local_address: address }) => [
      name,
      `http://127.0.0.1:${address.socket_address?.port_value}`,
    ]),
  ) as Record<GatewayName, string>;
}
