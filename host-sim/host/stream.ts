// One HTTP stream through the filter, as Envoy's filter manager runs it: pauses, buffering, limits, replies, end.
import { DataStatus, HeadersStatus, TrailersStatus } from "./abi.ts";
import { ByteQueue } from "./byte-queue.ts";
import { StreamOrderError } from "./errors.ts";
import { HeaderMap, type HeaderInput } from "./header-map.ts";
import { Half } from "./half.ts";
import { ReplyRecorder, RequestRecorder, type DownstreamSink, type UpstreamSink } from "./sinks.ts";
import { ResponseFlag, type StreamInfo } from "./stream-info.ts";
import type { StreamFilter } from "./stream-filter.ts";

/** A reply made inside the proxy. */
export interface LocalReply {
  readonly status: number;
  readonly body: Uint8Array;
  readonly headers: HeaderMap;
  readonly details: string;
}

/** Envoy's listener default, `per_connection_buffer_limit_bytes`. */
export const BUFFER_LIMIT_BYTES = 1024 * 1024;

/** What is running now; decides whether a local reply waits and what it aborts. */
type Phase = "none" | "decode" | "encode";

/**
 * A stream with one filter between the codec and the router. Inputs are what the two codecs deliver; outputs go to
 * two sinks, by default recorders (`upstream`, `downstream`).
 * Source of the rules: Envoy source/common/http/filter_manager.cc.
 */
export class Stream {
  readonly upstream: RequestRecorder | null;
  readonly downstream: ReplyRecorder | null;
  requestHeaderMap: HeaderMap | null = null;
  responseHeaderMap: HeaderMap | null = null;
  responseTrailerMap: HeaderMap | null = null;
  /** The filter asked for the route to be chosen anew since it was last asked. */
  routeCleared = false;
  private requestTrailerMap: HeaderMap | null = null;
  private readonly request: Half;
  private readonly response: Half;
  private phase: Phase = "none";
  private prepared: LocalReply | null = null;
  private decodeAborted = false;
  private encodeAborted = false;
  private responseHeadersSent = false;
  /** The response is complete as the proxy sees it: request data is dropped from now on. */
  private localComplete = false;
  private ended = false;
  private readonly toUpstream: UpstreamSink;
  private readonly toClient: DownstreamSink;
  private filter: StreamFilter | null = null;

  constructor(
    readonly info: StreamInfo,
    limitBytes: number,
    sinks: { upstream?: UpstreamSink; downstream?: DownstreamSink },
    private readonly endNs: () => bigint,
  ) {
    this.upstream = sinks.upstream === undefined ? new RequestRecorder() : null;
    this.downstream = sinks.downstream === undefined ? new ReplyRecorder() : null;
    this.toUpstream = sinks.upstream ?? (this.upstream as RequestRecorder);
    this.toClient = sinks.downstream ?? (this.downstream as ReplyRecorder);
    this.request = new Half(
      limitBytes,
      () => this.requestTooLarge(),
      (paused) => this.toClient.pauseReading?.(paused),
    );
    this.response = new Half(
      limitBytes,
      () => this.responseTooLarge(),
      (paused) => this.toUpstream.pauseReading?.(paused),
    );
  }

  /** Puts the filter in; null when the plugin fails open. Called once, before any data. */
  attach(filter: StreamFilter | null): void {
    this.filter = filter;
  }

  /** True once the stream is over and the filter has been told. */
  get closed(): boolean {
    return this.ended;
  }

  /** True while the filter holds the request back. */
  get requestPaused(): boolean {
    return !this.ended && this.request.stopped;
  }

  /** True while the filter holds the response back. */
  get responsePaused(): boolean {
    return !this.ended && this.response.stopped;
  }

  get bufferedRequest(): ByteQueue | null {
    return this.request.buffered;
  }

  get bufferedResponse(): ByteQueue | null {
    return this.response.buffered;
  }

  // --- what the client's codec delivers ---------------------------------------------------------------------------

  /** Request headers, with pseudo-headers. @throws StreamOrderError when they came already. */
  requestHeaders(input: HeaderInput, end = false): this {
    if (this.requestHeaderMap !== null) throw new StreamOrderError("requestHeaders", "after request headers");
    const headers = HeaderMap.from(input);
    this.requestHeaderMap = headers;
    this.request.complete = end;
    this.request.endStream = end;
    this.phase = "decode";
    let status = this.filter?.onRequestHeaders(headers, end) ?? HeadersStatus.CONTINUE;
    this.phase = "none";
    if (this.decodeAborted) {
      this.executePrepared();
      status = HeadersStatus.STOP_ITERATION;
    }
    if (this.request.afterHeaders(status) && !this.localComplete) this.forwardHeaders(end);
    return this;
  }

  /** A chunk of the request body; the last one may be empty. */
  requestBody(chunk: string | Uint8Array, end = false): this {
    if (this.ended) return this;
    if (this.requestHeaderMap === null) throw new StreamOrderError("requestBody", "before request headers");
    if (this.request.complete) throw new StreamOrderError("requestBody", "after the end of the request");
    const bytes = asBytes(chunk);
    this.info.requestBytes += bytes.length;
    if (end) this.request.complete = true;
    this.decodeData(ByteQueue.of(bytes), end, true);
    return this;
  }

  /** Request trailers; they end the request. */
  requestTrailers(input: HeaderInput): this {
    if (this.ended) return this;
    if (this.requestHeaderMap === null)
      throw new StreamOrderError("requestTrailers", "before request headers");
    if (this.request.complete) throw new StreamOrderError("requestTrailers", "after the end of the request");
    this.request.complete = true;
    this.requestTrailerMap = HeaderMap.from(input);
    this.decodeTrailers(this.requestTrailerMap);
    return this;
  }

  /** The client went away: log, done, delete. */
  reset(): this {
    if (this.ended) return this;
    this.info.responseFlags |= ResponseFlag.DOWNSTREAM_CONNECTION_TERMINATION;
    this.info.responseCodeDetails ??= "downstream_remote_disconnect";
    this.end();
    return this;
  }

  // --- what the upstream's codec delivers -------------------------------------------------------------------------

  /** Response headers with `:status`. @throws StreamOrderError before the request was forwarded. */
  responseHeaders(input: HeaderInput, end = false): this {
    if (this.ended) return this;
    if (!this.request.headersContinued)
      throw new StreamOrderError("responseHeaders", "before the request was forwarded");
    if (this.responseHeaderMap !== null)
      throw new StreamOrderError("responseHeaders", "after response headers");
    this.info.responseCodeDetails ??= "via_upstream";
    this.encodeHeaders(HeaderMap.from(input), end);
    return this;
  }

  /** A chunk of the response body; the last one may be empty. */
  responseBody(chunk: string | Uint8Array, end = false): this {
    if (this.ended) return this;
    if (this.responseHeaderMap === null)
      throw new StreamOrderError("responseBody", "before response headers");
    this.encodeData(ByteQueue.of(asBytes(chunk)), end, true);
    return this;
  }

  /** Response trailers; they end the response. */
  responseTrailers(input: HeaderInput): this {
    if (this.ended) return this;
    if (this.responseHeaderMap === null)
      throw new StreamOrderError("responseTrailers", "before response headers");
    this.localComplete = true;
    this.response.complete = true;
    this.responseTrailerMap = HeaderMap.from(input);
    this.encodeTrailers(this.responseTrailerMap);
    return this;
  }

  /** A reply by the router or another part of the proxy than this filter. */
  routerReply(status: number, details: string, body: string | Uint8Array = ""): this {
    this.sendLocalReply({ status, details, body: asBytes(body), headers: new HeaderMap() });
    return this;
  }

  /** An earlier filter answered: this one hears of the stream only when it is logged. */
  answeredByEarlierFilter(headers: HeaderInput, status: number, body: string | Uint8Array = ""): this {
    this.requestHeaderMap = HeaderMap.from(headers);
    this.responseHeaderMap = HeaderMap.from({ ":status": String(status) });
    this.deliverHeaders(asBytes(body).length === 0, true);
    if (!this.ended) this.deliverData(ByteQueue.of(asBytes(body)), true);
    return this;
  }

  // --- what the filter asks for -----------------------------------------------------------------------------------

  clearRouteCache(): void {
    this.routeCleared = true;
  }

  bufferRequestData(data: ByteQueue): void {
    this.request.streaming = false;
    this.request.buffer(data);
  }

  bufferResponseData(data: ByteQueue): void {
    this.response.streaming = false;
    this.response.buffer(data);
  }

  addRequestTrailers(): HeaderMap {
    return (this.requestTrailerMap = new HeaderMap());
  }

  addResponseTrailers(): HeaderMap {
    return (this.responseTrailerMap = new HeaderMap());
  }

  /** Resumes the request (`continueDecoding`). */
  continueRequest(): void {
    if (this.localComplete || this.ended) return;
    const fromFilter = this.request.resume();
    if (!this.request.headersContinued) {
      this.request.headersContinued = true;
      this.forwardHeaders(
        this.request.complete && this.request.buffered === null && this.requestTrailerMap === null,
      );
    }
    const trailers = this.requestTrailerMap;
    const data = this.request.buffered;
    if (data !== null) this.decodeData(data, this.request.complete && trailers === null, fromFilter);
    if (trailers !== null && !this.ended) {
      if (fromFilter) this.decodeTrailers(trailers);
      else this.forwardTrailers(trailers);
    }
  }

  /** Resumes the response (`continueEncoding`). */
  continueResponse(): void {
    if (this.ended || this.responseHeaderMap === null) return;
    const fromFilter = this.response.resume();
    if (!this.response.headersContinued) {
      this.response.headersContinued = true;
      const end =
        this.response.complete && this.response.buffered === null && this.responseTrailerMap === null;
      this.deliverHeaders(end, false);
    }
    const trailers = this.responseTrailerMap;
    const data = this.response.buffered;
    if (data !== null && !this.ended)
      this.encodeData(data, this.response.complete && trailers === null, fromFilter);
    if (trailers !== null && !this.ended) {
      if (fromFilter) this.encodeTrailers(trailers);
      else this.deliverTrailers(trailers);
    }
  }

  /** close_stream: both directions end without an answer. */
  closedByFilter(): void {
    if (this.ended) return;
    this.info.responseCodeDetails ??= "wasm_close_stream";
    this.toClient.reset("local_reset");
    this.end();
  }

  /** 503 for a stream whose VM has failed. */
  sendFailureReply(): void {
    this.sendLocalReply({
      status: 503,
      body: new Uint8Array(0),
      headers: new HeaderMap(),
      details: "wasm_fail_stream",
    });
  }

  /**
   * Answers instead of the upstream. While the filter's request callbacks run the reply waits for them to return;
   * a reply to a response already in the filter bypasses it; after the headers went out it is a reset.
   */
  sendLocalReply(reply: LocalReply): void {
    if (this.ended || this.prepared !== null) return;
    if (this.phase === "decode") this.decodeAborted = true;
    else if (this.phase === "encode") this.encodeAborted = true;
    this.info.responseCodeDetails = reply.details;
    if (this.responseHeaderMap === null) {
      if (this.phase === "decode") this.prepared = reply;
      else this.replyThroughFilter(reply);
    } else if (!this.responseHeadersSent) this.replyDirectly(reply);
    else {
      this.toClient.reset("local_reset");
      this.end();
    }
  }

  // --- request path -----------------------------------------------------------------------------------------------

  private decodeData(data: ByteQueue, end: boolean, fromFilter: boolean): void {
    if (this.localComplete || this.ended) return;
    let last = end;
    if (fromFilter && this.filter !== null) {
      if (this.request.holdIfStoppedAll(data)) return;
      if (this.request.endStream) return;
      const hadTrailers = this.requestTrailerMap !== null;
      this.request.endStream = end && !hadTrailers;
      this.phase = "decode";
      const status = this.filter.onRequestBody(data, this.request.endStream);
      this.phase = "none";
      if (this.decodeAborted) {
        this.executePrepared();
        return;
      }
      if (this.ended) return;
      const trailersAdded = !hadTrailers && this.requestTrailerMap !== null;
      if (trailersAdded) last = false;
      const outcome = this.request.afterData(status, data, this.requestTrailerMap !== null);
      if (outcome === "forward") this.forwardData(data, last);
      else if (outcome === "resume") this.continueRequest();
      if (trailersAdded && !this.ended && outcome === "forward")
        this.forwardTrailers(this.requestTrailerMap as HeaderMap);
      return;
    }
    this.forwardData(data, last);
  }

  private decodeTrailers(trailers: HeaderMap): void {
    if (this.localComplete || this.ended || this.request.stoppedAll) return;
    this.phase = "decode";
    let status = this.filter?.onRequestTrailers(trailers) ?? TrailersStatus.CONTINUE;
    this.phase = "none";
    this.request.endStream = true;
    if (this.decodeAborted) {
      this.executePrepared();
      status = TrailersStatus.STOP_ITERATION;
    }
    if (this.ended) return;
    const outcome = this.request.afterTrailers(status);
    if (outcome === "forward") this.forwardTrailers(trailers);
    else if (outcome === "resume") this.resumeBeforeTrailers(trailers);
  }

  /** The filter held headers or data until the trailers: all of it goes on now. */
  private resumeBeforeTrailers(trailers: HeaderMap): void {
    this.request.resume();
    if (!this.request.headersContinued) {
      this.request.headersContinued = true;
      this.forwardHeaders(false);
    }
    if (this.request.buffered !== null) this.forwardData(this.request.buffered, false);
    if (!this.ended) this.forwardTrailers(trailers);
  }

  private forwardHeaders(end: boolean): void {
    this.toUpstream.headers(this.requestHeaderMap as HeaderMap, end);
  }

  private forwardData(data: ByteQueue, end: boolean): void {
    const bytes = this.request.takeForForward(data);
    this.toUpstream.data(bytes, end);
  }

  private forwardTrailers(trailers: HeaderMap): void {
    this.toUpstream.trailers(trailers);
  }

  private requestTooLarge(): void {
    const body = Buffer.from("Payload Too Large");
    this.sendLocalReply({
      status: 413,
      body,
      headers: new HeaderMap(),
      details: "request_payload_too_large",
    });
  }

  // --- response path ----------------------------------------------------------------------------------------------

  private encodeHeaders(headers: HeaderMap, end: boolean): void {
    this.responseHeaderMap = headers;
    if (end) this.localComplete = this.response.complete = true;
    this.response.endStream = end;
    this.phase = "encode";
    let status = this.filter?.onResponseHeaders(headers, end) ?? HeadersStatus.CONTINUE;
    this.phase = "none";
    if (this.encodeAborted) status = HeadersStatus.STOP_ITERATION;
    if (this.ended) return;
    if (this.response.afterHeaders(status)) this.deliverHeaders(end, false);
  }

  private encodeData(data: ByteQueue, end: boolean, fromFilter: boolean): void {
    if (this.ended) return;
    if (end) this.localComplete = this.response.complete = true;
    if (fromFilter && this.filter !== null) {
      if (this.response.holdIfStoppedAll(data)) return;
      if (this.response.endStream) return;
      const hadTrailers = this.responseTrailerMap !== null;
      this.response.endStream = end && !hadTrailers;
      this.phase = "encode";
      let status = this.filter.onResponseBody(data, this.response.endStream);
      this.phase = "none";
      if (this.encodeAborted) status = DataStatus.STOP_ITERATION_NO_BUFFER;
      if (this.ended) return;
      const trailersAdded = !hadTrailers && this.responseTrailerMap !== null;
      const outcome = this.response.afterData(status, data, this.responseTrailerMap !== null);
      if (outcome === "resume") this.continueResponse();
      if (outcome !== "forward") return;
      this.deliverData(data, end && !trailersAdded);
      if (trailersAdded && !this.ended) this.deliverTrailers(this.responseTrailerMap as HeaderMap);
      return;
    }
    this.deliverData(data, end);
  }

  private encodeTrailers(trailers: HeaderMap): void {
    if (this.ended || this.response.stoppedAll) return;
    this.phase = "encode";
    const status = this.filter?.onResponseTrailers(trailers) ?? TrailersStatus.CONTINUE;
    this.phase = "none";
    this.response.endStream = true;
    if (this.ended) return;
    const outcome = this.response.afterTrailers(status);
    if (outcome === "forward") this.deliverTrailers(trailers);
    else if (outcome === "resume") {
      this.response.resume();
      if (!this.response.headersContinued) {
        this.response.headersContinued = true;
        this.deliverHeaders(false, false);
      }
      if (this.response.buffered !== null && !this.ended) this.deliverData(this.response.buffered, false);
      if (!this.ended) this.deliverTrailers(trailers);
    }
  }

  private deliverHeaders(end: boolean, local: boolean): void {
    const headers = this.responseHeaderMap as HeaderMap;
    this.responseHeadersSent = true;
    this.info.responseCode = Number(headers.get(":status") ?? 0);
    this.toClient.headers(headers, end, local);
    if (end) this.end();
  }

  private deliverData(data: ByteQueue, end: boolean): void {
    const bytes = this.response.takeForForward(data);
    this.info.responseBytes += bytes.length;
    this.toClient.data(bytes, end);
    if (end) this.end();
  }

  private deliverTrailers(trailers: HeaderMap): void {
    this.toClient.trailers(trailers);
    this.end();
  }

  private responseTooLarge(): void {
    const body = Buffer.from("Internal Server Error");
    this.sendLocalReply({
      status: 500,
      body,
      headers: new HeaderMap(),
      details: "response_payload_too_large",
    });
  }

  // --- local replies and the end ----------------------------------------------------------------------------------

  private executePrepared(): void {
    const reply = this.prepared;
    this.prepared = null;
    if (reply !== null && !this.ended) this.replyThroughFilter(reply);
  }

  private replyThroughFilter(reply: LocalReply): void {
    const end = reply.body.length === 0;
    this.encodeHeaders(replyHeaders(reply), end);
    if (!end && !this.ended) this.encodeData(ByteQueue.of(reply.body), true, true);
  }

  private replyDirectly(reply: LocalReply): void {
    const end = reply.body.length === 0;
    this.responseHeaderMap = replyHeaders(reply);
    this.deliverHeaders(end, true);
    if (!end && !this.ended) this.deliverData(ByteQueue.of(reply.body), true);
  }

  /** Tells the filter (log, done, delete) and the upstream, once. */
  private end(): void {
    if (this.ended) return;
    this.ended = true;
    this.localComplete = true;
    this.info.endNs = this.endNs();
    this.filter?.log();
    this.filter?.destroy();
    this.toUpstream.end?.();
  }
}

function replyHeaders(reply: LocalReply): HeaderMap {
  const headers = new HeaderMap();
  headers.add(":status", String(reply.status));
  if (reply.body.length > 0) {
    headers.add("content-length", String(reply.body.length));
    headers.add("content-type", "text/plain");
  }
  for (const [name, value] of reply.headers.pairs()) headers.add(name, value);
  return headers;
}

function asBytes(chunk: string | Uint8Array): Uint8Array {
  return typeof chunk === "string" ? Buffer.from(chunk) : chunk;
}
