// One request through the filter: the body in, the list of destinations out, and who answered in the end.
import { type DownstreamSink, type HeaderMap, ResponseFlag, type Stream } from "../host/index.ts";
import type { UpstreamSink } from "../host/index.ts";
import type { HttpCall } from "../host/http-call.ts";
import { PrefillCall } from "./epp-prefill-call.ts";
import { FilterError } from "./errors.ts";
import { replicaAddress, replicaOf } from "./snapshot-endpoints.ts";
import type { Choice, PrefillOutcome } from "./types.ts";

/** Where a stream's output goes: nothing but the destinations and a status is kept. */
export interface EppSinks {
  readonly upstream: UpstreamSink;
  readonly downstream: DownstreamSink;
}

const DESTINATION_HEADER = "x-gateway-destination-endpoint";
const MAX_RETRIES_HEADER = "x-envoy-max-retries";
const PREFILLER_HEADER = "x-prefiller-host-port";
const PARAMS_FIELD = "kv_transfer_params";

/** The two ends of one stream. */
export class EppExchange {
  private opened: Stream | undefined;
  private destinations: readonly string[] = [];
  private forwarded = false;
  private localStatus = 0;
  private attempts = 0;
  private lastAddress: string | null = null;
  private answeredBy = -1;
  private prefiller: string | undefined;
  /** The forwarded body, kept where the filter has called a prefill replica. */
  private readonly body: Uint8Array[] = [];
  /** The filter's prefill legs, in order. */
  private readonly calls: PrefillCall[] = [];
  /** Legs that the run was told of. */
  private toldCalls = 0;

  /** @param replicas how many there are to choose from */
  constructor(private readonly replicas: number) {}

  /** The stream, once it was opened. */
  get stream(): Stream {
    return this.opened!;
  }

  /** Whether response headers were sent. */
  get answered(): boolean {
    return this.answeredBy >= 0;
  }

  /** No destination took the connection. */
  get allConnectsFailed(): boolean {
    return this.attempts === this.destinations.length;
  }

  /** Opens the stream and sends the body in chunks; the filter's decision is known afterwards. */
  send(open: (sinks: EppSinks) => Stream, body: Buffer, chunkBytes: number): void {
    const stream = open({ upstream: this.upstream(), downstream: this.downstream() });
    this.opened = stream;
    for (let at = 0; at < body.length && !stream.closed; at += chunkBytes) {
      stream.requestBody(body.subarray(at, at + chunkBytes), at + chunkBytes >= body.length);
    }
  }

  /** The filter calls a prefill replica. */
  addCall(call: HttpCall, request: number): void {
    this.calls.push(new PrefillCall(call, request, this.calls.length, this.replicas));
  }

  /** The prefill leg that the run was told of last has ended. */
  endCall(outcome: PrefillOutcome, nowMs: number): void {
    this.calls[this.toldCalls - 1]!.end(outcome, nowMs);
  }

  /** Whether the filter has gone on beyond the prefill leg that the run was told of last. */
  get wentOn(): boolean {
    return this.calls.length > this.toldCalls || this.forwarded || this.localStatus > 0;
  }

  /** What the filter decided, or the prefill leg that it wants first. @throws FilterError when it did not decide */
  choice(request: number): Choice {
    if (!this.forwarded && this.localStatus > 0) return { endpoint: -1 };
    if (!this.forwarded && this.calls.length > this.toldCalls) {
      this.toldCalls = this.calls.length;
      return { endpoint: -1, prefill: this.calls.at(-1)!.replica, prefillBy: "gateway" };
    }
    if (!this.forwarded) throw new FilterError(`held request ${request} back at its end`);
    const list = this.destinations.map((address) => replicaOf(address, this.replicas));
    const [endpoint, ...fallbacks] = list;
    if (endpoint === undefined) throw new FilterError(`let request ${request} pass without a destination`);
    const unknown = list.indexOf(-1);
    if (unknown >= 0)
      throw new FilterError(`sent request ${request} to ${this.destinations[unknown]!}, which is no replica`);
    return { endpoint, fallbacks, ...this.prefill(request) };
  }

  // The replica whose blocks the decoder pulls, or whom its sidecar is to ask.
  private prefill(request: number): Pick<Choice, "prefill" | "prefillBy"> {
    if (this.prefiller !== undefined) {
      const prefill = replicaOf(this.prefiller, this.replicas);
      if (prefill < 0)
        throw new FilterError(`had request ${request} prefilled at "${this.prefiller}", which is no replica`);
      return { prefill, prefillBy: "decoder" };
    }
    if (this.calls.length === 0) return {};
    const body = Buffer.concat(this.body).toString();
    if (!body.includes(PARAMS_FIELD)) return {};
    const { params, replica } = this.calls.at(-1)!;
    if (params === "" || !body.includes(`"${PARAMS_FIELD}":${params}`))
      throw new FilterError(
        `forwarded request ${request} with other ${PARAMS_FIELD} than its prefill leg gave`,
      );
    return { prefill: replica, prefillBy: "gateway" };
  }

  /** Envoy's attempt at a host failed to connect. */
  connectFailed(endpoint: number): void {
    this.attempts++;
    this.lastAddress = replicaAddress(endpoint);
  }

  /** The host of the last attempt sends its response headers. */
  answer(endpoint: number, status: number, contentType: string): void {
    this.answeredBy = endpoint;
    this.stream.info.upstreamAddress = replicaAddress(endpoint);
    this.stream.info.attemptCount = this.attempts + 1;
    this.stream.responseHeaders({ ":status": String(status), "content-type": contentType });
  }

  /** Envoy's answer when every attempt failed to connect. */
  refused(): void {
    const { info } = this.stream;
    info.upstreamAddress = this.lastAddress;
    info.attemptCount = this.attempts;
    info.responseFlags |= ResponseFlag.UPSTREAM_CONNECTION_FAILURE;
    if (this.attempts > 1) info.responseFlags |= ResponseFlag.UPSTREAM_RETRY_LIMIT_EXCEEDED;
    this.stream.routerReply(503, "upstream_reset_before_response_started{remote_connection_failure}");
  }

  private upstream(): UpstreamSink {
    return {
      headers: (headers) => this.forward(headers),
      data: (bytes) => {
        if (this.calls.length > 0) this.body.push(bytes.slice());
      },
      trailers: () => {},
    };
  }

  private forward(headers: HeaderMap): void {
    this.forwarded = true;
    this.prefiller = headers.get(PREFILLER_HEADER);
    const list = headers.get(DESTINATION_HEADER)?.split(",") ?? [];
    this.destinations = list.slice(0, 1 + Number(headers.get(MAX_RETRIES_HEADER) ?? 0));
  }

  private downstream(): DownstreamSink {
    return {
      headers: (headers) => {
        this.localStatus = Number(headers.get(":status"));
      },
      data: () => {},
      trailers: () => {},
      reset: () => {},
    };
  }
}
