// Typed host calls. Values that the host returns lie in the inbox and are good until the callback ends.
import {
  proxy_close_stream,
  proxy_continue_stream,
  proxy_define_metric,
  proxy_get_buffer_bytes,
  proxy_get_current_time_nanoseconds,
  proxy_get_header_map_pairs,
  proxy_get_header_map_value,
  proxy_get_property,
  proxy_get_shared_data,
  proxy_increment_metric,
  proxy_log,
  proxy_record_metric,
  proxy_remove_header_map_value,
  proxy_replace_header_map_value,
  proxy_send_local_response,
  proxy_set_effective_context,
  proxy_set_property,
  proxy_set_shared_data,
  proxy_set_tick_period_milliseconds,
} from "@solo-io/proxy-runtime/assembly/imports";
import { STATUS_OK } from "./constants";
import { textBytes } from "../text/text";

// Out-parameters of all calls: pointer, length, cas, 64-bit value.
const out: usize = memory.data(24, 8);
const OUT_BYTES: usize = 4;
const OUT_CAS: usize = 8;
const OUT_U64: usize = 16;

/** Address of the value that the last value-returning call brought. */
export function valuePtr(): usize {
  return load<u32>(out);
}

/** Its length in bytes. */
export function valueBytes(): u32 {
  return load<u32>(out, OUT_BYTES);
}

/** The compare-and-set ticket of the last sharedGet. */
export function valueCas(): u32 {
  return load<u32>(out, OUT_CAS);
}

function clearOut(): void {
  store<u64>(out, 0);
}

export function log(level: u32, ptr: usize, bytes: u32): void {
  proxy_log(level, ptr, bytes);
}

/** Wall clock in nanoseconds; the same for all workers. */
export function nowNs(): u64 {
  proxy_get_current_time_nanoseconds(out + OUT_U64);
  return load<u64>(out, OUT_U64);
}

/** A property by its NUL-separated path (a Text). Returns STATUS_OK or STATUS_NOT_FOUND. */
export function property(path: usize): u32 {
  clearOut();
  return proxy_get_property(path, textBytes(path), out, out + OUT_BYTES);
}

/** An integer property (8 bytes LE); `otherwise` when it is absent or of another size. */
export function propertyU64(path: usize, otherwise: u64): u64 {
  if (property(path) != STATUS_OK || valueBytes() != 8) return otherwise;
  return load<u64>(valuePtr());
}

/** Filter state `wasm.<name>`, readable in access logs as %FILTER_STATE(wasm.<name>:PLAIN)%. */
export function setFilterState(name: usize, ptr: usize, bytes: u32): u32 {
  return proxy_set_property(name, textBytes(name), ptr, bytes);
}

/** All headers of a map in one call, in the host's pairs encoding (see headers.ts). */
export function headerPairs(map: u32): u32 {
  clearOut();
  return proxy_get_header_map_pairs(map, out, out + OUT_BYTES);
}

/** The first value of one header. */
export function header(map: u32, name: usize): u32 {
  clearOut();
  return proxy_get_header_map_value(map, name, textBytes(name), out, out + OUT_BYTES);
}

export function replaceHeader(map: u32, name: usize, ptr: usize, bytes: u32): u32 {
  return proxy_replace_header_map_value(map, name, textBytes(name), ptr, bytes);
}

export function removeHeader(map: u32, name: usize): u32 {
  return proxy_remove_header_map_value(map, name, textBytes(name));
}

/** Bytes [start, start + bytes) of a buffer, clipped to what is there. */
export function buffer(kind: u32, start: u32, bytes: u32): u32 {
  clearOut();
  return proxy_get_buffer_bytes(kind, start, bytes, out, out + OUT_BYTES);
}

/** Shared data of this vm_id. Returns STATUS_OK or STATUS_NOT_FOUND; valueCas() is the ticket. */
export function sharedGet(key: usize, keyBytes: u32): u32 {
  clearOut();
  return proxy_get_shared_data(key, keyBytes, out, out + OUT_BYTES, out + OUT_CAS);
}

/** Writes shared data; a non-zero `cas` must still be the key's ticket, and creates an absent key for one caller only. */
export function sharedSet(key: usize, keyBytes: u32, ptr: usize, bytes: u32, cas: u32 = 0): u32 {
  return proxy_set_shared_data(key, keyBytes, ptr, bytes, cas);
}

export function defineMetric(kind: i32, ptr: usize, bytes: u32): u32 {
  proxy_define_metric(kind, ptr, bytes, out + OUT_U64);
  return load<u32>(out, OUT_U64);
}

/** Adds to a counter; nothing to add is not a call (the host refuses increments of zero). */
export function incrementMetric(id: u32, by: u32): void {
  if (by != 0) proxy_increment_metric(id, by);
}

export function recordMetric(id: u32, value: u64): void {
  proxy_record_metric(id, value);
}

/** Answers the client from here. `pairs` is in the host's pairs encoding. */
export function sendLocalResponse(
  status: u32,
  details: usize,
  body: usize,
  bodyBytes: u32,
  pairs: usize,
  pairsBytes: u32,
): u32 {
  return proxy_send_local_response(
    status,
    details,
    textBytes(details),
    body,
    bodyBytes,
    pairs,
    pairsBytes,
    -1,
  );
}

export function setEffectiveContext(context: u32): u32 {
  return proxy_set_effective_context(context);
}

export function continueStream(stream: u32): u32 {
  return proxy_continue_stream(stream);
}

/** Ends the stream at hand towards the client without a word. */
export function closeStream(stream: u32): u32 {
  return proxy_close_stream(stream);
}

export function setTickMs(ms: u32): void {
  proxy_set_tick_period_milliseconds(ms);
}
