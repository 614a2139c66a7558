// The response of a rewritten request: the client reads the model's name that it sent. Other responses never come here.
import { BUFFER_RESPONSE_BODY, MAP_RESPONSE_HEADERS, STATUS_OK } from "../abi/constants";
import { buffer, header, removeHeader, valueBytes, valuePtr } from "../abi/host";
import { inboxAllocate, inboxMark, inboxReset } from "../abi/inbox";
import { addToBuffer, setBufferStart } from "../abi/set-buffer";
import {
  restoreBegin,
  restoreClientBytes,
  restoreFeed,
  restoreTaken,
  restoreWritten,
} from "../prompt/restore";
import { textEquals, textStarts } from "../text/text";
import { COUNT_RESTORES_MISSED, countUp } from "./counters";
import {
  H_CONTENT_ENCODING,
  H_CONTENT_LENGTH,
  H_CONTENT_TYPE,
  V_EVENT_STREAM,
  V_IDENTITY,
  V_JSON,
} from "./names";
import { restoreRecord } from "./rewrite";
import { F_RESTORING, clearFlag, setFlag } from "./streams";

/** Bytes of a chunk that are looked at in one go; with what they become they fit the inbox. */
const WINDOW_BYTES: u32 = 524288;
/** Bytes of what they become, up to the last name. A response that grows beyond passes as it is from there on, and is counted. */
const OUT_BYTES: u32 = 655360;

/** Response headers of a rewritten stream: JSON and event streams will be read, unless they are compressed. */
export function restoreHeaders(stream: usize): void {
  const record = restoreRecord(stream);
  if (restoreClientBytes(record) == 0) return;
  if (header(MAP_RESPONSE_HEADERS, H_CONTENT_TYPE) != STATUS_OK) return;
  const isEventStream = textStarts(V_EVENT_STREAM, valuePtr(), valueBytes());
  if (!isEventStream && !textStarts(V_JSON, valuePtr(), valueBytes())) return;
  if (isEncoded()) return countUp(COUNT_RESTORES_MISSED);
  restoreBegin(record, isEventStream);
  setFlag(stream, F_RESTORING);
  // The client's name may be shorter or longer than the model's; how often it stands there is not known yet.
  removeHeader(MAP_RESPONSE_HEADERS, H_CONTENT_LENGTH);
}

function isEncoded(): bool {
  if (header(MAP_RESPONSE_HEADERS, H_CONTENT_ENCODING) != STATUS_OK || valueBytes() == 0) return false;
  return !textEquals(V_IDENTITY, valuePtr(), valueBytes());
}

/** A chunk of `size` bytes of such a response; the last one may be empty. */
export function restoreBody(stream: usize, size: u32, endOfStream: bool): void {
  const record = restoreRecord(stream);
  const mark = inboxMark();
  const fits = size > WINDOW_BYTES ? rotate(record, size, endOfStream) : edit(record, size, endOfStream);
  inboxReset(mark);
  if (fits) return;
  clearFlag(stream, F_RESTORING);
  countUp(COUNT_RESTORES_MISSED);
}

function edit(record: usize, size: u32, isLast: bool): bool {
  if (size > 0 && buffer(BUFFER_RESPONSE_BODY, 0, size) != STATUS_OK) return false;
  const out = inboxAllocate(OUT_BYTES);
  const fits = restoreFeed(record, valuePtr(), size, out, OUT_BYTES, isLast);
  if (restoreTaken() > 0 || restoreWritten() > 0) {
    setBufferStart(BUFFER_RESPONSE_BODY, restoreTaken(), out, restoreWritten());
  }
  return fits;
}

// A chunk too large to be held here whole: window after window is taken off its beginning and put behind its end.
function rotate(record: usize, size: u32, isLast: bool): bool {
  const mark = inboxMark();
  let fits = true;
  for (let at: u32 = 0; at < size; at += WINDOW_BYTES) {
    const bytes = min(WINDOW_BYTES, size - at);
    if (buffer(BUFFER_RESPONSE_BODY, 0, bytes) != STATUS_OK) return false;
    const window = valuePtr();
    let taken: u32 = 0;
    if (fits) {
      const out = inboxAllocate(OUT_BYTES);
      fits = restoreFeed(record, window, bytes, out, OUT_BYTES, isLast && at + bytes == size);
      taken = restoreTaken();
      addToBuffer(BUFFER_RESPONSE_BODY, out, restoreWritten());
    }
    addToBuffer(BUFFER_RESPONSE_BODY, window + taken, bytes - taken);
    setBufferStart(BUFFER_RESPONSE_BODY, bytes, window, 0);
    inboxReset(mark);
  }
  return fits;
}
