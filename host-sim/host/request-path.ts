// The request through one filter: what goes to it, what it holds back, and what goes on to the router.
import { HeadersStatus, TrailersStatus } from "./abi.ts";
import type { ByteQueue } from "./byte-queue.ts";
import type { Half } from "./half.ts";
import type { HeaderMap } from "./header-map.ts";
import type { UpstreamSink } from "./sinks.ts";
import type { StreamFilter } from "./stream-filter.ts";
import type { StreamState } from "./stream-state.ts";

/** The decoder side of Envoy's filter manager, for a chain of one filter and the router. */
export class RequestPath {
  headerMap: HeaderMap | null = null;
  trailerMap: HeaderMap | null = null;

  constructor(
    private readonly state: StreamState,
    readonly half: Half,
    private readonly sink: UpstreamSink,
    /** Sends the local reply that was prepared while the filter ran. */
    private readonly executePrepared: () => void,
  ) {}

  /** The filter's answer to the headers decides whether they go on now. */
  headers(filter: StreamFilter | null, headers: HeaderMap, end: boolean): void {
    this.headerMap = headers;
    this.half.complete = end;
    this.half.endStream = end;
    let status = this.running(() => filter?.onRequestHeaders(headers, end) ?? HeadersStatus.CONTINUE);
    if (this.state.decodeAborted) {
      this.executePrepared();
      status = HeadersStatus.STOP_ITERATION;
    }
    if (this.half.afterHeaders(status) && !this.state.localComplete) this.sink.headers(headers, end);
  }

  /** @param fromFilter false for data the filter has already seen. */
  data(filter: StreamFilter | null, data: ByteQueue, end: boolean, fromFilter: boolean): void {
    if (this.state.localComplete || this.state.ended) return;
    if (!fromFilter || filter === null) {
      this.forward(data, end);
      return;
    }
    if (this.half.holdIfStoppedAll(data) || this.half.endStream) return;
    const hadTrailers = this.trailerMap !== null;
    this.half.endStream = end && !hadTrailers;
    const status = this.running(() => filter.onRequestBody(data, this.half.endStream));
    if (this.state.decodeAborted) {
      this.executePrepared();
      return;
    }
    if (this.state.ended) return;
    const trailersAdded = !hadTrailers && this.trailerMap !== null;
    const outcome = this.half.afterData(status, data, this.trailerMap !== null);
    if (outcome === "resume") this.resume(filter);
    if (outcome !== "forward") return;
    this.forward(data, end && !trailersAdded);
    if (trailersAdded && !this.state.ended) this.sink.trailers(this.trailerMap as HeaderMap);
  }

  /** Trailers end the request; a filter that held it until here may let everything go. */
  trailers(filter: StreamFilter | null, trailers: HeaderMap): void {
    if (this.state.localComplete || this.state.ended || this.half.stoppedAll) return;
    let status = this.running(() => filter?.onRequestTrailers(trailers) ?? TrailersStatus.CONTINUE);
    this.half.endStream = true;
    if (this.state.decodeAborted) {
      this.executePrepared();
      status = TrailersStatus.STOP_ITERATION;
    }
    if (this.state.ended) return;
    const outcome = this.half.afterTrailers(status);
    if (outcome === "forward") this.sink.trailers(trailers);
    else if (outcome === "resume") this.resumeBeforeTrailers(trailers);
  }

  /** Lets held frames go on (`continueDecoding`); those the filter has not seen pass through it first. */
  resume(filter: StreamFilter | null): void {
    if (this.state.localComplete || this.state.ended) return;
    const fromFilter = this.half.resume();
    if (!this.half.headersContinued) {
      this.half.headersContinued = true;
      const end = this.half.complete && this.half.buffered === null && this.trailerMap === null;
      this.sink.headers(this.headerMap as HeaderMap, end);
    }
    const trailers = this.trailerMap;
    const data = this.half.buffered;
    if (data !== null) this.data(filter, data, this.half.complete && trailers === null, fromFilter);
    if (trailers === null || this.state.ended) return;
    if (fromFilter) this.trailers(filter, trailers);
    else this.sink.trailers(trailers);
  }

  private resumeBeforeTrailers(trailers: HeaderMap): void {
    this.half.resume();
    if (!this.half.headersContinued) {
      this.half.headersContinued = true;
      this.sink.headers(this.headerMap as HeaderMap, false);
    }
    if (this.half.buffered !== null) this.forward(this.half.buffered, false);
    if (!this.state.ended) this.sink.trailers(trailers);
  }

  private forward(data: ByteQueue, end: boolean): void {
    this.sink.data(this.half.takeForForward(data), end);
  }

  private running(callback: () => number): number {
    this.state.phase = "decode";
    const status = callback();
    this.state.phase = "none";
    return status;
  }
}
