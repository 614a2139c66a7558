// The response phases: which host really answered, its first token, its usage, and the end of the stream.
import { BUFFER_RESPONSE_BODY, MAP_RESPONSE_HEADERS, STATUS_OK } from "../abi/constants";
import { inboxMark, inboxReset } from "../abi/inbox";
import { buffer, header, property, propertyU64, replaceHeader, valueBytes, valuePtr } from "../abi/host";
import { textStarts } from "../text/text";
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { COLUMN_GENERATION, rowOf, rowU32 } from "../pool/rows";
import { noteServerError, noteSuccess } from "../pool/health";
import { ratesOf, tpotSamples } from "../pool/rates";
import { poolLearnBytesPerToken } from "../pool/table";
import { chainRelease } from "../prefix/chain";
import { promptTokenIds } from "../prompt/record";
import {
  usageBegin,
  usageCachedTokens,
  usageCompletionTokens,
  usageEnd,
  usageEvents,
  usageFeed,
  usageFound,
  usagePromptTokens,
  usageSawData,
} from "../prompt/usage";
import {
  configResponseSampleEvery,
  configRetryBackoffMaxMs,
  configRetryBackoffMinMs,
  configSessionHeader,
} from "../schema/settings";
import { sessionTokenBytes, sessionTokenPtr } from "../schedule/session-affinity";
import { markBusy, markChanged } from "../flow/reservations";
import {
  COUNT_MOVED,
  COUNT_RETRIED,
  COUNT_UNKNOWN_UPSTREAM,
  COUNT_USAGE_CACHED_TOKENS,
  COUNT_USAGE_PROMPT_TOKENS,
  countUp,
} from "./counters";
import { firstToken, forgetPrefix, moveTo, releaseReservation, streamFinished } from "./commit";
import { answerBody, answerForDecode } from "./decode-failure";
import { explainRespond } from "./explain";
import { forgetLeg } from "./legs";
import {
  H_CONTENT_TYPE,
  H_STATUS,
  P_ATTEMPTS,
  P_RESPONSE_FLAGS,
  P_UPSTREAM_ADDRESS,
  V_EVENT_STREAM,
} from "./names";
import { abandonPrefill } from "./prefill";
import { endRendering } from "./rendered";
import { setHostAside } from "./set-aside";
import { hasHost } from "./stages";
import {
  F_ANSWERED,
  F_EARLY,
  F_EVENT_STREAM,
  F_FIRST_DATA,
  F_HAS_PROMPT,
  F_INLINE,
  F_PACED,
  F_REQUEST_RESERVED,
  F_RESPONDED,
  F_SAMPLED,
  F_SPLICED,
  F_STREAM,
  PHASE_DECIDED,
  PHASE_PREFILLING,
  S_DECIDED,
  S_DESTINATIONS,
  S_POOL,
  S_TEXT_BYTES,
  destinationGeneration,
  destinationRow,
  hasFlag,
  phaseOf,
  setFlag,
  streamChain,
  streamPrompt,
  streamUsage,
} from "./streams";
import { nowMs, publish } from "./worker";

/** Bytes of a response chunk that are looked at; the rest of a larger one only ends it. */
const READ_BYTES: u32 = 262144;
/** Samples of the time between tokens, below which an endpoint is new. */
const NEW_SAMPLES: f64 = 8;

// Envoy's response flags of a host that failed before it answered (source/common/stream_info,
// CoreResponseFlag): UH 0x2, UF 0x20, UR 0x10, UC 0x40 as bits of response.flags.
const FLAG_REMOTE_RESET: u64 = 0x10;
const FLAG_CONNECT_FAILURE: u64 = 0x20;
const FLAG_TERMINATED: u64 = 0x40;
const FLAGS_HOST_FAILED: u64 = FLAG_REMOTE_RESET | FLAG_CONNECT_FAILURE | FLAG_TERMINATED;

/** Response headers of a decided stream. */
export function responseHeaders(stream: usize, config: u32): void {
  setFlag(stream, F_RESPONDED);
  if (phaseOf(stream) != PHASE_DECIDED || !hasFlag(stream, F_REQUEST_RESERVED)) return;
  explainRespond(stream);
  const status = readStatus();
  noteContentType(stream);
  // Only a 5xx can be Envoy's own word about a host that never answered.
  const flags = status >= 500 ? propertyU64(P_RESPONSE_FLAGS, 0) : 0;
  const isHostAnswer = (flags & FLAGS_HOST_FAILED) == 0;
  if (!isHostAnswer && hasFlag(stream, F_SPLICED)) answerForDecode(stream);
  const answered = locateUpstream(stream, config);
  if (answered != NOBODY) judgeHosts(stream, config, answered, status, isHostAnswer);
  if (status >= 400 || answered == NOBODY) store<f64>(stream, 0, S_DECIDED);
  if (status >= 400 || answered == NOBODY) forgetPrompt(stream);
  else if (answered != 0) moveToAnswerer(stream, answered);
  chainRelease(streamChain(stream));
  sampleWhileNew(stream, config);
  usageBegin(streamUsage(stream), hasFlag(stream, F_EVENT_STREAM));
  if (status < 400) echoSession(stream, config);
  publish(nowMs());
}

// Few answers are read to their end; more of an endpoint whose time between tokens is not known yet.
function sampleWhileNew(stream: usize, config: u32): void {
  if (!hasFlag(stream, F_EVENT_STREAM) || configResponseSampleEvery(config) == 0) return;
  ratesOf(destinationRow(stream, 0), nowMs());
  if (tpotSamples() < NEW_SAMPLES) setFlag(stream, F_PACED);
}

// A body that was read whole and asked for no stream gets none; that saves a host call.
function noteContentType(stream: usize): void {
  const isWhole = hasFlag(stream, F_HAS_PROMPT) && !hasFlag(stream, F_EARLY);
  if (isWhole && !hasFlag(stream, F_STREAM)) return;
  if (header(MAP_RESPONSE_HEADERS, H_CONTENT_TYPE) != STATUS_OK) return;
  if (textStarts(V_EVENT_STREAM, valuePtr(), valueBytes())) setFlag(stream, F_EVENT_STREAM);
}

function readStatus(): u32 {
  if (header(MAP_RESPONSE_HEADERS, H_STATUS) != STATUS_OK || valueBytes() != 3) return 0;
  const ptr = valuePtr();
  return (<u32>load<u8>(ptr) - 48) * 100 + (<u32>load<u8>(ptr, 1) - 48) * 10 + (<u32>load<u8>(ptr, 2) - 48);
}

/** The answering host is none of our destinations. */
const NOWHERE: u32 = 0xffffffff;
/** No host was asked: Envoy answered by itself. */
const NOBODY: u32 = 0xfffffffe;
let elsewhere: u32 = NOWHERE;

// Place of the answering host among our destinations; NOWHERE, and then `elsewhere` is its row if the pool has
// it; NOBODY.
function locateUpstream(stream: usize, config: u32): u32 {
  elsewhere = NOWHERE;
  if (property(P_UPSTREAM_ADDRESS) != STATUS_OK || valueBytes() == 0) return NOBODY;
  const ptr = valuePtr();
  const bytes = valueBytes();
  const count = <u32>load<u8>(stream, S_DESTINATIONS);
  for (let i: u32 = 0; i < count; i++) {
    if (hasHost(destinationRow(stream, i), config, ptr, bytes)) return i;
  }
  const first = rowOf(load<u32>(stream, S_POOL), 0);
  for (let row = first; row < first + POOL_ENDPOINTS_MAX; row++) {
    if (rowU32(COLUMN_GENERATION, row) == 0 || !hasHost(row, config, ptr, bytes)) continue;
    elsewhere = row;
    break;
  }
  return NOWHERE;
}

// Every destination before the one that answered failed to: `attempts` tells when Envoy skipped some of them
// because its cluster does not know them.
function judgeHosts(stream: usize, config: u32, answered: u32, status: u32, isHostAnswer: bool): void {
  const now = nowMs();
  const attempts = answered == 0 && isHostAnswer ? 1 : <u32>propertyU64(P_ATTEMPTS, 1);
  if (attempts > 1) countUp(COUNT_RETRIED);
  const failed = isHostAnswer ? attempts - 1 : attempts;
  for (let i: u32 = 0; i < min<u32>(failed, load<u8>(stream, S_DESTINATIONS)); i++) {
    if (i == answered && isHostAnswer) break;
    setAside(stream, i, config, now);
  }
  if (!isHostAnswer) return;
  if (answered == NOWHERE) {
    if (attempts <= load<u8>(stream, S_DESTINATIONS)) countUp(COUNT_UNKNOWN_UPSTREAM);
    return;
  }
  const row = destinationRow(stream, answered);
  if (!isSame(stream, answered)) return;
  if (status < 500) return noteSuccess(row);
  if (noteServerError(row, now, configRetryBackoffMinMs(config), configRetryBackoffMaxMs(config))) {
    markBusy(row);
    markChanged();
  }
}

function isSame(stream: usize, index: u32): bool {
  return rowU32(COLUMN_GENERATION, destinationRow(stream, index)) == destinationGeneration(stream, index);
}

function setAside(stream: usize, index: u32, config: u32, now: f64): void {
  if (isSame(stream, index)) setHostAside(destinationRow(stream, index), config, now);
}

function moveToAnswerer(stream: usize, answered: u32): void {
  const row = answered == NOWHERE ? elsewhere : destinationRow(stream, answered);
  if (row == NOWHERE) return forgetPrefix(stream);
  countUp(COUNT_MOVED);
  moveTo(stream, row);
}

// llm-d's session affinity: the client gets the token of the endpoint that served it.
function echoSession(stream: usize, config: u32): void {
  const name = configSessionHeader(config);
  if (name == 0) return;
  const row = destinationRow(stream, 0);
  const bytes = sessionTokenBytes(row);
  if (bytes > 0) replaceHeader(MAP_RESPONSE_HEADERS, name, sessionTokenPtr(row), bytes);
}

/** A chunk of response body; `size` bytes. Cheap once the first token was seen, unless it is read to its end. */
export function responseBody(stream: usize, size: u32, endOfStream: bool): void {
  if (hasFlag(stream, F_ANSWERED)) return answerBody(stream, size);
  // What the filter or Envoy says in an endpoint's place tells nothing of the endpoint.
  if (phaseOf(stream) != PHASE_DECIDED || !hasFlag(stream, F_REQUEST_RESERVED)) return;
  const isRead = hasFlag(stream, F_SAMPLED | F_PACED);
  if (hasFlag(stream, F_FIRST_DATA) && !isRead) return;
  if (size > 0) {
    const mark = inboxMark();
    const usage = streamUsage(stream);
    if (buffer(BUFFER_RESPONSE_BODY, 0, min(size, READ_BYTES)) == STATUS_OK) {
      usageFeed(usage, valuePtr(), valueBytes());
      if (!hasFlag(stream, F_FIRST_DATA) && (!hasFlag(stream, F_EVENT_STREAM) || usageSawData(usage))) {
        setFlag(stream, F_FIRST_DATA);
        firstToken(stream, nowMs());
      }
    }
    inboxReset(mark);
  }
  if (endOfStream && isRead) learn(stream);
}

function learn(stream: usize): void {
  const usage = streamUsage(stream);
  usageEnd(usage);
  if (hasFlag(stream, F_EVENT_STREAM)) {
    const tokens = usageCompletionTokens(usage);
    streamFinished(stream, tokens > 0 ? tokens : usageEvents(usage), nowMs());
  }
  if (!hasFlag(stream, F_SAMPLED) || !usageFound(usage)) return;
  const promptTokens = usagePromptTokens(usage);
  countUp(COUNT_USAGE_PROMPT_TOKENS, promptTokens);
  countUp(COUNT_USAGE_CACHED_TOKENS, usageCachedTokens(usage));
  if (hasFlag(stream, F_HAS_PROMPT) && promptTokenIds(streamPrompt(stream)) == 0) {
    poolLearnBytesPerToken(load<u32>(stream, S_POOL), load<u32>(stream, S_TEXT_BYTES), promptTokens);
  }
}

/** The stream ended, however: everything it held is given back. Calling it again is harmless. */
export function streamEnded(stream: usize, config: u32): void {
  abandonPrefill(stream);
  if (phaseOf(stream) == PHASE_PREFILLING) releaseReservation(stream);
  if (phaseOf(stream) == PHASE_DECIDED && hasFlag(stream, F_REQUEST_RESERVED)) {
    if (!hasFlag(stream, F_RESPONDED)) judgeSilence(stream, config);
    releaseReservation(stream);
  }
  chainRelease(streamChain(stream));
  endRendering(stream);
}

// The decode endpoint has not got the prompt; and whether the pod's sidecar had it computed elsewhere is not known.
function forgetPrompt(stream: usize): void {
  forgetPrefix(stream);
  if (!hasFlag(stream, F_INLINE)) forgetLeg(stream);
}

// No response headers came: the client went away, or every host failed.
function judgeSilence(stream: usize, config: u32): void {
  forgetPrompt(stream);
  if ((propertyU64(P_RESPONSE_FLAGS, 0) & FLAGS_HOST_FAILED) == 0) return;
  const attempts = <u32>propertyU64(P_ATTEMPTS, 1);
  const now = nowMs();
  for (let i: u32 = 0; i < min<u32>(attempts, load<u8>(stream, S_DESTINATIONS)); i++) {
    setAside(stream, i, config, now);
  }
}
