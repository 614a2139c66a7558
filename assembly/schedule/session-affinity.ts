// session-affinity-scorer and session-affinity-filter: a session stays on the endpoint that served it.
//
// Strategy encoded_endpoint_header: the client sends back base64("namespace/name") of its endpoint in
// x-session-token, which the response carried. Scorer: that endpoint → 1, others → 0; filter: keeps it alone.
// Strategy session_id: the client sends an id of its own (x-session-id). The endpoint is the one bound to the
// id, or, while none is, the candidate with the highest hash of (id, address). llm-d takes the one with the
// fewest sessions instead; the hash spreads as evenly and is the same on every worker and gateway, which
// share no bindings. The filter only ever narrows to a bound endpoint.
// In both, an endpoint that is no candidate, and a token that cannot be read, count as none:
// the scorer scores 0, the filter keeps all.
//
// Parameters: mode = strategy; list = u8[count] header indexes, the first that was sent counts; a =
// evictionTtl in ms (session_id), default 300,000.
// Source: llm-d-router pkg/epp/framework/plugins/scheduling/{scorer,filter}/sessionaffinity @ ebab6879.
import { rowAddressLen, rowAddressPtr, rowNameLen, rowNamePtr } from "../pool/labels";
import { hashBytes, mixPair } from "../text/hash";
import { BASE64_TEXT_BYTES_MAX, base64Decode, base64Encode, base64EncodedBytes } from "./base64";
import { candidateCount, candidateRow, candidateSet, candidatesKeep, setScore } from "./candidates";
import { INSTANCE_AT_A, INSTANCE_AT_COUNT, INSTANCE_AT_LIST, INSTANCE_AT_MODE } from "./plan";
import { requestHeaderLen, requestHeaderPtr, requestNowMs, requestSessionPresent } from "./request";
import { requestSetSessionPresent } from "./request";
import { NO_ROW, sessionBind, sessionFind, sessionKey, sessionTouch } from "./session-table";

export const STRATEGY_ENCODED_ENDPOINT: u32 = 0;
export const STRATEGY_SESSION_ID: u32 = 1;
export const EVICTION_TTL_MS_DEFAULT: f64 = 300000;

const token: usize = memory.data(384);
const encoded: usize = memory.data(512);
const SLASH: u8 = 47;

/** Scores all candidates. */
export function scoreSessionAffinity(instance: usize, pool: u32): void {
  const header = sessionHeader(instance);
  const isId = <u32>load<u8>(instance, INSTANCE_AT_MODE) == STRATEGY_SESSION_ID;
  let bound = header == NO_ROW ? NO_ROW : boundCandidate(instance, pool, header);
  if (bound == NO_ROW && isId && header != NO_ROW) bound = rendezvous(requestIdHash(header));
  for (let i: u32 = 0, count = candidateCount(); i < count; i++) setScore(i, i == bound ? 1 : 0);
}

/** Keeps the session's endpoint alone where it is a candidate, else all. */
export function filterSessionAffinity(instance: usize, pool: u32): void {
  const header = sessionHeader(instance);
  if (header == NO_ROW) return;
  const bound = boundCandidate(instance, pool, header);
  if (bound == NO_ROW) return;
  candidateSet(0, candidateRow(bound));
  candidatesKeep(1);
}

/** The request was sent to `row`: binds an unbound session, or one whose endpoint was no candidate. */
export function sessionPlaced(instance: usize, pool: u32, row: u32): void {
  if (<u32>load<u8>(instance, INSTANCE_AT_MODE) != STRATEGY_SESSION_ID) return;
  const header = sessionHeader(instance);
  if (header == NO_ROW) return;
  const key = sessionKey(pool, requestIdHash(header));
  const now = requestNowMs();
  if (requestSessionPresent()) sessionTouch(key, now);
  else sessionBind(key, row, now);
}

/** Bytes of a row's session token, 0 where its name is too long for one. */
export function sessionTokenBytes(row: u32): u32 {
  const bytes = tokenTextBytes(row);
  return bytes == 0 || bytes > BASE64_TEXT_BYTES_MAX ? 0 : base64EncodedBytes(bytes);
}

/** The token that a response carries, sessionTokenBytes(row) long; valid until the next call of this file. */
export function sessionTokenPtr(row: u32): usize {
  if (sessionTokenBytes(row) == 0) return 0;
  const bytes = rowNameLen(row);
  const slash: u32 = hasSlash(row) ? 0 : 1;
  if (slash != 0) store<u8>(token, SLASH);
  memory.copy(token + slash, rowNamePtr(row), bytes);
  base64Encode(token, bytes + slash, encoded);
  return encoded;
}

// Index of the first of the instance's headers that was sent, or NO_ROW.
function sessionHeader(instance: usize): u32 {
  const list = <usize>load<u32>(instance, INSTANCE_AT_LIST);
  for (let i: u32 = 0, count = load<u32>(instance, INSTANCE_AT_COUNT); i < count; i++) {
    const header = <u32>load<u8>(list + i);
    if (requestHeaderLen(header) > 0) return header;
  }
  return NO_ROW;
}

function requestIdHash(header: u32): u64 {
  return hashBytes(requestHeaderPtr(header), requestHeaderLen(header));
}

// Index of the candidate that the session is bound to, or NO_ROW.
function boundCandidate(instance: usize, pool: u32, header: u32): u32 {
  if (<u32>load<u8>(instance, INSTANCE_AT_MODE) == STRATEGY_ENCODED_ENDPOINT) return namedCandidate(header);
  const key = sessionKey(pool, requestIdHash(header));
  const row = sessionFind(key, requestNowMs(), load<f64>(instance, INSTANCE_AT_A));
  let found = NO_ROW;
  for (let i: u32 = 0, count = candidateCount(); i < count && row != NO_ROW; i++) {
    if (candidateRow(i) == row) found = i;
  }
  requestSetSessionPresent(found != NO_ROW);
  return found;
}

function namedCandidate(header: u32): u32 {
  const bytes = requestHeaderLen(header);
  if (bytes > base64EncodedBytes(BASE64_TEXT_BYTES_MAX)) return NO_ROW;
  const decoded = base64Decode(requestHeaderPtr(header), bytes, token);
  if (decoded <= 0) return NO_ROW;
  for (let i: u32 = 0, count = candidateCount(); i < count; i++) {
    if (isNamed(candidateRow(i), <u32>decoded)) return i;
  }
  return NO_ROW;
}

// Whether the decoded token is the row's "namespace/name"; a name without namespace stands as "/name".
function isNamed(row: u32, decoded: u32): bool {
  const bytes = rowNameLen(row);
  if (decoded == bytes) return hasSlash(row) && memory.compare(token, rowNamePtr(row), bytes) == 0;
  if (decoded != bytes + 1 || load<u8>(token) != SLASH || hasSlash(row)) return false;
  return memory.compare(token + 1, rowNamePtr(row), bytes) == 0;
}

function hasSlash(row: u32): bool {
  const name = rowNamePtr(row);
  for (let i: u32 = 0, bytes = rowNameLen(row); i < bytes; i++) if (load<u8>(name + i) == SLASH) return true;
  return false;
}

function tokenTextBytes(row: u32): u32 {
  const bytes = rowNameLen(row);
  return bytes == 0 ? 0 : hasSlash(row) ? bytes : bytes + 1;
}

// Rendezvous hashing (Thaler and Ravishankar 1998): the candidate with the highest hash of (id, address).
function rendezvous(idHash: u64): u32 {
  let best = NO_ROW;
  let highest: u64 = 0;
  for (let i: u32 = 0, count = candidateCount(); i < count; i++) {
    const row = candidateRow(i);
    const weight = mixPair(idHash, hashBytes(rowAddressPtr(row), rowAddressLen(row)));
    if (best != NO_ROW && weight <= highest) continue;
    best = i;
    highest = weight;
  }
  return best;
}
