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
import {
  MODE_COLON,
  MODE_DONE,
  MODE_KEY,
  MODE_KEY_OR_END,
  MODE_START,
  MODE_VALUE,
  MODE_VALUE_OR_END,
  close,
  insideObject,
  isBatched,
  open,
  valueDone,
} from "./containers";
import {
  LITERAL_FALSE,
  LITERAL_MARK,
  LITERAL_NULL,
  LITERAL_TRUE,
  scanLiteral,
  startLiteral,
} from "./literal";
import {
  EVENT_KEY_PIECE,
  EVENT_STRING_PIECE,
  JSON_EXPECTED_COLON,
  JSON_EXPECTED_COMMA,
  JSON_EXPECTED_KEY,
  JSON_EXPECTED_VALUE,
  JSON_STOPPED,
  JSON_TRAILING,
  JSON_UNEXPECTED_END,
  JsonSink,
} from "./events";
import { endNumber, numberComplete, scanIntegers, scanNumber } from "./number";
import {
  AT_CHUNK,
  AT_DEPTH,
  AT_FAULT,
  AT_FAULT_OFFSET,
  AT_MODE,
  AT_OFFSET,
  AT_PARTIAL,
  AT_STRING_EVENT,
  PARTIAL_NONE,
  PARTIAL_NUMBER,
  PARTIAL_STRING,
  SCANNER_BYTES,
  fail,
  failed,
} from "./state";
import { scanString } from "./string";

export { SCANNER_BYTES } from "./state";

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

/** Whether a whole value has been seen; only whitespace may follow. */
export function scannerDone(state: usize): bool {
  return load<u8>(state, AT_MODE) == MODE_DONE && load<u8>(state, AT_PARTIAL) == PARTIAL_NONE;
}

/** Arrays and objects open at this moment; the one whose start or end event is being given counts. */
export function scannerDepth(state: usize): u32 {
  return <u32>load<u8>(state, AT_DEPTH);
}

/** Offset in the text of the byte at `p`, the address that came with an event of `{`, `}`, `[` or `]`; the first 4 GiB. */
export function scannerPosition(state: usize, p: usize): u32 {
  return <u32>load<u64>(state, AT_OFFSET) + <u32>(p - <usize>load<u32>(state, AT_CHUNK));
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
  if (byte == 0x74) return startWord(state, p, end, LITERAL_TRUE, sink, context);
  if (byte == 0x66) return startWord(state, p, end, LITERAL_FALSE, sink, context);
  if (byte == 0x6e) return startWord(state, p, end, LITERAL_NULL, sink, context);
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

function startWord(state: usize, p: usize, end: usize, literal: u32, sink: JsonSink, context: usize): usize {
  valueDone(state);
  return startLiteral(state, p, end, literal, sink, context);
}
