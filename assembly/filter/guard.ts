// Fields of a body that name a host and memory of another engine: only the gateway may set them.
//
// A client that could would make engines fetch from where it likes, or read what is another's. Where prompts are
// computed elsewhere the whole body is looked through, also what comes after the decision: an engine does not begin
// with a body that never ends.
import { EVENT_ARRAY_START, EVENT_KEY, EVENT_KEY_PIECE, SINK_GO, SINK_INTEGERS } from "../json/events";
import { ACTION_CONTINUE, ACTION_PAUSE, BUFFER_REQUEST_BODY, STATUS_OK } from "../abi/constants";
import { buffer, valueBytes, valuePtr } from "../abi/host";
import { inboxMark, inboxReset } from "../abi/inbox";
import { scannerDepth, scannerFeed } from "../json/scanner";
import { forbiddenBytes, forbiddenPtr, isForbiddenField, noteForbidden } from "../prompt/forbidden";
import { scannerOf } from "../prompt/layout";
import { wordAdd, wordEnd, wordPtr } from "../prompt/word";
import { ascii, writeBegin, writeBytes, writeLength, writeText } from "../text/text";
import { forgetPrefix, releaseReservation } from "./commit";
import { forgetLeg } from "./legs";
import { REFUSED_BAD_BODY, refuse } from "./reply";
import { F_GUARDED, PHASE_REPLIED, S_API, clearFlag, setPhase, streamPrompt } from "./streams";

/** Bytes of body asked of the host at a time. */
const READ_BYTES: u32 = 262144;
const T_FORBIDDEN = ascii(": only the gateway sets this field");
const message: usize = memory.data(128);

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
  const bytes = writeLength();
  forgetPrefix(stream);
  forgetLeg(stream);
  releaseReservation(stream);
  clearFlag(stream, F_GUARDED);
  setPhase(stream, PHASE_REPLIED);
  refuse(REFUSED_BAD_BODY, load<u32>(stream, S_API), message, bytes);
  return ACTION_PAUSE;
}

/** Looks through the buffered body from `from` to `to`, of which the prompt's reader knows nothing. */
export function guardBytes(stream: usize, from: u32, to: u32): void {
  const record = streamPrompt(stream);
  while (from < to) {
    const mark = inboxMark();
    if (buffer(BUFFER_REQUEST_BODY, from, min(to - from, READ_BYTES)) != STATUS_OK || valueBytes() == 0)
      break;
    from += valueBytes();
    const status = scannerFeed(scannerOf(record), valuePtr(), valueBytes(), onGuardEvent, record);
    inboxReset(mark);
    // What is no JSON is the engine's to refuse.
    if (status == 0) continue;
    clearFlag(stream, F_GUARDED);
    break;
  }
}

/** A chunk of a guarded body after the decision. */
export function guardBody(stream: usize, size: u32, endOfStream: bool): u32 {
  guardBytes(stream, 0, size);
  if (hasForbidden(stream)) return refuseForbidden(stream);
  if (endOfStream) clearFlag(stream, F_GUARDED);
  return ACTION_CONTINUE;
}

function onGuardEvent(record: usize, event: u32, ptr: usize, len: u32): u32 {
  if (event == EVENT_KEY_PIECE) wordAdd(record, ptr, len);
  if (event != EVENT_KEY) return event == EVENT_ARRAY_START ? SINK_INTEGERS : SINK_GO;
  const bytes = wordEnd(record, ptr, len);
  if (scannerDepth(scannerOf(record)) == 1 && isForbiddenField(wordPtr(), bytes)) {
    noteForbidden(record, wordPtr(), bytes);
  }
  return SINK_GO;
}
