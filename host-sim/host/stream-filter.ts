// What a stream calls on its filter: the guest's context, or the empty context of a VM that is down.
import { DataStatus, HeadersStatus, TrailersStatus } from "./abi.ts";
import type { ByteQueue } from "./byte-queue.ts";
import type { HeaderMap } from "./header-map.ts";
import type { Stream } from "./stream.ts";

/** One filter in one stream; statuses are those of abi.ts. */
export interface StreamFilter {
  onRequestHeaders(headers: HeaderMap, end: boolean): number;
  onRequestBody(data: ByteQueue, end: boolean): number;
  onRequestTrailers(trailers: HeaderMap): number;
  onResponseHeaders(headers: HeaderMap, end: boolean): number;
  onResponseBody(data: ByteQueue, end: boolean): number;
  onResponseTrailers(trailers: HeaderMap): number;
  log(): void;
  destroy(): void;
}

/** The empty context of a fail-closed plugin whose VM is down: 503 at the headers, silence afterwards. */
export class FailedFilter implements StreamFilter {
  constructor(private readonly stream: Stream) {}

  onRequestHeaders(): number {
    this.stream.sendFailureReply();
    return HeadersStatus.STOP_ALL_ITERATION_AND_WATERMARK;
  }

  onRequestBody(): number {
    return DataStatus.STOP_ITERATION_NO_BUFFER;
  }

  onRequestTrailers(): number {
    return TrailersStatus.STOP_ITERATION;
  }

  onResponseHeaders(): number {
    return HeadersStatus.CONTINUE;
  }

  onResponseBody(): number {
    return DataStatus.CONTINUE;
  }

  onResponseTrailers(): number {
    return TrailersStatus.CONTINUE;
  }

  log(): void {}

  destroy(): void {}
}
