// One HTTP stream through the filter, as Envoy's filter manager runs it: frames in, local replies, the end.
import { ByteQueue } from "./byte-queue.ts";
import { StreamOrderError } from "./errors.ts";
import { Half } from "./half.ts";
import { HeaderMap, type HeaderInput } from "./header-map.ts";
import { type LocalReply, replyHeaders } from "./local-reply.ts";
import { RequestPath } from "./request-path.ts";
import { ResponsePath } from "./response-path.ts";
import { ReplyRecorder, RequestRecorder, type DownstreamSink, type UpstreamSink } from "./sinks.ts";
import type { StreamFilter } from "./stream-filter.ts";
import { ResponseFlag, type StreamInfo } from "./stream-info.ts";
import { StreamState } from "./stream-state.ts";

/** Envoy's listener default, `per_connection_buffer_limit_bytes`. */
export const BUFFER_LIMIT_BYTES = 1024 * 1024;

/** How the router's answer begins when the upstream broke before its response headers. */
const RESET_BODY = "upstream connect error or disconnect/reset before headers. reset reason:";

/**
 * A stream with one filter between the codec and the router. Inputs are what the two codecs deliver; outputs go to
 * two sinks, by default recorders (`upstream`, `downstream`).
 * Source of the rules: Envoy source/common/http/filter_manager.cc.
 */
export class Stream {
  /** What the router was given; null when the caller gave a sink of its own. */
  readonly upstream: RequestRecorder | null;
  /** What the client was given; null when the caller gave a sink of its own. */
  readonly downstream: ReplyRecorder | null;
  /** The filter asked for the route to be chosen anew; the owner of the route resets it. */
  routeCleared = false;
  private readonly state = new StreamState();
  private readonly request: RequestPath;
  private readonly response: ResponsePath;
  private readonly toUpstream: UpstreamSink;
  private readonly toClient: DownstreamSink;
  private prepared: LocalReply | null = null;
  private filter: StreamFilter | null = null;

  constructor(
    readonly info: StreamInfo,
    limitBytes: number,
    sinks: { upstream?: UpstreamSink; downstream?: DownstreamSink },
    private readonly wallNs: () => bigint,
  ) {
    this.upstream = sinks.upstream === undefined ? new RequestRecorder() : null;
    this.downstream = sinks.downstream === undefined ? new ReplyRecorder() : null;
    this.toUpstream = sinks.upstream ?? (this.upstream as RequestRecorder);
    this.toClient = sinks.downstream ?? (this.downstream as ReplyRecorder);
    const requestHalf = new Half(
      limitBytes,
      () => this.tooLarge(413, "Payload Too Large", "request_payload_too_large"),
      (paused) => this.toClient.pauseReading?.(paused),
    );
    const responseHalf = new Half(
      limitBytes,
      () => this.tooLarge(500, "Internal Server Error", "response_payload_too_large"),
      (paused) => this.toUpstream.pauseReading?.(paused),
    );
    const { state, toUpstream, toClient } = this;
    this.request = new RequestPath(state, requestHalf, toUpstream, () => this.executePrepared());
    this.response = new ResponsePath(state, responseHalf, toClient, info, () => this.end());
  }

  /** Puts the filter in; null when the plugin fails open. Called once, before any data. */
  attach(filter: StreamFilter | null): void {
    this.filter = filter;
  }

  /** True once the stream is over and the filter has been told. */
  get closed(): boolean {
    return this.state.ended;
  }

  /** True while the filter holds the request back. */
  get requestPaused(): boolean {
    return !this.state.ended && this.request.half.stopped;
  }

  /** True while the filter holds the response back. */
  get responsePaused(): boolean {
    return !this.state.ended && this.response.half.stopped;
  }

  get requestHeaderMap(): HeaderMap | null {
    return this.request.headerMap;
  }

  get responseHeaderMap(): HeaderMap | null {
    return this.response.headerMap;
  }

  get responseTrailerMap(): HeaderMap | null {
    return this.response.trailerMap;
  }

  get bufferedRequest(): ByteQueue | null {
    return this.request.half.buffered;
  }

  get bufferedResponse(): ByteQueue | null {
    return this.response.half.buffered;
  }

  // --- what the client's codec delivers -----------------------------------------------------------------------

  /** Request headers, with pseudo-headers. @throws StreamOrderError when they came already. */
  requestHeaders(input: HeaderInput, end = false): this {
    if (this.request.headerMap !== null)
      throw new StreamOrderError("requestHeaders", "after request headers");
    this.request.headers(this.filter, HeaderMap.from(input), end);
    return this;
  }

  /** A chunk of the request body; the last one may be empty. */
  requestBody(chunk: string | Uint8Array, end = false): this {
    if (this.state.ended) return this;
    this.checkRequestOpen("requestBody");
    const bytes = asBytes(chunk);
    this.info.requestBytes += bytes.length;
    if (end) this.request.half.complete = true;
    this.request.data(this.filter, ByteQueue.of(bytes), end, true);
    return this;
  }

  /** Request trailers; they end the request. */
  requestTrailers(input: HeaderInput): this {
    if (this.state.ended) return this;
    this.checkRequestOpen("requestTrailers");
    this.request.half.complete = true;
    this.request.trailerMap = HeaderMap.from(input);
    this.request.trailers(this.filter, this.request.trailerMap);
    return this;
  }

  /**
   * The client went away: log, done, delete.
   * @param what its connection ended, or (HTTP/2) it reset this stream alone
   */
  reset(what: "connection" | "stream" = "connection"): this {
    if (this.state.ended) return this;
    const alone = what === "stream";
    this.info.responseFlags |= alone
      ? ResponseFlag.DOWNSTREAM_REMOTE_RESET
      : ResponseFlag.DOWNSTREAM_CONNECTION_TERMINATION;
    this.info.responseCodeDetails ??= alone ? "http2.remote_reset" : "downstream_remote_disconnect";
    this.end();
    return this;
  }

  // --- what the upstream's codec and the router deliver --------------------------------------------------------

  /** Response headers with `:status`. @throws StreamOrderError before the request was forwarded. */
  responseHeaders(input: HeaderInput, end = false): this {
    if (this.state.ended) return this;
    if (!this.request.half.headersContinued) {
      throw new StreamOrderError("responseHeaders", "before the request was forwarded");
    }
    if (this.response.headerMap !== null)
      throw new StreamOrderError("responseHeaders", "after response headers");
    const headers = HeaderMap.from(input);
    this.info.responseCodeDetails ??= "via_upstream";
    this.info.responseCode = Number(headers.get(":status") ?? 0);
    this.response.headers(this.filter, headers, end);
    return this;
  }

  /** A chunk of the response body; the last one may be empty. */
  responseBody(chunk: string | Uint8Array, end = false): this {
    if (this.state.ended) return this;
    if (this.response.headerMap === null)
      throw new StreamOrderError("responseBody", "before response headers");
    this.response.data(this.filter, ByteQueue.of(asBytes(chunk)), end, true);
    return this;
  }

  /** Response trailers; they end the response. */
  responseTrailers(input: HeaderInput): this {
    if (this.state.ended) return this;
    if (this.response.headerMap === null)
      throw new StreamOrderError("responseTrailers", "before response headers");
    this.state.localComplete = true;
    this.response.half.complete = true;
    this.response.trailerMap = HeaderMap.from(input);
    this.response.trailers(this.filter, this.response.trailerMap);
    return this;
  }

  /** A reply by the router or another part of the proxy than this filter. */
  routerReply(status: number, details: string, body: string | Uint8Array = ""): this {
    this.sendLocalReply({ status, details, body: asBytes(body), headers: new HeaderMap() });
    return this;
  }

  /** The upstream's connection broke: a 503 by the router, or a reset once the answer had begun. */
  upstreamReset(): this {
    if (this.state.ended) return this;
    if (this.response.headerMap === null) {
      this.info.responseFlags |= ResponseFlag.UPSTREAM_CONNECTION_TERMINATION;
      const details = "upstream_reset_before_response_started{connection_termination}";
      return this.routerReply(503, details, `${RESET_BODY} connection termination`);
    }
    // HTTP/1.1 ends in the middle of a message: Envoy's codec calls that a protocol error.
    this.info.responseFlags |= ResponseFlag.UPSTREAM_PROTOCOL_ERROR;
    this.info.responseCodeDetails = "upstream_reset_after_response_started{protocol_error}";
    this.toClient.reset("protocol error");
    this.end();
    return this;
  }

  /** An earlier filter answered: this one hears of the stream only when it is logged. */
  answeredByEarlierFilter(headers: HeaderInput, status: number, body: string | Uint8Array = ""): this {
    const bytes = asBytes(body);
    this.request.headerMap = HeaderMap.from(headers);
    this.response.headerMap = HeaderMap.from({ ":status": String(status) });
    this.response.deliverHeaders(bytes.length === 0, true);
    if (!this.state.ended) this.response.deliverData(ByteQueue.of(bytes), true);
    return this;
  }

  // --- what the filter asks for --------------------------------------------------------------------------------

  clearRouteCache(): void {
    this.routeCleared = true;
  }

  /** The filter keeps buffering: the chunk joins what is held, and exceeding the limit fails the stream. */
  bufferRequestData(data: ByteQueue): void {
    this.request.half.streaming = false;
    this.request.half.buffer(data);
  }

  bufferResponseData(data: ByteQueue): void {
    this.response.half.streaming = false;
    this.response.half.buffer(data);
  }

  addRequestTrailers(): HeaderMap {
    return (this.request.trailerMap = new HeaderMap());
  }

  addResponseTrailers(): HeaderMap {
    return (this.response.trailerMap = new HeaderMap());
  }

  continueRequest(): void {
    this.request.resume(this.filter);
  }

  continueResponse(): void {
    this.response.resume(this.filter);
  }

  /** close_stream: both directions end without an answer. */
  closedByFilter(): void {
    if (this.state.ended) return;
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
    if (this.state.ended || this.prepared !== null) return;
    if (this.state.phase === "decode") this.state.decodeAborted = true;
    else if (this.state.phase === "encode") this.state.encodeAborted = true;
    this.info.responseCodeDetails = reply.details;
    if (this.response.headerMap === null) {
      if (this.state.phase === "decode") this.prepared = reply;
      else this.replyThroughFilter(reply);
    } else if (!this.response.headersSent) this.replyDirectly(reply);
    else {
      this.toClient.reset("local_reset");
      this.end();
    }
  }

  private tooLarge(status: number, text: string, details: string): void {
    this.sendLocalReply({ status, body: Buffer.from(text), headers: new HeaderMap(), details });
  }

  private executePrepared(): void {
    const reply = this.prepared;
    this.prepared = null;
    if (reply !== null && !this.state.ended) this.replyThroughFilter(reply);
  }

  private replyThroughFilter(reply: LocalReply): void {
    const end = reply.body.length === 0;
    this.info.responseCode = reply.status;
    this.response.headers(this.filter, replyHeaders(reply), end);
    if (!end && !this.state.ended) this.response.data(this.filter, ByteQueue.of(reply.body), true, true);
  }

  private replyDirectly(reply: LocalReply): void {
    const end = reply.body.length === 0;
    this.response.headerMap = replyHeaders(reply);
    this.response.deliverHeaders(end, true);
    if (!end && !this.state.ended) this.response.deliverData(ByteQueue.of(reply.body), true);
  }

  /** Tells the filter (log, done, delete) and the upstream, once. */
  private end(): void {
    if (this.state.ended) return;
    this.state.ended = true;
    this.state.localComplete = true;
    this.info.endNs = this.wallNs();
    this.filter?.log();
    this.filter?.destroy();
    this.toUpstream.end?.();
  }

  private checkRequestOpen(step: string): void {
    if (this.request.headerMap === null) throw new StreamOrderError(step, "before request headers");
    if (this.request.half.complete) throw new StreamOrderError(step, "after the end of the request");
  }
}

function asBytes(chunk: string | Uint8Array): Uint8Array {
  return typeof chunk === "string" ? Buffer.from(chunk) : chunk;
}
