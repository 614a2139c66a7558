// One walk over a request's headers: what the decision needs of them, and the removal of those that only we may set.
import { MAP_REQUEST_HEADERS } from "../abi/constants";
import { removeHeader } from "../abi/host";
import {
  headerName,
  headerNameBytes,
  headerValue,
  headerValueBytes,
  headersBegin,
  headersNext,
} from "../abi/headers";
import { textEquals } from "../text/text";
import {
  H_CONTENT_LENGTH,
  H_DATA_PARALLEL,
  H_DESTINATION,
  H_ENCODERS,
  H_EXPLAIN,
  H_FAIRNESS,
  H_FAIRNESS_ALIAS,
  H_HEDGE,
  H_KV_SOURCE,
  H_MAX_RETRIES,
  H_METHOD,
  H_MODEL_REWRITE,
  H_MODEL_REWRITE_ALIAS,
  H_OBJECTIVE,
  H_OBJECTIVE_ALIAS,
  H_PATH,
  H_PREFER,
  H_PREFILLER,
  H_RETRY_GRPC_ON,
  H_RETRY_HEADER_NAMES,
  H_RETRY_ON,
  H_RETRY_STATUS_CODES,
  H_SESSION_1,
  H_SESSION_2,
  H_SESSION_3,
  H_SESSION_4,
  H_SESSION_5,
  H_TPOT_SLO,
  H_TPOT_SLO_ALIAS,
  H_TTFT_SLO,
  H_TTFT_SLO_ALIAS,
  V_POST,
} from "./names";

/** Length of a body whose length no header tells. */
export const UNKNOWN_LENGTH: u32 = 0xffffffff;

let path: usize = 0;
let pathBytes: u32 = 0;
let isPost: bool = false;
let contentLength: u32 = UNKNOWN_LENGTH;
let prefersAvailable: bool = false;

/** Whether the request prefers no answer to one whose prompt is not cached at all. */
export function requestPrefersAvailable(): bool {
  return prefersAvailable;
}

/** The path of the request at hand, with its query, as long as requestPathBytes() says. */
export function requestPath(): usize {
  return path;
}
export function requestPathBytes(): u32 {
  return pathBytes;
}
export function requestIsPost(): bool {
  return isPost;
}
/** The body's length by content-length; UNKNOWN_LENGTH. */
export function requestContentLength(): u32 {
  return contentLength;
}

// Headers whose values are noted: { u32 ptr, u32 bytes } each. Of a header and its alias the header counts, and of
// several session headers the first in this order; so does llm-d.
export const NOTED_OBJECTIVE: u32 = 0;
export const NOTED_OBJECTIVE_ALIAS: u32 = 1;
export const NOTED_MODEL: u32 = 2;
export const NOTED_MODEL_ALIAS: u32 = 3;
export const NOTED_SESSION: u32 = 4;
const NOTED_SESSION_END: u32 = 9;
export const NOTED_FAIRNESS: u32 = 9;
export const NOTED_FAIRNESS_ALIAS: u32 = 10;
export const NOTED_TTFT_SLO: u32 = 11;
export const NOTED_TTFT_SLO_ALIAS: u32 = 12;
export const NOTED_TPOT_SLO: u32 = 13;
export const NOTED_TPOT_SLO_ALIAS: u32 = 14;
export const NOTED_EXPLAIN: u32 = 15;
const NOTED: u32 = 16;
const notedNames: usize = memory.data(16 * 4, 4);
store<u32>(notedNames, <u32>H_OBJECTIVE, 0);
store<u32>(notedNames, <u32>H_OBJECTIVE_ALIAS, 4);
store<u32>(notedNames, <u32>H_MODEL_REWRITE, 8);
store<u32>(notedNames, <u32>H_MODEL_REWRITE_ALIAS, 12);
store<u32>(notedNames, <u32>H_SESSION_1, 16);
store<u32>(notedNames, <u32>H_SESSION_2, 20);
store<u32>(notedNames, <u32>H_SESSION_3, 24);
store<u32>(notedNames, <u32>H_SESSION_4, 28);
store<u32>(notedNames, <u32>H_SESSION_5, 32);
store<u32>(notedNames, <u32>H_FAIRNESS, 36);
store<u32>(notedNames, <u32>H_FAIRNESS_ALIAS, 40);
store<u32>(notedNames, <u32>H_TTFT_SLO, 44);
store<u32>(notedNames, <u32>H_TTFT_SLO_ALIAS, 48);
store<u32>(notedNames, <u32>H_TPOT_SLO, 52);
store<u32>(notedNames, <u32>H_TPOT_SLO_ALIAS, 56);
store<u32>(notedNames, <u32>H_EXPLAIN, 60);
const noted: usize = memory.data(16 * 8, 4);

/** The noted value of `first`, else of the next ones up to `last`; notedBytes() 0 = none. Good until the callback ends. */
export function notedValue(first: u32, last: u32): bool {
  for (let i = first; i <= last; i++) {
    found = noted + ((<usize>i) << 3);
    if (load<u32>(found, 4) != 0) return true;
  }
  return false;
}
let found: usize = noted;

/** The session's id, if the client gave one. */
export function notedSession(): bool {
  return notedValue(NOTED_SESSION, NOTED_SESSION_END - 1);
}
export function notedPtr(): usize {
  return <usize>load<u32>(found);
}
export function notedBytes(): u32 {
  return load<u32>(found, 4);
}

/** Reads the header pairs at `ptr`, and removes the headers by which a client would steer. */
export function walkHeaders(ptr: usize, bytes: u32): void {
  path = 0;
  pathBytes = 0;
  isPost = false;
  contentLength = UNKNOWN_LENGTH;
  prefersAvailable = false;
  memory.fill(noted, 0, NOTED * 8);
  let removals: u32 = 0;
  headersBegin(ptr, bytes);
  while (headersNext()) {
    const name = headerName();
    const nameBytes = headerNameBytes();
    const first = load<u8>(name);
    if (first == 58) {
      if (textEquals(H_PATH, name, nameBytes)) {
        path = headerValue();
        pathBytes = headerValueBytes();
      } else if (textEquals(H_METHOD, name, nameBytes)) {
        isPost = textEquals(V_POST, headerValue(), headerValueBytes());
      }
    } else if (first == 99) {
      if (textEquals(H_CONTENT_LENGTH, name, nameBytes))
        contentLength = parseLength(headerValue(), headerValueBytes());
    } else if (first == 112) {
      if (textEquals(H_PREFER, name, nameBytes)) notePreference(headerValue(), headerValueBytes());
    } else if (first == 120 || first == 115) {
      note(name, nameBytes);
      removals |= steering(name, nameBytes);
    }
  }
  if (removals != 0) removeSteering(removals);
}

// A list of preferences, each with parameters behind a semicolon; names in any case.
function notePreference(ptr: usize, bytes: u32): void {
  let at: u32 = 0;
  while (at < bytes) {
    let end = at;
    while (end < bytes && load<u8>(ptr + end) != 44) end++;
    if (isIfAvailable(ptr + at, end - at)) prefersAvailable = true;
    at = end + 1;
  }
}

const IF_AVAILABLE = "if-available";

function isIfAvailable(ptr: usize, bytes: u32): bool {
  while (bytes > 0 && load<u8>(ptr) == 32) {
    ptr++;
    bytes--;
  }
  let end: u32 = 0;
  while (end < bytes && load<u8>(ptr + end) != 59) end++;
  while (end > 0 && load<u8>(ptr + end - 1) == 32) end--;
  if (end != <u32>IF_AVAILABLE.length) return false;
  const chars = changetype<usize>(IF_AVAILABLE);
  for (let i: usize = 0; i < end; i++) {
    const byte = <u32>load<u8>(ptr + i);
    const lower = byte - 65 < 26 ? byte + 32 : byte;
    if (lower != <u32>load<u16>(chars + (i << 1))) return false;
  }
  return true;
}

function note(name: usize, bytes: u32): void {
  for (let i: usize = 0; i < NOTED; i++) {
    if (!textEquals(load<u32>(notedNames + (i << 2)), name, bytes)) continue;
    // Of several with one name the first counts, as everywhere in the host.
    if (load<u32>(noted + (i << 3), 4) != 0) return;
    store<u32>(noted + (i << 3), <u32>headerValue());
    store<u32>(noted + (i << 3), headerValueBytes(), 4);
    return;
  }
}

// A bit for each steering header, those that a decision replaces too: a request may remain undecided.
const STEERING: u32 = 14;
const steeringNames: usize = memory.data(14 * 4, 4);
store<u32>(steeringNames, <u32>H_DESTINATION, 0);
store<u32>(steeringNames, <u32>H_PREFILLER, 4);
store<u32>(steeringNames, <u32>H_ENCODERS, 8);
store<u32>(steeringNames, <u32>H_DATA_PARALLEL, 12);
store<u32>(steeringNames, <u32>H_KV_SOURCE, 16);
store<u32>(steeringNames, <u32>H_MODEL_REWRITE, 20);
store<u32>(steeringNames, <u32>H_MODEL_REWRITE_ALIAS, 24);
store<u32>(steeringNames, <u32>H_RETRY_GRPC_ON, 28);
store<u32>(steeringNames, <u32>H_RETRY_STATUS_CODES, 32);
store<u32>(steeringNames, <u32>H_RETRY_HEADER_NAMES, 36);
store<u32>(steeringNames, <u32>H_RETRY_ON, 40);
store<u32>(steeringNames, <u32>H_MAX_RETRIES, 44);
store<u32>(steeringNames, <u32>H_EXPLAIN, 48);
store<u32>(steeringNames, <u32>H_HEDGE, 52);

function steering(name: usize, bytes: u32): u32 {
  for (let i: u32 = 0; i < STEERING; i++) {
    if (textEquals(load<u32>(steeringNames + ((<usize>i) << 2)), name, bytes)) return 1 << i;
  }
  return 0;
}

function removeSteering(removals: u32): void {
  for (let i: u32 = 0; i < STEERING; i++) {
    if (removals & (1 << i)) removeHeader(MAP_REQUEST_HEADERS, load<u32>(steeringNames + ((<usize>i) << 2)));
  }
}

// Saturates, so that a longer number is too large and not unknown.
function parseLength(ptr: usize, bytes: u32): u32 {
  let value: u64 = 0;
  for (let i: u32 = 0; i < bytes; i++) {
    const digit = <u32>load<u8>(ptr + i) - 48;
    if (digit > 9) return UNKNOWN_LENGTH;
    value = min<u64>(value * 10 + digit, 0xfffffffe);
  }
  return bytes == 0 ? UNKNOWN_LENGTH : <u32>value;
}
