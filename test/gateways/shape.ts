// What the gateways' shapes have in common: types, names of Envoy's extensions, and the replicas as a cluster's endpoints.
import { parseEndpoint } from "../../cli/envoy-config.ts";
import { at, find } from "./folders.ts";
import type { Resource } from "./resource-schemas.ts";

/** Paths and names that stand in the manifests. */
export const MODULE_PATH = "/etc/epp/epp.wasm";
export const CONTROL_SOCKET = "/run/epp/control.sock";
export const HTTP_MANAGER = "envoy.filters.network.http_connection_manager";
export const TYPE = "type.googleapis.com/";
export const MANAGER_TYPE = `${TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`;
export const ROUTER = {
  name: "envoy.filters.http.router",
  typed_config: { "@type": `${TYPE}envoy.extensions.filters.http.router.v3.Router` },
};

/** A part of an Envoy configuration. */
export type Json = { [field: string]: unknown };

/** What Envoy would be given: the manifests' part and what the control plane makes of the rest. */
export interface Shape {
  /** The listener that clients talk to. */
  readonly front: Json & { name: string };
  /** Further listeners. */
  readonly listeners: Json[];
  readonly clusters: (Json & { name: string })[];
  /** Further fields of the bootstrap. */
  readonly bootstrap?: Json;
}

/** The pool's addresses in the place of those that discovery would bring. */
export function loadAssignment(clusterName: string, endpoints: readonly string[]): Json {
  const lbEndpoints = endpoints.map(parseEndpoint).map(({ host, port }) => ({
    endpoint: { address: { socket_address: { address: host, port_value: port } } },
  }));
  return { cluster_name: clusterName, endpoints: [{ lb_endpoints: lbEndpoints }] };
}

/** The listener that clients talk to, with everything that a caller adds. */
export function frontListener(
  name: string,
  manager: Json,
  bufferLimitBytes: number | undefined,
): Shape["front"] {
  const typedConfig = { "@type": MANAGER_TYPE, stat_prefix: "http", ...manager };
  return {
    name,
    address: { socket_address: { address: "127.0.0.1", port_value: 0 } },
    ...(bufferLimitBytes === undefined ? {} : { per_connection_buffer_limit_bytes: bufferLimitBytes }),
    filter_chains: [{ filters: [{ name: HTTP_MANAGER, typed_config: typedConfig }] }],
  };
}

/** What each gateway makes of the HTTPRoute: the paths, and the timeout or Envoy's own. */
export function routeOf(resources: readonly Resource[]): { prefix: string; timeout: Json } {
  const route = find(resources, "HTTPRoute");
  const timeout = at<string>(route, "spec.rules.0.timeouts.request");
  return {
    prefix: at<string>(route, "spec.rules.0.matches.0.path.value")!,
    timeout: timeout === undefined ? {} : { timeout },
  };
}

/** Bytes of a Kubernetes quantity with a binary suffix. */
export function quantityBytes(text: string): number {
  const match = /^(\d+)(Ki|Mi|Gi)?$/.exec(text);
  if (match === null) throw new Error(`not a quantity: ${text}`);
  return Number(match[1]) * { "": 1, Ki: 1 << 10, Mi: 1 << 20, Gi: 1 << 30 }[match[2] ?? ""]!;
}

/** Everything in a value that has this field, however deep. */
export function having(value: unknown, field: string): Json[] {
  if (typeof value !== "object" || value === null) return [];
  const own = field in value ? [value as Json] : [];
  return [...own, ...Object.values(value).flatMap((child) => having(child, field))];
}
