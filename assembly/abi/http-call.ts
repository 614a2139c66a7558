// Calls that the filter makes itself: proxy_http_call with a list of headers in the host's pairs encoding.
//
// The answer comes to the root context (proxy_on_http_call_response). A call that is out cannot be cancelled.
import { proxy_http_call } from "@solo-io/proxy-runtime/assembly/imports";
import { STATUS_OK } from "./constants";
import { encodePairs } from "./headers";

/** Headers of one call; further ones are left out. */
const HEADERS_MAX: u32 = 128;
/** Bytes of their encoding; headers beyond are left out. Envoy's own limit for a request's headers is 60 KiB. */
const PAIRS_BYTES: u32 = 65536;
const entries: usize = memory.data(128 * 16, 8);
const pairs: usize = memory.data(65536, 8);
const noPairs: usize = memory.data(4, 4);
const token: usize = memory.data(4, 4);
let count: u32 = 0;

/** Starts the headers of a call. */
export function callHeadersBegin(): void {
  count = 0;
}

/** Adds one; the bytes must stay until httpCall(). */
export function callHeader(name: usize, nameBytes: u32, value: usize, valueBytes: u32): void {
  if (count >= HEADERS_MAX) return;
  const entry = entries + ((<usize>count) << 4);
  store<u32>(entry, <u32>name);
  store<u32>(entry, nameBytes, 4);
  store<u32>(entry, <u32>value, 8);
  store<u32>(entry, valueBytes, 12);
  count++;
}

/** The call's number, above 0, as callNumber() tells it with the answer; 0 = the host does not make it. */
export function httpCall(
  cluster: usize,
  clusterBytes: u32,
  body: usize,
  bodyBytes: u32,
  timeoutMs: u32,
): u32 {
  const bytes = encodePairs(entries, count, pairs, PAIRS_BYTES);
  store<u32>(noPairs, 0);
  const status = proxy_http_call(
    cluster,
    clusterBytes,
    pairs,
    bytes,
    body,
    bodyBytes,
    noPairs,
    4,
    timeoutMs,
    token,
  );
  return status == STATUS_OK ? callNumber(load<u32>(token)) : 0;
}

/** The number of the call with this token: hosts may count from 0. */
export function callNumber(hostToken: u32): u32 {
  return hostToken + 1;
}
