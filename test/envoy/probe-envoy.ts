// A real Envoy with every probe listener: configuration, process, and the probe's lines from its log.
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { request } from "undici";
import { ROOT } from "../../cli/envoy.ts";
import { venvEnvoy } from "../../scripts/find-envoy.mjs";
import {
  CLUSTER,
  FILTER_METADATA,
  ROUTE_METADATA,
  ROUTE_NAME,
  type ProbeListener,
} from "../host/listeners.ts";
import { PROBE_PATH, probeWasm } from "../host/probe.ts";

const READY_TIMEOUT_MS = 30_000;
const POLL_MS = 20;
const STOP_GRACE_MS = 3_000;
/** Those that configure each root: the canary's, the main one, and the worker. */
const THREADS = 3;
const EXTENSIONS = "type.googleapis.com/envoy.extensions";

/** Envoy did not come up, or went away. */
export class ProbeEnvoyError extends Error {
  readonly code = "PROBE_ENVOY";

  constructor(
    readonly version: string,
    detail: string,
  ) {
    super(`Envoy ${version}: ${detail}`);
    this.name = "ProbeEnvoyError";
  }
}

function plugin(listener: ProbeListener, modulePath = PROBE_PATH): object {
  const text = (value: string): object => ({
    "@type": "type.googleapis.com/google.protobuf.StringValue",
    value,
  });
  const policies = { closed: "FAIL_CLOSED", open: "FAIL_OPEN", reload: "FAIL_RELOAD" };
  return {
    name: listener.name,
    root_id: listener.name,
    failure_policy: policies[listener.policy ?? "closed"],
    allow_on_headers_stop_iteration: listener.stop,
    configuration: text(listener.configuration ?? ""),
    vm_config: {
      vm_id: listener.vm ?? listener.name,
      runtime: "envoy.wasm.runtime.v8",
      code: { local: { filename: modulePath } },
      configuration: text(listener.vmConfiguration ?? ""),
      environment_variables: { key_values: listener.environment ?? {} },
    },
  };
}

function retryPolicy({ retry }: ProbeListener): object {
  if (retry === undefined) return {};
  const interval = `${retry.backOffMs / 1000}s`;
  const back_off = { base_interval: interval, max_interval: interval };
  return {
    retry_policy: { retry_on: retry.retryOn, num_retries: retry.retries, retry_back_off: back_off },
  };
}

function listenerConfig(listener: ProbeListener): object {
  const metadata = Object.entries(FILTER_METADATA).map(([name, value]) => ({
    metadata_namespace: name,
    value,
  }));
  const route = {
    name: ROUTE_NAME,
    match: { prefix: "/" },
    route: { cluster: listener.cluster ?? CLUSTER, ...retryPolicy(listener) },
    metadata: { filter_metadata: ROUTE_METADATA },
  };
  const manager = {
    "@type": `${EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: listener.name,
    generate_request_id: false,
    http_protocol_options: { enable_trailers: true },
    route_config: { virtual_hosts: [{ name: "all", domains: ["*"], routes: [route] }] },
    http_filters: [
      {
        name: "metadata",
        typed_config: { "@type": `${EXTENSIONS}.filters.http.set_metadata.v3.Config`, metadata },
      },
      {
        name: "abort",
        typed_config: {
          "@type": `${EXTENSIONS}.filters.http.fault.v3.HTTPFault`,
          abort: { header_abort: {}, percentage: { numerator: 100 } },
        },
      },
      {
        name: "probe",
        typed_config: { "@type": `${EXTENSIONS}.filters.http.wasm.v3.Wasm`, config: plugin(listener) },
      },
      { name: "router", typed_config: { "@type": `${EXTENSIONS}.filters.http.router.v3.Router` } },
    ],
  };
  return {
    name: listener.name,
    address: { socket_address: { address: "127.0.0.1", port_value: 0 } },
    ...(listener.bufferLimitBytes === undefined
      ? {}
      : { per_connection_buffer_limit_bytes: listener.bufferLimitBytes }),
    filter_chains: [
      { filters: [{ name: "envoy.filters.network.http_connection_manager", typed_config: manager }] },
    ],
  };
}

/** A static cluster. */
export interface ProbeCluster {
  readonly name: string;
  /** "127.0.0.1:port" each. */
  readonly hosts: readonly string[];
  /** Hosts are chosen by x-gateway-destination-endpoint, then by round_robin. */
  readonly override?: boolean;
}

function overridePolicy(): object {
  const roundRobin = {
    name: "envoy.load_balancing_policies.round_robin",
    typed_config: { "@type": `${EXTENSIONS}.load_balancing_policies.round_robin.v3.RoundRobin` },
  };
  const override = {
    name: "envoy.load_balancing_policies.override_host",
    typed_config: {
      "@type": `${EXTENSIONS}.load_balancing_policies.override_host.v3.OverrideHost`,
      override_host_sources: [{ header: "x-gateway-destination-endpoint" }],
      fallback_policy: { policies: [{ typed_extension_config: roundRobin }] },
    },
  };
  return { load_balancing_policy: { policies: [{ typed_extension_config: override }] } };
}

function clusterConfig({ name, hosts, override = false }: ProbeCluster): object {
  const endpoint = (host: string): object => {
    const [address, port] = host.split(":");
    return { endpoint: { address: { socket_address: { address, port_value: Number(port) } } } };
  };
  return {
    name,
    connect_timeout: "1s",
    type: "STATIC",
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: hosts.map(endpoint) }] },
    typed_extension_protocol_options: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": `${EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions`,
        explicit_http_config: { http_protocol_options: { enable_trailers: true } },
      },
    },
    ...(override ? overridePolicy() : {}),
  };
}

const LISTENER_FILE = "listeners.json";

function watchedListeners(folder: string): object {
  const path_config_source = { path: join(folder, LISTENER_FILE), watched_directory: { path: folder } };
  return { lds_config: { resource_api_version: "V3", path_config_source } };
}

/** Puts the listeners into the watched file in one move. */
async function writeListeners(folder: string, listeners: readonly ProbeListener[]): Promise<void> {
  const resources = listeners.map((listener) => ({
    "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
    ...listenerConfig(listener),
  }));
  const path = join(folder, LISTENER_FILE);
  await writeFile(`${path}.next`, JSON.stringify({ resources }));
  await rename(`${path}.next`, path);
}

/** A configuration with one Wasm filter of this module, for `--mode validate`. */
export function validationConfig(modulePath: string): object {
  const config = plugin({ name: "module", stop: false }, modulePath);
  const manager = {
    "@type": `${EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: "module",
    route_config: {},
    http_filters: [
      { name: "module", typed_config: { "@type": `${EXTENSIONS}.filters.http.wasm.v3.Wasm`, config } },
      { name: "router", typed_config: { "@type": `${EXTENSIONS}.filters.http.router.v3.Router` } },
    ],
  };
  const filters = [{ name: "envoy.filters.network.http_connection_manager", typed_config: manager }];
  const address = { socket_address: { address: "127.0.0.1", port_value: 0 } };
  return { static_resources: { listeners: [{ name: "module", address, filter_chains: [{ filters }] }] } };
}

/** A running Envoy with the probe on every listener. */
export class ProbeEnvoy {
  /** Lines the probe logged on any thread, without Envoy's prefix. */
  readonly lines: string[] = [];
  private ports = new Map<string, number>();
  private exited = false;
  private partial = "";
  private log = "";

  private constructor(
    readonly version: string,
    private readonly child: ChildProcess,
    private readonly folder: string,
  ) {
    child.once("exit", () => (this.exited = true));
    child.stderr?.setEncoding("utf8").on("data", (text: string) => this.read(text));
  }

  /**
   * Starts Envoy with these listeners and clusters.
   * @param dynamic listeners come from a watched file, for `update`
   * @throws ProbeEnvoyError
   */
  static async start(
    version: string,
    listeners: readonly ProbeListener[],
    clusters: readonly ProbeCluster[],
    dynamic = false,
  ): Promise<ProbeEnvoy> {
    const path = await venvEnvoy(ROOT, version);
    if (path === undefined) throw new ProbeEnvoyError(version, "is not installed");
    await probeWasm();
    const folder = await mkdtemp(join(tmpdir(), "probe-envoy-"));
    const adminPath = join(folder, "admin");
    const fixed = dynamic ? [] : listeners.map(listenerConfig);
    const config = {
      node: { id: "probe", cluster: "probe" },
      admin: { address: { socket_address: { address: "127.0.0.1", port_value: 0 } } },
      static_resources: { listeners: fixed, clusters: clusters.map(clusterConfig) },
      ...(dynamic ? { dynamic_resources: watchedListeners(folder) } : {}),
    };
    await writeListeners(folder, listeners);
    await writeFile(join(folder, "envoy.json"), JSON.stringify(config));
    const args = ["-c", join(folder, "envoy.json"), "--admin-address-path", adminPath, "--concurrency", "1"];
    args.push("--disable-hot-restart", "--log-level", "warning", "--component-log-level", "wasm:info");
    args.push("--log-format", "%v", "--drain-time-s", "1");
    const child = spawn(path, args, { stdio: ["ignore", "ignore", "pipe"] });
    const envoy = new ProbeEnvoy(version, child, folder);
    try {
      await envoy.waitUntilReady(adminPath, listeners);
    } catch (error) {
      await envoy.stop();
      throw error;
    }
    return envoy;
  }

  /** Replaces the listeners of an Envoy started as dynamic. */
  update(listeners: readonly ProbeListener[]): Promise<void> {
    return writeListeners(this.folder, listeners);
  }

  /** Port of a listener. */
  port(name: string): number {
    const port = this.ports.get(name);
    if (port === undefined) throw new ProbeEnvoyError(this.version, `no listener ${name}`);
    return port;
  }

  async stop(): Promise<void> {
    if (!this.exited) {
      const gone = new Promise((settle) => this.child.once("exit", settle));
      this.child.kill("SIGTERM");
      const timer = setTimeout(() => this.child.kill("SIGKILL"), STOP_GRACE_MS);
      await gone;
      clearTimeout(timer);
    }
    await rm(this.folder, { recursive: true, force: true });
  }

  private async waitUntilReady(adminPath: string, listeners: readonly ProbeListener[]): Promise<void> {
    const deadline = performance.now() + READY_TIMEOUT_MS;
    while (performance.now() < deadline) {
      if (this.exited) throw new ProbeEnvoyError(this.version, `ended early: ${this.log.slice(-4000)}`);
      const admin = await readFile(adminPath, "utf8").catch(() => "");
      // A worker may start its roots behind that, and what it logs then belongs to no test.
      if (admin !== "" && (await this.readPorts(admin)) && listeners.every((one) => this.isStarted(one)))
        return;
      await sleep(POLL_MS);
    }
    throw new ProbeEnvoyError(this.version, `not ready: ${this.log.slice(-4000)}`);
  }

  /** Whether every thread has configured the listener's root, and logged what its script did then. */
  private isStarted({ name, configuration = "" }: ProbeListener): boolean {
    const count = (what: string): number =>
      this.lines.filter((line) => line.startsWith(`root:${name} ${what}`)).length;
    const script = /(?:^|\|)cfg=([^|]*)/.exec(configuration)?.[1];
    const steps = script === undefined ? 0 : script.split(";").length;
    return count("on_configure ") >= THREADS && count("  ") >= THREADS * steps;
  }

  private async readPorts(admin: string): Promise<boolean> {
    const ready = await request(`http://${admin}/ready`).catch(() => null);
    if (ready === null) return false;
    await ready.body.dump();
    if (ready.statusCode !== 200) return false;
    const { body } = await request(`http://${admin}/listeners?format=json`);
    const { listener_statuses: statuses } = (await body.json()) as {
      listener_statuses: { name: string; local_address: { socket_address: { port_value: number } } }[];
    };
    for (const { name, local_address } of statuses)
      this.ports.set(name, local_address.socket_address.port_value);
    return true;
  }

  private read(text: string): void {
    this.log = (this.log + text).slice(-65_536);
    const lines = (this.partial + text).split("\n");
    this.partial = lines.pop() ?? "";
    for (const line of lines) {
      // `wasm log <plugin name> <root id> <vm id>: text`
      const match = /^wasm log[^:]*?: (.*)$/.exec(line);
      if (match?.[1] !== undefined) this.lines.push(match[1]);
    }
  }
}
