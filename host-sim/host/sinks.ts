// Where a stream's output goes: the interfaces, and recorders that keep everything for tests and simulators.
import { HeaderMap } from "./header-map.ts";

/**
 * The router's side: what the filter let through to the upstream. `headers` is the live map: a filter that stopped
 * at the headers can still write to it, which a router that sends the request again would see.
 */
export interface UpstreamSink {
  headers(headers: HeaderMap, end: boolean): void;
  data(bytes: Uint8Array, end: boolean): void;
  trailers(trailers: HeaderMap): void;
  /** The response buffer is above (true) or below (false) its limit. */
  pauseReading?(paused: boolean): void;
  /** The stream is over, whatever state the upstream is in. */
  end?(): void;
}

/** The client's side: what it receives. */
export interface DownstreamSink {
  /** @param local true when the reply did not pass the filter and is not the upstream's. */
  headers(headers: HeaderMap, end: boolean, local: boolean): void;
  data(bytes: Uint8Array, end: boolean): void;
  trailers(trailers: HeaderMap): void;
  reset(reason: string): void;
  /** The request buffer is above (true) or below (false) its limit. */
  pauseReading?(paused: boolean): void;
}

/** Keeps what the upstream would have received, as it was then: later header writes change nothing on the wire. */
export class RequestRecorder implements UpstreamSink {
  headerMap: HeaderMap | null = null;
  trailerMap: HeaderMap | null = null;
  readonly chunks: Uint8Array[] = [];
  /** The request is complete. */
  ended = false;
  /** The stream is over. */
  closed = false;

  headers(headers: HeaderMap, end: boolean): void {
    this.headerMap = HeaderMap.from(headers);
    this.ended = end;
  }

  data(bytes: Uint8Array, end: boolean): void {
    if (bytes.length > 0) this.chunks.push(bytes);
    if (end) this.ended = true;
  }

  trailers(trailers: HeaderMap): void {
    this.trailerMap = HeaderMap.from(trailers);
    this.ended = true;
  }

  end(): void {
    this.closed = true;
  }

  /** The first value of a forwarded header, undefined when absent or nothing was forwarded. */
  header(name: string): string | undefined {
    return this.headerMap?.get(name);
  }

  /** All body bytes so far. */
  body(): Buffer {
    return Buffer.concat(this.chunks);
  }
}

/** Keeps what the client would have received. */
export class ReplyRecorder implements DownstreamSink {
  headerMap: HeaderMap | null = null;
  trailerMap: HeaderMap | null = null;
  readonly chunks: Uint8Array[] = [];
  ended = false;
  resetReason: string | null = null;
  readingPaused = false;

  headers(headers: HeaderMap, end: boolean): void {
    this.headerMap = HeaderMap.from(headers);
    this.ended = end;
  }

  data(bytes: Uint8Array, end: boolean): void {
    if (bytes.length > 0) this.chunks.push(bytes);
    if (end) this.ended = true;
  }

  trailers(trailers: HeaderMap): void {
    this.trailerMap = HeaderMap.from(trailers);
    this.ended = true;
  }

  reset(reason: string): void {
    this.resetReason = reason;
  }

  pauseReading(paused: boolean): void {
    this.readingPaused = paused;
  }

  /** Status code, 0 before headers. */
  get status(): number {
    return Number(this.headerMap?.get(":status") ?? 0);
  }

  /** The first value of a response header. */
  header(name: string): string | undefined {
    return this.headerMap?.get(name);
  }

  /** All body bytes so far. */
  body(): Buffer {
    return Buffer.concat(this.chunks);
  }
}
