// The policy "epp": the filter itself decides, in a Proxy-Wasm host on simulated time, fed by a sidecar's snapshots.
import { createHost, type LogLine, type ProxyWasmHost, type Stream, VirtualClock } from "../host/index.ts";
import type { HttpCall } from "../host/http-call.ts";
import { Random } from "../workload/random.ts";
import { answerEvent, errorEvents, failureBody, lastEvents } from "./answer-events.ts";
import { requestBody } from "./body.ts";
import { EppExchange, type EppSinks } from "./epp-exchange.ts";
import { EppKvEvents, type KvFeed } from "./epp-kv-events.ts";
import { FilterError } from "./errors.ts";
import { type EncodeSnapshot, snapshotEndpoints } from "./snapshot-endpoints.ts";
import type {
  CacheChange,
  Choice,
  Ending,
  FleetRequest,
  Gateway,
  GatewayContext,
  Policy,
  PrefillOutcome,
  Scrape,
} from "./types.ts";

/** How the filter is run. */
export interface EppOptions {
  /** epp.wasm, as a path or bytes. */
  readonly module: string | Uint8Array;
  /** The sidecar's encoder of assembly/wire/snapshot.ts. */
  readonly encode: EncodeSnapshot;
  /** Envoy's workers, each with a VM, 1 to 64; 1 when absent. */
  readonly workers?: number;
  /** EndpointPickerConfig as JSON; that of envoy/plain/envoy.yaml when absent. */
  readonly config?: string;
  /** What requests wish that name no SLO themselves; replaces the latency picker's. */
  readonly wishes?: { readonly ttftMs: number; readonly tpotMs: number };
  /** Replaces the configuration's `tickMs`, 1 to 1000. */
  readonly tickMs?: number;
  /** Tokens between two chunks of an answer; absent: the first token and the end come alone. */
  readonly chunkTokens?: number;
  /** Whether clients say `max_tokens`; true when absent. */
  readonly maxTokens?: boolean;
  /** The policy's name; "epp" when absent. */
  readonly name?: string;
  /** Makes a gateway's index of the replicas' KV events; absent: it follows none. */
  readonly makeKvFeed?: () => KvFeed;
  /** Hears what the filter logs from warnings on. */
  readonly onLog?: (line: LogLine) => void;
}

/** Bytes of a request body that one read of Envoy's brings (its buffer slices are 16 KiB). */
const CHUNK_BYTES = 16_384;
/** Listener limit of the shipped configuration. */
const BUFFER_LIMIT_BYTES = 16 * 1024 * 1024;
const PICKER = "picker";
const INGEST = "ingest";
const POOL = "pool";
const CLUSTER = { clusterName: POOL, routeMetadata: { epp: { pool: POOL } } };
const LOG_LEVEL_WARN = 3;
const SNAPSHOT_ACCEPTED = 204;
const GATEWAY_PLUGIN = "epp-wasm-gateway";
const LATENCY_PLUGIN = "epp-wasm-latency-picker";
const REQUEST_ID_HEADER = "x-request-id";

/** The filter as a policy of the simulator. */
export function eppPolicy(options: EppOptions): Policy {
  return {
    name: options.name ?? "epp",
    source: "The filter of this project, build/epp.wasm, with several workers a gateway.",
    create: (context) => EppGateway.start(options, context),
  };
}

/**
 * One gateway: a host with its workers' VMs on a clock that the run drives. A request is drawn to one worker by the
 * seed, as the kernel spreads connections.
 */
export class EppGateway implements Gateway {
  readonly tokensEvery?: number;
  private readonly exchanges = new Map<number, EppExchange>();
  /** Of those the ones whose prompts are being computed for calls of the filter's. */
  private readonly prefilling = new Map<EppExchange, FleetRequest>();
  /** Undefined where no KV events are followed. */
  readonly cacheChanged?: (replica: number, change: CacheChange) => void;
  private readonly kvEvents: EppKvEvents | undefined;
  private readonly workers: Random;
  private readonly models: readonly string[];
  private snapshotId = 0;
  private failuresSeen = 0;

  private constructor(
    private readonly options: EppOptions,
    private readonly context: GatewayContext,
    private readonly host: ProxyWasmHost,
    private readonly clock: VirtualClock,
    random: Random,
  ) {
    this.workers = random;
    this.models = context.models ?? [];
    if (options.chunkTokens !== undefined) this.tokensEvery = options.chunkTokens;
    const feed = options.makeKvFeed?.();
    if (feed === undefined) return;
    const kvEvents = new EppKvEvents(feed, (what, body) => this.post(what, body));
    this.kvEvents = kvEvents;
    this.cacheChanged = (replica, change) => kvEvents.apply(replica, change);
  }

  /** Starts the host with both roles. @throws the host's load errors, ConfigureRefusedError */
  static async start(options: EppOptions, context: GatewayContext): Promise<EppGateway> {
    const clock = new VirtualClock();
    const random = new Random((context.seed ^ Math.imul(context.gateway + 1, 0x9e3779b1)) >>> 0);
    const entropy = random.fork();
    const common = { vmId: "epp", failurePolicy: "reload", allowOnHeadersStopIteration: true } as const;
    const host = await createHost({
      module: options.module,
      workers: options.workers ?? 1,
      clock,
      logLevel: LOG_LEVEL_WARN,
      bufferLimitBytes: BUFFER_LIMIT_BYTES,
      random: (bytes) => {
        for (let i = 0; i < bytes.length; i++) bytes[i] = entropy.integer(0, 255);
      },
      plugins: [
        { ...common, name: PICKER, rootId: PICKER, configuration: pickerConfig(options) },
        { ...common, name: INGEST, rootId: INGEST },
      ],
      clusters: { [POOL]: (call) => gateway.prefillCall(call) },
      ...(options.onLog === undefined ? {} : { onLog: options.onLog }),
    });
    const gateway = new EppGateway(options, context, host, clock, random);
    return gateway;
  }

  scraped(scrapes: readonly Scrape[], nowMs: number): void {
    this.clock.advanceTo(nowMs);
    this.snapshotId++;
    const snapshot = this.options.encode(snapshotEndpoints(scrapes, this.models), this.snapshotId);
    const { status, text } = this.post("snapshot", snapshot);
    if (status !== SNAPSHOT_ACCEPTED) throw new FilterError(`answered ${status} to a snapshot: ${text}`);
    this.kvEvents?.scraped(
      scrapes.map(({ generation }) => generation),
      this.snapshotId === 1,
    );
  }

  route(request: FleetRequest, nowMs: number): Choice {
    this.clock.advanceTo(nowMs);
    const body = requestBody(request, { maxTokens: this.options.maxTokens ?? true });
    const worker = this.host.worker(this.workers.integer(0, this.host.workers - 1));
    const exchange = new EppExchange(this.context.replicas.length);
    const open = (sinks: EppSinks): Stream =>
      worker.openStream(PICKER, { ...CLUSTER, ...sinks, headers: requestHeaders(request, body.length) });
    this.exchanges.set(request.index, exchange);
    exchange.send(open, body, CHUNK_BYTES);
    this.settle();
    return this.choiceOf(request, exchange);
  }

  prefillEnded(request: FleetRequest, _replica: number, outcome: PrefillOutcome, nowMs: number): Choice {
    this.clock.advanceTo(nowMs);
    const exchange = this.exchanges.get(request.index)!;
    this.prefilling.delete(exchange);
    exchange.endCall(outcome, nowMs);
    this.settle();
    return this.choiceOf(request, exchange);
  }

  connectFailed(request: FleetRequest, endpoint: number): void {
    this.exchanges.get(request.index)!.connectFailed(endpoint);
  }

  connected(request: FleetRequest, endpoint: number, nowMs: number): void {
    this.clock.advanceTo(nowMs);
    this.exchanges.get(request.index)!.answer(endpoint, 200, "text/event-stream");
    this.settle();
  }

  firstToken(request: FleetRequest, _endpoint: number, nowMs: number): void {
    this.clock.advanceTo(nowMs);
    this.exchanges.get(request.index)!.stream.responseBody(answerEvent(request));
    this.settle();
  }

  tokens(request: FleetRequest, _endpoint: number, _generatedTokens: number, nowMs: number): void {
    this.clock.advanceTo(nowMs);
    this.exchanges.get(request.index)!.stream.responseBody(answerEvent(request));
  }

  finished(request: FleetRequest, endpoint: number, ending: Ending, nowMs: number): void {
    this.clock.advanceTo(nowMs);
    const exchange = this.exchanges.get(request.index)!;
    this.exchanges.delete(request.index);
    const { stream } = exchange;
    if (ending.status === 200) stream.responseBody(lastEvents(request, ending), true);
    else if (exchange.allConnectsFailed) exchange.refused();
    else if (ending.status === 503) stream.upstreamReset();
    else if (exchange.answered) stream.responseBody(errorEvents(ending.status), true);
    else {
      exchange.answer(endpoint, ending.status, "application/json");
      stream.responseBody(failureBody(ending.status), true);
    }
    this.settle();
    if (!stream.closed) throw new FilterError(`held the answer of request ${request.index} back`);
  }

  advance(nowMs: number): void {
    this.clock.advanceTo(nowMs);
    this.kvEvents?.advance(nowMs);
    this.settle();
  }

  nextTimerMs(): number {
    return Math.min(this.clock.nextTimerMs(), this.kvEvents?.nextMs ?? Number.POSITIVE_INFINITY);
  }

  /** What GET /status of the control listener answers. */
  status(): unknown {
    const headers = { ":method": "GET", ":path": "/status", ":authority": "sidecar" };
    const stream = this.host.worker(0).openStream(INGEST, { headers, end: true });
    this.settle();
    return JSON.parse(stream.downstream!.body().toString());
  }

  close(): void {
    this.host.close();
  }

  private post(what: string, body: Uint8Array): { readonly status: number; readonly text: string } {
    const headers = { ":method": "POST", ":path": `/v1/pools/${POOL}/${what}`, ":authority": "sidecar" };
    const stream = this.host.worker(0).openStream(INGEST, { headers });
    stream.requestBody(body, true);
    this.settle();
    return { status: stream.downstream!.status ?? 0, text: stream.downstream!.body().toString() };
  }

  // What the filter posted is done at once: no time passes for it. Prefill legs whose time was up are given up.
  private settle(): void {
    this.clock.flush();
    this.checkFailures();
    for (const [exchange, request] of [...this.prefilling]) {
      if (!exchange.wentOn) continue;
      this.prefilling.delete(exchange);
      this.context.giveUpPrefill?.(request, this.choiceOf(request, exchange), this.clock.monotonicMs());
    }
  }

  private choiceOf(request: FleetRequest, exchange: EppExchange): Choice {
    const choice = exchange.choice(request.index);
    if (choice.endpoint < 0 && choice.prefill !== undefined) this.prefilling.set(exchange, request);
    else if (choice.endpoint < 0) this.exchanges.delete(request.index);
    return choice;
  }

  // The filter calls its own pool's cluster only to have a prompt computed.
  private prefillCall(call: HttpCall): void {
    const id = call.headers.get(REQUEST_ID_HEADER) ?? "";
    const exchange = this.exchanges.get(Number(id));
    if (id === "" || exchange === undefined)
      throw new FilterError(`sent a prefill leg with ${REQUEST_ID_HEADER} "${id}", which is no request's`);
    exchange.addCall(call, Number(id));
  }

  private checkFailures(): void {
    const { failures } = this.host;
    if (failures.length === this.failuresSeen) return;
    this.failuresSeen = failures.length;
    const { thread, callback, reason } = failures.at(-1)!;
    throw new FilterError(`trapped in ${callback} on worker ${thread}: ${reason}`);
  }
}

function requestHeaders(request: FleetRequest, bodyBytes: number): [string, string][] {
  const headers: [string, string][] = [
    [":method", "POST"],
    [":path", "/v1/chat/completions"],
    [":authority", "gateway"],
    ["content-type", "application/json"],
    ["content-length", String(bodyBytes)],
    [REQUEST_ID_HEADER, String(request.index)],
  ];
  if (request.sloTtftMs !== undefined) headers.push(["x-slo-ttft-ms", String(request.sloTtftMs)]);
  if (request.sloTpotMs !== undefined) headers.push(["x-slo-tpot-ms", String(request.sloTpotMs)]);
  return headers;
}

interface PickerDocument {
  plugins?: { type: string; name?: string; parameters?: Record<string, unknown> }[];
}

/** What envoy/plain/envoy.yaml ships: the default picker, and bodies read to 1 MiB before it decides. */
const SHIPPED = JSON.stringify({
  apiVersion: "llm-d.ai/v1alpha1",
  kind: "EndpointPickerConfig",
  plugins: [{ type: GATEWAY_PLUGIN, parameters: { decisionBytesMax: 1_048_576 } }],
});

/** The configuration, the shipped one where none is given, with the options' tick period and wishes in it. */
export function pickerConfig({
  config,
  tickMs,
  wishes,
}: Pick<EppOptions, "config" | "tickMs" | "wishes">): string {
  const document = JSON.parse(
    config === undefined || config.trim() === "" ? SHIPPED : config,
  ) as PickerDocument;
  const ticking = tickMs === undefined ? document : withParameters(document, GATEWAY_PLUGIN, { tickMs });
  if (wishes === undefined) return JSON.stringify(ticking);
  const { ttftMs: sloTtftMs, tpotMs: sloTpotMs } = wishes;
  return JSON.stringify(withParameters(ticking, LATENCY_PLUGIN, { sloTtftMs, sloTpotMs }));
}

function withParameters(document: PickerDocument, type: string, parameters: object): PickerDocument {
  const plugins = [...(document.plugins ?? [])];
  const at = plugins.findIndex((plugin) => plugin.type === type);
  const plugin = at < 0 ? { type } : plugins.splice(at, 1)[0]!;
  plugins.push({ ...plugin, parameters: { ...plugin.parameters, ...parameters } });
  return { ...document, plugins };
}
