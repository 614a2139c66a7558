// Gives the client's name of a rewritten model back in the response: the value of "model", nothing else.
//
// Places: the document's own "model", and that of its "response" (Responses API) or "message" (Anthropic), which are
// all that OpenAI's and Anthropic's APIs have. A document is a JSON body, or a data line of server-sent events. Only a
// value that says the model's name is exchanged, as in llm-d (llm-d-router pkg/epp/handlers @ ebab6879, rewriteModelName,
// which replaces the member's text wherever it stands): what an engine calls by another name stays. A value that a
// chunk's end cuts is held back until it is whole.
import { rawEquals, skipPlain } from "../json/raw";
import { writeBegin, writeBytes, writeCut, writeJsonInner, writeLength } from "../text/text";
import { isWord } from "./fields";
import {
  AT_CLIENT,
  AT_CLIENT_BYTES,
  AT_DEPTH,
  AT_ESCAPE,
  AT_EVENT_STREAM,
  AT_EXPECTS_NAME,
  AT_HELD,
  AT_HELD_BYTES,
  AT_INNER,
  AT_LINE,
  AT_MODEL,
  AT_MODEL_BYTES,
  AT_NAME,
  AT_PREFIX,
  AT_ROOT,
  AT_STRING,
  AT_WORD,
  AT_WORD_BYTES,
  LINE_DATA,
  LINE_SKIP,
  LINE_START,
  NAME_INNER,
  NAME_MODEL,
  NAME_OTHER,
  RESTORE_HELD_BYTES_MAX,
  STRING_MODEL,
  STRING_NAME,
  STRING_NONE,
  STRING_OTHER,
  WORD_BYTES_MAX,
} from "./restore-layout";

const QUOTE: u32 = 0x22;
const BACKSLASH: u32 = 0x5c;
const LINE_FEED: u32 = 10;
const CARRIAGE_RETURN: u32 = 13;
const PREFIX_BYTES: u32 = 5;
const prefix: usize = memory.data<u8>([0x64, 0x61, 0x74, 0x61, 0x3a]); // data:

/** Names the model that the request was rewritten to: `bytes` ≤ RESTORE_NAME_BYTES_MAX bytes of UTF-8. */
export function restoreSetModel(record: usize, ptr: usize, bytes: u32): void {
  memory.copy(record + AT_MODEL, ptr, bytes);
  store<u16>(record, <u16>bytes, AT_MODEL_BYTES);
}

/** The name that the client used, likewise, but left where it is for as long as the record is used; 0 bytes = none. */
export function restoreSetClient(record: usize, ptr: usize, bytes: u32): void {
  store<u32>(record, <u32>ptr, AT_CLIENT);
  store<u16>(record, <u16>bytes, AT_CLIENT_BYTES);
}

/** The model's name in the record, restoreModelBytes() long; 0 = none was set. */
export function restoreModelPtr(record: usize): usize {
  return record + AT_MODEL;
}
export function restoreModelBytes(record: usize): u32 {
  return <u32>load<u16>(record, AT_MODEL_BYTES);
}
export function restoreClientBytes(record: usize): u32 {
  return <u32>load<u16>(record, AT_CLIENT_BYTES);
}

/** Starts a response. The names in the record stay. */
export function restoreBegin(record: usize, isEventStream: bool): void {
  memory.fill(record, 0, AT_CLIENT_BYTES);
  store<u8>(record, isEventStream ? 1 : 0, AT_EVENT_STREAM);
}

const heldBefore: usize = memory.data(304);

// The edit in hand: up to where the chunk stands in the output, and where a model's value began.
let copied: usize = 0;
let valueStart: usize = 0;
let taken: u32 = 0;
let written: u32 = 0;

/** After restoreFeed: this many bytes at the chunk's beginning are replaced … */
export function restoreTaken(): u32 {
  return taken;
}
/** … by this many bytes of the output; 0 and 0 = the chunk stays as it is. */
export function restoreWritten(): u32 {
  return written;
}

/**
 * The next `bytes` bytes of the response at `ptr`. What is to replace their beginning is put into the `outBytes` bytes
 * at `out` (at least RESTORE_HELD_BYTES_MAX). `isLast`: nothing is held back. False: it did not fit; then the chunk stays as it is but for what was
 * held back, and the response is to be fed no more.
 */
export function restoreFeed(
  record: usize,
  ptr: usize,
  bytes: u32,
  out: usize,
  outBytes: u32,
  isLast: bool,
): bool {
  copied = ptr;
  valueStart = ptr;
  taken = 0;
  written = 0;
  writeBegin(out, outBytes);
  const heldBytes = <u32>load<u16>(record, AT_HELD_BYTES);
  memory.copy(heldBefore, record + AT_HELD, heldBytes);
  walk(record, ptr, ptr + bytes);
  if (load<u8>(record, AT_STRING) == STRING_MODEL) {
    if (isLast) giveUp(record);
    else holdBack(record, ptr + bytes);
  }
  const fits = !writeCut();
  if (!fits) {
    copied = ptr;
    writeBegin(out, outBytes);
    writeBytes(heldBefore, heldBytes);
  }
  taken = <u32>(copied - ptr);
  written = writeLength();
  return fits;
}

function walk(record: usize, p: usize, end: usize): void {
  const isStream = load<u8>(record, AT_EVENT_STREAM) != 0;
  while (p < end) {
    if (isStream && load<u8>(record, AT_LINE) != LINE_DATA) {
      p = outsideData(record, p, end);
      continue;
    }
    if (load<u8>(record, AT_STRING) != STRING_NONE) {
      p = insideString(record, p, end);
      continue;
    }
    const byte = <u32>load<u8>(p);
    if (byte == QUOTE) startString(record, p);
    else if (isStream && isBreak(byte)) endLine(record);
    else structure(record, byte);
    p++;
  }
}

function isBreak(byte: u32): bool {
  return byte == LINE_FEED || byte == CARRIAGE_RETURN;
}

// A line's beginning, or the rest of a line without data.
function outsideData(record: usize, p: usize, end: usize): usize {
  if (load<u8>(record, AT_LINE) == LINE_SKIP) {
    while (p < end && !isBreak(<u32>load<u8>(p))) p++;
    if (p >= end) return end;
    endLine(record);
    return p + 1;
  }
  let matched = <u32>load<u8>(record, AT_PREFIX);
  while (p < end && matched < PREFIX_BYTES && load<u8>(p) == load<u8>(prefix + matched)) {
    p++;
    matched++;
  }
  if (matched == PREFIX_BYTES) {
    store<u8>(record, LINE_DATA, AT_LINE);
    matched = 0;
  } else if (p < end) {
    // A line break here is an empty line's; the next line begins behind it.
    store<u8>(record, isBreak(<u32>load<u8>(p)) ? LINE_START : LINE_SKIP, AT_LINE);
    matched = 0;
    p++;
  }
  store<u8>(record, <u8>matched, AT_PREFIX);
  return p;
}

// A document ends with its line, whatever was open in it.
function endLine(record: usize): void {
  store<u8>(record, LINE_START, AT_LINE);
  store<u8>(record, 0, AT_PREFIX);
  store<u32>(record, 0, AT_DEPTH);
  store<u8>(record, STRING_NONE, AT_STRING);
  store<u8>(record, 0, AT_ESCAPE);
  store<u8>(record, 0, AT_EXPECTS_NAME);
  store<u8>(record, NAME_OTHER, AT_NAME);
}

// Whether the innermost that is open is an object in which a model may stand.
function isPlace(record: usize): bool {
  const depth = load<u32>(record, AT_DEPTH);
  if (depth == 1) return load<u8>(record, AT_ROOT) != 0;
  return depth == 2 && load<u8>(record, AT_INNER) != 0;
}

function structure(record: usize, byte: u32): void {
  const depth = load<u32>(record, AT_DEPTH);
  switch (byte) {
    case 0x7b: // {
    case 0x5b: // [
      if (depth == 0) store<u8>(record, byte == 0x7b ? 1 : 0, AT_ROOT);
      else if (depth == 1) {
        const isInner = byte == 0x7b && isPlace(record) && load<u8>(record, AT_NAME) == NAME_INNER;
        store<u8>(record, isInner ? 1 : 0, AT_INNER);
      }
      store<u32>(record, depth + 1, AT_DEPTH);
      expectName(record);
      return;
    case 0x7d: // }
    case 0x5d: // ]
      if (depth > 0) store<u32>(record, depth - 1, AT_DEPTH);
      store<u8>(record, 0, AT_EXPECTS_NAME);
      store<u8>(record, NAME_OTHER, AT_NAME);
      return;
    case 0x2c: // ,
      return expectName(record);
    default:
      return;
  }
}

function expectName(record: usize): void {
  store<u8>(record, isPlace(record) ? 1 : 0, AT_EXPECTS_NAME);
  store<u8>(record, NAME_OTHER, AT_NAME);
}

function startString(record: usize, quote: usize): void {
  let kind = STRING_OTHER;
  if (load<u8>(record, AT_EXPECTS_NAME) != 0) {
    kind = STRING_NAME;
    store<u8>(record, 0, AT_EXPECTS_NAME);
    store<u8>(record, 0, AT_WORD_BYTES);
  } else if (isPlace(record) && load<u8>(record, AT_NAME) == NAME_MODEL) {
    kind = STRING_MODEL;
    store<u16>(record, 0, AT_HELD_BYTES);
    valueStart = quote + 1;
  }
  store<u8>(record, kind, AT_STRING);
}

function insideString(record: usize, p: usize, end: usize): usize {
  const kind = load<u8>(record, AT_STRING);
  const start = p;
  if (load<u8>(record, AT_ESCAPE) != 0) {
    store<u8>(record, 0, AT_ESCAPE);
    p++;
  } else {
    p = skipPlain(p, end);
    if (p < end) {
      const byte = <u32>load<u8>(p);
      if (byte == QUOTE) {
        if (kind == STRING_NAME) addWord(record, start, <u32>(p - start));
        endString(record, kind, p);
        return p + 1;
      }
      if (isBreak(byte) && load<u8>(record, AT_EVENT_STREAM) != 0) {
        if (kind == STRING_MODEL) giveUp(record);
        endLine(record);
        return p + 1;
      }
      if (byte == BACKSLASH) store<u8>(record, 1, AT_ESCAPE);
      p++;
    }
  }
  if (kind == STRING_NAME) addWord(record, start, <u32>(p - start));
  return p;
}

// A longer word is none that matters; engines write the names of members without escapes.
function addWord(record: usize, ptr: usize, bytes: u32): void {
  const held = <u32>load<u8>(record, AT_WORD_BYTES);
  const total = min<u32>(held + bytes, WORD_BYTES_MAX + 1);
  if (total <= WORD_BYTES_MAX) memory.copy(record + AT_WORD + held, ptr, bytes);
  store<u8>(record, <u8>total, AT_WORD_BYTES);
}

function endString(record: usize, kind: u8, quote: usize): void {
  store<u8>(record, STRING_NONE, AT_STRING);
  if (kind == STRING_NAME) {
    const bytes = <u32>load<u8>(record, AT_WORD_BYTES);
    const word = record + AT_WORD;
    let name = NAME_OTHER;
    if (isWord(word, bytes, "model")) name = NAME_MODEL;
    else if (isWord(word, bytes, "response") || isWord(word, bytes, "message")) name = NAME_INNER;
    store<u8>(record, name, AT_NAME);
  } else if (kind == STRING_MODEL) {
    endModel(record, quote);
  }
}

// The value is whole: [valueStart, quote), with what was held back of it before this chunk in front.
function endModel(record: usize, quote: usize): void {
  const held = <u32>load<u16>(record, AT_HELD_BYTES);
  const bytes = <u32>(quote - valueStart);
  const model = record + AT_MODEL;
  const modelBytes = <u32>load<u16>(record, AT_MODEL_BYTES);
  let isOurs = false;
  if (held == 0) {
    isOurs = rawEquals(valueStart, bytes, model, modelBytes);
  } else if (held + bytes <= RESTORE_HELD_BYTES_MAX) {
    memory.copy(record + AT_HELD + held, valueStart, bytes);
    isOurs = rawEquals(record + AT_HELD, held + bytes, model, modelBytes);
  }
  if (!isOurs) return giveUp(record);
  writeBytes(copied, <u32>(valueStart - copied));
  writeJsonInner(<usize>load<u32>(record, AT_CLIENT), load<u16>(record, AT_CLIENT_BYTES));
  copied = quote;
  store<u16>(record, 0, AT_HELD_BYTES);
}

// The value stays as it is: what was held back of it goes out. It was the chunk's beginning, so nothing is before it.
function giveUp(record: usize): void {
  const held = <u32>load<u16>(record, AT_HELD_BYTES);
  if (held > 0) writeBytes(record + AT_HELD, held);
  store<u16>(record, 0, AT_HELD_BYTES);
  if (load<u8>(record, AT_STRING) == STRING_MODEL) store<u8>(record, STRING_OTHER, AT_STRING);
}

// The chunk ends inside the value: its beginning waits for the rest, unless it is longer than any name of ours.
function holdBack(record: usize, end: usize): void {
  const held = <u32>load<u16>(record, AT_HELD_BYTES);
  const bytes = <u32>(end - valueStart);
  if (held + bytes > RESTORE_HELD_BYTES_MAX) return giveUp(record);
  writeBytes(copied, <u32>(valueStart - copied));
  memory.copy(record + AT_HELD + held, valueStart, bytes);
  store<u16>(record, <u16>(held + bytes), AT_HELD_BYTES);
  copied = end;
}
