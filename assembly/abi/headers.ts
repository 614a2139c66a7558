// Walks the host's encoding of a header map: u32 count, (u32 name bytes, u32 value bytes) × count, then name\0value\0 ….
// Source: proxy-wasm-cpp-host src/pairs_util.cc. Names are lower case.

/** Headers looked at in one map; the host's own limit is 1,024. */
export const HEADERS_MAX: u32 = 1024;

let pairs: usize = 0;
let count: u32 = 0;
let index: u32 = 0;
let at: usize = 0;
let nameStart: usize = 0;
let nameLength: u32 = 0;
let valueLength: u32 = 0;

/** Starts over the pairs at `ptr`. */
export function headersBegin(ptr: usize, bytes: u32): void {
  pairs = ptr;
  index = 0;
  count = bytes < 4 ? 0 : load<u32>(ptr);
  if (count > HEADERS_MAX || <u64>count * 8 + 4 > <u64>bytes) count = 0;
  at = ptr + 4 + ((<usize>count) << 3);
}

/** Steps to the next header; false when there is none. */
export function headersNext(): bool {
  if (index >= count) return false;
  const sizes = pairs + 4 + ((<usize>index) << 3);
  nameLength = load<u32>(sizes);
  valueLength = load<u32>(sizes, 4);
  nameStart = at;
  at += <usize>nameLength + <usize>valueLength + 2;
  index++;
  return true;
}

export function headerName(): usize {
  return nameStart;
}

export function headerNameBytes(): u32 {
  return nameLength;
}

export function headerValue(): usize {
  return nameStart + nameLength + 1;
}

export function headerValueBytes(): u32 {
  return valueLength;
}

// The other direction: a small list of headers for a local reply.
const REPLY_HEADERS_MAX: u32 = 8;
const REPLY_BYTES: u32 = 1024;
const replyNames: usize = memory.data(8 * 16, 8);
const replyPairs: usize = memory.data(1024, 8);
let replyCount: u32 = 0;
let replyBytes: u32 = 0;

/** Starts a list of reply headers; at most 8, 1 KiB in all, the rest is left out. */
export function replyHeadersBegin(): void {
  replyCount = 0;
}

/** Adds one; the bytes must stay until replyHeadersEnd. */
export function replyHeader(name: usize, nameBytes: u32, value: usize, valueBytes: u32): void {
  if (replyCount >= REPLY_HEADERS_MAX) return;
  const entry = replyNames + ((<usize>replyCount) << 4);
  store<u32>(entry, <u32>name);
  store<u32>(entry, nameBytes, 4);
  store<u32>(entry, <u32>value, 8);
  store<u32>(entry, valueBytes, 12);
  replyCount++;
}

/** Encodes the list; returns its address, replyHeadersBytes() its length. */
export function replyHeadersEnd(): usize {
  replyBytes = encodePairs(replyNames, replyCount, replyPairs, REPLY_BYTES);
  return replyPairs;
}

export function replyHeadersBytes(): u32 {
  return replyBytes;
}

/**
 * Writes `count` headers, each { u32 name, u32 bytes, u32 value, u32 bytes } in `list`, to `pairs` in the host's
 * encoding; what does not fit into `bytesMax` bytes is left out. Returns the length.
 */
export function encodePairs(list: usize, count: u32, pairs: usize, bytesMax: u32): u32 {
  let need: u32 = 4;
  let fit: u32 = 0;
  for (; fit < count; fit++) {
    const entry = list + ((<usize>fit) << 4);
    const more = 10 + load<u32>(entry, 4) + load<u32>(entry, 12);
    if (need + more > bytesMax) break;
    need += more;
  }
  store<u32>(pairs, fit);
  let target = pairs + 4 + ((<usize>fit) << 3);
  for (let i: u32 = 0; i < fit; i++) {
    const entry = list + ((<usize>i) << 4);
    store<u32>(pairs + 4 + ((<usize>i) << 3), load<u32>(entry, 4));
    store<u32>(pairs + 8 + ((<usize>i) << 3), load<u32>(entry, 12));
    target = putText(target, load<u32>(entry), load<u32>(entry, 4));
    target = putText(target, load<u32>(entry, 8), load<u32>(entry, 12));
  }
  return need;
}

function putText(target: usize, ptr: usize, bytes: u32): usize {
  memory.copy(target, ptr, bytes);
  store<u8>(target + bytes, 0);
  return target + bytes + 1;
}
