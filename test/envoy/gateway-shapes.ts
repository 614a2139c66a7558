// Starts an Envoy on what a gateway makes of our manifests: its listeners and clusters by xDS files, the rest at start.
import { writeFileSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WASM_PATH } from "../../cli/envoy.ts";
import type { Bootstrap } from "../../cli/envoy-config.ts";
import type { Resource } from "../gateways/resource-schemas.ts";
import { CONTROL_SOCKET, type Json, MODULE_PATH, type Shape, TYPE } from "../gateways/shape.ts";
import { envoyGatewayShape } from "../gateways/shape-envoy-gateway.ts";
import { istioShape } from "../gateways/shape-istio.ts";
import { kgatewayShape } from "../gateways/shape-kgateway.ts";
import { freePort } from "./free-port.ts";
import { type Gateway, type GatewayOptions, startGateway } from "./harness.ts";

export type GatewayKind = "envoy-gateway" | "kgateway" | "istio";

/** A folder as the pods' shared volume is: of a group, whose members may write, and which files in it inherit. */
const SHARED_FOLDER_MODE = 0o2770;

export interface ShapeOptions extends Omit<GatewayOptions, "edit" | "controlSocket"> {
  /** Changes what the gateway made, before Envoy has it. */
  readonly change?: (shape: Shape, controlSocket: string) => void;
  /** There is a control plane that never answers; Envoy stops waiting for it after this long, or never (0). */
  readonly silentXdsMs?: number;
}

export interface ShapedGateway extends Gateway {
  /** The shared volume. */
  readonly folder: string;
  stop(): Promise<void>;
}

/** @throws what the shapes and startGateway throw */
export async function startShape(
  kind: GatewayKind,
  version: string,
  resources: readonly Resource[],
  options: ShapeOptions = {},
): Promise<ShapedGateway> {
  const folder = await mkdtemp(join(tmpdir(), "epp-shape-"));
  await chmod(folder, SHARED_FOLDER_MODE);
  const controlSocket = join(folder, "control.sock");
  const { change, silentXdsMs, ...rest } = options;
  const hopPort = await freePort();
  const edit = (bootstrap: Bootstrap): void => {
    const shape = shapeOf(kind, resources, endpointsOf(bootstrap), hopPort);
    change?.(shape, controlSocket);
    replaceBootstrap(bootstrap, shape, { folder, controlSocket, silentXdsMs });
  };
  try {
    const gateway = await startGateway(version, { ...rest, controlSocket, edit });
    const stopGateway = gateway.stop;
    const stop = async (): Promise<void> => {
      await stopGateway();
      await rm(folder, { recursive: true, force: true });
    };
    return Object.assign(gateway, { folder, stop });
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

function shapeOf(
  kind: GatewayKind,
  resources: readonly Resource[],
  endpoints: string[],
  hopPort: number,
): Shape {
  if (kind === "envoy-gateway") return envoyGatewayShape(resources, endpoints);
  if (kind === "istio") return istioShape(resources, endpoints);
  return kgatewayShape(resources, endpoints, hopPort);
}

/** The replicas, which the harness has put into the template's cluster. */
function endpointsOf(bootstrap: Bootstrap): string[] {
  const { lb_endpoints: entries } = bootstrap.static_resources.clusters[0]!.load_assignment.endpoints[0]!;
  return entries.map(({ endpoint }) => {
    const { address, port_value: port } = endpoint.address.socket_address;
    return `${address}:${port}`;
  });
}

interface Places {
  readonly folder: string;
  readonly controlSocket: string;
  readonly silentXdsMs: number | undefined;
}

/** Leaves nothing of the template but its admin listener. */
function replaceBootstrap(
  bootstrap: Bootstrap,
  shape: Shape,
  { folder, controlSocket, silentXdsMs }: Places,
): void {
  const { admin } = bootstrap;
  for (const field of Object.keys(bootstrap)) delete bootstrap[field];
  // The harness looks for the clients' listener by this name.
  const front = { ...shape.front, name: "inference" };
  const local = (value: unknown): Json =>
    JSON.parse(
      JSON.stringify(value).replaceAll(MODULE_PATH, WASM_PATH).replaceAll(CONTROL_SOCKET, controlSocket),
    ) as Json;
  const path = (name: string, type: string, resource: Json): object => {
    const file = join(folder, `${name}.json`);
    const resources = [{ "@type": `${TYPE}envoy.config.${type}`, ...local(resource) }];
    writeFileSync(file, JSON.stringify({ version_info: "1", resources }));
    return { resource_api_version: "V3", path_config_source: { path: file } };
  };
  Object.assign(bootstrap, {
    node: { id: "test", cluster: "test" },
    admin,
    ...shape.bootstrap,
    static_resources: {
      listeners: shape.listeners.map(local),
      clusters: [...shape.clusters.map(local), ...(silentXdsMs === undefined ? [] : [SILENT_CLUSTER])],
    },
    dynamic_resources: {
      lds_config: path("listeners", "listener.v3.Listener", front),
      ...(silentXdsMs === undefined ? {} : { cds_config: silentXds(silentXdsMs) }),
    },
  });
}

const SILENT_CLUSTER = {
  name: "xds",
  type: "STATIC",
  load_assignment: {
    cluster_name: "xds",
    // The discard port of loopback: nobody answers.
    endpoints: [
      {
        lb_endpoints: [
          { endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: 9 } } } },
        ],
      },
    ],
  },
  typed_extension_protocol_options: {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
      "@type": `${TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions`,
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
};

function silentXds(timeoutMs: number): object {
  return {
    resource_api_version: "V3",
    initial_fetch_timeout: `${timeoutMs / 1_000}s`,
    api_config_source: {
      api_type: "GRPC",
      transport_api_version: "V3",
      grpc_services: [{ envoy_grpc: { cluster_name: "xds" } }],
    },
  };
}
