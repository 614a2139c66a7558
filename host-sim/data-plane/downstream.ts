// One client request on node:http: its frames go into the stream, the stream's answer goes to the client.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { DownstreamSink, HeaderMap, Stream } from "../host/index.ts";
import { hasBody, requestHeaders, toRawHeaders, trailers } from "./headers.ts";

/** Writes the stream's answer to a Node response, with back-pressure towards the upstream. */
export class ClientSink implements DownstreamSink {
  private filterPaused = false;
  private upstreamPaused = false;
  /** Stops (true) or resumes the upstream's response. */
  pauseUpstream: (paused: boolean) => void = () => {};

  constructor(
    private readonly request: IncomingMessage,
    private readonly response: ServerResponse,
  ) {
    response.on("drain", () => this.pauseUpstream(false));
  }

  headers(headers: HeaderMap, end: boolean): void {
    if (this.response.destroyed || this.response.headersSent) return;
    // An answer before the end of the request ends the connection: the rest of the body will not be read.
    if (!this.request.complete) this.response.shouldKeepAlive = false;
    this.response.writeHead(Number(headers.get(":status")), toRawHeaders(headers));
    if (end) this.response.end();
    else this.response.flushHeaders();
  }

  data(bytes: Uint8Array, end: boolean): void {
    if (this.response.destroyed) return;
    if (bytes.length > 0 && !this.response.write(bytes)) this.pauseUpstream(true);
    if (end) this.response.end();
  }

  trailers(trailers: HeaderMap): void {
    if (this.response.destroyed) return;
    this.response.addTrailers(trailers.pairs().map(([name, value]): [string, string] => [name, value]));
    this.response.end();
  }

  reset(): void {
    this.request.socket.destroy();
  }

  /** The filter's buffer is above its limit. */
  pauseReading(paused: boolean): void {
    this.filterPaused = paused;
    this.applyPause();
  }

  /** The upstream does not take more now. */
  pauseForUpstream(paused: boolean): void {
    this.upstreamPaused = paused;
    this.applyPause();
  }

  private applyPause(): void {
    if (this.filterPaused || this.upstreamPaused) this.request.pause();
    else this.request.resume();
  }
}

/** Feeds a client's request into a stream, frame by frame, and its going away. */
export function pump(
  request: IncomingMessage,
  response: ServerResponse,
  stream: Stream,
  requestId: string,
): void {
  const body = hasBody(request);
  response.on("close", () => {
    if (!response.writableFinished) stream.reset();
  });
  request.on("error", () => {});
  if (body) {
    request.on("data", (bytes: Buffer) => stream.requestBody(bytes));
    request.on("end", () => {
      if (request.rawTrailers.length > 0) stream.requestTrailers(trailers(request).pairs());
      else stream.requestBody("", true);
    });
  } else request.resume();
  stream.requestHeaders(requestHeaders(request, requestId).pairs(), !body);
}
