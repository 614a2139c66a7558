// The members of a JSON text's object, one after the other, as they stand: for edits that keep every other byte.
//
// The text was accepted by the scanner up to its end here; it may go on. A member that is cut by the end counts as not
// there. What stands deeper is passed over.
import { rawEquals, stringEnd } from "./raw";
import { textBytes } from "../text/text";

let start: usize = 0;
let limit: usize = 0;
let at: usize = 0;
let open: u32 = 0;
let name: usize = 0;
let nameEnd: usize = 0;
let value: usize = 0;
let valueEnd: usize = 0;
let closed: bool = false;
let known: usize = 0;
let knownEnd: usize = 0;

/** Starts over the `bytes` bytes at `ptr`; false when they do not begin with an object. */
export function membersBegin(ptr: usize, bytes: u32): bool {
  start = ptr;
  limit = ptr + bytes;
  closed = false;
  known = 0;
  at = skipSpace(ptr);
  // A byte-order mark is skipped by json.loads and by our scanner.
  if (at + 3 <= limit && load<u8>(at) == 0xef) at = skipSpace(at + 3);
  if (at >= limit || load<u8>(at) != 0x7b) return false;
  at++;
  open = <u32>(at - start);
  return true;
}

/**
 * The array that begins at offset `from` ends in front of `to`, as its reader found: it is not walked again. After
 * membersBegin(); `to` 0: none is known.
 */
export function membersKnow(from: u32, to: u32): void {
  known = to > from && start + to <= limit ? start + from : 0;
  knownEnd = start + to;
}

/** Offset behind the opening brace. */
export function membersOpen(): u32 {
  return open;
}

/** Whether the object has no member at all. */
export function membersEmpty(): bool {
  const first = skipSpace(start + open);
  return first < limit && load<u8>(first) == 0x7d;
}

/** Steps to the next member; false behind the last one that is whole. */
export function membersNext(): bool {
  if (closed) return false;
  const p = skipSpace(at);
  if (p >= limit || load<u8>(p) != 0x22) {
    closed = p < limit && load<u8>(p) == 0x7d;
    at = p;
    return false;
  }
  const end = stringEnd(p + 1, limit);
  if (end >= limit) return false;
  const colon = skipSpace(end + 1);
  if (colon >= limit) return false;
  const from = skipSpace(colon + 1);
  const to = skipValue(from);
  if (to > limit) return false;
  name = p;
  nameEnd = end + 1;
  value = from;
  valueEnd = to;
  at = skipSpace(to);
  if (at < limit && load<u8>(at) == 0x2c) at++;
  return true;
}

/** Whether the object's closing brace was reached. */
export function membersClosed(): bool {
  return closed;
}

/** Address of the member at hand: of its name's opening quote. */
export function memberStart(): usize {
  return name;
}
/** Of its value. */
export function memberValue(): usize {
  return value;
}
/** Behind its value. */
export function memberEnd(): usize {
  return valueEnd;
}
/** Whether its name, which may be written with escapes, is `text`. */
export function memberIs(text: usize): bool {
  return rawEquals(name + 1, <u32>(nameEnd - name - 2), text, textBytes(text));
}

function skipSpace(p: usize): usize {
  while (p < limit && load<u8>(p) <= 0x20) p++;
  return p;
}

// The address behind the value at p; beyond the limit when the value is cut, or might go on there.
function skipValue(p: usize): usize {
  if (p >= limit) return limit + 1;
  if (p == known) return knownEnd;
  const first = <u32>load<u8>(p);
  if (first == 0x22) {
    const quote = stringEnd(p + 1, limit);
    return quote >= limit ? limit + 1 : quote + 1;
  }
  if (first == 0x7b || first == 0x5b) return skipContainer(p);
  while (p < limit && !isDelimiter(<u32>load<u8>(p))) p++;
  return p < limit ? p : limit + 1;
}

function isDelimiter(byte: u32): bool {
  return byte == 0x2c || byte == 0x7d || byte == 0x5d || byte <= 0x20;
}

function skipContainer(p: usize): usize {
  let depth: u32 = 0;
  while (p < limit) {
    const byte = <u32>load<u8>(p);
    p++;
    if (byte == 0x22) {
      p = stringEnd(p, limit) + 1;
    } else if (byte == 0x7b || byte == 0x5b) {
      depth++;
    } else if (byte == 0x7d || byte == 0x5d) {
      depth--;
      if (depth == 0) return p;
    }
  }
  return limit + 1;
}
