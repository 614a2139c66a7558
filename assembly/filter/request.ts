// The request phases of one picker stream: headers, body chunk by chunk, trailers.
import {
  ACTION_CONTINUE,
  ACTION_PAUSE,
  BUFFER_REQUEST_BODY,
  MAP_REQUEST_HEADERS,
  STATUS_OK,
} from "../abi/constants";
import { inboxMark, inboxReset } from "../abi/inbox";
import { buffer, headerPairs, nowNs, property, valueBytes, valuePtr } from "../abi/host";
import { ascii, writeBegin, writeLength, writeLiteral, writeU64 } from "../text/text";
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
  configModelWaitBytesMax,
  configPoolName,
  configPoolNameBytes,
  configResponseSampleEvery,
  configRewriteBytesMax,
} from "../schema/settings";
import {
  configHasStages,
  configPrefillBodyBytesMax,
  configPrefillPlan,
  configStageMode,
} from "../schema/stage-settings";
import { MODE_INLINE } from "../schema/stages-layout";
import { COUNT_HEADER_ONLY, COUNT_REQUESTS, COUNT_STREAM_OVERFLOW, countUp } from "./counters";
import { DECIDED, NONE_ELIGIBLE, NOT_CACHED, NO_SNAPSHOT, decide, decideWithoutStream } from "./decide";
import {
  beginGuard,
  guardBytes,
  guardRest,
  hasForbidden,
  mustGuard,
  refuseForbidden,
  refuseNoJson,
} from "./guard";
import { P_SUBSET } from "./names";
import { freshenPools, refreshPools, resolvePool } from "./pools";
import { beginPrefill } from "./prefill";
import {
  REFUSED_BAD_BODY,
  REFUSED_NOT_CACHED,
  REFUSED_NO_ENDPOINTS,
  REFUSED_SATURATED,
  REFUSED_TOO_LARGE,
} from "./reply";
import { refuse, refuseText } from "./reply";
import {
  UNKNOWN_LENGTH,
  requestContentLength,
  requestIsPost,
  requestPath,
  requestPathBytes,
  requestPrefersAvailable,
  walkHeaders,
} from "./request-headers";
import { beginRendering } from "./rendered";
import { givesModel, notePolicyHeaders, noteUnread, rewriteModel, wantsRewrite } from "./rewrite";
import { apiIsSplit } from "./stages";
import {
  F_EARLY,
  F_HAS_PROMPT,
  F_IF_AVAILABLE,
  F_INFERENCE,
  F_INLINE,
  F_MODEL_GIVEN,
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
  hasFlag,
  setFlag,
  setPhase,
  streamAdd,
  streamChain,
  streamPrompt,
} from "./streams";
import { refuseUnguarded, withoutSnapshot } from "./undecided";
import { isHeaderOnly, noteBodyCallback } from "./watchdog";
import { noteWishes } from "./wishes";
import { nowMs, startWorker } from "./worker";

/** Bytes of body asked of the host at a time. */
const READ_BYTES: u32 = 262144;

/** Request headers of a picker stream under `config`; `root` is the root's index. */
export function requestHeaders(context: u32, root: u32, config: u32, endOfStream: bool): u32 {
  startWorker();
  countUp(COUNT_REQUESTS);
  if (headerPairs(MAP_REQUEST_HEADERS) != STATUS_OK) return ACTION_CONTINUE;
  walkHeaders(valuePtr(), valueBytes());
  const api = requestIsPost() ? apiOfPath(requestPath(), requestPathBytes()) : API_OTHER;
  const contentLength = requestContentLength();
  const pool = findPool(config);
  if (pool == NO_POOL || !poolHasSnapshot(pool)) {
    return withoutSnapshot(context, root, config, api, pool, endOfStream);
  }
  if (contentLength != UNKNOWN_LENGTH && contentLength > configBodyBytesMax(config)) {
    return refuseTooLarge(api, contentLength, configBodyBytesMax(config));
  }
  const stream = streamAdd(context);
  if (stream == 0) {
    countUp(COUNT_STREAM_OVERFLOW);
    if (!endOfStream && mustGuard(api, config)) return refuseUnguarded(api);
    if (!endOfStream && api != API_OTHER) noteUnread(pool, false);
    takeSubset(pool);
    return afterDecision(0, config, api, decideWithoutStream(pool, config));
  }
  store<u32>(stream, root, S_ROOT);
  store<u32>(stream, pool, S_POOL);
  store<u32>(stream, api, S_API);
  store<u32>(stream, contentLength, S_CONTENT_LENGTH);
  store<f64>(stream, <f64>nowNs() / 1000000, S_STARTED);
  if (api != API_OTHER) setFlag(stream, F_INFERENCE);
  if (requestPrefersAvailable()) setFlag(stream, F_IF_AVAILABLE);
  sampleSome(stream, config);
  notePolicyHeaders(stream, pool, config);
  noteWishes(stream, config);
  if (!endOfStream && api == API_OTHER && mustGuard(api, config)) beginGuard(stream);
  if (endOfStream || api == API_OTHER) return conclude(stream, config, false);
  if (isHeaderOnly(root, load<f64>(stream, S_STARTED))) {
    countUp(COUNT_HEADER_ONLY);
    if (mustGuard(api, config)) beginGuard(stream);
    return conclude(stream, config, true);
  }
  chainReset(streamChain(stream));
  promptBegin(streamPrompt(stream), api, streamChain(stream));
  beginRendering(stream, pool, api);
  setFlag(stream, F_HAS_PROMPT);
  setPhase(stream, PHASE_READING);
  return ACTION_PAUSE;
}

// A worker's first stream comes before its first tick: what others were sent is looked up before it counts as absent.
function findPool(config: u32): u32 {
  freshenPools(nowMs());
  const pool = resolvePool(configPoolName(config), configPoolNameBytes(config));
  if (pool != NO_POOL && poolHasSnapshot(pool)) return pool;
  refreshPools(nowMs());
  return resolvePool(configPoolName(config), configPoolNameBytes(config));
}

let streamsSinceSample: u32 = 0;

function sampleSome(stream: usize, config: u32): void {
  const every = configResponseSampleEvery(config);
  if (every == 0 || ++streamsSinceSample < every) return;
  streamsSinceSample = 0;
  setFlag(stream, F_SAMPLED);
}

const message: usize = memory.data(160);

function refuseTooLarge(api: u32, contentLength: u32, limit: u32): u32 {
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
  if (blind) noteUnread(load<u32>(stream, S_POOL), hasFlag(stream, F_MODEL_GIVEN));
  takeSubset(load<u32>(stream, S_POOL));
  const outcome = decide(stream, config, blind);
  return afterDecision(stream, config, load<u32>(stream, S_API), outcome);
}

const T_NO_ENDPOINTS = ascii(
  "failed to find endpoint candidates for serving the request: no endpoint of the pool is ready",
);
const T_NOT_CACHED = ascii("no decode worker has the requested KV cache");
const T_NONE_ELIGIBLE = ascii("no endpoint of the pool passes the configured filters");

function afterDecision(stream: usize, config: u32, api: u32, outcome: u32): u32 {
  if (outcome == DECIDED && stream != 0 && hasFlag(stream, F_INLINE)) return beginPrefill(stream, config);
  if (outcome == DECIDED || outcome == NO_SNAPSHOT) return ACTION_CONTINUE;
  if (stream != 0) setPhase(stream, PHASE_REPLIED);
  if (outcome == NOT_CACHED) refuseText(REFUSED_NOT_CACHED, api, T_NOT_CACHED);
  else if (outcome == NONE_ELIGIBLE) refuseText(REFUSED_SATURATED, api, T_NONE_ELIGIBLE);
  else refuseText(REFUSED_NO_ENDPOINTS, api, T_NO_ENDPOINTS);
  return ACTION_PAUSE;
}

/** A body callback while the body is being read: `size` bytes are buffered so far. */
export function requestBody(stream: usize, config: u32, size: u32, endOfStream: bool): u32 {
  noteBodyCallback(load<u32>(stream, S_ROOT));
  const prompt = streamPrompt(stream);
  let seen = load<u32>(stream, S_SEEN);
  const bytesMax = heldBytesMax(stream, config);
  while (seen < size && seen < bytesMax) {
    const mark = inboxMark();
    const piece = min(min(size, bytesMax) - seen, READ_BYTES);
    if (buffer(BUFFER_REQUEST_BODY, seen, piece) != STATUS_OK || valueBytes() == 0) break;
    const status = promptFeed(prompt, valuePtr(), valueBytes());
    seen += valueBytes();
    inboxReset(mark);
    if (status != 0) return badBody(stream, config);
    if (hasForbidden(stream)) return refuseForbidden(stream);
    if (isPastBudget(stream, config, seen)) break;
  }
  store<u32>(stream, seen, S_SEEN);
  if (!endOfStream && !isPastBudget(stream, config, seen)) return ACTION_PAUSE;
  const isJson = !configHasStages(config) || seen >= size || guardBytes(stream, seen, size);
  if (hasForbidden(stream)) return refuseForbidden(stream);
  if (!isJson) return refuseNoJson(stream);
  return finishBody(stream, config, endOfStream && seen >= size);
}

/** The body ended, by its last chunk or by trailers, or its budget is spent. An empty one is decided by load, as llm-d does. */
export function finishBody(stream: usize, config: u32, isWhole: bool): u32 {
  const prompt = streamPrompt(stream);
  if (isWhole && load<u32>(stream, S_SEEN) == 0) {
    clearFlag(stream, F_HAS_PROMPT);
  } else if (isWhole) {
    if (promptEnd(prompt) != 0) return badBody(stream, config);
    const lacksModel = !promptHasModel(prompt) && apiNeedsModel(load<u32>(stream, S_API));
    if (lacksModel && !givesModel(stream)) return refuseModel(stream);
  } else {
    setFlag(stream, F_EARLY);
    guardRest(stream, config);
  }
  if (promptStream(prompt)) setFlag(stream, F_STREAM);
  rewriteModel(stream, isWhole);
  return conclude(stream, config, false);
}

// A body that may have to be edited, or sent to another endpoint, is held, and read again then: no further than that has
// room for. Others are not.
function heldBytesMax(stream: usize, config: u32): u32 {
  let bytes: u32 = 0;
  if (wantsRewrite(stream)) bytes = configRewriteBytesMax(config);
  if (wantsCall(stream, config)) bytes = max(bytes, configPrefillBodyBytesMax(config));
  return bytes == 0 ? NOT_HELD : bytes;
}

/** No limit: the body is not held. */
const NOT_HELD: u32 = 0xffffffff;

function wantsCall(stream: usize, config: u32): bool {
  if (configPrefillPlan(config) == 0 || configStageMode(config) != MODE_INLINE) return false;
  return apiIsSplit(load<u32>(stream, S_API), config);
}

// Enough was read: all that is held for a rewrite, or else: the budget is spent, or no more text would be hashed, and the model is known or does not matter.
function isPastBudget(stream: usize, config: u32, seen: u32): bool {
  const held = heldBytesMax(stream, config);
  if (held != NOT_HELD) return seen >= held;
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
