// The request that the filter sends to a prefill endpoint: the client's own headers and body, edited.
//
// A call passes no route, so what that makes of the path (a prefix taken off, as a Gateway API's URLRewrite has it) is not
// done to it: it goes to the path at which engines serve the API.
import { BUFFER_REQUEST_BODY, MAP_REQUEST_HEADERS, STATUS_OK } from "../abi/constants";
import {
  headerName,
  headerNameBytes,
  headerValue,
  headerValueBytes,
  headersBegin,
  headersNext,
} from "../abi/headers";
import { buffer, headerPairs, nowNs, property, replaceHeader, valueBytes, valuePtr } from "../abi/host";
import { callHeader, callHeadersBegin, httpCall } from "../abi/http-call";
import { inboxAllocate } from "../abi/inbox";
import { setBufferStart } from "../abi/set-buffer";
import { rowAddressLen, rowAddressPtr } from "../pool/labels";
import { apiPath } from "../prompt/api";
import {
  PREFILL_ROOM,
  bodyOpen,
  bootstrapPrefixBytes,
  canBeSplit,
  editBootstrap,
  editPrefill,
  prefillBytes,
  prefillPtr,
} from "../prompt/prefill-edit";
import { promptListFrom, promptListTo } from "../prompt/record";
import { configBootstrapPort, configDataParallel, configPrefillCluster } from "../schema/stage-settings";
import { avalanche } from "../text/hash";
import {
  ascii,
  textBytes,
  textEquals,
  textStarts,
  writeBegin,
  writeByte,
  writeLength,
  writeU64,
} from "../text/text";
import { LEG_BODY_BYTES, LEG_BODY_OPEN, legOf, legRow } from "./legs";
import { H_CONTENT_LENGTH, H_DATA_PARALLEL, H_DESTINATION, H_PATH, H_REQUEST_ID, P_CLUSTER } from "./names";
import { hostBytes, writeHost } from "./stages";
import { F_REWRITTEN, S_API, S_CONTENT_LENGTH, hasFlag, streamPrompt } from "./streams";
import { ownCell } from "./worker";
import { UNKNOWN_LENGTH } from "./request-headers";

/** Bytes asked of a body that is held: no body is longer. */
const BODY_BYTES_MAX: u32 = 1048576;

// Headers that do not go to the prefill endpoint: of the connection, of lengths, of Envoy, of the decode endpoint, those
// that are written anew, and what would have the answer compressed.
const LEFT_OUT: u32 = 13;
const leftOut: usize = memory.data(13 * 4, 4);
store<u32>(leftOut, <u32>H_CONTENT_LENGTH, 0);
store<u32>(leftOut, <u32>ascii("transfer-encoding"), 4);
store<u32>(leftOut, <u32>ascii("connection"), 8);
store<u32>(leftOut, <u32>ascii("expect"), 12);
store<u32>(leftOut, <u32>ascii("te"), 16);
store<u32>(leftOut, <u32>ascii("trailer"), 20);
store<u32>(leftOut, <u32>ascii("upgrade"), 24);
store<u32>(leftOut, <u32>ascii("keep-alive"), 28);
store<u32>(leftOut, <u32>ascii("accept-encoding"), 32);
store<u32>(leftOut, <u32>H_DESTINATION, 36);
store<u32>(leftOut, <u32>H_REQUEST_ID, 40);
store<u32>(leftOut, <u32>H_DATA_PARALLEL, 44);
store<u32>(leftOut, <u32>H_PATH, 48);
const ENVOY_PREFIX = ascii("x-envoy-");

let body: usize = 0;
let bodyBytes: u32 = 0;
let listFrom: u32 = 0;
let listTo: u32 = 0;

/**
 * Reads the held body, with room for edits in front of it. False: it is not there whole, or what it asks for cannot be
 * computed in two places.
 */
export function readBody(stream: usize): bool {
  const room = inboxAllocate(PREFILL_ROOM);
  if (room == 0 || buffer(BUFFER_REQUEST_BODY, 0, BODY_BYTES_MAX) != STATUS_OK) return false;
  body = valuePtr();
  bodyBytes = valueBytes();
  // Behind an exchanged model all stands elsewhere than where it was read.
  const isAsRead = !hasFlag(stream, F_REWRITTEN);
  listFrom = promptListFrom(streamPrompt(stream));
  listTo = isAsRead ? promptListTo(streamPrompt(stream)) : 0;
  return body == room + PREFILL_ROOM && canBeSplit(body, bodyBytes, listFrom, listTo);
}

/** Sends the read body to the stream's leg as NIXL's prefill. Returns the call's number; 0 = it could not be made. */
export function sendNixl(stream: usize, config: u32, timeoutMs: u32): u32 {
  store<u32>(legOf(stream), bodyOpen(body, bodyBytes), LEG_BODY_OPEN);
  if (!editPrefill(body, bodyBytes, listFrom, listTo)) return 0;
  return send(stream, config, timeoutMs);
}

/**
 * Sends the read body with a meeting place to the stream's leg, and puts the place into the held body too. Returns the
 * call's number; 0 = it could not be made, and the held body is as it was.
 */
export function sendSglang(stream: usize, config: u32, timeoutMs: u32, room: u64): u32 {
  const row = legRow(stream);
  const open = bodyOpen(body, bodyBytes);
  const host = rowAddressPtr(row);
  if (!editBootstrap(body, bodyBytes, host, hostBytes(row), configBootstrapPort(config), room)) return 0;
  const call = send(stream, config, timeoutMs);
  if (call != 0) putInFront(stream, open, prefillPtr(), bootstrapPrefixBytes());
  return call;
}

const lengthText: usize = memory.data(24);

/** Replaces the held body's first `open` bytes, up to its opening brace, by `bytes` bytes at `ptr`; sets its length anew. */
export function putInFront(stream: usize, open: u32, ptr: usize, bytes: u32): bool {
  if (setBufferStart(BUFFER_REQUEST_BODY, open, ptr, bytes) != STATUS_OK) return false;
  if (load<u32>(stream, S_CONTENT_LENGTH) == UNKNOWN_LENGTH) return true;
  writeBegin(lengthText, 24);
  writeU64(<u64>load<u32>(legOf(stream), LEG_BODY_BYTES) + <u64>bytes - <u64>open);
  replaceHeader(MAP_REQUEST_HEADERS, H_CONTENT_LENGTH, lengthText, writeLength());
  return true;
}

const hostText: usize = memory.data(128);

function send(stream: usize, config: u32, timeoutMs: u32): u32 {
  store<u32>(legOf(stream), bodyBytes, LEG_BODY_BYTES);
  if (headerPairs(MAP_REQUEST_HEADERS) != STATUS_OK) return 0;
  const row = legRow(stream);
  callHeadersBegin();
  writeBegin(hostText, 128);
  writeHost(row, config);
  callHeader(H_DESTINATION, textBytes(H_DESTINATION), hostText, writeLength());
  const path = apiPath(load<u32>(stream, S_API));
  callHeader(H_PATH, textBytes(H_PATH), path, textBytes(path));
  if (configDataParallel(config))
    callHeader(H_DATA_PARALLEL, textBytes(H_DATA_PARALLEL), rowAddressPtr(row), rowAddressLen(row));
  copyHeaders(valuePtr(), valueBytes());
  const cluster = configPrefillCluster(config);
  if (cluster != 0) return httpCall(cluster, textBytes(cluster), prefillPtr(), prefillBytes(), timeoutMs);
  if (property(P_CLUSTER) != STATUS_OK) return 0;
  return httpCall(valuePtr(), valueBytes(), prefillPtr(), prefillBytes(), timeoutMs);
}

// Both legs carry the same request id; a request without one gets one.
function copyHeaders(ptr: usize, bytes: u32): void {
  let id: usize = 0;
  let idBytes: u32 = 0;
  headersBegin(ptr, bytes);
  while (headersNext()) {
    if (id == 0 && textEquals(H_REQUEST_ID, headerName(), headerNameBytes())) {
      id = headerValue();
      idBytes = headerValueBytes();
    }
    if (isLeftOut(headerName(), headerNameBytes())) continue;
    callHeader(headerName(), headerNameBytes(), headerValue(), headerValueBytes());
  }
  if (idBytes == 0) {
    id = makeId();
    idBytes = ID_BYTES;
    replaceHeader(MAP_REQUEST_HEADERS, H_REQUEST_ID, id, idBytes);
  }
  callHeader(H_REQUEST_ID, textBytes(H_REQUEST_ID), id, idBytes);
}

function isLeftOut(name: usize, bytes: u32): bool {
  for (let i: usize = 0; i < LEFT_OUT; i++)
    if (textEquals(load<u32>(leftOut + (i << 2)), name, bytes)) return true;
  return textStarts(ENVOY_PREFIX, name, bytes);
}

const ID_BYTES: u32 = 32;
const idText: usize = memory.data(32);
let idState: u64 = 0;

// 32 hexadecimal digits.
function makeId(): usize {
  writeBegin(idText, ID_BYTES);
  for (let half = 0; half < 2; half++) {
    let bits = nextUnique();
    for (let i = 0; i < 16; i++) {
      const digit = <u8>(bits & 15);
      writeByte(digit < 10 ? 48 + digit : 87 + digit);
      bits >>= 4;
    }
  }
  return idText;
}

/** A number that no other call of any worker has, as far as 64 bits tell. */
export function nextUnique(): u64 {
  idState = avalanche(idState ^ nowNs() ^ ((<u64>ownCell()) << 48)) + 1;
  return avalanche(idState);
}
