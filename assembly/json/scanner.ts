// A resumable JSON scanner: chunks of a text in, events out; any chunking gives the same events.
//
// What is accepted is RFC 8259, with the choices it leaves open made as the JSON library of vLLM's stack
// (FastAPI, so Python's json.loads on bytes) makes them, or stricter where its request models refuse the
// value one step later:
//   - a UTF-8 byte order mark before the text is skipped, as json.loads does with bytes;
//   - a surrogate escape without its other half becomes U+FFFD (json.loads keeps it, and pydantic then
//     refuses the string; Go's encoding/json, which llm-d's picker uses, replaces it too);
//   - bytes that are not UTF-8 are a fault (json.loads raises, vLLM answers 400), and so are encoded
//     surrogates;
//   - NaN, Infinity and -Infinity are a fault: json.loads takes them, RFC 8259 and Go's encoding/json do not;
//   - a duplicate name is not the scanner's business: every consumer lets the last one win, as json.loads.
// UTF-16 and UTF-32 texts, which json.loads also takes, are a fault.
import { JSON_DEPTH_MAX } from "../wire/limits";
import {
  EVENT_ARRAY_END,
  EVENT_ARRAY_START,
  EVENT_FALSE,
  EVENT_KEY_PIECE,
  EVENT_NULL,
  EVENT_OBJECT_END,
  EVENT_OBJECT_START,
  EVENT_STRING_PIECE,
  EVENT_TRUE,
  JSON_BAD_ESCAPE,
  JSON_BAD_LITERAL,
  JSON_BAD_NUMBER,
  JSON_EXPECTED_COLON,
  JSON_EXPECTED_COMMA,
  JSON_EXPECTED_KEY,
  JSON_EXPECTED_VALUE,
  JSON_STOPPED,
  JSON_TOO_DEEP,
  JSON_TRAILING,
  JSON_UNEXPECTED_END,
  JsonSink,
  SINK_GO,
  SINK_INTEGERS,
} from "./events";
import { endNumber, numberComplete, scanIntegers, scanNumber } from "./number";
import {
  AT_CHUNK,
  AT_DEPTH,
  AT_ESCAPE,
  AT_FAULT,
  AT_FAULT_BYTE,
  AT_FAULT_OFFSET,
  AT_INTEGERS,
  AT_LITERAL,
  AT_LITERAL_BYTES,
  AT_MODE,
  AT_NUMBER_STATE,
  AT_OBJECTS,
  AT_OFFSET,
  AT_PARTIAL,
  AT_STRING_EVENT,
  PARTIAL_LITERAL,
  PARTIAL_NONE,
  PARTIAL_NUMBER,
  PARTIAL_STRING,
  SCANNER_BYTES,
  fail,
  failed,
  stop,
} from "./state";
import { scanString } from "./string";

export { SCANNER_BYTES } from "./state";

// What the next token may be. The order matters: modes below MODE_COLON take a value or a name.
const MODE_START: u8 = 0;
const MODE_VALUE: u8 = 1;
const MODE_VALUE_OR_END: u8 = 2;
const MODE_KEY: u8 = 3;
const MODE_KEY_OR_END: u8 = 4;
const MODE_COLON: u8 = 5;
const MODE_COMMA_OR_END: u8 = 6;
const MODE_DONE: u8 = 7;

// Literals of AT_LITERAL; the byte order mark is one that gives no event.
const LITERAL_TRUE: u32 = 0;
const LITERAL_FALSE: u32 = 1;
const LITERAL_NULL: u32 = 2;
const LITERAL_MARK: u32 = 3;
const literals: usize = memory.data<u8>([
  0x74,
  0x72,
  0x75,
  0x65,
  0,
  0,
  0,
  0, // true
  0x66,
  0x61,
  0x6c,
  0x73,
  0x65,
  0,
  0,
  0, // false
  0x6e,
  0x75,
  0x6c,
  0x6c,
  0,
  0,
  0,
  0, // null
  0xef,
  0xbb,
  0xbf,
  0,
  0,
  0,
  0,
  0, // byte order mark
]);

/** Starts a new text in the record at `state` (SCANNER_BYTES, 8-byte aligned). */
export function scannerReset(state: usize): void {
  memory.fill(state, 0, SCANNER_BYTES);
}

/**
 * Scans the next `len` bytes of the text, at `ptr`; they are needed during this call only. Events go to
 * `sink` with `context`. Returns JSON_OK, or the JSON_* code of the first fault, from then on for ever.
 */
export function scannerFeed(state: usize, ptr: usize, len: u32, sink: JsonSink, context: usize): u32 {
  if (failed(state)) return <u32>load<u8>(state, AT_FAULT);
  store<u32>(state, <u32>ptr, AT_CHUNK);
  const end = ptr + len;
  let p = ptr;
  if (load<u8>(state, AT_PARTIAL) != PARTIAL_NONE && len != 0) p = resume(state, p, end, sink, context);
  while (p < end && !failed(state)) {
    let byte = <u32>load<u8>(p);
    if (byte <= 0x20) {
      p = skipWhitespace(p, end);
      if (p >= end) break;
      byte = <u32>load<u8>(p);
    }
    const mode = load<u8>(state, AT_MODE);
    if (mode < MODE_KEY) p = scanValue(state, p, end, byte, mode, sink, context);
    else if (mode < MODE_COLON) p = scanKey(state, p, end, byte, mode, sink, context);
    else p = scanBetween(state, p, byte, mode, sink, context);
  }
  const offset = load<u64>(state, AT_OFFSET);
  if (load<u8>(state, AT_FAULT) == <u8>JSON_STOPPED)
    store<u64>(state, offset + <u64>(p - ptr), AT_FAULT_OFFSET);
  store<u64>(state, offset + <u64>len, AT_OFFSET);
  return <u32>load<u8>(state, AT_FAULT);
}

/** Ends the text: a number at its end is handed on, an unfinished text is a fault. Returns as scannerFeed. */
export function scannerEnd(state: usize, sink: JsonSink, context: usize): u32 {
  if (failed(state)) return <u32>load<u8>(state, AT_FAULT);
  const here: usize = 0;
  store<u32>(state, 0, AT_CHUNK);
  const partial = load<u8>(state, AT_PARTIAL);
  if (partial == PARTIAL_NUMBER && numberComplete(state))
    endNumber(state, here, isBatched(state), sink, context);
  if (load<u8>(state, AT_MODE) != MODE_DONE || load<u8>(state, AT_PARTIAL) != PARTIAL_NONE) {
    fail(state, here, JSON_UNEXPECTED_END);
  }
  return <u32>load<u8>(state, AT_FAULT);
}

/** Code of the first fault, JSON_OK if none. */
export function scannerErrorCode(state: usize): u32 {
  return <u32>load<u8>(state, AT_FAULT);
}

/**
 * Offset in the text of the first byte that cannot stand there; the text's length when it ended too early; for
 * JSON_STOPPED a place behind the token at which the sink stopped.
 */
export function scannerErrorOffset(state: usize): u64 {
  return load<u64>(state, AT_FAULT_OFFSET);
}

/** The byte at scannerErrorOffset; 0 when the text ended too early. */
export function scannerErrorByte(state: usize): u32 {
  return <u32>load<u8>(state, AT_FAULT_BYTE);
}

// Details of a fault, for error texts.
/** JSON_EXPECTED_COMMA: in an object (else in an array). JSON_BAD_ESCAPE: in the digits of a \u escape. */
export const DETAIL_INSIDE: u32 = 1;
/** JSON_BAD_NUMBER: behind a minus, a leading zero, a point, an e. */
export const DETAIL_MINUS: u32 = 1;
export const DETAIL_ZERO: u32 = 2;
export const DETAIL_POINT: u32 = 4;

/**
 * More about the fault: a DETAIL_* value (a number's other values are its exponent's); for JSON_BAD_LITERAL 0 for
 * true, 1 for false, 2 for null, 3 for the byte order mark, plus 256 × the letters that were right.
 */
export function scannerErrorDetail(state: usize): u32 {
  switch (<u32>load<u8>(state, AT_FAULT)) {
    case JSON_EXPECTED_COMMA:
      return insideObject(state) ? DETAIL_INSIDE : 0;
    case JSON_BAD_ESCAPE:
      return load<u8>(state, AT_ESCAPE) > 1 ? DETAIL_INSIDE : 0;
    case JSON_BAD_NUMBER:
      return <u32>load<u8>(state, AT_NUMBER_STATE);
    case JSON_BAD_LITERAL:
      return (<u32>load<u8>(state, AT_LITERAL)) | ((<u32>load<u8>(state, AT_LITERAL_BYTES)) << 8);
    default:
      return 0;
  }
}

/** Whether a whole value has been seen; only whitespace may follow. */
export function scannerDone(state: usize): bool {
  return load<u8>(state, AT_MODE) == MODE_DONE && load<u8>(state, AT_PARTIAL) == PARTIAL_NONE;
}

/** Arrays and objects open at this moment; the one whose start or end event is being given counts. */
export function scannerDepth(state: usize): u32 {
  return <u32>load<u8>(state, AT_DEPTH);
}

function resume(state: usize, p: usize, end: usize, sink: JsonSink, context: usize): usize {
  const partial = load<u8>(state, AT_PARTIAL);
  if (partial == PARTIAL_STRING) return scanString(state, p, end, sink, context);
  if (partial == PARTIAL_NUMBER) return scanNumber(state, p, end, isBatched(state), sink, context);
  return scanLiteral(state, p, end, sink, context);
}

function skipWhitespace(p: usize, end: usize): usize {
  // One space or line break is the usual case; blocks are for the indentation of pretty-printed texts.
  for (let i = 0; i < 4 && p < end; i++) {
    if (!isWhitespace(<u32>load<u8>(p))) return p;
    p++;
  }
  while (p + 16 <= end) {
    const bytes = v128.load(p);
    const space = v128.or(i8x16.eq(bytes, i8x16.splat(0x20)), i8x16.eq(bytes, i8x16.splat(0x0a)));
    const other = v128.or(i8x16.eq(bytes, i8x16.splat(0x09)), i8x16.eq(bytes, i8x16.splat(0x0d)));
    const mask = i8x16.bitmask(v128.or(space, other));
    if (mask != 0xffff) return p + <usize>ctz<i32>(~mask);
    p += 16;
  }
  while (p < end && isWhitespace(<u32>load<u8>(p))) p++;
  return p;
}

function isWhitespace(byte: u32): bool {
  return byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09;
}

function isBatched(state: usize): bool {
  const depth = <u64>load<u8>(state, AT_DEPTH);
  return depth > 0 && ((load<u64>(state, AT_INTEGERS) >> (depth - 1)) & 1) != 0;
}

// What is expected behind a value.
function valueDone(state: usize): void {
  store<u8>(state, load<u8>(state, AT_DEPTH) == 0 ? MODE_DONE : MODE_COMMA_OR_END, AT_MODE);
}

function scanValue(
  state: usize,
  p: usize,
  end: usize,
  byte: u32,
  mode: u8,
  sink: JsonSink,
  context: usize,
): usize {
  if (byte == 0x22) {
    valueDone(state);
    store<u8>(state, <u8>EVENT_STRING_PIECE, AT_STRING_EVENT);
    return scanString(state, p + 1, end, sink, context);
  }
  if (byte == 0x7b || byte == 0x5b) return open(state, p, byte == 0x7b, sink, context);
  if (byte - 0x30 <= 9 || byte == 0x2d) {
    const batched = isBatched(state);
    if (batched) {
      const q = scanIntegers(state, p, end, sink, context);
      if (q != p) {
        store<u8>(state, MODE_VALUE, AT_MODE);
        return q;
      }
    }
    valueDone(state);
    return scanNumber(state, p, end, batched, sink, context);
  }
  if (byte == 0x5d && mode == MODE_VALUE_OR_END) return close(state, p, sink, context);
  if (byte == 0x74) return startLiteral(state, p, end, LITERAL_TRUE, sink, context);
  if (byte == 0x66) return startLiteral(state, p, end, LITERAL_FALSE, sink, context);
  if (byte == 0x6e) return startLiteral(state, p, end, LITERAL_NULL, sink, context);
  if (byte == 0xef && mode == MODE_START && atTextStart(state, p)) {
    return startLiteral(state, p, end, LITERAL_MARK, sink, context);
  }
  fail(state, p, JSON_EXPECTED_VALUE);
  return p;
}

function atTextStart(state: usize, p: usize): bool {
  return load<u64>(state, AT_OFFSET) == 0 && p == <usize>load<u32>(state, AT_CHUNK);
}

function scanKey(
  state: usize,
  p: usize,
  end: usize,
  byte: u32,
  mode: u8,
  sink: JsonSink,
  context: usize,
): usize {
  if (byte == 0x22) {
    store<u8>(state, MODE_COLON, AT_MODE);
    store<u8>(state, <u8>EVENT_KEY_PIECE, AT_STRING_EVENT);
    return scanString(state, p + 1, end, sink, context);
  }
  if (byte == 0x7d && mode == MODE_KEY_OR_END) return close(state, p, sink, context);
  fail(state, p, JSON_EXPECTED_KEY);
  return p;
}

function scanBetween(state: usize, p: usize, byte: u32, mode: u8, sink: JsonSink, context: usize): usize {
  if (mode == MODE_COLON) {
    if (byte == 0x3a) store<u8>(state, MODE_VALUE, AT_MODE);
    else fail(state, p, JSON_EXPECTED_COLON);
    return p + 1;
  }
  if (mode == MODE_DONE) {
    fail(state, p, JSON_TRAILING);
    return p;
  }
  const object = insideObject(state);
  if (byte == 0x2c) {
    store<u8>(state, object ? MODE_KEY : MODE_VALUE, AT_MODE);
    return p + 1;
  }
  if (byte == <u32>(object ? 0x7d : 0x5d)) return close(state, p, sink, context);
  fail(state, p, JSON_EXPECTED_COMMA);
  return p;
}

function insideObject(state: usize): bool {
  return ((load<u64>(state, AT_OBJECTS) >> (<u64>load<u8>(state, AT_DEPTH) - 1)) & 1) != 0;
}

function open(state: usize, p: usize, object: bool, sink: JsonSink, context: usize): usize {
  const depth = <u32>load<u8>(state, AT_DEPTH);
  if (depth >= <u32>JSON_DEPTH_MAX) {
    fail(state, p, JSON_TOO_DEEP);
    return p;
  }
  const bit = (<u64>1) << (<u64>depth);
  const objects = load<u64>(state, AT_OBJECTS);
  store<u64>(state, object ? objects | bit : objects & ~bit, AT_OBJECTS);
  store<u8>(state, <u8>(depth + 1), AT_DEPTH);
  store<u8>(state, object ? MODE_KEY_OR_END : MODE_VALUE_OR_END, AT_MODE);
  const answer = sink(context, object ? EVENT_OBJECT_START : EVENT_ARRAY_START, p, 1);
  const integers = load<u64>(state, AT_INTEGERS);
  store<u64>(state, answer == SINK_INTEGERS && !object ? integers | bit : integers & ~bit, AT_INTEGERS);
  if (answer > SINK_INTEGERS) stop(state);
  return p + 1;
}

function close(state: usize, p: usize, sink: JsonSink, context: usize): usize {
  const answer = sink(context, insideObject(state) ? EVENT_OBJECT_END : EVENT_ARRAY_END, p, 1);
  store<u8>(state, load<u8>(state, AT_DEPTH) - 1, AT_DEPTH);
  valueDone(state);
  if (answer > SINK_INTEGERS) stop(state);
  return p + 1;
}

function startLiteral(
  state: usize,
  p: usize,
  end: usize,
  literal: u32,
  sink: JsonSink,
  context: usize,
): usize {
  if (literal != LITERAL_MARK) valueDone(state);
  store<u8>(state, <u8>literal, AT_LITERAL);
  store<u8>(state, 0, AT_LITERAL_BYTES);
  return scanLiteral(state, p, end, sink, context);
}

function scanLiteral(state: usize, p: usize, end: usize, sink: JsonSink, context: usize): usize {
  const literal = <u32>load<u8>(state, AT_LITERAL);
  const bytes = literals + ((<usize>literal) << 3);
  let at = <usize>load<u8>(state, AT_LITERAL_BYTES);
  while (load<u8>(bytes + at) != 0) {
    if (p >= end) {
      store<u8>(state, <u8>at, AT_LITERAL_BYTES);
      store<u8>(state, PARTIAL_LITERAL, AT_PARTIAL);
      return p;
    }
    if (load<u8>(p) != load<u8>(bytes + at)) {
      store<u8>(state, <u8>at, AT_LITERAL_BYTES);
      fail(state, p, JSON_BAD_LITERAL);
      return p;
    }
    p++;
    at++;
  }
  store<u8>(state, PARTIAL_NONE, AT_PARTIAL);
  let answer: u32 = SINK_GO;
  if (literal == LITERAL_TRUE) answer = sink(context, EVENT_TRUE, 0, 0);
  else if (literal == LITERAL_FALSE) answer = sink(context, EVENT_FALSE, 0, 0);
  else if (literal == LITERAL_NULL) answer = sink(context, EVENT_NULL, 0, 0);
  if (answer > SINK_INTEGERS) stop(state);
  return p;
}
