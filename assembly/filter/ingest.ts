// The control listener's side: snapshots, policies, prompt programs and index batches in, status out. Everything a
// sidecar sends is checked here, once.
//
//   POST /v1/pools/<name>/snapshot   204, or 400 {"error":{"field","message"}}, 401, 413, 507 (table of pools full)
//   POST /v1/pools/<name>/policy     likewise; a snapshot's 204 says which policy is in force (x-epp-policy-id)
//   POST /v1/pools/<name>/prompts    likewise; a snapshot's 204 says which programs are in force (x-epp-prompts-id)
//   POST /v1/pools/<name>/kv         200 or 400, 401, 409, 413, 503, 507: kv-ingest.ts
//        with x-epp-sidecar          423 too: another sidecar brings the pool (wire/lease.ts)
//   DELETE /v1/pools/<name>/lease    204: the sidecar that brought the pool stops
//   GET  /status                     200, see status.ts
//   anything else                    404
import {
  ACTION_CONTINUE,
  ACTION_PAUSE,
  BUFFER_REQUEST_BODY,
  LOG_WARN,
  MAP_REQUEST_HEADERS,
  STATUS_OK,
} from "../abi/constants";
import { buffer, header, log, nowNs, valueBytes, valuePtr } from "../abi/host";
import {
  ascii,
  textBytes,
  textEquals,
  textStarts,
  writeBegin,
  writeJsonInner,
  writeLength,
  writeLiteral,
} from "../text/text";
import { POOL_NAME_BYTES_MAX, SNAPSHOT_BYTES_MAX } from "../wire/limits";
import { KV_BATCH_BYTES_MAX } from "../wire/kv-deltas";
import { LEASE_HELD_STATUS, LEASE_ID_BYTES_MAX } from "../wire/lease";
import { POLICY_BYTES_MAX } from "../wire/policy";
import { PROMPTS_BYTES_MAX } from "../wire/prompt-programs";
import { kvCheck } from "../flow/kv-batch";
import { faultField, faultFieldBytes, faultMessage, faultMessageBytes } from "../pool/fault";
import { policyId } from "../pool/policy";
import { policyCheck } from "../pool/policy-check";
import { promptProgramsId } from "../pool/prompt-programs";
import { promptProgramsCheck } from "../pool/prompt-programs-check";
import { snapshotCheck } from "../pool/snapshot-check";
import { poolFind } from "../pool/table";
import { controlToken, controlTokenBytes } from "./environment";
import {
  COUNT_KV_BAD,
  COUNT_POLICIES_BAD,
  COUNT_PROMPT_PROGRAMS_BAD,
  COUNT_SNAPSHOTS_BAD,
  countUp,
} from "./counters";
import { leaseHolderBytes, leaseHolderPtr, leaseRelease, leaseTake } from "./lease";
import { kvAnswerBytes, kvAnswerPtr, kvTake } from "./kv-ingest";
import { H_AUTHORIZATION, H_METHOD, H_PATH, H_SIDECAR, V_DELETE, V_GET, V_POST } from "./names";
import { refreshPools, registerPool, storePolicy, storePromptPrograms, storeSnapshot } from "./pools";
import { replyDone, replyJson, replyTaken } from "./reply";
import { statusPtr, statusWrite } from "./status";
import { PHASE_CONTROL, controlStreamAdd, setPhase, streamPrompt } from "./streams";
import { S_API, S_CONTENT_LENGTH, S_ROOT, S_STARTED } from "./streams";
import { noteBodyCallback } from "./watchdog";

const T_POOLS = ascii("/v1/pools/");
const T_SNAPSHOT = ascii("/snapshot");
const T_POLICY = ascii("/policy");
const T_KV = ascii("/kv");
const T_PROMPTS = ascii("/prompts");
const T_LEASE = ascii("/lease");
const T_STATUS = ascii("/status");
const T_BEARER = ascii("Bearer ");
const answer: usize = memory.data(512);

function answerError(status: u32, field: usize, fieldBytes: u32, message: usize, messageBytes: u32): u32 {
  writeBegin(answer, 512);
  writeLiteral('{"error":{"field":"');
  writeJsonInner(field, fieldBytes);
  writeLiteral('","message":"');
  writeJsonInner(message, messageBytes);
  writeLiteral('"}}');
  replyJson(status, answer, writeLength());
  return ACTION_PAUSE;
}

function answerText(status: u32, field: usize, message: usize): u32 {
  return answerError(status, field, textBytes(field), message, textBytes(message));
}

const T_FIELD_PATH = ascii("path");
const T_NOT_FOUND = ascii(
  "expected POST /v1/pools/<name>/snapshot, policy, prompts or kv, DELETE /v1/pools/<name>/lease, or GET /status",
);
const T_TOKEN = ascii("expected Bearer and the token of EPP_CONTROL_TOKEN");
const T_BODY = ascii("body");
const T_EMPTY = ascii(
  "expected a snapshot of 64 to 262144 bytes, a policy of 64 to 98304, an index batch of 64 to 65536 or prompt programs of 64 to 16384",
);
const T_SIDECAR = ascii("expected a sidecar's id of 1 to 64 bytes");
const T_NAME = ascii("expected a pool name of 1 to 253 bytes");
const T_FULL = ascii("16 pools are known already; remove one and restart the gateway");
const T_TABLE = ascii("too many control requests at once; try again");

// Of a control stream's prompt record, behind the pool's name.
const AT_ID_BYTES: usize = 256;
const AT_ID: usize = 260;

/** Request headers of a control stream. */
export function controlHeaders(context: u32, root: u32, endOfStream: bool): u32 {
  if (!isAuthorized()) return answerText(401, H_AUTHORIZATION, T_TOKEN);
  if (header(MAP_REQUEST_HEADERS, H_METHOD) != STATUS_OK) return ACTION_CONTINUE;
  const isPost = textEquals(V_POST, valuePtr(), valueBytes());
  const isGet = textEquals(V_GET, valuePtr(), valueBytes());
  const isDelete = textEquals(V_DELETE, valuePtr(), valueBytes());
  if (header(MAP_REQUEST_HEADERS, H_PATH) != STATUS_OK) return ACTION_CONTINUE;
  const path = valuePtr();
  const pathBytes = valueBytes();
  if (isGet && isStatusPath(path, pathBytes)) {
    const bytes = statusWrite(<f64>nowNs() / 1000000);
    replyJson(200, statusPtr(), bytes);
    return ACTION_PAUSE;
  }
  const kind = kindOf(path, pathBytes, isPost, isDelete);
  if (kind == KIND_NONE) return answerText(404, T_FIELD_PATH, T_NOT_FOUND);
  const nameBytes = pathBytes - textBytes(T_POOLS) - textBytes(lastOf(kind));
  if (nameBytes == 0 || nameBytes > <u32>POOL_NAME_BYTES_MAX) return answerText(400, T_FIELD_PATH, T_NAME);
  const name = path + textBytes(T_POOLS);
  const hasId = header(MAP_REQUEST_HEADERS, H_SIDECAR) == STATUS_OK;
  const id = valuePtr();
  const idBytes = hasId ? valueBytes() : 0;
  if (idBytes > <u32>LEASE_ID_BYTES_MAX) return answerText(400, H_SIDECAR, T_SIDECAR);
  if (kind == KIND_LEASE) {
    if (idBytes == 0) return answerText(400, H_SIDECAR, T_SIDECAR);
    leaseRelease(name, nameBytes, id, idBytes);
    replyDone();
    return ACTION_PAUSE;
  }
  if (endOfStream) return answerText(400, T_BODY, T_EMPTY);
  const stream = controlStreamAdd(context);
  if (stream == 0) return answerText(503, T_FIELD_PATH, T_TABLE);
  store<u32>(stream, root, S_ROOT);
  store<f64>(stream, <f64>nowNs() / 1000000, S_STARTED);
  // The prompt record is free on a control stream; it keeps the pool's name and the sidecar's id until the body is there.
  memory.copy(streamPrompt(stream), name, nameBytes);
  store<u32>(streamPrompt(stream), idBytes, AT_ID_BYTES);
  memory.copy(streamPrompt(stream) + AT_ID, id, idBytes);
  store<u32>(stream, nameBytes, S_CONTENT_LENGTH);
  store<u32>(stream, kind, S_API);
  return ACTION_PAUSE;
}

function isStatusPath(path: usize, bytes: u32): bool {
  return (
    textEquals(T_STATUS, path, bytes) ||
    (textStarts(T_STATUS, path, bytes) && load<u8>(path + textBytes(T_STATUS)) == 63)
  );
}

// What a control stream brings: it speaks no inference API, so S_API is free for this.
const KIND_SNAPSHOT: u32 = 0;
const KIND_POLICY: u32 = 1;
const KIND_KV: u32 = 2;
const KIND_PROMPTS: u32 = 3;
const KIND_LEASE: u32 = 4;
const KIND_NONE: u32 = 5;

// How the path of each kind ends.
function lastOf(kind: u32): usize {
  if (kind == KIND_SNAPSHOT) return T_SNAPSHOT;
  if (kind == KIND_POLICY) return T_POLICY;
  if (kind == KIND_KV) return T_KV;
  return kind == KIND_PROMPTS ? T_PROMPTS : T_LEASE;
}

function kindOf(path: usize, bytes: u32, isPost: bool, isDelete: bool): u32 {
  for (let kind = KIND_SNAPSHOT; kind < KIND_NONE; kind++)
    if ((kind == KIND_LEASE ? isDelete : isPost) && isPoolPath(path, bytes, lastOf(kind))) return kind;
  return KIND_NONE;
}

function bytesMaxOf(kind: u32): u32 {
  if (kind == KIND_SNAPSHOT) return SNAPSHOT_BYTES_MAX;
  if (kind == KIND_POLICY) return POLICY_BYTES_MAX;
  return kind == KIND_KV ? KV_BATCH_BYTES_MAX : PROMPTS_BYTES_MAX;
}

function check(kind: u32, ptr: usize, bytes: u32): bool {
  if (kind == KIND_SNAPSHOT) return snapshotCheck(ptr, bytes);
  if (kind == KIND_POLICY) return policyCheck(ptr, bytes);
  return kind == KIND_KV ? kvCheck(ptr, bytes) : promptProgramsCheck(ptr, bytes);
}

// The counter of those that are refused, and what the log calls them.
function badOf(kind: u32): u32 {
  if (kind == KIND_SNAPSHOT) return COUNT_SNAPSHOTS_BAD;
  if (kind == KIND_POLICY) return COUNT_POLICIES_BAD;
  return kind == KIND_KV ? COUNT_KV_BAD : COUNT_PROMPT_PROGRAMS_BAD;
}

function nameOf(kind: u32): string {
  if (kind == KIND_SNAPSHOT) return "snapshot";
  if (kind == KIND_POLICY) return "policy";
  return kind == KIND_KV ? "index batch" : "prompt programs";
}

// Whether the path is that of a pool and ends in `last`.
function isPoolPath(path: usize, bytes: u32, last: usize): bool {
  if (!textStarts(T_POOLS, path, bytes)) return false;
  const lastBytes = textBytes(last);
  return bytes >= textBytes(T_POOLS) + lastBytes && textEquals(last, path + bytes - lastBytes, lastBytes);
}

// Compared without an early exit, so that the time tells nothing about the token.
function isAuthorized(): bool {
  const tokenBytes = controlTokenBytes();
  if (tokenBytes == 0) return true;
  if (header(MAP_REQUEST_HEADERS, H_AUTHORIZATION) != STATUS_OK) return false;
  const prefix = textBytes(T_BEARER);
  if (!textStarts(T_BEARER, valuePtr(), valueBytes()) || valueBytes() - prefix != tokenBytes) return false;
  const given = valuePtr() + prefix;
  let difference: u32 = 0;
  for (let i: usize = 0; i < tokenBytes; i++)
    difference |= <u32>(load<u8>(given + i) ^ load<u8>(controlToken() + i));
  return difference == 0;
}

const line: usize = memory.data(512);

/** Body of a control stream, buffered by the host until its end. */
export function controlBody(stream: usize, size: u32, endOfStream: bool): u32 {
  noteBodyCallback(load<u32>(stream, S_ROOT));
  if (!endOfStream) return ACTION_PAUSE;
  setPhase(stream, PHASE_CONTROL);
  const kind = load<u32>(stream, S_API);
  if (size > bytesMaxOf(kind)) return answerText(413, T_BODY, T_EMPTY);
  if (size == 0 || buffer(BUFFER_REQUEST_BODY, 0, size) != STATUS_OK) return answerText(400, T_BODY, T_EMPTY);
  const pushed = valuePtr();
  const bytes = valueBytes();
  if (!check(kind, pushed, bytes)) return refusePushed(kind);
  const name = streamPrompt(stream);
  const nameBytes = load<u32>(stream, S_CONTENT_LENGTH);
  if (!registerPool(name, nameBytes)) return answerText(507, T_FIELD_PATH, T_FULL);
  const now = nowNs();
  if (!isHolder(stream, <f64>now / 1000000))
    return answerError(
      LEASE_HELD_STATUS,
      H_SIDECAR,
      textBytes(H_SIDECAR),
      leaseHolderPtr(),
      leaseHolderBytes(),
    );
  if (kind == KIND_KV) {
    replyJson(
      kvTake(poolFind(name, nameBytes), pushed, bytes, <f64>now / 1000000),
      kvAnswerPtr(),
      kvAnswerBytes(),
    );
    return ACTION_PAUSE;
  }
  if (kind == KIND_POLICY) storePolicy(name, nameBytes, pushed, bytes, now);
  else if (kind == KIND_PROMPTS) storePromptPrograms(name, nameBytes, pushed, bytes, now);
  else storeSnapshot(name, nameBytes, pushed, bytes, now);
  refreshPools(<f64>now / 1000000);
  const pool = poolFind(name, nameBytes);
  replyTaken(policyId(pool), promptProgramsId(pool));
  return ACTION_PAUSE;
}

// A push without an id comes from nobody who could stand by.
function isHolder(stream: usize, nowMs: f64): bool {
  const record = streamPrompt(stream);
  const idBytes = load<u32>(record, AT_ID_BYTES);
  return (
    idBytes == 0 || leaseTake(record, load<u32>(stream, S_CONTENT_LENGTH), record + AT_ID, idBytes, nowMs)
  );
}

function refusePushed(kind: u32): u32 {
  countUp(badOf(kind));
  writeBegin(line, 512);
  writeLiteral("epp: ");
  writeLiteral(nameOf(kind));
  writeLiteral(" refused: ");
  writeJsonInner(faultField(), faultFieldBytes());
  writeLiteral(": ");
  writeJsonInner(faultMessage(), faultMessageBytes());
  log(LOG_WARN, line, writeLength());
  return answerError(400, faultField(), faultFieldBytes(), faultMessage(), faultMessageBytes());
}

const T_STUCK = ascii(
  "no body reached the filter: set allow_on_headers_stop_iteration: true for the control listener's plugin too",
);

/** A control request whose body never came, found by the watchdog. */
export function answerStuck(stream: usize): void {
  setPhase(stream, PHASE_CONTROL);
  answerText(500, T_BODY, T_STUCK);
}
