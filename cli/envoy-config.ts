// Fills in envoy/plain/envoy.yaml for given replicas, ports and policy: that file is the only source.
import { isIP } from "node:net";
import { parse, stringify } from "yaml";

/** Who chooses the replica: our filter, or Envoy alone by one of its own policies. */
export type BalancePolicy = "epp" | "round_robin" | "least_request";

/** What differs from envoy/plain/envoy.yaml; every field left out keeps the file's value. */
export interface EnvoyConfigOptions {
  /** Replicas as "host:port"; IPv6 in brackets. Names (not addresses) make the cluster a STRICT_DNS one. */
  readonly endpoints: readonly string[];
  readonly policy?: BalancePolicy;
  /** Address the inference listener binds. */
  readonly host?: string;
  /** Port of the inference listener; 0 lets the kernel choose. */
  readonly port?: number;
  /** Port of the admin listener, always on loopback; 0 lets the kernel choose. */
  readonly adminPort?: number;
  /** Path of the control listener's unix socket, at most 107 bytes. */
  readonly controlSocket?: string;
  readonly wasmPath?: string;
  /** Pool name: the cluster's, and the route metadata's. */
  readonly poolName?: string;
  /** EndpointPickerConfig as JSON text for the picker role. */
  readonly pluginConfig?: string;
  /** Configuration text for the ingest role. */
  readonly ingestConfig?: string;
  /** Listener and virtual-host buffer limit, bytes. */
  readonly bufferLimitBytes?: number;
  /** False leaves allow_on_headers_stop_iteration out, as a gateway does whose patch did not apply. */
  readonly stopIteration?: boolean;
  /** A file for the access log, or null for none. */
  readonly accessLogPath?: string | null;
  /** Last change to the finished bootstrap, for what the fields above do not reach. */
  readonly edit?: (bootstrap: Bootstrap) => void;
}

/** An address that is not "host:port". */
export class EndpointAddressError extends Error {
  readonly code = "ERR_ENDPOINT_ADDRESS";
  constructor(readonly value: string) {
    super(`not an endpoint address: ${JSON.stringify(value)}; expected "host:port" or "[ipv6]:port"`);
    this.name = "EndpointAddressError";
  }
}

/** A unix socket path that the kernel would refuse. */
export class SocketPathError extends Error {
  readonly code = "ERR_SOCKET_PATH";
  constructor(readonly value: string) {
    super(
      `control socket path is ${Buffer.byteLength(value)} bytes, at most ${SOCKET_PATH_BYTES_MAX}: ${value}`,
    );
    this.name = "SocketPathError";
  }
}

/** sockaddr_un.sun_path on Linux, less its NUL. */
export const SOCKET_PATH_BYTES_MAX = 107;

/** The parts of an Envoy bootstrap that are filled in here; the rest passes through as it stands. */
export interface Bootstrap {
  static_resources: { listeners: Listener[]; clusters: Cluster[] };
  admin: { address: SocketAddress };
  [field: string]: unknown;
}
export interface SocketAddress {
  socket_address: { address: string; port_value: number };
}
export interface Listener {
  name: string;
  address: SocketAddress | { pipe: { path: string; mode: number } };
  per_connection_buffer_limit_bytes: number;
  filter_chains: { filters: { typed_config: ConnectionManager }[] }[];
}
export interface ConnectionManager {
  http_filters: { name: string; typed_config: { config: WasmPlugin } }[];
  route_config: { virtual_hosts: VirtualHost[] };
  access_log?: unknown[];
  [field: string]: unknown;
}
export interface WasmPlugin {
  allow_on_headers_stop_iteration?: boolean;
  configuration: { value: string };
  vm_config: { code: { local: { filename: string } } };
  [field: string]: unknown;
}
export interface VirtualHost {
  request_body_buffer_limit: number;
  routes: { metadata: { filter_metadata: { epp: { pool: string } } }; route: { cluster: string } }[];
}
export interface Cluster {
  name: string;
  type: string;
  load_balancing_policy: { policies: { typed_extension_config: { name: string; typed_config: object } }[] };
  load_assignment: {
    cluster_name: string;
    endpoints: { lb_endpoints: { endpoint: { address: SocketAddress } }[] }[];
  };
  typed_extension_protocol_options: Record<string, { http_filters?: unknown[] }>;
  [field: string]: unknown;
}

const INFERENCE_LISTENER = "inference";
const CONTROL_LISTENER = "epp-control";
const HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const POLICY_TYPES: Record<Exclude<BalancePolicy, "epp">, string> = {
  round_robin: "round_robin.v3.RoundRobin",
  least_request: "least_request.v3.LeastRequest",
};

/**
 * Renders a bootstrap.
 * @param template text of envoy/plain/envoy.yaml
 * @returns YAML text; with a policy other than "epp", the same gateway without filter and control listener
 * @throws EndpointAddressError, SocketPathError
 */
export function renderEnvoyConfig(template: string, options: EnvoyConfigOptions): string {
  const bootstrap = parse(template) as Bootstrap;
  const policy = options.policy ?? "epp";
  fillInferenceListener(named(bootstrap.static_resources.listeners, INFERENCE_LISTENER), options);
  fillControlListener(named(bootstrap.static_resources.listeners, CONTROL_LISTENER), options);
  fillCluster(bootstrap.static_resources.clusters[0]!, options);
  if (options.adminPort !== undefined) bootstrap.admin.address.socket_address.port_value = options.adminPort;
  if (policy !== "epp") removeFilter(bootstrap, policy);
  options.edit?.(bootstrap);
  return stringify(bootstrap, { lineWidth: 0, aliasDuplicateObjects: false });
}

/** Splits "host:port" or "[ipv6]:port". */
export function parseEndpoint(text: string): { host: string; port: number } {
  const match = /^(?:\[([0-9A-Fa-f:.%\w]+)\]|([^:[\]\s/]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port < 1 || port > 65535) throw new EndpointAddressError(text);
  if (match?.[1] !== undefined && isIP(host) !== 6) throw new EndpointAddressError(text);
  return { host, port };
}

/** The connection manager of a listener of ours. */
export function connectionManager(bootstrap: Bootstrap, listenerName: string): ConnectionManager {
  const listener = named(bootstrap.static_resources.listeners, listenerName);
  return listener.filter_chains[0]!.filters[0]!.typed_config;
}

function fillInferenceListener(listener: Listener, options: EnvoyConfigOptions): void {
  const manager = listener.filter_chains[0]!.filters[0]!.typed_config;
  const virtualHost = manager.route_config.virtual_hosts[0]!;
  const { socket_address } = listener.address as SocketAddress;
  if (options.host !== undefined) socket_address.address = options.host;
  if (options.port !== undefined) socket_address.port_value = options.port;
  if (options.poolName !== undefined) {
    const route = virtualHost.routes[0]!;
    route.route.cluster = options.poolName;
    route.metadata.filter_metadata.epp.pool = options.poolName;
  }
  if (options.bufferLimitBytes !== undefined) {
    listener.per_connection_buffer_limit_bytes = options.bufferLimitBytes;
    virtualHost.request_body_buffer_limit = options.bufferLimitBytes;
  }
  if (options.accessLogPath === null) delete manager.access_log;
  else if (options.accessLogPath !== undefined)
    manager.access_log = [fileAccessLog(manager, options.accessLogPath)];
  fillPlugin(manager, options, options.pluginConfig);
}

function fillControlListener(listener: Listener, options: EnvoyConfigOptions): void {
  if (options.controlSocket !== undefined) {
    if (Buffer.byteLength(options.controlSocket) > SOCKET_PATH_BYTES_MAX)
      throw new SocketPathError(options.controlSocket);
    (listener.address as { pipe: { path: string } }).pipe.path = options.controlSocket;
  }
  fillPlugin(listener.filter_chains[0]!.filters[0]!.typed_config, options, options.ingestConfig);
}

function fillPlugin(
  manager: ConnectionManager,
  options: EnvoyConfigOptions,
  configuration: string | undefined,
): void {
  const plugin = manager.http_filters[0]!.typed_config.config;
  if (options.wasmPath !== undefined) plugin.vm_config.code.local.filename = options.wasmPath;
  if (configuration !== undefined) plugin.configuration.value = configuration;
  if (options.stopIteration === false) delete plugin.allow_on_headers_stop_iteration;
}

/** The template's log format, written to a file instead of standard output. */
function fileAccessLog(manager: ConnectionManager, path: string): object {
  const [stdout] = manager.access_log as { typed_config: { log_format: object } }[];
  return {
    name: "envoy.access_loggers.file",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
      path,
      log_format: stdout!.typed_config.log_format,
    },
  };
}

function fillCluster(cluster: Cluster, options: EnvoyConfigOptions): void {
  const addresses = options.endpoints.map(parseEndpoint);
  if (options.poolName !== undefined) {
    cluster.name = options.poolName;
    cluster.load_assignment.cluster_name = options.poolName;
  }
  if (addresses.some(({ host }) => isIP(host) === 0)) cluster.type = "STRICT_DNS";
  cluster.load_assignment.endpoints[0]!.lb_endpoints = addresses.map(({ host, port }) => ({
    endpoint: { address: { socket_address: { address: host, port_value: port } } },
  }));
}

/** The same gateway with nothing of ours in it: what the picker is compared with. */
function removeFilter(bootstrap: Bootstrap, policy: Exclude<BalancePolicy, "epp">): void {
  const resources = bootstrap.static_resources;
  connectionManager(bootstrap, INFERENCE_LISTENER).http_filters.shift();
  resources.listeners = resources.listeners.filter(({ name }) => name !== CONTROL_LISTENER);
  const cluster = resources.clusters[0]!;
  delete cluster.typed_extension_protocol_options[HTTP_OPTIONS]?.http_filters;
  cluster.load_balancing_policy.policies = [
    {
      typed_extension_config: {
        name: `envoy.load_balancing_policies.${policy}`,
        typed_config: {
          "@type": `type.googleapis.com/envoy.extensions.load_balancing_policies.${POLICY_TYPES[policy]}`,
        },
      },
    },
  ];
}

function named<T extends { name: string }>(items: readonly T[], name: string): T {
  const found = items.find((item) => item.name === name);
  if (found === undefined) throw new Error(`envoy/plain/envoy.yaml has no "${name}"`);
  return found;
}
