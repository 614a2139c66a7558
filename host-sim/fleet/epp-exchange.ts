// One request through the filter: the body in, the list of destinations out, and who answered in the end.
import { type DownstreamSink, type HeaderMap, ResponseFlag, type Stream } from "../host/index.ts";
import type { UpstreamSink } from "../host/index.ts";
import { FilterError } from "./errors.ts";
import { replicaAddress, replicaOf } from "./snapshot-endpoints.ts";
import type { Choice } from "./types.ts";

/** Where a stream's output goes: nothing but the destinations and a status is kept. */
export interface EppSinks {
  readonly upstream: UpstreamSink;
  readonly downstream: DownstreamSink;
}

const DESTINATION_HEADER = "x-gateway-destination-endpoint";
const MAX_RETRIES_HEADER = "x-envoy-max-retries";

/** The two ends of one stream. */
export class EppExchange {
  private opened: Stream | undefined;
  private destinations: readonly string[] = [];
  private forwarded = false;
  private localStatus = 0;
  private attempts = 0;
  private lastAddress: string | null = null;

  /** @param replicas how many there are to choose from */
  constructor(private readonly replicas: number) {}

  /** The stream, once it was opened. */
  get stream(): Stream {
    return this.opened!;
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

  /** What the filter decided. @throws FilterError when it did not */
  choice(request: number): Choice {
    if (!this.forwarded && this.localStatus > 0) return { endpoint: -1 };
    if (!this.forwarded) throw new FilterError(`held request ${request} back at its end`);
    const list = this.destinations.map((address) => replicaOf(address, this.replicas));
    const [endpoint, ...fallbacks] = list;
    if (endpoint === undefined) throw new FilterError(`let request ${request} pass without a destination`);
    const unknown = list.indexOf(-1);
    if (unknown >= 0)
      throw new FilterError(`sent request ${request} to ${this.destinations[unknown]!}, which is no replica`);
    return { endpoint, fallbacks };
  }

  /** Envoy's attempt at a host failed to connect. */
  connectFailed(endpoint: number): void {
    this.attempts++;
    this.lastAddress = replicaAddress(endpoint);
  }

  /** The host of the last attempt sends its response headers. */
  answer(endpoint: number, status: number, contentType: string): void {
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
      data: () => {},
      trailers: () => {},
    };
  }

  private forward(headers: HeaderMap): void {
    this.forwarded = true;
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
