// JSON numbers: the RFC 8259 grammar byte by byte, and whole runs of plain integers without a call for each.
import {
  EVENT_INTEGERS,
  EVENT_NUMBER,
  JSON_BAD_NUMBER,
  JsonSink,
  NUMBER_BYTES_MAX,
  SINK_INTEGERS,
} from "./events";
import {
  AT_NUMBER,
  AT_NUMBER_BYTES,
  AT_NUMBER_STATE,
  AT_PARTIAL,
  PARTIAL_NONE,
  PARTIAL_NUMBER,
  fail,
  stop,
} from "./state";

// Where in the grammar the next byte stands.
export const NUMBER_FIRST: u8 = 0;
const AFTER_MINUS: u8 = 1;
const AFTER_ZERO: u8 = 2;
const IN_INTEGER: u8 = 3;
const AFTER_POINT: u8 = 4;
const IN_FRACTION: u8 = 5;
const AFTER_E: u8 = 6;
const AFTER_E_SIGN: u8 = 7;
const IN_EXPONENT: u8 = 8;
const REFUSED: u8 = 254;
const ENDED: u8 = 255;

/** Integers handed on at a time. */
const BATCH: u32 = 512;
const batch: usize = memory.data(512 * 4, 16);

/**
 * Scans a number from `p`, its first byte or the start of a chunk that goes on with it; `integers`: the
 * array around it is batched. Returns the address behind it; `end` with PARTIAL_NUMBER noted; or where the
 * state failed.
 */
export function scanNumber(
  state: usize,
  p: usize,
  end: usize,
  integers: bool,
  sink: JsonSink,
  context: usize,
): usize {
  const start = p;
  const held = <u32>load<u8>(state, AT_NUMBER_BYTES);
  let at = load<u8>(state, AT_NUMBER_STATE);
  while (p < end) {
    const next = step(at, <u32>load<u8>(p));
    if (next >= REFUSED) {
      if (next == REFUSED) {
        store<u8>(state, at, AT_NUMBER_STATE);
        fail(state, p, JSON_BAD_NUMBER);
        return p;
      }
      break;
    }
    at = next;
    p++;
  }
  const bytes = <u32>(p - start);
  if (p < end && held == 0) {
    emitNumber(state, start, bytes, integers, sink, context);
    return p;
  }
  hold(state, held, start, bytes);
  store<u8>(state, at, AT_NUMBER_STATE);
  if (p < end) return endNumber(state, p, integers, sink, context);
  store<u8>(state, PARTIAL_NUMBER, AT_PARTIAL);
  return p;
}

/** Ends a number that a chunk's end had cut; `p` is the address behind it. */
export function endNumber(state: usize, p: usize, integers: bool, sink: JsonSink, context: usize): usize {
  const bytes = <u32>load<u8>(state, AT_NUMBER_BYTES);
  store<u8>(state, 0, AT_NUMBER_BYTES);
  store<u8>(state, PARTIAL_NONE, AT_PARTIAL);
  store<u8>(state, NUMBER_FIRST, AT_NUMBER_STATE);
  emitNumber(state, state + AT_NUMBER, bytes, integers, sink, context);
  return p;
}

/** Whether the number that a chunk's end had cut may end there. */
export function numberComplete(state: usize): bool {
  return step(load<u8>(state, AT_NUMBER_STATE), 0x20) == ENDED;
}

// Keeps a cut number's bytes. One more than NUMBER_BYTES_MAX stands for all longer ones.
function hold(state: usize, held: u32, ptr: usize, bytes: u32): void {
  const total = min<u32>(held + bytes, NUMBER_BYTES_MAX + 1);
  const kept = min<u32>(total, NUMBER_BYTES_MAX);
  if (kept > held) memory.copy(state + AT_NUMBER + held, ptr, kept - held);
  store<u8>(state, <u8>total, AT_NUMBER_BYTES);
}

function emitNumber(
  state: usize,
  ptr: usize,
  bytes: u32,
  integers: bool,
  sink: JsonSink,
  context: usize,
): void {
  let answer: u32;
  if (integers && isPlainInteger(ptr, bytes)) {
    answer = sink(context, EVENT_INTEGERS, batch, 1);
  } else {
    answer = sink(context, EVENT_NUMBER, ptr, bytes > NUMBER_BYTES_MAX ? 0 : bytes);
  }
  if (answer > SINK_INTEGERS) stop(state);
}

// Whether the number is digits only and below 2^32; puts its value into the batch.
function isPlainInteger(ptr: usize, bytes: u32): bool {
  if (bytes > 10) return false;
  let value: u64 = 0;
  for (let i: u32 = 0; i < bytes; i++) {
    const digit = <u32>load<u8>(ptr + i) - 0x30;
    if (digit > 9) return false;
    value = value * 10 + digit;
  }
  store<u32>(batch, <u32>value);
  return value <= <u64>u32.MAX_VALUE;
}

/**
 * Takes plain integers with a comma behind each from `p`, where a value is expected, as long as they are
 * simple (up to 7 digits). Hands them on in batches. Returns the address of the first byte not taken, where
 * again a value is expected.
 */
export function scanIntegers(state: usize, p: usize, end: usize, sink: JsonSink, context: usize): usize {
  let count: u32 = 0;
  while (p + 9 <= end) {
    const digits = load<u64>(p) ^ 0x3030303030303030;
    const others = ((digits + 0x7676767676767676) | digits) & 0x8080808080808080;
    const length = <usize>(ctz<u64>(others) >> 3);
    if (length - 1 > 6 || <u32>load<u8>(p + length) != 0x2c) break;
    if (length > 1 && (digits & 0xff) == 0) break;
    store<u32>(batch + ((<usize>count) << 2), eightDigits(digits << (64 - ((<u64>length) << 3))));
    p += length + 1;
    if (<u32>load<u8>(p) == 0x20) p++;
    if (++count == BATCH) {
      if (sink(context, EVENT_INTEGERS, batch, count) > SINK_INTEGERS) {
        stop(state);
        return p;
      }
      count = 0;
    }
  }
  if (count > 0 && sink(context, EVENT_INTEGERS, batch, count) > SINK_INTEGERS) stop(state);
  return p;
}

// Value of eight decimal digits, the first in the lowest byte: pairs, then fours, then eight at once.
function eightDigits(digits: u64): u32 {
  digits = digits * 10 + (digits >> 8);
  const low = (digits & 0x000000ff000000ff) * (100 + ((<u64>1000000) << 32));
  const high = ((digits >> 16) & 0x000000ff000000ff) * (1 + ((<u64>10000) << 32));
  return <u32>((low + high) >> 32);
}

function step(at: u8, byte: u32): u8 {
  const digit = byte - 0x30 <= 9;
  switch (at) {
    case NUMBER_FIRST:
      if (byte == 0x2d) return AFTER_MINUS;
      return byte == 0x30 ? AFTER_ZERO : digit ? IN_INTEGER : REFUSED;
    case AFTER_MINUS:
      return byte == 0x30 ? AFTER_ZERO : digit ? IN_INTEGER : REFUSED;
    case AFTER_ZERO:
      if (digit) return REFUSED;
      return byte == 0x2e ? AFTER_POINT : (byte | 0x20) == 0x65 ? AFTER_E : ENDED;
    case IN_INTEGER:
      if (digit) return IN_INTEGER;
      return byte == 0x2e ? AFTER_POINT : (byte | 0x20) == 0x65 ? AFTER_E : ENDED;
    case AFTER_POINT:
      return digit ? IN_FRACTION : REFUSED;
    case IN_FRACTION:
      if (digit) return IN_FRACTION;
      return (byte | 0x20) == 0x65 ? AFTER_E : ENDED;
    case AFTER_E:
      if (byte == 0x2b || byte == 0x2d) return AFTER_E_SIGN;
      return digit ? IN_EXPONENT : REFUSED;
    case AFTER_E_SIGN:
      return digit ? IN_EXPONENT : REFUSED;
    default:
      return digit ? IN_EXPONENT : ENDED;
  }
}
