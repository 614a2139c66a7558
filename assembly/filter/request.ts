// The request phases of one picker stream: headers, body chunk by chunk, trailers.
import {
  ACTION_CONTINUE,
  ACTION_PAUSE,
  BUFFER_REQUEST_BODY,
  MAP_REQUEST_HEADERS,
  STATUS_OK,
} from "../abi/constants";
import { inboxMark, inboxReset } from "../abi/inbox";
import { buffer, headerPairs, nowNs, property, removeHeader, valueBytes, valuePtr } from "../abi/host";
import {
  headerName,
  headerNameBytes,
  headerValue,
  headerValueBytes,
  headersBegin,
  headersNext,
} from "../abi/headers";
import { ascii, textEquals, writeBegin, writeLength, writeLiteral, writeU64 } from "../text/text";
import { PROMPT_HASHED_BYTES_MAX } from "../wire/limits";
import { chainReset, chainTextBytes } from "../prefix/chain";
import { subsetNone, subsetTake } from "../pool/subset";
import { NO_POOL, poolHasSnapshot } from "../pool/table";
import { hasOneModel } from "../pool/snapshot";
import { API_OTHER, apiIsChecked, apiNeedsModel, apiOfPath } from "../prompt/api";
import { promptBegin, promptEnd, promptFeed, promptHasModel, promptStream } from "../prompt/record";
import { promptErrorBytes, promptErrorPtr } from "../prompt/errors";
import {
  configBodyBytesMax,
  configDecisionBytesMax,
  configFailClosed,
  configModelWaitBytesMax,
  configPoolName,
  configPoolNameBytes,
  configResponseSampleEvery,
} from "../schema/settings";
import {
  COUNT_HEADER_ONLY,
  COUNT_PASSED,
  COUNT_REQUESTS,
  COUNT_STREAM_OVERFLOW,
  DECIDED_NOT,
  countUp,
  meterDecision,
} from "./counters";
import { DECIDED, NONE_ELIGIBLE, NO_SNAPSHOT, decide, decideWithoutStream } from "./decide";
import {
  H_CONTENT_LENGTH,
  H_DATA_PARALLEL,
  H_DESTINATION,
  H_ENCODERS,
  H_KV_SOURCE,
  H_MAX_RETRIES,
  H_METHOD,
  H_MODEL_REWRITE,
  H_MODEL_REWRITE_ALIAS,
  H_PATH,
  H_PREFILLER,
  H_RETRY_GRPC_ON,
  H_RETRY_HEADER_NAMES,
  H_RETRY_ON,
  H_RETRY_STATUS_CODES,
  P_SUBSET,
  V_POST,
} from "./names";
import { refreshPools, resolvePool } from "./pools";
import {
  REFUSED_BAD_BODY,
  REFUSED_NO_ENDPOINTS,
  REFUSED_NO_SNAPSHOT,
  REFUSED_SATURATED,
  REFUSED_TOO_LARGE,
} from "./reply";
import { refuse, refuseText } from "./reply";
import {
  F_EARLY,
  F_HAS_PROMPT,
  F_INFERENCE,
  F_SAMPLED,
  F_STREAM,
  PHASE_DECIDED,
  PHASE_READING,
  PHASE_REPLIED,
  S_API,
  S_CONTENT_LENGTH,
  S_POOL,
  S_ROOT,
  S_SEEN,
  S_STARTED,
  clearFlag,
  setFlag,
  setPhase,
  streamAdd,
  streamChain,
  streamPrompt,
} from "./streams";
import { isHeaderOnly, noteBodyCallback } from "./watchdog";
import { nowMs, startWorker } from "./worker";

/** Bytes of body asked of the host at a time. */
const READ_BYTES: u32 = 262144;
const UNKNOWN_LENGTH: u32 = 0xffffffff;

// What one walk over the headers found.
let path: usize = 0;
let pathBytes: u32 = 0;
let isPost: bool = false;
let contentLength: u32 = UNKNOWN_LENGTH;

/** Request headers of a picker stream under `config`; `root` is the root's index. */
export function requestHeaders(context: u32, root: u32, config: u32, endOfStream: bool): u32 {
  startWorker();
  countUp(COUNT_REQUESTS);
  if (headerPairs(MAP_REQUEST_HEADERS) != STATUS_OK) return ACTION_CONTINUE;
  walkHeaders();
  const api = isPost ? apiOfPath(path, pathBytes) : API_OTHER;
  const pool = findPool(config);
  if (pool == NO_POOL || !poolHasSnapshot(pool)) return withoutSnapshot(config, api, pool);
  if (contentLength != UNKNOWN_LENGTH && contentLength > configBodyBytesMax(config)) {
    return refuseTooLarge(api, configBodyBytesMax(config));
  }
  const stream = streamAdd(context);
  if (stream == 0) {
    countUp(COUNT_STREAM_OVERFLOW);
    takeSubset(pool);
    return afterDecision(0, api, decideWithoutStream(pool, config));
  }
  store<u32>(stream, root, S_ROOT);
  store<u32>(stream, pool, S_POOL);
  store<u32>(stream, api, S_API);
  store<u32>(stream, contentLength, S_CONTENT_LENGTH);
  store<f64>(stream, <f64>nowNs() / 1000000, S_STARTED);
  if (api != API_OTHER) setFlag(stream, F_INFERENCE);
  sampleSome(stream, config);
  if (endOfStream || api == API_OTHER) return conclude(stream, config, false);
  if (isHeaderOnly(root, load<f64>(stream, S_STARTED))) {
    countUp(COUNT_HEADER_ONLY);
    return conclude(stream, config, true);
  }
  chainReset(streamChain(stream));
  promptBegin(streamPrompt(stream), api, streamChain(stream));
  setFlag(stream, F_HAS_PROMPT);
  setPhase(stream, PHASE_READING);
  return ACTION_PAUSE;
}

// A worker's first stream comes before its first tick: what others were sent is looked up before it counts as absent.
function findPool(config: u32): u32 {
  const pool = resolvePool(configPoolName(config), configPoolNameBytes(config));
  if (pool != NO_POOL && poolHasSnapshot(pool)) return pool;
  refreshPools(nowMs());
  return resolvePool(configPoolName(config), configPoolNameBytes(config));
}

// Notes what the decision needs and removes the headers that only we may set: a client must not steer.
function walkHeaders(): void {
  path = 0;
  pathBytes = 0;
  isPost = false;
  contentLength = UNKNOWN_LENGTH;
  let removals: u32 = 0;
  headersBegin(valuePtr(), valueBytes());
  while (headersNext()) {
    const name = headerName();
    const bytes = headerNameBytes();
    const first = load<u8>(name);
    if (first == 58) {
      if (textEquals(H_PATH, name, bytes)) {
        path = headerValue();
        pathBytes = headerValueBytes();
      } else if (textEquals(H_METHOD, name, bytes)) {
        isPost = textEquals(V_POST, headerValue(), headerValueBytes());
      }
    } else if (first == 99) {
      if (textEquals(H_CONTENT_LENGTH, name, bytes))
        contentLength = parseLength(headerValue(), headerValueBytes());
    } else if (first == 120) {
      removals |= steering(name, bytes);
    }
  }
  if (removals != 0) removeSteering(removals);
}

// A bit for each steering header, those that a decision replaces too: a request may remain undecided.
const STEERING: u32 = 12;
const steeringNames: usize = memory.data(12 * 4, 4);
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

let streamsSinceSample: u32 = 0;

function sampleSome(stream: usize, config: u32): void {
  const every = configResponseSampleEvery(config);
  if (every == 0 || ++streamsSinceSample < every) return;
  streamsSinceSample = 0;
  setFlag(stream, F_SAMPLED);
}

const T_NO_SNAPSHOT = ascii("no snapshot of the pool's endpoints has arrived yet");

function withoutSnapshot(config: u32, api: u32, pool: u32): u32 {
  countUp(COUNT_PASSED);
  if (configFailClosed(config)) {
    refuseText(REFUSED_NO_SNAPSHOT, api, T_NO_SNAPSHOT);
    return ACTION_PAUSE;
  }
  meterDecision(pool, DECIDED_NOT);
  return ACTION_CONTINUE;
}

const message: usize = memory.data(160);

function refuseTooLarge(api: u32, limit: u32): u32 {
  writeBegin(message, 160);
  writeLiteral("content-length ");
  writeU64(contentLength);
  writeLiteral(" exceeds this gateway's limit of ");
  writeU64(limit);
  writeLiteral(" bytes for a request body");
  refuse(REFUSED_TOO_LARGE, api, message, writeLength());
  return ACTION_PAUSE;
}

// A request may have no hint, and then no other request's counts.
function takeSubset(pool: u32): void {
  const mark = inboxMark();
  if (property(P_SUBSET) == STATUS_OK) subsetTake(pool, valuePtr(), valueBytes());
  else subsetNone();
  inboxReset(mark);
}

/** Decides with what is known and goes on, or refuses. */
export function conclude(stream: usize, config: u32, blind: bool): u32 {
  setPhase(stream, PHASE_DECIDED);
  takeSubset(load<u32>(stream, S_POOL));
  const outcome = decide(stream, config, blind);
  return afterDecision(stream, load<u32>(stream, S_API), outcome);
}

const T_NO_ENDPOINTS = ascii(
  "failed to find endpoint candidates for serving the request: no endpoint of the pool is ready",
);
const T_NONE_ELIGIBLE = ascii("no endpoint of the pool passes the configured filters");

function afterDecision(stream: usize, api: u32, outcome: u32): u32 {
  if (outcome == DECIDED || outcome == NO_SNAPSHOT) return ACTION_CONTINUE;
  if (stream != 0) setPhase(stream, PHASE_REPLIED);
  if (outcome == NONE_ELIGIBLE) refuseText(REFUSED_SATURATED, api, T_NONE_ELIGIBLE);
  else refuseText(REFUSED_NO_ENDPOINTS, api, T_NO_ENDPOINTS);
  return ACTION_PAUSE;
}

/** A body callback while the body is being read: `size` bytes are buffered so far. */
export function requestBody(stream: usize, config: u32, size: u32, endOfStream: bool): u32 {
  noteBodyCallback(load<u32>(stream, S_ROOT));
  const prompt = streamPrompt(stream);
  let seen = load<u32>(stream, S_SEEN);
  while (seen < size) {
    const mark = inboxMark();
    if (buffer(BUFFER_REQUEST_BODY, seen, min(size - seen, READ_BYTES)) != STATUS_OK || valueBytes() == 0)
      break;
    const status = promptFeed(prompt, valuePtr(), valueBytes());
    seen += valueBytes();
    inboxReset(mark);
    if (status != 0) return badBody(stream, config);
    if (isPastBudget(stream, config, seen)) break;
  }
  store<u32>(stream, seen, S_SEEN);
  if (!endOfStream && !isPastBudget(stream, config, seen)) return ACTION_PAUSE;
  return finishBody(stream, config, endOfStream && seen >= size);
}

/** The body ended, by its last chunk or by trailers, or its budget is spent. An empty one is decided by load, as llm-d does. */
export function finishBody(stream: usize, config: u32, isWhole: bool): u32 {
  const prompt = streamPrompt(stream);
  if (isWhole && load<u32>(stream, S_SEEN) == 0) {
    clearFlag(stream, F_HAS_PROMPT);
  } else if (isWhole) {
    if (promptEnd(prompt) != 0) return badBody(stream, config);
    if (!promptHasModel(prompt) && apiNeedsModel(load<u32>(stream, S_API))) return refuseModel(stream);
  } else {
    setFlag(stream, F_EARLY);
  }
  if (promptStream(prompt)) setFlag(stream, F_STREAM);
  return conclude(stream, config, false);
}

// Enough was read: the budget is spent, or no more text would be hashed, and the model is known or does not matter.
function isPastBudget(stream: usize, config: u32, seen: u32): bool {
  if (seen < configDecisionBytesMax(config)) {
    if (chainTextBytes(streamChain(stream)) < <u32>PROMPT_HASHED_BYTES_MAX) return false;
  }
  if (promptHasModel(streamPrompt(stream)) || hasOneModel(load<u32>(stream, S_POOL))) return true;
  return seen >= configModelWaitBytesMax(config);
}

// A body that does not fit its API: refused, or, where llm-d forwards such bodies unread, left to the engine.
function badBody(stream: usize, config: u32): u32 {
  const api = load<u32>(stream, S_API);
  if (!apiIsChecked(api)) {
    clearFlag(stream, F_HAS_PROMPT);
    return conclude(stream, config, false);
  }
  setPhase(stream, PHASE_REPLIED);
  const prompt = streamPrompt(stream);
  refuse(REFUSED_BAD_BODY, api, promptErrorPtr(prompt), promptErrorBytes(prompt));
  return ACTION_PAUSE;
}

const T_NO_MODEL = ascii("model not found in request body");

function refuseModel(stream: usize): u32 {
  setPhase(stream, PHASE_REPLIED);
  refuseText(REFUSED_BAD_BODY, load<u32>(stream, S_API), T_NO_MODEL);
  return ACTION_PAUSE;
}
