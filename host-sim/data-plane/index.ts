// A reverse proxy on node:http that runs the filter in host-sim and stands in for Envoy where there is none.
import { randomUUID } from "node:crypto";
import { chmod, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import {
  BUFFER_LIMIT_BYTES,
  createHost,
  RealClock,
  Stream,
  StreamInfo,
  type HistogramBuckets,
  type LogLine,
  type PluginInput,
  type ProxyWasmHost,
  type StatsTag,
} from "../host/index.ts";
import { adminServer } from "./admin.ts";
import { Cluster, type LoadPolicy } from "./cluster.ts";
import { clusterCalls } from "./cluster-calls.ts";
import { ClientSink, pump } from "./downstream.ts";
import type { RouteRetry } from "./retry-policy.ts";
import { Router, type RouterSettings } from "./router.ts";

export { Cluster, OverrideList, type LoadPolicy } from "./cluster.ts";
export { ConnectTimeoutError, EndpointError } from "./errors.ts";
export { RetryBudget, type RouteRetry } from "./retry-policy.ts";

/** How a data plane is started; the defaults are those of envoy/plain/envoy.yaml. */
export interface DataPlaneOptions {
  /** "epp" = the filter chooses; the others leave it out, for comparison. */
  readonly policy?: "epp" | LoadPolicy;
  /** The filter, as a path or bytes; needed with "epp". */
  readonly module?: string | Uint8Array;
  /** Replicas, "host:port" each. */
  readonly endpoints: readonly string[];
  readonly host?: string;
  /** Port of the inference listener; 0 lets the kernel choose. */
  readonly port?: number;
  /** Port of the admin listener on loopback; 0 lets the kernel choose. */
  readonly adminPort?: number;
  /** Control listener: path of a unix socket (made with mode 0600), or a loopback port. */
  readonly control?: string | number;
  /** VMs among which connections are spread, as Envoy's workers. All run on this one thread. */
  readonly workers?: number;
  readonly poolName?: string;
  /** EndpointPickerConfig as JSON for the picker role. */
  readonly pluginConfig?: string;
  readonly ingestConfig?: string;
  /** Further fields of both plugins. */
  readonly plugin?: Partial<PluginInput>;
  /** Who chooses without a list: the fallback of override_host. */
  readonly fallback?: LoadPolicy;
  /** Retry policy of the route; null = none. */
  readonly retry?: RouteRetry | null;
  readonly bufferLimitBytes?: number;
  readonly connectTimeoutMs?: number;
  readonly timeoutMs?: number;
  readonly overrideHeader?: string;
  /** Headers taken off before a request goes to a replica; none by default. */
  readonly upstreamHeadersToRemove?: readonly string[];
  readonly statsTags?: readonly StatsTag[];
  readonly histogramBuckets?: readonly HistogramBuckets[];
  readonly onLog?: (line: LogLine) => void;
  readonly random?: () => number;
  /** How long `stop` waits for streams in flight, ms. */
  readonly graceMs?: number;
}

/** A running data plane. */
export interface DataPlane {
  /** Base URL of the inference listener. */
  readonly url: string;
  readonly port: number;
  readonly adminUrl: string;
  /** Unix socket path of the control listener, "" when it is a port or absent. */
  readonly controlSocket: string;
  readonly controlPort: number;
  /** The host, for tests; null without the filter. */
  readonly wasm: ProxyWasmHost | null;
  /** Streams in flight. */
  readonly active: number;
  /** Replaces the cluster's hosts. */
  setEndpoints(endpoints: readonly string[]): void;
  /** Stops accepting, lets streams finish for the grace time, then cuts them. */
  stop(): Promise<void>;
}

const PICKER = "picker";
const INGEST = "ingest";
const VM_ID = "epp";
const DESTINATION_HEADER = "x-gateway-destination-endpoint";
const DEFAULT_RETRY: RouteRetry = {
  retryOn: "connect-failure,refused-stream,reset",
  retries: 2,
  backOffMs: 1,
};
const CONNECT_TIMEOUT_MS = 250;
/** Listener limit of the shipped configuration. */
const INFERENCE_LIMIT_BYTES = 16 * 1024 * 1024;
const GRACE_MS = 1_000;

/** Starts the listeners. @throws EndpointError, the host's load errors, and what listening throws */
export async function startDataPlane(options: DataPlaneOptions): Promise<DataPlane> {
  const plane = new Plane(options);
  try {
    await plane.start();
  } catch (error) {
    await plane.stop();
    throw error;
  }
  return plane;
}

class Plane implements DataPlane {
  wasm: ProxyWasmHost | null = null;
  active = 0;
  url = "";
  port = 0;
  adminUrl = "";
  controlSocket = "";
  controlPort = 0;
  private readonly settings: RouterSettings;
  private readonly clock = new RealClock();
  private readonly servers: Server[] = [];
  private readonly sockets = new Set<Socket>();
  private readonly workerOf = new WeakMap<Socket, number>();
  private nextWorker = 0;
  private ready = false;

  constructor(private readonly options: DataPlaneOptions) {
    const policy = options.policy ?? "epp";
    const fallback = policy === "epp" ? (options.fallback ?? "least_request") : policy;
    this.settings = {
      cluster: new Cluster(options.endpoints, fallback, options.random),
      overrideHeader: policy === "epp" ? (options.overrideHeader ?? DESTINATION_HEADER) : undefined,
      retry: options.retry === null ? undefined : (options.retry ?? DEFAULT_RETRY),
      connectTimeoutMs: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
      replayBytesMax: options.bufferLimitBytes ?? INFERENCE_LIMIT_BYTES,
      upstreamHeadersToRemove: options.upstreamHeadersToRemove ?? [],
      timeoutMs: options.timeoutMs ?? 0,
      random: options.random ?? Math.random,
    };
  }

  async start(): Promise<void> {
    const { options } = this;
    if ((options.policy ?? "epp") === "epp") await this.startHost();
    const inference = this.serve((request, response) => this.infer(request, response));
    await listen(inference, { port: options.port ?? 0, host: options.host ?? "127.0.0.1" });
    this.port = (inference.address() as AddressInfo).port;
    this.url = `http://${options.host ?? "127.0.0.1"}:${this.port}`;
    if (this.wasm !== null && options.control !== undefined) await this.startControl(options.control);
    const admin = adminServer(this.wasm?.metrics ?? null, () => this.ready);
    this.track(admin);
    await listen(admin, { port: options.adminPort ?? 0, host: "127.0.0.1" });
    this.adminUrl = `http://127.0.0.1:${(admin.address() as AddressInfo).port}`;
    this.ready = true;
  }

  setEndpoints(endpoints: readonly string[]): void {
    this.settings.cluster.set(endpoints);
  }

  async stop(): Promise<void> {
    this.ready = false;
    const closed = this.servers.map((server) => new Promise((settle) => server.close(settle)));
    for (const server of this.servers) server.closeIdleConnections();
    const deadline = performance.now() + (this.options.graceMs ?? GRACE_MS);
    while (this.active > 0 && performance.now() < deadline)
      await new Promise((settle) => setTimeout(settle, 5));
    for (const socket of this.sockets) socket.destroy();
    await Promise.all(closed);
    this.settings.cluster.close();
    this.wasm?.close();
    if (this.controlSocket !== "") await rm(this.controlSocket, { force: true });
  }

  private async startHost(): Promise<void> {
    const { options } = this;
    const common: Partial<PluginInput> = {
      vmId: VM_ID,
      failurePolicy: "reload",
      allowOnHeadersStopIteration: true,
      ...options.plugin,
    };
    const picker = { ...common, name: "epp", rootId: PICKER, configuration: options.pluginConfig ?? "" };
    const ingest = {
      ...common,
      name: "epp-ingest",
      rootId: INGEST,
      configuration: options.ingestConfig ?? "",
    };
    this.wasm = await createHost({
      module: options.module ?? "",
      workers: options.workers ?? 1,
      clock: this.clock,
      plugins: options.control === undefined ? [picker] : [picker, ingest],
      clusters: { [this.poolName]: clusterCalls(this.settings) },
      ...(options.onLog === undefined ? {} : { onLog: options.onLog }),
      ...(options.statsTags === undefined ? {} : { statsTags: options.statsTags }),
      ...(options.histogramBuckets === undefined ? {} : { histogramBuckets: options.histogramBuckets }),
    });
  }

  private get poolName(): string {
    return this.options.poolName ?? "pool";
  }

  private async startControl(control: string | number): Promise<void> {
    const server = this.serve((request, response) => this.control(request, response));
    if (typeof control === "number") {
      await listen(server, { port: control, host: "127.0.0.1" });
      this.controlPort = (server.address() as AddressInfo).port;
      return;
    }
    // A socket file that a killed process left behind is in the way.
    await rm(control, { force: true });
    await listen(server, { path: control });
    await chmod(control, 0o600);
    this.controlSocket = control;
  }

  private serve(handle: (request: IncomingMessage, response: ServerResponse) => void): Server {
    const server = createServer(handle);
    server.keepAliveTimeout = 60_000;
    server.requestTimeout = 0;
    this.track(server);
    return server;
  }

  private track(server: Server): void {
    this.servers.push(server);
    server.on("connection", (socket) => {
      this.sockets.add(socket);
      this.workerOf.set(socket, this.nextWorker++ % (this.wasm?.workers ?? 1));
      socket.setNoDelay(true);
      socket.once("close", () => this.sockets.delete(socket));
    });
  }

  private infer(request: IncomingMessage, response: ServerResponse): void {
    const sink = new ClientSink(request, response);
    const router = new Router(this.settings, (paused) => sink.pauseForUpstream(paused));
    sink.pauseUpstream = (paused) => router.pauseReading(paused);
    const bufferLimitBytes = this.options.bufferLimitBytes ?? INFERENCE_LIMIT_BYTES;
    const facts = {
      clusterName: this.poolName,
      routeMetadata: { epp: { pool: this.poolName } },
      sourceAddress: `${request.socket.remoteAddress}:${request.socket.remotePort}`,
      protocol: `HTTP/${request.httpVersion}`,
    };
    const requestId = randomUUID();
    let stream: Stream;
    if (this.wasm === null) {
      const info = new StreamInfo(facts, this.clock.wallNs());
      stream = new Stream(info, bufferLimitBytes, { upstream: router, downstream: sink }, () =>
        this.clock.wallNs(),
      );
    } else {
      const worker = this.wasm.worker(this.workerOf.get(request.socket) ?? 0);
      stream = worker.openStream(PICKER, { ...facts, bufferLimitBytes, upstream: router, downstream: sink });
    }
    router.serve(stream);
    this.run(request, response, stream, requestId);
  }

  /** The ingest role answers; what it lets through finds no route. */
  private control(request: IncomingMessage, response: ServerResponse): void {
    const sink = new ClientSink(request, response);
    const worker = (this.wasm as ProxyWasmHost).worker(this.workerOf.get(request.socket) ?? 0);
    let stream: Stream | null = null;
    const notFound = (): void => {
      stream?.routerReply(404, "direct_response");
    };
    const upstream = { headers: () => this.clock.post(notFound), data: () => {}, trailers: () => {} };
    stream = worker.openStream(INGEST, { bufferLimitBytes: BUFFER_LIMIT_BYTES, upstream, downstream: sink });
    this.run(request, response, stream, randomUUID());
  }

  private run(request: IncomingMessage, response: ServerResponse, stream: Stream, requestId: string): void {
    this.active++;
    response.once("close", () => this.active--);
    pump(request, response, stream, requestId);
  }
}

function listen(server: Server, where: { port: number; host: string } | { path: string }): Promise<void> {
  return new Promise((settle, fail) => {
    server.once("error", fail);
    server.listen(where, () => {
      server.off("error", fail);
      settle();
    });
  });
}
