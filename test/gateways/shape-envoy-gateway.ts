// What Envoy Gateway makes of our manifests: names, defaults and places as version 1.9.1 generates them.
import { parse } from "yaml";
import { at, find } from "./folders.ts";
import { applyPatches } from "./json-patch.ts";
import type { Resource } from "./resource-schemas.ts";
import {
  frontListener,
  type Json,
  loadAssignment,
  quantityBytes,
  ROUTER,
  routeOf,
  type Shape,
  TYPE,
} from "./shape.ts";

/** Envoy Gateway's limit where no policy sets one. */
const DEFAULT_BUFFER_BYTES = 32_768;

/** @throws PatchNotAppliedError */
export function envoyGatewayShape(resources: readonly Resource[], endpoints: readonly string[]): Shape {
  const gateway = find(resources, "Gateway");
  const { namespace, name } = gateway.metadata;
  const front = listener(resources, `${namespace}/${name}/${at(gateway, "spec.listeners.0.name")}`);
  const pool = cluster(resources, endpoints);
  const patches = resources.filter(({ kind }) => kind === "EnvoyPatchPolicy");
  for (const policy of patches) applyPatches(policy, front, pool);
  const bootstrap = parse(at<string>(find(resources, "EnvoyProxy"), "spec.bootstrap.value")!) as {
    static_resources: { listeners: Json[] };
  };
  const { static_resources: resourcesOfBootstrap, ...rest } = bootstrap;
  return {
    front,
    listeners: resourcesOfBootstrap.listeners,
    clusters: [pool],
    bootstrap: rest,
  };
}

function clusterName(resources: readonly Resource[]): string {
  const { namespace, name } = find(resources, "HTTPRoute").metadata;
  return `httproute/${namespace}/${name}/rule/0`;
}

function listener(resources: readonly Resource[], name: string): Shape["front"] {
  const { prefix, timeout } = routeOf(resources);
  const [filterName, filter] = wasmFilter(resources);
  const traffic = find(resources, "BackendTrafficPolicy");
  const clients = resources.find(({ kind }) => kind === "ClientTrafficPolicy");
  const action = {
    cluster: clusterName(resources),
    ...timeout,
    idle_timeout: at(traffic, "spec.timeout.http.streamIdleTimeout"),
    retry_policy: retryPolicy(traffic),
  };
  const enabled = { "@type": `${TYPE}envoy.config.route.v3.FilterConfig`, config: {} };
  const routes = [
    {
      match: { path_separated_prefix: prefix },
      route: action,
      typed_per_filter_config: { [filterName]: enabled },
    },
    // Another route of the same Gateway, which no EnvoyExtensionPolicy names.
    { match: { path_separated_prefix: "/other" }, route: { cluster: clusterName(resources) } },
  ];
  const limit = at<string>(clients, "spec.connection.bufferLimit");
  return frontListener(
    name,
    {
      use_remote_address: true,
      normalize_path: true,
      stream_idle_timeout: at(clients, "spec.timeout.http.streamIdleTimeout"),
      route_config: { name, virtual_hosts: [{ name: `${name}/*`, domains: ["*"], routes }] },
      http_filters: [filter, ROUTER],
    },
    limit === undefined ? DEFAULT_BUFFER_BYTES : quantityBytes(limit),
  );
}

/** The filter in the chain, off; each route that a policy names turns it on. */
function wasmFilter(resources: readonly Resource[]): [string, Json] {
  const policy = find(resources, "EnvoyExtensionPolicy");
  const wasm = at<{ name: string; rootID: string; failOpen: boolean; config: unknown }>(
    policy,
    "spec.wasm.0",
  )!;
  const id = `envoyextensionpolicy/${policy.metadata.namespace}/${policy.metadata.name}/wasm/0`;
  const name = `envoy.filters.http.wasm/${id}`;
  const config = {
    name: wasm.name,
    root_id: wasm.rootID,
    fail_open: wasm.failOpen,
    configuration: { "@type": `${TYPE}google.protobuf.StringValue`, value: JSON.stringify(wasm.config) },
    // Envoy Gateway serves the module itself, as remote code; here it is the same file as the control listener's.
    vm_config: {
      vm_id: id,
      runtime: "envoy.wasm.runtime.v8",
      code: { local: { filename: "/etc/epp/epp.wasm" } },
    },
  };
  return [
    name,
    {
      name,
      disabled: true,
      typed_config: { "@type": `${TYPE}envoy.extensions.filters.http.wasm.v3.Wasm`, config },
    },
  ];
}

function retryPolicy(traffic: Resource): Json {
  return {
    retry_on: at<string[]>(traffic, "spec.retry.retryOn.triggers")!.join(","),
    num_retries: at(traffic, "spec.retry.numRetries"),
    retry_back_off: {
      base_interval: seconds(at(traffic, "spec.retry.perRetry.backOff.baseInterval")),
      max_interval: seconds(at(traffic, "spec.retry.perRetry.backOff.maxInterval")),
    },
    retry_host_predicate: [
      {
        name: "envoy.retry_host_predicates.previous_hosts",
        typed_config: {
          "@type": `${TYPE}envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate`,
        },
      },
    ],
    host_selection_retry_max_attempts: 5,
  };
}

function cluster(resources: readonly Resource[], endpoints: readonly string[]): Json & { name: string } {
  const name = clusterName(resources);
  const traffic = find(resources, "BackendTrafficPolicy");
  const breaker = at<Record<string, number>>(traffic, "spec.circuitBreaker") ?? {};
  const balancing = at<{ type: string; endpointOverride: { extractFrom: unknown[] } }>(
    traffic,
    "spec.loadBalancer",
  )!;
  if (balancing.type !== "LeastRequest") throw new Error(`no shape for ${balancing.type}`);
  return {
    name,
    type: "STATIC",
    connect_timeout: seconds(at(traffic, "spec.timeout.tcp.connectTimeout")),
    per_connection_buffer_limit_bytes: DEFAULT_BUFFER_BYTES,
    circuit_breakers: {
      thresholds: [
        {
          max_connections: breaker["maxConnections"],
          max_pending_requests: breaker["maxPendingRequests"],
          max_requests: breaker["maxParallelRequests"],
          max_retries: breaker["maxParallelRetries"],
        },
      ],
    },
    ...protocolOptions(at(traffic, "spec.timeout.http.connectionIdleTimeout")),
    load_balancing_policy: overrideHost(balancing.endpointOverride.extractFrom),
    load_assignment: loadAssignment(name, endpoints),
  };
}

/** There only where something is to be said (internal/xds/translator/cluster.go). */
function protocolOptions(idleTimeout: string | undefined): Json {
  if (idleTimeout === undefined) return {};
  const options = {
    "@type": `${TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions`,
    common_http_protocol_options: { idle_timeout: idleTimeout },
    explicit_http_config: { http_protocol_options: {} },
  };
  return {
    typed_extension_protocol_options: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options,
    },
  };
}

function overrideHost(sources: readonly unknown[]): Json {
  const policy = (name: string, type: string, fields: Json): Json => ({
    typed_extension_config: {
      name: `envoy.load_balancing_policies.${name}`,
      typed_config: { "@type": `${TYPE}envoy.extensions.load_balancing_policies.${type}`, ...fields },
    },
  });
  const fallback = policy("least_request", "least_request.v3.LeastRequest", {});
  return {
    policies: [
      policy("override_host", "override_host.v3.OverrideHost", {
        override_host_sources: sources,
        fallback_policy: { policies: [fallback] },
      }),
    ],
  };
}

/** "250ms" of the Gateway API as Envoy's "0.25s". */
function seconds(duration: string | undefined): string | undefined {
  const match = /^(\d+)(ms|s)$/.exec(duration ?? "");
  if (match === null) return undefined;
  return match[2] === "s" ? duration : `${Number(match[1]) / 1_000}s`;
}
