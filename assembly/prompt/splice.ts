// Where the model's name stands in a request body, so that it alone can be exchanged.
//
// The body was accepted by the scanner up to here; it may go on. Of several members "model" of the body's object the
// last one counts, as for json.loads and so for the engine. The name may be written with escapes. What stands deeper
// is never touched.
import { rawEquals, stringEnd } from "../json/raw";
import { ascii, textBytes } from "../text/text";

const MODEL = ascii("model");

/** What locateModel found. */
export const MODEL_NOWHERE: u32 = 0;
/** A value: spliceFrom() to spliceTo(), quotes included, are to be replaced by another value. */
export const MODEL_VALUE: u32 = 1;
/** The body's object has no such member: one can be put at spliceFrom(), behind the opening brace. */
export const MODEL_ABSENT: u32 = 2;

let from: u32 = 0;
let to: u32 = 0;
let empty: bool = false;

/** Offset of the first byte to be replaced. */
export function spliceFrom(): u32 {
  return from;
}
/** Offset behind the last one. */
export function spliceTo(): u32 {
  return to;
}
/** With MODEL_ABSENT: the object has no member at all, so no comma follows. */
export function spliceIntoEmpty(): bool {
  return empty;
}

/** Finds the model in the first `bytes` bytes of a body at `ptr`. A value that is cut by their end counts as not there. */
export function locateModel(ptr: usize, bytes: u32): u32 {
  const end = ptr + bytes;
  let p = skipSpace(ptr, end);
  // A byte-order mark is skipped by json.loads and by our scanner.
  if (p + 3 <= end && load<u8>(p) == 0xef) p = skipSpace(p + 3, end);
  if (p >= end || load<u8>(p) != 0x7b) return MODEL_NOWHERE;
  p++;
  from = to = <u32>(p - ptr);
  let found = MODEL_ABSENT;
  empty = skipSpace(p, end) < end && load<u8>(skipSpace(p, end)) == 0x7d;
  while (true) {
    p = skipSpace(p, end);
    if (p >= end || load<u8>(p) != 0x22) return found;
    const name = p + 1;
    const nameEnd = stringEnd(name, end);
    if (nameEnd >= end) return found;
    p = skipSpace(nameEnd + 1, end);
    if (p >= end) return found;
    const value = skipSpace(p + 1, end);
    const valueEnd = skipValue(value, end);
    if (valueEnd > end) return found;
    if (rawEquals(name, <u32>(nameEnd - name), MODEL, textBytes(MODEL))) {
      from = <u32>(value - ptr);
      to = <u32>(valueEnd - ptr);
      found = MODEL_VALUE;
    }
    p = skipSpace(valueEnd, end);
    if (p >= end || load<u8>(p) != 0x2c) return found;
    p++;
  }
}

function skipSpace(p: usize, end: usize): usize {
  while (p < end && load<u8>(p) <= 0x20) p++;
  return p;
}

// The address behind the value at p; beyond `end` when the value is cut, or might go on there.
function skipValue(p: usize, end: usize): usize {
  if (p >= end) return end + 1;
  const first = <u32>load<u8>(p);
  if (first == 0x22) {
    const quote = stringEnd(p + 1, end);
    return quote >= end ? end + 1 : quote + 1;
  }
  if (first == 0x7b || first == 0x5b) return skipContainer(p, end);
  while (p < end && !isDelimiter(<u32>load<u8>(p))) p++;
  return p < end ? p : end + 1;
}

function isDelimiter(byte: u32): bool {
  return byte == 0x2c || byte == 0x7d || byte == 0x5d || byte <= 0x20;
}

function skipContainer(p: usize, end: usize): usize {
  let depth: u32 = 0;
  while (p < end) {
    const byte = <u32>load<u8>(p);
    p++;
    if (byte == 0x22) {
      p = stringEnd(p, end) + 1;
    } else if (byte == 0x7b || byte == 0x5b) {
      depth++;
    } else if (byte == 0x7d || byte == 0x5d) {
      depth--;
      if (depth == 0) return p;
    }
  }
  return end + 1;
}
