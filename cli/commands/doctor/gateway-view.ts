// Reads Envoy's /config_dump into what doctor asks about: our plugins, the routes they serve, their clusters.
//
// The same view holds for static listeners (plain Envoy, kgateway's bootstrap) and for those that a control plane
// sends: routes by RDS, filters by ECDS (Istio), filters that are disabled but for some routes (Envoy Gateway).
import { at, type Fields, isFields, list, text } from "../documents.ts";

/** One use of the module in a connection manager. */
export interface PluginUse {
  readonly listener: string;
  /** The plugin's name: part of Envoy's wasm.<name>.* statistics. */
  readonly name: string;
  readonly role: "picker" | "ingest";
  readonly vmId: string;
  /** Where the module comes from: a file of the pod, or what the control plane serves, by its sum. */
  readonly module: { readonly file?: string | undefined; readonly sha256?: string | undefined };
  readonly stopIteration: boolean;
  /** FAIL_RELOAD, FAIL_OPEN, FAIL_CLOSED; "UNSPECIFIED" fails closed. */
  readonly failurePolicy: string;
  /** The plugin configuration's text. */
  readonly configuration: string;
  /** Where the listener is bound: a socket's path, or "address:port"; "" for anything else. */
  readonly address: string;
  readonly bufferLimitBytes: number;
  /** Of the connection manager, seconds; 0 = never. */
  readonly streamIdleTimeoutS: number;
  readonly routes: readonly RouteUse[];
}

/** A route that the picker serves. */
export interface RouteUse {
  readonly name: string;
  /** The virtual host's name: the first of its routes that matches is taken. */
  readonly virtualHost: string;
  readonly match: Fields;
  readonly clusters: readonly string[];
  /** Seconds; 0 = none. */
  readonly timeoutS: number;
  /** Seconds; null = the connection manager's. */
  readonly idleTimeoutS: number | null;
  readonly retryPolicy: Fields | null;
  /** Clusters that get a copy of each request, or a header that names them. */
  readonly mirrors: readonly string[];
  /** request_body_buffer_limit or per_request_buffer_limit_bytes of the route or its virtual host; null = none. */
  readonly bufferLimitBytes: number | null;
  /** Headers removed before the cluster chooses a host. */
  readonly removedHeaders: readonly string[];
}

/** What the gateway runs on. */
export interface GatewayView {
  readonly plugins: readonly PluginUse[];
  readonly clusters: ReadonlyMap<string, Fields>;
  /** Names of bootstrap stats_tags whose pattern is about our metrics. */
  readonly statsTags: readonly string[];
  /** Resources that the control plane sent and Envoy refused. */
  readonly refused: readonly { readonly resource: string; readonly details: string }[];
}

/** Envoy's defaults: source/common/network and source/common/router of 1.36. */
const BUFFER_LIMIT_DEFAULT = 1_048_576;
const ROUTE_TIMEOUT_DEFAULT_S = 15;
const STREAM_IDLE_TIMEOUT_DEFAULT_S = 300;

const WASM_TYPE = /extensions\.filters\.http\.wasm\.v3\.Wasm$/;
const MANAGER_TYPE = /HttpConnectionManager$/;

/** Reads a parsed /config_dump. Parts that are not understood are left out. */
export function readConfigDump(dump: unknown): GatewayView {
  const sections = list(at(dump, "configs"));
  const section = (name: string): unknown =>
    sections.find((entry) => String(at(entry, "@type")).endsWith(`.${name}ConfigDump`));
  const routes = byName(entries(section("Routes"), "route_config"));
  const filters = byName(entries(section("Ecds"), "ecds_filter", "ecds_filters"));
  const listeners = entries(section("Listeners"), "listener");
  return {
    plugins: listeners.flatMap((listener) => pluginsOf(listener, { routes, filters })),
    clusters: byName(entries(section("Clusters"), "cluster")),
    statsTags: statsTags(at(section("Bootstrap"), "bootstrap", "stats_config")),
    refused: sections.flatMap(refusedOf),
  };
}

interface Resources {
  readonly routes: ReadonlyMap<string, Fields>;
  readonly filters: ReadonlyMap<string, Fields>;
}

/** Every resource of a kind: static ones, dynamic ones, and those inside active_state. */
function entries(section: unknown, member: string, group?: string): Fields[] {
  if (!isFields(section)) return [];
  const lists = group === undefined ? Object.values(section) : [section[group]];
  return lists.flatMap((values) =>
    list(values).flatMap((entry) => {
      const resource = at(entry, member) ?? at(entry, "active_state", member);
      return isFields(resource) ? [resource] : [];
    }),
  );
}

function byName(resources: readonly Fields[]): Map<string, Fields> {
  return new Map(resources.map((resource) => [String(resource["name"]), resource]));
}

function refusedOf(section: unknown): { resource: string; details: string }[] {
  if (!isFields(section)) return [];
  return Object.values(section).flatMap((values) =>
    list(values).flatMap((entry) => {
      const failed = at(entry, "error_state");
      if (!isFields(failed)) return [];
      const resource = at(entry, "name") ?? at(failed, "failed_configuration", "name") ?? "a resource";
      return [{ resource: String(resource), details: String(failed["details"] ?? "") }];
    }),
  );
}

function pluginsOf(listener: Fields, resources: Resources): PluginUse[] {
  const chains = [...list(listener["filter_chains"]), listener["default_filter_chain"]];
  const managers = chains
    .flatMap((chain) => list(at(chain, "filters")))
    .map((filter) => at(filter, "typed_config"))
    .filter((config): config is Fields => isFields(config) && MANAGER_TYPE.test(String(config["@type"])));
  return managers.flatMap((manager) =>
    list(manager["http_filters"]).flatMap((filter) => pluginOf(listener, manager, filter, resources)),
  );
}

function pluginOf(listener: Fields, manager: Fields, filter: unknown, resources: Resources): PluginUse[] {
  const filterName = String(at(filter, "name"));
  const typed = at(filter, "typed_config") ?? at(resources.filters.get(filterName), "typed_config");
  if (!WASM_TYPE.test(String(at(typed, "@type")))) return [];
  const plugin = at(typed, "config");
  const role = at(plugin, "root_id");
  if (role !== "picker" && role !== "ingest") return [];
  return [
    {
      listener: String(listener["name"]),
      name: text(at(plugin, "name")) ?? "",
      role,
      vmId: text(at(plugin, "vm_config", "vm_id")) ?? "",
      module: {
        file: text(at(plugin, "vm_config", "code", "local", "filename")),
        sha256: text(at(plugin, "vm_config", "code", "remote", "sha256")),
      },
      stopIteration: at(plugin, "allow_on_headers_stop_iteration") === true,
      failurePolicy: text(at(plugin, "failure_policy")) ?? "UNSPECIFIED",
      configuration: text(at(plugin, "configuration", "value")) ?? "",
      address: addressOf(listener),
      bufferLimitBytes: number(listener["per_connection_buffer_limit_bytes"]) ?? BUFFER_LIMIT_DEFAULT,
      streamIdleTimeoutS: seconds(manager["stream_idle_timeout"]) ?? STREAM_IDLE_TIMEOUT_DEFAULT_S,
      routes: routesOf(manager, filterName, at(filter, "disabled") === true, resources.routes),
    },
  ];
}

function addressOf(listener: Fields): string {
  const socket = at(listener, "address", "socket_address");
  if (isFields(socket)) return `${String(socket["address"])}:${String(socket["port_value"])}`;
  return text(at(listener, "address", "pipe", "path")) ?? "";
}

/** Routes that forward to a cluster and where the filter is not switched off. */
function routesOf(
  manager: Fields,
  filterName: string,
  disabled: boolean,
  dynamic: ReadonlyMap<string, Fields>,
): RouteUse[] {
  const inline = manager["route_config"];
  const table = isFields(inline) ? inline : dynamic.get(String(at(manager, "rds", "route_config_name")));
  return list(table?.["virtual_hosts"]).flatMap((host) =>
    list(at(host, "routes")).flatMap((route, index) => {
      const action = at(route, "route");
      const own = at(route, "typed_per_filter_config", filterName);
      const inherited = at(host, "typed_per_filter_config", filterName);
      const enabled = own === undefined ? inherited !== undefined : at(own, "disabled") !== true;
      if (!isFields(action) || (disabled ? !enabled : at(own ?? inherited, "disabled") === true)) return [];
      return [routeOf(table!, host, route, action, index)];
    }),
  );
}

function routeOf(table: Fields, host: unknown, route: unknown, action: Fields, index: number): RouteUse {
  const limits = ["request_body_buffer_limit", "per_request_buffer_limit_bytes"].flatMap((field) =>
    [at(route, field), at(host, field)].map(number),
  );
  const known = limits.filter((limit) => limit !== null);
  const match = at(route, "match");
  const retry = action["retry_policy"] ?? at(host, "retry_policy");
  const name = text(at(route, "name")) ?? `route ${index}`;
  return {
    name: `${String(at(host, "name"))}/${name === "" ? `route ${index}` : name}`,
    virtualHost: String(at(host, "name")),
    match: isFields(match) ? match : {},
    clusters: clustersOf(action),
    timeoutS: seconds(action["timeout"]) ?? ROUTE_TIMEOUT_DEFAULT_S,
    idleTimeoutS: seconds(action["idle_timeout"]),
    retryPolicy: isFields(retry) ? retry : null,
    mirrors: mirrorsOf([action, host, table]),
    bufferLimitBytes: known.length > 0 ? Math.max(...known) : null,
    removedHeaders: [route, host].flatMap((part) =>
      list(at(part, "request_headers_to_remove")).map((header) => String(header).toLowerCase()),
    ),
  };
}

// The innermost list counts, as for Envoy.
function mirrorsOf(places: readonly unknown[]): string[] {
  const policies = places
    .map((place) => list(at(place, "request_mirror_policies")))
    .find((all) => all.length > 0);
  return (policies ?? []).map((policy) => String(at(policy, "cluster") ?? at(policy, "cluster_header")));
}

function clustersOf(action: Fields): string[] {
  const weighted = list(at(action, "weighted_clusters", "clusters")).map((entry) => at(entry, "name"));
  return [action["cluster"], ...weighted].filter((name): name is string => typeof name === "string");
}

function statsTags(config: unknown): string[] {
  return list(at(config, "stats_tags"))
    .filter((tag) => String(at(tag, "regex")).includes("epp_"))
    .map((tag) => String(at(tag, "tag_name")));
}

/** The plugin whose parameters say who calls prefill endpoints, and how. */
export const DISAGGREGATION = "epp-wasm-disaggregation";

/** Pickers that call prefill endpoints themselves, and so put KV parameters into bodies. */
export function splicingPickers({ plugins }: Pick<GatewayView, "plugins">): PluginUse[] {
  return plugins.filter(
    (plugin) => plugin.role === "picker" && parameterOf(plugin, DISAGGREGATION, "mode") === "inline",
  );
}

/** A parameter of the first plugin of a type in the filter's document; undefined = not set. */
export function parameterOf({ configuration }: PluginUse, type: string, name: string): unknown {
  try {
    const plugins = list(at(JSON.parse(configuration), "plugins"));
    return at(
      plugins.find((plugin) => at(plugin, "type") === type),
      "parameters",
      name,
    );
  } catch {
    return undefined;
  }
}

/** A protobuf number: JSON numbers and the strings that 64-bit ones are written as. */
export function number(value: unknown): number | null {
  const parsed = typeof value === "string" && value !== "" ? Number(value) : value;
  return typeof parsed === "number" && Number.isFinite(parsed) ? parsed : null;
}

/** A protobuf duration as JSON writes it, "0.250s". */
export function seconds(value: unknown): number | null {
  const match = /^(\d+(?:\.\d+)?)s$/.exec(text(value) ?? "");
  return match === null ? null : Number(match[1]);
}
