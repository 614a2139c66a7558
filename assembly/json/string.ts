// JSON strings: pieces point into the input until the first escape, then into a buffer of unescaped text.
import { JSON_BAD_ESCAPE, JSON_CONTROL_CHARACTER, JsonSink, SINK_INTEGERS } from "./events";
import {
  AT_ESCAPE,
  AT_HIGH,
  AT_PARTIAL,
  AT_STRING_EVENT,
  AT_UNIT,
  PARTIAL_NONE,
  PARTIAL_STRING,
  fail,
  failed,
  stop,
} from "./state";
import { skipText } from "./utf8";

/** Unescaped text gathered before it is handed on; longer strings come in several pieces. */
const TEXT_BYTES: usize = 8192;
/** A run between escapes at least this long is handed on where it stands instead of being copied. */
const RUN_BYTES: usize = 1024;
// 64 bytes of slack: a 16-byte store may reach beyond the text that it adds.
const text: usize = memory.data(8192 + 64, 16);
let textBytes: usize = 0;

const QUOTE: u32 = 0x22;
const BACKSLASH: u32 = 0x5c;
const LETTER_U: u32 = 0x75;

// AT_ESCAPE: 0 = none, 1 = after the backslash, 2…5 = after \u and 0…3 digits.
const ESCAPE_NONE: u8 = 0;
const ESCAPE_BACKSLASH: u8 = 1;
const ESCAPE_DIGITS: u8 = 2;

/**
 * Scans a string from `p`, behind its opening quote or at the start of a chunk that goes on with it. Returns
 * the address behind the closing quote; `end` with PARTIAL_STRING noted; or where the state failed.
 */
export function scanString(state: usize, p: usize, end: usize, sink: JsonSink, context: usize): usize {
  textBytes = 0;
  if (load<u8>(state, AT_ESCAPE) != ESCAPE_NONE || load<u16>(state, AT_HIGH) != 0) {
    return scanEscaped(state, p, end, sink, context);
  }
  const start = p;
  p = skipText(state, p, end);
  if (p < end && !failed(state)) {
    const byte = <u32>load<u8>(p);
    if (byte == QUOTE) {
      store<u8>(state, PARTIAL_NONE, AT_PARTIAL);
      emit(state, 1, start, p - start, sink, context);
      return p + 1;
    }
    if (byte == BACKSLASH) {
      if (!take(state, start, p, sink, context)) return p;
      return scanEscaped(state, p, end, sink, context);
    }
    fail(state, p, JSON_CONTROL_CHARACTER);
  }
  store<u8>(state, PARTIAL_STRING, AT_PARTIAL);
  if (p != start) emit(state, 0, start, p - start, sink, context);
  return p;
}

// From a string's first escape on, or from a chunk that begins inside one.
function scanEscaped(state: usize, p: usize, end: usize, sink: JsonSink, context: usize): usize {
  while (p < end) {
    if (load<u8>(state, AT_ESCAPE) != ESCAPE_NONE || <u32>load<u8>(p) == BACKSLASH) {
      if (textBytes + 64 > TEXT_BYTES && !flush(state, sink, context)) return p;
      const unit = p + 6 <= end && load<u8>(state, AT_ESCAPE) == ESCAPE_NONE ? wholeUnit(p) : NO_UNIT;
      if (unit != NO_UNIT) {
        appendUnit(state, unit);
        p += 6;
        continue;
      }
      p = scanEscape(state, p, end);
      if (failed(state)) break;
      continue;
    }
    endHighSurrogate(state);
    p = copyRun(p, end);
    if (p >= end) break;
    const byte = <u32>load<u8>(p);
    if (byte == QUOTE) {
      store<u8>(state, PARTIAL_NONE, AT_PARTIAL);
      emit(state, 1, text, textBytes, sink, context);
      return p + 1;
    }
    if (byte == BACKSLASH) continue;
    const start = p;
    p = skipText(state, p, end);
    if (p != start && !take(state, start, p, sink, context)) return p;
    if (failed(state)) break;
    if (p == start) {
      fail(state, p, JSON_CONTROL_CHARACTER);
      break;
    }
  }
  store<u8>(state, PARTIAL_STRING, AT_PARTIAL);
  flush(state, sink, context);
  return p;
}

// Hands `bytes` of the string on, as its last part or not. Notes the stop and answers false when the sink stops.
function emit(state: usize, last: u32, ptr: usize, bytes: usize, sink: JsonSink, context: usize): bool {
  const event = <u32>load<u8>(state, AT_STRING_EVENT) + last;
  if (sink(context, event, ptr, <u32>bytes) <= SINK_INTEGERS) return true;
  stop(state);
  return false;
}

function flush(state: usize, sink: JsonSink, context: usize): bool {
  const bytes = textBytes;
  textBytes = 0;
  return bytes == 0 || emit(state, 0, text, bytes, sink, context);
}

// Puts the run [from, to) behind the gathered text, or hands both on when it is long.
function take(state: usize, from: usize, to: usize, sink: JsonSink, context: usize): bool {
  const bytes = to - from;
  if (bytes >= RUN_BYTES || textBytes + bytes + 64 > TEXT_BYTES) {
    return flush(state, sink, context) && emit(state, 0, from, bytes, sink, context);
  }
  memory.copy(text + textBytes, from, bytes);
  textBytes += bytes;
  return true;
}

// Copies printable ASCII and short escapes (line breaks stand in most prompts) up to anything else, `end` or the
// buffer's end.
function copyRun(p: usize, end: usize): usize {
  let to = text + textBytes;
  const limit = text + TEXT_BYTES;
  while (p + 16 <= end && to <= limit) {
    const bytes = v128.load(p);
    v128.store(to, bytes);
    // Lanes of control characters, non-ASCII bytes (both by one signed comparison), quotes and backslashes.
    const special = v128.or(
      i8x16.lt_s(bytes, i8x16.splat(0x20)),
      v128.or(i8x16.eq(bytes, i8x16.splat(0x22)), i8x16.eq(bytes, i8x16.splat(0x5c))),
    );
    const mask = i8x16.bitmask(special);
    if (mask != 0) {
      const plain = <usize>ctz<i32>(mask);
      p += plain;
      to += plain;
      const short = <u32>load<u8>(p) == BACKSLASH && p + 1 < end ? unescaped(<u32>load<u8>(p, 1)) : 0;
      if (short == 0) {
        textBytes = to - text;
        return p;
      }
      store<u8>(to, <u8>short);
      p += 2;
      to++;
      continue;
    }
    p += 16;
    to += 16;
  }
  while (p < end && to <= limit) {
    const byte = <u32>load<u8>(p);
    if (byte < 0x20 || byte >= 0x80 || byte == QUOTE || byte == BACKSLASH) break;
    store<u8>(to, <u8>byte);
    p++;
    to++;
  }
  textBytes = to - text;
  return p;
}

// One escape, or as much of it as there is before `end`. Appends what it stands for.
function scanEscape(state: usize, p: usize, end: usize): usize {
  let progress = load<u8>(state, AT_ESCAPE);
  if (progress == ESCAPE_NONE) {
    p++;
    progress = ESCAPE_BACKSLASH;
  }
  if (progress == ESCAPE_BACKSLASH && p < end) {
    const byte = <u32>load<u8>(p);
    if (byte != LETTER_U) {
      const plain = unescaped(byte);
      if (plain == 0) {
        store<u8>(state, ESCAPE_BACKSLASH, AT_ESCAPE);
        fail(state, p, JSON_BAD_ESCAPE);
        return p;
      }
      endHighSurrogate(state);
      store<u8>(text + textBytes++, <u8>plain);
      store<u8>(state, ESCAPE_NONE, AT_ESCAPE);
      return p + 1;
    }
    p++;
    progress = ESCAPE_DIGITS;
    store<u16>(state, 0, AT_UNIT);
  }
  while (progress >= ESCAPE_DIGITS && p < end) {
    const digit = hexDigit(<u32>load<u8>(p));
    if (digit > 15) {
      store<u8>(state, progress, AT_ESCAPE);
      fail(state, p, JSON_BAD_ESCAPE);
      return p;
    }
    store<u16>(state, <u16>(((<u32>load<u16>(state, AT_UNIT)) << 4) | digit), AT_UNIT);
    p++;
    if (++progress == ESCAPE_DIGITS + 4) {
      appendUnit(state, <u32>load<u16>(state, AT_UNIT));
      progress = ESCAPE_NONE;
    }
  }
  store<u8>(state, progress, AT_ESCAPE);
  return p;
}

const NO_UNIT: u32 = 0xffffffff;

// The code unit of a whole \u escape at p, all four digits at once; NO_UNIT for anything else. Clients that
// write ASCII only (Python's json.dumps) send six bytes for every character of most scripts.
function wholeUnit(p: usize): u32 {
  const digits = load<u32>(p, 2);
  if (load<u16>(p) != 0x755c || (digits & 0x80808080) != 0) return NO_UNIT;
  // Top bits of the bytes that are no digit 0-9, and of those that are no letter a-f or A-F.
  const notDigit = ((digits ^ 0x30303030) + 0x76767676) & 0x80808080;
  const letters = (digits | 0x20202020) ^ 0x60606060;
  const notLetter = ((letters + 0x79797979) | ~(letters + 0x7f7f7f7f)) & 0x80808080;
  if ((notDigit & notLetter) != 0) return NO_UNIT;
  const values = (digits & 0x0f0f0f0f) + (notDigit >> 7) * 9;
  return ((values & 0xff) << 12) | (values & 0xff00) | ((values >> 12) & 0xf0) | (values >> 24);
}

// RFC 8259 section 7. 0 = no such escape.
function unescaped(byte: u32): u32 {
  if (byte == 0x6e) return 10; // n
  switch (byte) {
    case 0x22: // quote
    case 0x2f: // slash
    case 0x5c: // backslash
      return byte;
    case 0x62: // b
      return 8;
    case 0x66: // f
      return 12;
    case 0x72: // r
      return 13;
    case 0x74: // t
      return 9;
    default:
      return 0;
  }
}

function hexDigit(byte: u32): u32 {
  if (byte - 0x30 < 10) return byte - 0x30;
  const letter = (byte | 0x20) - 0x61;
  return letter < 6 ? letter + 10 : 16;
}

// A UTF-16 code unit of a \u escape. A surrogate without its other half becomes U+FFFD.
function appendUnit(state: usize, unit: u32): void {
  if (unit - 0xdc00 < 0x400) {
    const high = <u32>load<u16>(state, AT_HIGH);
    store<u16>(state, 0, AT_HIGH);
    appendCodePoint(high == 0 ? 0xfffd : 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00));
    return;
  }
  endHighSurrogate(state);
  if (unit - 0xd800 < 0x400) store<u16>(state, <u16>unit, AT_HIGH);
  else appendCodePoint(unit);
}

function endHighSurrogate(state: usize): void {
  if (load<u16>(state, AT_HIGH) == 0) return;
  store<u16>(state, 0, AT_HIGH);
  appendCodePoint(0xfffd);
}

function appendCodePoint(code: u32): void {
  const to = text + textBytes;
  if (code < 0x80) {
    store<u8>(to, <u8>code);
    textBytes += 1;
  } else if (code < 0x800) {
    store<u8>(to, <u8>(0xc0 | (code >> 6)));
    store<u8>(to, <u8>(0x80 | (code & 0x3f)), 1);
    textBytes += 2;
  } else if (code < 0x10000) {
    store<u8>(to, <u8>(0xe0 | (code >> 12)));
    store<u8>(to, <u8>(0x80 | ((code >> 6) & 0x3f)), 1);
    store<u8>(to, <u8>(0x80 | (code & 0x3f)), 2);
    textBytes += 3;
  } else {
    store<u8>(to, <u8>(0xf0 | (code >> 18)));
    store<u8>(to, <u8>(0x80 | ((code >> 12) & 0x3f)), 1);
    store<u8>(to, <u8>(0x80 | ((code >> 6) & 0x3f)), 2);
    store<u8>(to, <u8>(0x80 | (code & 0x3f)), 3);
    textBytes += 4;
  }
}
