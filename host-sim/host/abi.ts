// Constants and signatures of the Proxy-Wasm ABI 0.2.1, as Envoy registers and looks them up.

/** Return codes of host functions (proxy-wasm-cpp-host `WasmResult`). */
export const Result = {
  OK: 0,
  NOT_FOUND: 1,
  BAD_ARGUMENT: 2,
  SERIALIZATION_FAILURE: 3,
  PARSE_FAILURE: 4,
  BAD_EXPRESSION: 5,
  INVALID_MEMORY_ACCESS: 6,
  EMPTY: 7,
  CAS_MISMATCH: 8,
  RESULT_MISMATCH: 9,
  INTERNAL_FAILURE: 10,
  BROKEN_CONNECTION: 11,
  UNIMPLEMENTED: 12,
} as const;
export type Result = (typeof Result)[keyof typeof Result];

/** Header map selectors (`WasmHeaderMapType`). */
export const MapType = {
  REQUEST_HEADERS: 0,
  REQUEST_TRAILERS: 1,
  RESPONSE_HEADERS: 2,
  RESPONSE_TRAILERS: 3,
  GRPC_RECEIVE_INITIAL_METADATA: 4,
  GRPC_RECEIVE_TRAILING_METADATA: 5,
  HTTP_CALL_RESPONSE_HEADERS: 6,
  HTTP_CALL_RESPONSE_TRAILERS: 7,
} as const;
/** Largest header map selector; a larger one is BadArgument. */
export const MAP_TYPE_MAX = 7;

/** Buffer selectors (`WasmBufferType`). */
export const BufferType = {
  HTTP_REQUEST_BODY: 0,
  HTTP_RESPONSE_BODY: 1,
  NETWORK_DOWNSTREAM_DATA: 2,
  NETWORK_UPSTREAM_DATA: 3,
  HTTP_CALL_RESPONSE_BODY: 4,
  GRPC_RECEIVE_BUFFER: 5,
  VM_CONFIGURATION: 6,
  PLUGIN_CONFIGURATION: 7,
  CALL_DATA: 8,
} as const;
/** Largest buffer selector; a larger one is BadArgument. */
export const BUFFER_TYPE_MAX = 8;

/** Stream selectors of continue_stream and close_stream (`WasmStreamType`). */
export const StreamType = { REQUEST: 0, RESPONSE: 1, DOWNSTREAM: 2, UPSTREAM: 3 } as const;
/** Largest stream selector; a larger one is BadArgument. */
export const STREAM_TYPE_MAX = 3;

/** Metric kinds of define_metric; the low two bits of a metric id repeat the kind. */
export const MetricType = { COUNTER: 0, GAUGE: 1, HISTOGRAM: 2 } as const;
/** Largest metric kind; a larger one is BadArgument. */
export const METRIC_TYPE_MAX = 2;
/** Mask that yields the kind from a metric id. */
export const METRIC_TYPE_MASK = 0x3;
/** Distance between two metric ids of one kind. */
export const METRIC_ID_INCREMENT = 0x4;

/** Log levels of proxy_log. */
export const LogLevel = { TRACE: 0, DEBUG: 1, INFO: 2, WARN: 3, ERROR: 4, CRITICAL: 5 } as const;
/** Largest log level; a larger one is BadArgument. */
export const LOG_LEVEL_MAX = 5;

/** What a headers callback may return (`FilterHeadersStatus`). */
export const HeadersStatus = {
  CONTINUE: 0,
  STOP_ITERATION: 1,
  CONTINUE_AND_END_STREAM: 2,
  STOP_ALL_ITERATION_AND_BUFFER: 3,
  STOP_ALL_ITERATION_AND_WATERMARK: 4,
} as const;

/** What a body callback may return (`FilterDataStatus`). */
export const DataStatus = {
  CONTINUE: 0,
  STOP_ITERATION_AND_BUFFER: 1,
  STOP_ITERATION_AND_WATERMARK: 2,
  STOP_ITERATION_NO_BUFFER: 3,
} as const;

/** What a trailers callback may return (`FilterTrailersStatus`). */
export const TrailersStatus = { CONTINUE: 0, STOP_ITERATION: 1 } as const;

/** Pairs lists with more bytes than this decode to an empty list (`PROXY_WASM_HOST_PAIRS_MAX_BYTES`). */
export const PAIRS_BYTES_MAX = 1024 * 1024;
/** Pairs lists with more entries than this decode to an empty list (`PROXY_WASM_HOST_PAIRS_MAX_COUNT`). */
export const PAIRS_COUNT_MAX = 1024;

/** Largest linear memory of one VM; V8 in Envoy refuses to grow beyond it. */
export const VM_MEMORY_BYTES_MAX = 1024 * 1024 * 1024;

/** The export that marks the one ABI version this host speaks. */
export const ABI_VERSION_EXPORT = "proxy_abi_version_0_2_1";

/**
 * Signatures as strings: one letter a parameter (`i` = i32, `l` = i64), `>` and the result letter, if any.
 * Source: proxy-wasm-cpp-host include/proxy-wasm/exports.h, FOR_ALL_HOST_FUNCTIONS and ABI-specific additions
 * for 0.2.1, plus what Envoy registers itself (envoy_resolve_dns).
 */
export const ENV_FUNCTIONS: Readonly<Record<string, string>> = {
  pthread_equal: "ii>i",
  emscripten_notify_memory_growth: "i>",
  envoy_resolve_dns: "iii>i",
  proxy_log: "iii>i",
  proxy_get_log_level: "i>i",
  proxy_get_status: "iii>i",
  proxy_set_property: "iiii>i",
  proxy_get_property: "iiii>i",
  proxy_send_local_response: "iiiiiiii>i",
  proxy_get_shared_data: "iiiii>i",
  proxy_set_shared_data: "iiiii>i",
  proxy_register_shared_queue: "iii>i",
  proxy_resolve_shared_queue: "iiiii>i",
  proxy_dequeue_shared_queue: "iii>i",
  proxy_enqueue_shared_queue: "iii>i",
  proxy_get_header_map_value: "iiiii>i",
  proxy_add_header_map_value: "iiiii>i",
  proxy_replace_header_map_value: "iiiii>i",
  proxy_remove_header_map_value: "iii>i",
  proxy_get_header_map_pairs: "iii>i",
  proxy_set_header_map_pairs: "iii>i",
  proxy_get_header_map_size: "ii>i",
  proxy_get_buffer_status: "iii>i",
  proxy_get_buffer_bytes: "iiiii>i",
  proxy_set_buffer_bytes: "iiiii>i",
  proxy_http_call: "iiiiiiiiii>i",
  proxy_grpc_call: "iiiiiiiiiiii>i",
  proxy_grpc_stream: "iiiiiiiii>i",
  proxy_grpc_close: "i>i",
  proxy_grpc_cancel: "i>i",
  proxy_grpc_send: "iiii>i",
  proxy_set_tick_period_milliseconds: "i>i",
  proxy_get_current_time_nanoseconds: "i>i",
  proxy_define_metric: "iiii>i",
  proxy_increment_metric: "il>i",
  proxy_record_metric: "il>i",
  proxy_get_metric: "ii>i",
  proxy_set_effective_context: "i>i",
  proxy_done: ">i",
  proxy_call_foreign_function: "iiiiii>i",
  proxy_continue_stream: "i>i",
  proxy_close_stream: "i>i",
};

/**
 * WASI functions that Envoy 1.36 registers, under both `wasi_snapshot_preview1` and `wasi_unstable`. Envoy 1.40 knows
 * most of the others too; a module that imports one does not load on 1.36, so it does not load here.
 */
export const WASI_FUNCTIONS: Readonly<Record<string, string>> = {
  fd_write: "iiii>i",
  fd_read: "iiii>i",
  fd_seek: "ilii>i",
  fd_close: "i>i",
  fd_fdstat_get: "ii>i",
  fd_fdstat_set_flags: "ii>i",
  environ_get: "ii>i",
  environ_sizes_get: "ii>i",
  args_get: "ii>i",
  args_sizes_get: "ii>i",
  clock_time_get: "ili>i",
  random_get: "ii>i",
  proc_exit: "i>",
  sched_yield: ">i",
  poll_oneoff: "iiii>i",
  path_open: "iiiiillii>i",
  fd_prestat_get: "ii>i",
  fd_prestat_dir_name: "iii>i",
};

/** The module names under which WASI functions are found. */
export const WASI_MODULES = ["wasi_snapshot_preview1", "wasi_unstable"] as const;

/** Exports the host looks up; one with another signature fails the VM, an absent one is skipped. */
export const MODULE_EXPORTS: Readonly<Record<string, string>> = {
  _initialize: ">",
  _start: ">",
  main: "ii>i",
  malloc: "i>i",
  proxy_on_memory_allocate: "i>i",
  proxy_on_vm_start: "ii>i",
  proxy_on_configure: "ii>i",
  proxy_on_tick: "i>",
  proxy_on_context_create: "ii>",
  proxy_on_request_headers: "iii>i",
  proxy_on_request_body: "iii>i",
  proxy_on_request_trailers: "ii>i",
  proxy_on_request_metadata: "ii>i",
  proxy_on_response_headers: "iii>i",
  proxy_on_response_body: "iii>i",
  proxy_on_response_trailers: "ii>i",
  proxy_on_response_metadata: "ii>i",
  proxy_on_http_call_response: "iiiii>",
  proxy_on_queue_ready: "ii>",
  proxy_on_foreign_function: "iii>",
  proxy_on_done: "i>i",
  proxy_on_log: "i>",
  proxy_on_delete: "i>",
};

/** What may be called while `_initialize` or `_start` runs; anything else traps. */
export const CALLS_ALLOWED_AT_START: ReadonlySet<string> = new Set([
  "proxy_log",
  "fd_write",
  "args_sizes_get",
  "args_get",
  "environ_sizes_get",
  "environ_get",
  "fd_prestat_get",
  "fd_prestat_dir_name",
  "clock_time_get",
  "random_get",
]);

/** What may be called while the module's `malloc` runs; anything else traps. */
export const CALLS_ALLOWED_IN_MALLOC: ReadonlySet<string> = new Set([
  "proxy_log",
  "fd_write",
  "clock_time_get",
]);
