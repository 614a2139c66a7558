// The arena that the host writes its answers into: a bump pointer, reset at the start of every callback.
//
// Every host call that returns a value makes the host call proxy_on_memory_allocate and copy the value
// there (proxy-wasm-cpp-host src/exports.cc, WasmBase::copyToPointerSize); it never frees. Values are
// good until the callback ends, or until inboxReset to an earlier mark.

/** Bytes of the arena. An answer that does not fit fails the host call with InvalidMemoryAccess (6). */
export const INBOX_BYTES: usize = 1310720;

const arena: usize = memory.data(1310720, 16);
let used: usize = 0;

/** Where the host puts the next value of `bytes` bytes; 0 = no room, which fails the host call. */
export function inboxAllocate(bytes: usize): usize {
  const aligned = (bytes + 7) & ~7;
  if (bytes > INBOX_BYTES || aligned > INBOX_BYTES - used) return 0;
  const ptr = arena + used;
  used += aligned;
  return ptr;
}

/** The present fill, to be given to inboxReset once the values read since are no longer needed. */
export function inboxMark(): usize {
  return used;
}

/** Forgets all values read since `mark`; 0 = all of them, at the start of a callback. */
export function inboxReset(mark: usize = 0): void {
  used = mark;
}
