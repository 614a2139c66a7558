// The response through one filter: what goes to it, what it holds back, and what goes on to the client.
import { DataStatus, HeadersStatus, TrailersStatus } from "./abi.ts";
import type { ByteQueue } from "./byte-queue.ts";
import type { Half } from "./half.ts";
import type { HeaderMap } from "./header-map.ts";
import type { DownstreamSink } from "./sinks.ts";
import type { StreamFilter } from "./stream-filter.ts";
import type { StreamInfo } from "./stream-info.ts";
import type { StreamState } from "./stream-state.ts";

/** The encoder side of Envoy's filter manager, for a chain of one filter and the client's codec. */
export class ResponsePath {
  headerMap: HeaderMap | null = null;
  trailerMap: HeaderMap | null = null;
  /** The client has the response headers. */
  headersSent = false;

  constructor(
    private readonly state: StreamState,
    readonly half: Half,
    private readonly sink: DownstreamSink,
    private readonly info: StreamInfo,
    /** The response is complete: the stream ends. */
    private readonly end: () => void,
  ) {}

  headers(filter: StreamFilter | null, headers: HeaderMap, end: boolean): void {
    this.headerMap = headers;
    if (end) this.state.localComplete = this.half.complete = true;
    this.half.endStream = end;
    let status = this.running(() => filter?.onResponseHeaders(headers, end) ?? HeadersStatus.CONTINUE);
    if (this.state.encodeAborted) status = HeadersStatus.STOP_ITERATION;
    if (!this.state.ended && this.half.afterHeaders(status)) this.deliverHeaders(end, false);
  }

  /** @param fromFilter false for data the filter has already seen. */
  data(filter: StreamFilter | null, data: ByteQueue, end: boolean, fromFilter: boolean): void {
    if (this.state.ended) return;
    if (end) this.state.localComplete = this.half.complete = true;
    if (!fromFilter || filter === null) {
      this.deliverData(data, end);
      return;
    }
    if (this.half.holdIfStoppedAll(data) || this.half.endStream) return;
    const hadTrailers = this.trailerMap !== null;
    this.half.endStream = end && !hadTrailers;
    let status = this.running(() => filter.onResponseBody(data, this.half.endStream));
    if (this.state.encodeAborted) status = DataStatus.STOP_ITERATION_NO_BUFFER;
    if (this.state.ended) return;
    const trailersAdded = !hadTrailers && this.trailerMap !== null;
    const outcome = this.half.afterData(status, data, this.trailerMap !== null);
    if (outcome === "resume") this.resume(filter);
    if (outcome !== "forward") return;
    this.deliverData(data, end && !trailersAdded);
    if (trailersAdded && !this.state.ended) this.deliverTrailers(this.trailerMap as HeaderMap);
  }

  trailers(filter: StreamFilter | null, trailers: HeaderMap): void {
    if (this.state.ended || this.half.stoppedAll) return;
    const status = this.running(() => filter?.onResponseTrailers(trailers) ?? TrailersStatus.CONTINUE);
    this.half.endStream = true;
    if (this.state.ended) return;
    const outcome = this.half.afterTrailers(status);
    if (outcome === "forward") this.deliverTrailers(trailers);
    else if (outcome === "resume") this.resumeBeforeTrailers(trailers);
  }

  /** Lets held frames go on (`continueEncoding`); those the filter has not seen pass through it first. */
  resume(filter: StreamFilter | null): void {
    if (this.state.ended || this.headerMap === null) return;
    const fromFilter = this.half.resume();
    if (!this.half.headersContinued) {
      this.half.headersContinued = true;
      const end = this.half.complete && this.half.buffered === null && this.trailerMap === null;
      this.deliverHeaders(end, false);
    }
    const trailers = this.trailerMap;
    const data = this.half.buffered;
    if (data !== null && !this.state.ended) {
      this.data(filter, data, this.half.complete && trailers === null, fromFilter);
    }
    if (trailers === null || this.state.ended) return;
    if (fromFilter) this.trailers(filter, trailers);
    else this.deliverTrailers(trailers);
  }

  /** @param local true for a reply that did not pass the filter. */
  deliverHeaders(end: boolean, local: boolean): void {
    const headers = this.headerMap as HeaderMap;
    this.headersSent = true;
    this.info.responseCode = Number(headers.get(":status") ?? 0);
    this.sink.headers(headers, end, local);
    if (end) this.end();
  }

  deliverData(data: ByteQueue, end: boolean): void {
    const bytes = this.half.takeForForward(data);
    this.info.responseBytes += bytes.length;
    this.sink.data(bytes, end);
    if (end) this.end();
  }

  private deliverTrailers(trailers: HeaderMap): void {
    this.sink.trailers(trailers);
    this.end();
  }

  private resumeBeforeTrailers(trailers: HeaderMap): void {
    this.half.resume();
    if (!this.half.headersContinued) {
      this.half.headersContinued = true;
      this.deliverHeaders(false, false);
    }
    if (this.half.buffered !== null && !this.state.ended) this.deliverData(this.half.buffered, false);
    if (!this.state.ended) this.deliverTrailers(trailers);
  }

  private running(callback: () => number): number {
    this.state.phase = "encode";
    const status = callback();
    this.state.phase = "none";
    return status;
  }
}
