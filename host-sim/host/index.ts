// Public face of the host simulator.
export {
  BufferType,
  DataStatus,
  HeadersStatus,
  LogLevel,
  MapType,
  MetricType,
  Result,
  TrailersStatus,
} from "./abi.ts";
export { RealClock, VirtualClock, type Clock, type Timer } from "./clock.ts";
export * from "./errors.ts";
export type { Faults, ReplyFault } from "./faults.ts";
export { HeaderMap, type HeaderInput } from "./header-map.ts";
export { createHost, ProxyWasmHost, type HostOptions, type LogLine } from "./host.ts";
export type { ClusterHandler, HttpCall } from "./http-call.ts";
export type { HistogramBuckets, StatsTag } from "./metrics.ts";
export type { FailurePolicy, PluginInput } from "./plugin.ts";
export {
  DoubleValue,
  metadataValue,
  objectSource,
  type MetadataJson,
  type PropertyValue,
} from "./properties.ts";
export { ReplyRecorder, RequestRecorder, type DownstreamSink, type UpstreamSink } from "./sinks.ts";
export { BUFFER_LIMIT_BYTES, Stream } from "./stream.ts";
export { ResponseFlag, StreamInfo, type StreamInfoInput } from "./stream-info.ts";
export { HostThread, type StreamOptions } from "./thread.ts";
export type { WasmVm } from "./vm.ts";
