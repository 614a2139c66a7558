// The guest's context of one HTTP stream: which maps and buffers it may touch in which phase, and its callbacks.
import { BufferType, DataStatus, HeadersStatus, MapType, Result, StreamType, TrailersStatus } from "./abi.ts";
import { ByteQueue } from "./byte-queue.ts";
import { Context, type GuestBuffer, type RootContext } from "./context.ts";
import type { HeaderMap } from "./header-map.ts";
import type { PluginSpec } from "./plugin.ts";
import type { PropertyValue } from "./properties.ts";
import type { Stream } from "./stream.ts";
import type { WasmVm } from "./vm.ts";

/** Filter-state objects that Envoy can build from bytes; any other name is NotFound. */
const FILTER_STATE_OBJECTS: ReadonlySet<string> = new Set([
  "envoy.tcp_proxy.cluster",
  "envoy.network.upstream_server_name",
  "envoy.network.upstream_subject_alt_names",
  "envoy.network.application_protocols",
  "envoy.string",
]);

/** A stream's context in a living VM. The rules are those of Envoy's source/extensions/common/wasm/context.cc. */
export class StreamContext extends Context {
  private requestHeaders: HeaderMap | null = null;
  private requestBody: ByteQueue | null = null;
  private requestTrailers: HeaderMap | null = null;
  private responseHeaders: HeaderMap | null = null;
  private responseBody: ByteQueue | null = null;
  private responseTrailers: HeaderMap | null = null;
  private bufferingRequest = false;
  private bufferingResponse = false;
  private endOfStream = false;
  private logging = false;
  private streamFailed = false;
  private failureReplySent = false;
  private destroyed = false;
  /** on_context_create has run (or was skipped because the VM had failed). */
  created = false;

  constructor(
    vm: WasmVm,
    private readonly rootContext: RootContext,
    private readonly spec: PluginSpec,
    private readonly stream: Stream,
  ) {
    super(vm, vm.allocateContextId());
    vm.contexts.set(this.id, this);
  }

  override get root(): RootContext {
    return this.rootContext;
  }

  override get plugin(): PluginSpec {
    return this.spec;
  }

  // --- request phases ---------------------------------------------------------------------------------------------

  onRequestHeaders(headers: HeaderMap, end: boolean): number {
    this.create();
    this.requestHeaders = headers;
    this.endOfStream = end;
    const status = this.headersCallback("proxy_on_request_headers", headers.size, end);
    if (status === HeadersStatus.CONTINUE) this.requestHeaders = null;
    return status;
  }

  onRequestBody(data: ByteQueue, end: boolean): number {
    if (!this.created) return DataStatus.CONTINUE;
    if (this.bufferingRequest) {
      this.stream.bufferRequestData(data);
      if (this.destroyed) return DataStatus.STOP_ITERATION_AND_BUFFER;
    }
    this.requestBody = data;
    this.endOfStream = end;
    const bytes = this.requestBuffer()?.length ?? 0;
    const status = this.dataCallback("proxy_on_request_body", bytes, end);
    this.bufferingRequest = status === DataStatus.STOP_ITERATION_AND_BUFFER;
    if (status === DataStatus.CONTINUE) this.requestBody = null;
    return status;
  }

  onRequestTrailers(trailers: HeaderMap): number {
    if (!this.created) return TrailersStatus.CONTINUE;
    this.requestTrailers = trailers;
    const status = this.trailersCallback("proxy_on_request_trailers", trailers.size);
    if (status === TrailersStatus.CONTINUE) this.requestTrailers = null;
    return status;
  }

  // --- response phases --------------------------------------------------------------------------------------------

  onResponseHeaders(headers: HeaderMap, end: boolean): number {
    if (!this.created || this.failureReplySent) return HeadersStatus.CONTINUE;
    this.responseHeaders = headers;
    this.endOfStream = end;
    const status = this.headersCallback("proxy_on_response_headers", headers.size, end);
    if (status === HeadersStatus.CONTINUE) this.responseHeaders = null;
    return status;
  }

  onResponseBody(data: ByteQueue, end: boolean): number {
    if (!this.created || this.failureReplySent) return DataStatus.CONTINUE;
    if (this.bufferingResponse) {
      this.stream.bufferResponseData(data);
      if (this.destroyed) return DataStatus.STOP_ITERATION_AND_BUFFER;
    }
    this.responseBody = data;
    this.endOfStream = end;
    const bytes = this.responseBuffer()?.length ?? 0;
    const status = this.dataCallback("proxy_on_response_body", bytes, end);
    this.bufferingResponse = status === DataStatus.STOP_ITERATION_AND_BUFFER;
    if (status === DataStatus.CONTINUE) this.responseBody = null;
    return status;
  }

  onResponseTrailers(trailers: HeaderMap): number {
    if (!this.created || this.failureReplySent) return TrailersStatus.CONTINUE;
    this.responseTrailers = trailers;
    const status = this.trailersCallback("proxy_on_response_trailers", trailers.size);
    if (status === TrailersStatus.CONTINUE) this.responseTrailers = null;
    return status;
  }

  // --- end --------------------------------------------------------------------------------------------------------

  /** on_log; creates the context first when an earlier filter answered the request. */
  log(): void {
    this.create();
    if (this.vm.failed || !this.vm.has("proxy_on_log")) return;
    this.logging = true;
    this.vm.call(this, "proxy_on_log", this.id);
    this.vm.finishCall();
    this.logging = false;
  }

  /** on_done (its answer does not matter for a stream), on_delete; then the id is free. */
  destroy(): void {
    if (this.destroyed || !this.created) return;
    this.destroyed = true;
    if (!this.vm.failed && this.vm.has("proxy_on_done")) {
      this.vm.call(this, "proxy_on_done", this.id);
      this.vm.finishCall();
    }
    if (!this.vm.failed && this.vm.has("proxy_on_delete")) {
      this.vm.call(this, "proxy_on_delete", this.id);
      this.vm.finishCall();
    }
    this.vm.contexts.delete(this.id);
  }

  private create(): void {
    if (!this.created && !this.vm.failed && this.vm.has("proxy_on_context_create")) {
      this.vm.call(this, "proxy_on_context_create", this.id, this.rootContext.id);
      this.vm.finishCall();
    }
    this.created = true;
  }

  // --- running callbacks and reading their answers ----------------------------------------------------------------

  private headersCallback(callback: string, count: number, end: boolean): number {
    const failed = HeadersStatus.STOP_ALL_ITERATION_AND_WATERMARK;
    if (this.vm.failed) return this.failed(failed);
    if (!this.vm.has(callback)) return HeadersStatus.CONTINUE;
    const answer = this.vm.call(this, callback, this.id, count, end ? 1 : 0);
    const status = this.vm.failed ? this.failed(failed) : this.headersStatus(answer);
    this.vm.finishCall();
    return status;
  }

  private headersStatus(answer: number): number {
    const stopAll = HeadersStatus.STOP_ALL_ITERATION_AND_WATERMARK;
    if (this.vm.nextIterationStopped || answer > stopAll) return stopAll;
    if (answer === HeadersStatus.STOP_ITERATION && !this.spec.allowOnHeadersStopIteration) return stopAll;
    // Envoy's conversion knows no status 2 and treats it as Continue.
    return answer === HeadersStatus.CONTINUE_AND_END_STREAM ? HeadersStatus.CONTINUE : answer;
  }

  private dataCallback(callback: string, bytes: number, end: boolean): number {
    const failed = DataStatus.STOP_ITERATION_NO_BUFFER;
    if (this.vm.failed) return this.failed(failed);
    if (!this.vm.has(callback)) return DataStatus.CONTINUE;
    const answer = this.vm.call(this, callback, this.id, bytes, end ? 1 : 0);
    let status = answer;
    if (this.vm.failed) status = this.failed(failed);
    else if (this.vm.nextIterationStopped || answer > failed) status = failed;
    this.vm.finishCall();
    return status;
  }

  private trailersCallback(callback: string, count: number): number {
    const failed = TrailersStatus.STOP_ITERATION;
    if (this.vm.failed) return this.failed(failed);
    if (!this.vm.has(callback)) return TrailersStatus.CONTINUE;
    const answer = this.vm.call(this, callback, this.id, count);
    let status = answer;
    if (this.vm.failed) status = this.failed(failed);
    else if (this.vm.nextIterationStopped || answer > failed) status = failed;
    this.vm.finishCall();
    return status;
  }

  /** The VM died under this stream: 503 once, then stop. FAIL_OPEN spares later streams, not this one. */
  private failed(closed: number): number {
    if (!this.streamFailed) {
      this.streamFailed = true;
      this.failureReplySent = true;
      this.stream.sendFailureReply();
    }
    return closed;
  }

  // --- what the guest may touch -----------------------------------------------------------------------------------

  override mapForRead(type: number): HeaderMap | null {
    if (this.logging) {
      if (type === MapType.REQUEST_HEADERS) return this.stream.requestHeaderMap;
      if (type === MapType.REQUEST_TRAILERS) return null;
      if (type === MapType.RESPONSE_HEADERS) return this.stream.responseHeaderMap;
      if (type === MapType.RESPONSE_TRAILERS) return this.stream.responseTrailerMap;
    }
    switch (type) {
      case MapType.REQUEST_HEADERS:
        return this.requestHeaders;
      case MapType.REQUEST_TRAILERS:
        return this.requestTrailers;
      case MapType.RESPONSE_HEADERS:
        return this.responseHeaders;
      case MapType.RESPONSE_TRAILERS:
        return this.responseTrailers;
      default:
        return super.mapForRead(type);
    }
  }

  override mapForWrite(type: number): HeaderMap | null {
    switch (type) {
      case MapType.REQUEST_HEADERS:
        return this.requestHeaders;
      case MapType.REQUEST_TRAILERS:
        // Touching absent trailers in the last body callback creates them.
        if (this.requestTrailers === null && this.requestBody !== null && this.endOfStream) {
          this.requestTrailers = this.stream.addRequestTrailers();
        }
        return this.requestTrailers;
      case MapType.RESPONSE_HEADERS:
        return this.responseHeaders;
      case MapType.RESPONSE_TRAILERS:
        if (this.responseTrailers === null && this.responseBody !== null && this.endOfStream) {
          this.responseTrailers = this.stream.addResponseTrailers();
        }
        return this.responseTrailers;
      default:
        return null;
    }
  }

  override get absentMapResult(): Result {
    return this.logging ? Result.NOT_FOUND : Result.BAD_ARGUMENT;
  }

  override buffer(type: number): GuestBuffer | null {
    if (type === BufferType.HTTP_REQUEST_BODY) return guestBuffer(this.requestBuffer());
    if (type === BufferType.HTTP_RESPONSE_BODY) return guestBuffer(this.responseBuffer());
    return super.buffer(type);
  }

  override property(name: string): PropertyValue | undefined {
    return this.stream.info.property(name, this.stream) ?? super.property(name);
  }

  override setProperty(path: string, value: Uint8Array): Result {
    this.stream.info.filterState.set(`wasm.${path}`, Buffer.from(value));
    return Result.OK;
  }

  override setEnvoyFilterState(name: string, value: Uint8Array): Result {
    if (!FILTER_STATE_OBJECTS.has(name)) return Result.NOT_FOUND;
    this.stream.info.filterState.set(name, Buffer.from(value));
    return Result.OK;
  }

  override onHeadersModified(type: number): void {
    // ABI ≤ 0.2.1 clears the route cache on every request-header change.
    if (type === MapType.REQUEST_HEADERS) this.stream.clearRouteCache();
  }

  override continueStream(type: number): Result {
    if (type === StreamType.REQUEST) this.vm.afterCall.push(() => this.stream.continueRequest());
    else if (type === StreamType.RESPONSE) this.vm.afterCall.push(() => this.stream.continueResponse());
    else return super.continueStream(type);
    // Both directions null the request's maps and buffer; the response's stay.
    this.requestHeaders = null;
    this.requestBody = null;
    this.requestTrailers = null;
    return Result.OK;
  }

  override closeStream(type: number): Result {
    if (type === StreamType.REQUEST || type === StreamType.RESPONSE) {
      this.vm.afterCall.push(() => this.stream.closedByFilter());
    }
    return Result.OK;
  }

  override sendLocalResponse(status: number, body: Buffer, headers: HeaderMap, details: string): void {
    this.vm.afterCall.push(() => this.stream.sendLocalReply({ status, body, headers, details }));
  }

  private requestBuffer(): ByteQueue | null {
    return this.bufferingRequest ? this.stream.bufferedRequest : this.requestBody;
  }

  private responseBuffer(): ByteQueue | null {
    return this.bufferingResponse ? this.stream.bufferedResponse : this.responseBody;
  }
}

function guestBuffer(bytes: ByteQueue | null): GuestBuffer {
  return bytes === null ? { bytes: new ByteQueue(), writable: false } : { bytes, writable: true };
}
