// Numbers of the Proxy-Wasm ABI 0.2.1 (proxy-wasm/spec, abi-versions/v0.2.1; proxy-wasm-cpp-host include/proxy-wasm/wasm_vm.h).

export const STATUS_OK: u32 = 0;
export const STATUS_NOT_FOUND: u32 = 1;

/** Go on with the next filter. */
export const ACTION_CONTINUE: u32 = 0;
/** Hold the stream here; on a body callback, buffer the chunk. */
export const ACTION_PAUSE: u32 = 1;

export const MAP_REQUEST_HEADERS: u32 = 0;
export const MAP_RESPONSE_HEADERS: u32 = 2;
/** Of the answer to a call of ours. */
export const MAP_CALL_HEADERS: u32 = 6;

export const BUFFER_REQUEST_BODY: u32 = 0;
export const BUFFER_RESPONSE_BODY: u32 = 1;
/** Of the answer to a call of ours. */
export const BUFFER_CALL_BODY: u32 = 4;
export const BUFFER_PLUGIN_CONFIGURATION: u32 = 7;

/** A ticket that no stored value has (the host counts from 1): it creates an absent key, for one caller only. */
export const CAS_CREATE: u32 = 0xffffffff;

export const STREAM_REQUEST: u32 = 0;

export const METRIC_COUNTER: i32 = 0;
export const METRIC_GAUGE: i32 = 1;
export const METRIC_HISTOGRAM: i32 = 2;

export const LOG_INFO: u32 = 2;
export const LOG_WARN: u32 = 3;
export const LOG_ERROR: u32 = 4;
