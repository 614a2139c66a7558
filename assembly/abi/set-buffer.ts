// The one host function that @solo-io/proxy-runtime 0.1.8 declares under a name that no host has.

// @ts-ignore: decorator
@external("env", "proxy_set_buffer_bytes")
declare function proxy_set_buffer_bytes(kind: u32, start: u32, bytes: u32, ptr: usize, size: u32): u32;

/**
 * Takes `bytes` bytes off a buffer's beginning and puts the `size` bytes at `ptr` there. Returns STATUS_OK. The host can
 * otherwise only append (Envoy source/extensions/common/wasm/context.cc, Buffer::copyFrom).
 */
export function setBufferStart(kind: u32, bytes: u32, ptr: usize, size: u32): u32 {
  return proxy_set_buffer_bytes(kind, 0, bytes, ptr, size);
}

/** A start behind every buffer's end. */
const BEHIND: u32 = 0x7fffffff;

/** Appends the `size` bytes at `ptr` to a buffer. */
export function addToBuffer(kind: u32, ptr: usize, size: u32): u32 {
  return proxy_set_buffer_bytes(kind, BEHIND, 0, ptr, size);
}
