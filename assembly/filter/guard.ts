// Fields of a body that name a host and memory of another engine: only the gateway may set them.
//
// A client that could would make engines fetch from where it likes, or read what is another's. Where prompts are
// computed, or images encoded, elsewhere the whole body is looked through, also what comes after the decision: an engine does not begin
// with a body that never ends. So are bodies on paths that are not read, if they may be JSON: engines take requests on
// more paths than these, and by more spellings of one path. What Python takes for JSON and the scanner does not (NaN,
// UTF-16) would hide such a field: there such a body is refused too.
import { EVENT_ARRAY_START, EVENT_KEY, EVENT_KEY_PIECE, SINK_GO, SINK_INTEGERS } from "../json/events";
import {
  ACTION_CONTINUE,
  ACTION_PAUSE,
  BUFFER_REQUEST_BODY,
  MAP_REQUEST_HEADERS,
  STATUS_OK,
} from "../abi/constants";
import { buffer, header, valueBytes, valuePtr } from "../abi/host";
import { inboxMark, inboxReset } from "../abi/inbox";
import { scannerDepth, scannerFeed } from "../json/scanner";
import { API_OTHER, apiIsChecked } from "../prompt/api";
import { checkField, forbiddenBytes, forbiddenPtr } from "../prompt/forbidden";
import { scannerOf } from "../prompt/layout";
import { promptBegin } from "../prompt/record";
import { configHasStages } from "../schema/stage-settings";
import { wordAdd, wordEnd, wordPtr } from "../prompt/word";
import { ascii, textBytes, writeBegin, writeBytes, writeLength, writeText } from "../text/text";
import { forgetPrefix, releaseReservation } from "./commit";
import { forgetLeg } from "./legs";
import { H_CONTENT_TYPE } from "./names";
import { REFUSED_BAD_BODY, refuse } from "./reply";
import {
  F_GUARDED,
  PHASE_REPLIED,
  S_API,
  clearFlag,
  setFlag,
  setPhase,
  streamChain,
  streamPrompt,
} from "./streams";

/** Bytes of body asked of the host at a time. */
const READ_BYTES: u32 = 262144;
const T_FORBIDDEN = ascii(": only the gateway sets this field");
const T_NOT_JSON = ascii("the request body is not valid JSON");
const message: usize = memory.data(128);

/**
 * Whether the body of the request at hand, at its headers, is to be looked through though no decision reads it: where
 * stages run elsewhere, if its API is known or it may be JSON.
 */
export function mustGuard(api: u32, config: u32): bool {
  return configHasStages(config) && (api != API_OTHER || mayBeJson());
}

/** Looks through the body from its beginning on. */
export function beginGuard(stream: usize): void {
  promptBegin(streamPrompt(stream), API_OTHER, streamChain(stream));
  setFlag(stream, F_GUARDED);
}

/** Looks through what comes of a body behind what its prompt's reader has read. */
export function guardRest(stream: usize, config: u32): void {
  if (configHasStages(config)) setFlag(stream, F_GUARDED);
}

const JSON_NAME = "json";

// By its content-type, or as it has none.
function mayBeJson(): bool {
  if (header(MAP_REQUEST_HEADERS, H_CONTENT_TYPE) != STATUS_OK) return true;
  const ptr = valuePtr();
  const chars = changetype<usize>(JSON_NAME);
  for (let i: u32 = 0; i + 4 <= valueBytes(); i++) {
    let same: usize = 0;
    while (same < 4 && ((<u16>load<u8>(ptr + i + same)) | 0x20) == load<u16>(chars + (same << 1))) same++;
    if (same == 4) return true;
  }
  return valueBytes() == 0;
}

/** Whether the body, as far as it was read, has such a field. */
export function hasForbidden(stream: usize): bool {
  return forbiddenBytes(streamPrompt(stream)) > 0;
}

/** Refuses the request for it, with the field's name. */
export function refuseForbidden(stream: usize): u32 {
  const prompt = streamPrompt(stream);
  writeBegin(message, 128);
  writeBytes(forbiddenPtr(prompt), forbiddenBytes(prompt));
  writeText(T_FORBIDDEN);
  return refuseBody(stream, message, writeLength());
}

/** Refuses a request with 400 whose decision was made, or not yet, for what is in its body. */
function refuseBody(stream: usize, text: usize, bytes: u32): u32 {
  forgetPrefix(stream);
  forgetLeg(stream);
  releaseReservation(stream);
  clearFlag(stream, F_GUARDED);
  setPhase(stream, PHASE_REPLIED);
  refuse(REFUSED_BAD_BODY, load<u32>(stream, S_API), text, bytes);
  return ACTION_PAUSE;
}

/** Refuses the request as guardBytes() or guardBody() found no JSON. */
export function refuseNoJson(stream: usize): u32 {
  return refuseBody(stream, T_NOT_JSON, textBytes(T_NOT_JSON));
}

/**
 * Looks through the buffered body from `from` to `to`, of which the prompt's reader knows nothing. False: it is no JSON
 * where it has to be.
 */
export function guardBytes(stream: usize, from: u32, to: u32): bool {
  const record = streamPrompt(stream);
  while (from < to) {
    const mark = inboxMark();
    if (buffer(BUFFER_REQUEST_BODY, from, min(to - from, READ_BYTES)) != STATUS_OK || valueBytes() == 0)
      break;
    from += valueBytes();
    const status = scannerFeed(scannerOf(record), valuePtr(), valueBytes(), onGuardEvent, record);
    inboxReset(mark);
    if (status == 0) continue;
    clearFlag(stream, F_GUARDED);
    const api = load<u32>(stream, S_API);
    return api != API_OTHER && !apiIsChecked(api);
  }
  return true;
}

/** A chunk of a guarded body after the decision. */
export function guardBody(stream: usize, size: u32, endOfStream: bool): u32 {
  const isJson = guardBytes(stream, 0, size);
  if (hasForbidden(stream)) return refuseForbidden(stream);
  if (!isJson) return refuseNoJson(stream);
  if (endOfStream) clearFlag(stream, F_GUARDED);
  return ACTION_CONTINUE;
}

function onGuardEvent(record: usize, event: u32, ptr: usize, len: u32): u32 {
  if (event == EVENT_KEY_PIECE) wordAdd(record, ptr, len);
  if (event != EVENT_KEY) return event == EVENT_ARRAY_START ? SINK_INTEGERS : SINK_GO;
  const bytes = wordEnd(record, ptr, len);
  checkField(record, wordPtr(), bytes, scannerDepth(scannerOf(record)) == 1);
  return SINK_GO;
}
