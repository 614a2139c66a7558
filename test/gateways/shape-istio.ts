// What Istio makes of our manifests: a gateway's listener and cluster with its defaults, and the EnvoyFilters applied.
import { at, find } from "./folders.ts";
import type { Resource } from "./resource-schemas.ts";
import {
  frontListener,
  HTTP_MANAGER,
  type Json,
  loadAssignment,
  ROUTER,
  routeOf,
  type Shape,
} from "./shape.ts";

interface ConfigPatch {
  readonly applyTo: string;
  readonly match?: {
    readonly context: string;
    readonly routeConfiguration?: { readonly portNumber: number };
    readonly listener?: { readonly portNumber?: number; readonly filterChain?: object };
    readonly cluster?: { readonly service: string; readonly portNumber: number };
  };
  readonly patch: { readonly operation: string; readonly value: Json };
}

/** An EnvoyFilter that finds nothing to change, which Istio passes over. */
export class FilterNotAppliedError extends Error {
  readonly code = "ERR_FILTER_NOT_APPLIED";
  constructor(name: string, reason: string) {
    super(`EnvoyFilter ${name} does not apply: ${reason}`);
    this.name = "FilterNotAppliedError";
  }
}

/** Istio's defaults (istio/istio pilot/pkg/networking/core/connection_settings.go). */
const BUFFER_BYTES = 32_768;
const STREAM_IDLE_TIMEOUT = "300s";

/** @throws FilterNotAppliedError */
export function istioShape(resources: readonly Resource[], endpoints: readonly string[]): Shape {
  const backend = at<{ name: string; port: number }>(
    find(resources, "HTTPRoute"),
    "spec.rules.0.backendRefs.0",
  )!;
  const service = `${backend.name}.${find(resources, "HTTPRoute").metadata.namespace}.svc.cluster.local`;
  const cluster = `outbound|${backend.port}||${service}`;
  const { prefix, timeout } = routeOf(resources);
  const retry = {
    retry_on: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
    retriable_status_codes: [503],
    num_retries: 2,
  };
  const routes = [
    { match: { path_separated_prefix: prefix }, route: { cluster, ...timeout, retry_policy: retry } },
  ];
  const port = at<number>(find(resources, "Gateway"), "spec.listeners.0.port")!;
  const front = frontListener(
    `0.0.0.0_${port}`,
    {
      use_remote_address: true,
      stream_idle_timeout: STREAM_IDLE_TIMEOUT,
      route_config: { name: `http.${port}`, virtual_hosts: [{ name: "*:80", domains: ["*"], routes }] },
      http_filters: [ROUTER],
    },
    BUFFER_BYTES,
  );
  const unlimited = 4_294_967_295;
  const thresholds = {
    max_connections: unlimited,
    max_pending_requests: unlimited,
    max_requests: unlimited,
    max_retries: unlimited,
  };
  const shape: Shape = {
    front,
    listeners: [],
    bootstrap: {},
    clusters: [
      {
        name: cluster,
        type: "STATIC",
        connect_timeout: "10s",
        lb_policy: "LEAST_REQUEST",
        circuit_breakers: { thresholds: [thresholds] },
        load_assignment: loadAssignment(cluster, endpoints),
      },
    ],
  };
  for (const filter of resources.filter(({ kind }) => kind === "EnvoyFilter"))
    for (const patch of at<ConfigPatch[]>(filter, "spec.configPatches")!)
      applyPatch(shape, patch, { name: filter.metadata.name, port, service, servicePort: backend.port });
  return shape;
}

interface Names {
  readonly name: string;
  readonly port: number;
  readonly service: string;
  readonly servicePort: number;
}

function applyPatch(shape: Shape, { applyTo, match, patch }: ConfigPatch, names: Names): void {
  const fail = (reason: string): never => {
    throw new FilterNotAppliedError(names.name, reason);
  };
  const place = `${applyTo} ${patch.operation}`;
  if (place === "BOOTSTRAP MERGE") {
    merge(shape.bootstrap!, patch.value);
    return;
  }
  if (match?.context !== "GATEWAY") throw fail(`context ${match?.context}`);
  const port = match.listener?.portNumber ?? match.routeConfiguration?.portNumber ?? names.port;
  if (port !== names.port) fail(`nothing on port ${port}`);
  const manager = at<Json>(shape.front, "filter_chains.0.filters.0.typed_config")!;
  if (place === "LISTENER ADD") shape.listeners.push(patch.value);
  else if (place === "LISTENER MERGE") merge(shape.front, patch.value);
  else if (place === "NETWORK_FILTER MERGE") {
    if (at(match, "listener.filterChain.filter.name") !== HTTP_MANAGER) fail("no such network filter");
    merge(manager, patch.value["typed_config"] as Json);
  } else if (place === "HTTP_FILTER INSERT_BEFORE") {
    const filters = manager["http_filters"] as { name: string }[];
    const before = at(match, "listener.filterChain.filter.subFilter.name");
    const index = filters.findIndex(({ name }) => name === before);
    if (index < 0) fail(`no HTTP filter ${String(before)}`);
    filters.splice(index, 0, patch.value as { name: string });
  } else if (place === "CLUSTER MERGE") {
    const { service, portNumber } = match.cluster!;
    if (service !== names.service || portNumber !== names.servicePort) fail(`no cluster of ${service}`);
    merge(shape.clusters[0]!, patch.value);
  } else if (place === "HTTP_ROUTE MERGE") {
    merge(at<Json>(manager, "route_config.virtual_hosts.0.routes.0")!, patch.value);
  } else fail(`no place ${place}`);
}

/** Merges as protocol buffers do: messages field by field, lists appended, everything else replaced. */
function merge(into: Json, from: Json): void {
  for (const [field, value] of Object.entries(from)) {
    const present = into[field];
    if (Array.isArray(present) && Array.isArray(value)) present.push(...(value as unknown[]));
    else if (isMessage(present) && isMessage(value)) merge(present, value);
    else into[field] = value;
  }
}

function isMessage(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
