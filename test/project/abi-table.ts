// The Proxy-Wasm ABI 0.2.1 as Envoy 1.36–1.40 offers it: host functions, and the exports that it looks up.
// Sources: proxy-wasm-cpp-host include/proxy-wasm/exports.h and src/wasm.cc, proxy-wasm/spec abi-versions/v0.2.1.
// A type is parameters → results, one letter each: i = i32, I = i64.

/** Module "env". Not offered for 0.2.x: clear_route_cache, continue_request, continue_response, get_configuration. */
export const HOST_FUNCTIONS: Readonly<Record<string, string>> = {
  proxy_log: "iii→i",
  proxy_get_log_level: "i→i",
  proxy_get_status: "iii→i",
  proxy_get_property: "iiii→i",
  proxy_set_property: "iiii→i",
  proxy_send_local_response: "iiiiiiii→i",
  proxy_get_shared_data: "iiiii→i",
  proxy_set_shared_data: "iiiii→i",
  proxy_register_shared_queue: "iii→i",
  proxy_resolve_shared_queue: "iiiii→i",
  proxy_dequeue_shared_queue: "iii→i",
  proxy_enqueue_shared_queue: "iii→i",
  proxy_get_header_map_value: "iiiii→i",
  proxy_add_header_map_value: "iiiii→i",
  proxy_replace_header_map_value: "iiiii→i",
  proxy_remove_header_map_value: "iii→i",
  proxy_get_header_map_pairs: "iii→i",
  proxy_set_header_map_pairs: "iii→i",
  proxy_get_header_map_size: "ii→i",
  proxy_get_buffer_status: "iii→i",
  proxy_get_buffer_bytes: "iiiii→i",
  proxy_set_buffer_bytes: "iiiii→i",
  proxy_http_call: "iiiiiiiiii→i",
  proxy_set_tick_period_milliseconds: "i→i",
  proxy_get_current_time_nanoseconds: "i→i",
  proxy_define_metric: "iiii→i",
  proxy_increment_metric: "iI→i",
  proxy_record_metric: "iI→i",
  proxy_get_metric: "ii→i",
  proxy_set_effective_context: "i→i",
  proxy_done: "→i",
  proxy_call_foreign_function: "iiiiii→i",
  proxy_continue_stream: "i→i",
  proxy_close_stream: "i→i",
};

/** Module "wasi_snapshot_preview1": the part of it that Envoy's host registers and a filter may want. */
export const WASI_FUNCTIONS: Readonly<Record<string, string>> = {
  environ_get: "ii→i",
  environ_sizes_get: "ii→i",
  fd_write: "iiii→i",
  clock_time_get: "iIi→i",
  random_get: "ii→i",
};

/** Exports that the host calls. Any other function export is dead weight; each callback costs at every event. */
export const GUEST_EXPORTS: Readonly<Record<string, string>> = {
  _initialize: "→",
  malloc: "i→i",
  proxy_on_memory_allocate: "i→i",
  proxy_abi_version_0_2_1: "→",
  proxy_on_context_create: "ii→",
  proxy_on_vm_start: "ii→i",
  proxy_on_configure: "ii→i",
  proxy_on_tick: "i→",
  proxy_on_queue_ready: "ii→",
  proxy_on_request_headers: "iii→i",
  proxy_on_request_body: "iii→i",
  proxy_on_request_trailers: "ii→i",
  proxy_on_request_metadata: "ii→i",
  proxy_on_response_headers: "iii→i",
  proxy_on_response_body: "iii→i",
  proxy_on_response_trailers: "ii→i",
  proxy_on_response_metadata: "ii→i",
  proxy_on_http_call_response: "iiiii→",
  proxy_on_foreign_function: "iii→",
  proxy_on_log: "i→",
  proxy_on_done: "i→i",
  proxy_on_delete: "i→",
};

/** Without one of each of these the host refuses the module. */
export const NEEDED_EXPORTS: readonly (readonly string[])[] = [
  ["_initialize"],
  ["malloc", "proxy_on_memory_allocate"],
  ["proxy_abi_version_0_2_1"],
];
