// The module's exports: what a Proxy-Wasm host calls. Each resets the inbox and hands over to filter/.
// asconfig.json's "use" looks for abortModule among what is compiled.
import "./abi/abort";
import { ACTION_CONTINUE } from "./abi/constants";
import { inboxAllocate, inboxReset } from "./abi/inbox";
import {
  configure,
  contextCreate,
  contextDelete,
  onCallReply,
  onRequestBody,
  onRequestHeaders,
  onRequestTrailers,
  onResponseBody,
  onResponseHeaders,
  onTick,
  streamOver,
  vmStart,
} from "./filter/lifecycle";

export function proxy_abi_version_0_2_1(): void {}

export function proxy_on_memory_allocate(bytes: usize): usize {
  return inboxAllocate(bytes);
}

export function proxy_on_vm_start(context: u32, _bytes: u32): u32 {
  inboxReset();
  return vmStart(context) ? 1 : 0;
}

export function proxy_on_configure(context: u32, bytes: u32): u32 {
  inboxReset();
  return configure(context, bytes) ? 1 : 0;
}

export function proxy_on_context_create(context: u32, parent: u32): void {
  inboxReset();
  contextCreate(context, parent);
}

export function proxy_on_request_headers(context: u32, _headers: u32, endOfStream: u32): u32 {
  inboxReset();
  return onRequestHeaders(context, endOfStream != 0);
}

export function proxy_on_request_body(context: u32, bytes: u32, endOfStream: u32): u32 {
  inboxReset();
  return onRequestBody(context, bytes, endOfStream != 0);
}

export function proxy_on_request_trailers(context: u32, _trailers: u32): u32 {
  inboxReset();
  return onRequestTrailers(context);
}

export function proxy_on_response_headers(context: u32, _headers: u32, _endOfStream: u32): u32 {
  inboxReset();
  onResponseHeaders(context);
  return ACTION_CONTINUE;
}

export function proxy_on_response_body(context: u32, bytes: u32, endOfStream: u32): u32 {
  inboxReset();
  onResponseBody(context, bytes, endOfStream != 0);
  return ACTION_CONTINUE;
}

export function proxy_on_http_call_response(
  context: u32,
  token: u32,
  _headers: u32,
  bytes: u32,
  _trailers: u32,
): void {
  inboxReset();
  onCallReply(context, token, bytes);
}

export function proxy_on_tick(context: u32): void {
  inboxReset();
  onTick(context);
}

export function proxy_on_log(context: u32): void {
  inboxReset();
  streamOver(context);
}

export function proxy_on_delete(context: u32): void {
  inboxReset();
  contextDelete(context);
}
