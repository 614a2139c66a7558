// The response of a rewritten request: the client reads the model's name that it sent. Other responses never come here.
import { BUFFER_RESPONSE_BODY, MAP_RESPONSE_HEADERS, STATUS_OK } from "../abi/constants";
import { buffer, header, removeHeader, valueBytes, valuePtr } from "../abi/host";
import { inboxMark, inboxReset } from "../abi/inbox";
import { setBufferStart } from "../abi/set-buffer";
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

/** Bytes of one chunk that are looked at. A larger one, and all after it, passes as it is and is counted. */
export const RESTORE_CHUNK_BYTES_MAX: u32 = 1048576;
/** Bytes of an edited chunk; one that grows beyond likewise. */
const OUT_BYTES: u32 = 1310720;
const out: usize = memory.data(1310720);

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
  let ptr: usize = mark;
  let fits = size <= RESTORE_CHUNK_BYTES_MAX;
  if (fits && size > 0) {
    fits = buffer(BUFFER_RESPONSE_BODY, 0, size) == STATUS_OK && valueBytes() == size;
    ptr = valuePtr();
  }
  // Of a chunk that is not read only what was held back before it goes out, in front of it.
  const isWhole = restoreFeed(record, ptr, fits ? size : 0, out, OUT_BYTES, endOfStream || !fits);
  inboxReset(mark);
  if (restoreTaken() > 0 || restoreWritten() > 0) {
    setBufferStart(BUFFER_RESPONSE_BODY, restoreTaken(), out, restoreWritten());
  }
  if (isWhole && fits) return;
  clearFlag(stream, F_RESTORING);
  countUp(COUNT_RESTORES_MISSED);
}
