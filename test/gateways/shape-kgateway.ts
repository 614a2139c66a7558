// What kgateway makes of our manifests: its own listener and route as version 2.4.0 generates them, beside picker.yaml.
import { parse } from "yaml";
import { at, find } from "./folders.ts";
import type { Resource } from "./resource-schemas.ts";
import { frontListener, type Json, loadAssignment, ROUTER, routeOf, type Shape } from "./shape.ts";

interface PickerBootstrap {
  readonly static_resources: {
    readonly listeners: (Json & { name: string; address: { socket_address?: { port_value: number } } })[];
    readonly clusters: (Json & { name: string })[];
  };
}

/** @param hopPort a free port in the place of the one that Backend and picker.yaml agree on */
export function kgatewayShape(
  resources: readonly Resource[],
  endpoints: readonly string[],
  hopPort: number,
): Shape {
  const { static_resources: picker, ...rest } = parse(
    find(resources, "ConfigMap", "epp-picker").data!["picker.yaml"]!,
  ) as PickerBootstrap;
  for (const { address } of picker.listeners) {
    if (address.socket_address === undefined) continue;
    if (address.socket_address.port_value !== at(find(resources, "Backend"), "spec.static.hosts.0.port"))
      throw new Error("the Backend's port is not the picker's");
    address.socket_address.port_value = hopPort;
  }
  for (const cluster of picker.clusters) {
    cluster["type"] = "STATIC";
    cluster["load_assignment"] = loadAssignment(cluster.name, endpoints);
  }
  const hop = hopCluster(resources, hopPort);
  return {
    front: listener(resources, hop.name),
    listeners: picker.listeners,
    clusters: [...picker.clusters, hop],
    bootstrap: rest,
  };
}

function listener(resources: readonly Resource[], cluster: string): Shape["front"] {
  const { prefix, timeout } = routeOf(resources);
  const idle = at<string>(
    resources.find(({ kind }) => kind === "TrafficPolicy"),
    "spec.timeouts.streamIdle",
  );
  const action = { cluster, ...timeout, ...(idle === undefined ? {} : { idle_timeout: idle }) };
  const routes = [{ match: { path_separated_prefix: prefix }, route: action }];
  const name = `listener~${at(find(resources, "Gateway"), "spec.listeners.0.port")}`;
  return frontListener(
    name,
    {
      use_remote_address: true,
      normalize_path: true,
      merge_slashes: true,
      route_config: { name, virtual_hosts: [{ name: `${name}~*`, domains: ["*"], routes }] },
      http_filters: [ROUTER],
    },
    undefined,
  );
}

function hopCluster(resources: readonly Resource[], hopPort: number): Json & { name: string } {
  const { namespace, name } = find(resources, "Backend").metadata;
  const settings = find(resources, "BackendConfigPolicy");
  const breakers = at<Record<string, number>>(settings, "spec.circuitBreakers")!;
  const clusterName = `backend_${namespace}_${name}_0`;
  return {
    name: clusterName,
    type: "STATIC",
    connect_timeout: at(settings, "spec.connectTimeout"),
    circuit_breakers: {
      thresholds: [
        {
          max_connections: breakers["maxConnections"],
          max_pending_requests: breakers["maxPendingRequests"],
          max_requests: breakers["maxRequests"],
        },
      ],
    },
    load_assignment: loadAssignment(clusterName, [`127.0.0.1:${hopPort}`]),
  };
}
