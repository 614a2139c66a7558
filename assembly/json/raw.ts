// JSON as it stands in its text, for edits that keep every other byte: ends of strings, comparison with escapes.
//
// Meant for texts that a reader of this folder has accepted, or that an engine wrote: nothing is checked.
const QUOTE: u32 = 0x22;
const BACKSLASH: u32 = 0x5c;

/**
 * The first quote, backslash or control character at or behind `p`, or `end`. Control characters do not occur inside
 * strings; in an event stream a line break ends whatever was open.
 */
export function skipPlain(p: usize, end: usize): usize {
  while (p + 16 <= end) {
    const bytes = v128.load(p);
    // Unsigned: bytes of UTF-8 sequences are plain.
    const special = v128.or(
      i8x16.lt_u(bytes, i8x16.splat(0x20)),
      v128.or(i8x16.eq(bytes, i8x16.splat(0x22)), i8x16.eq(bytes, i8x16.splat(0x5c))),
    );
    const mask = i8x16.bitmask(special);
    if (mask != 0) return p + <usize>ctz<i32>(mask);
    p += 16;
  }
  while (p < end && !isSpecial(<u32>load<u8>(p))) p++;
  return p;
}

function isSpecial(byte: u32): bool {
  return byte == QUOTE || byte == BACKSLASH || byte < 0x20;
}

/** The closing quote of the string whose inside begins at `p`, or `end` when the text ends before. */
export function stringEnd(p: usize, end: usize): usize {
  while (p < end) {
    p = skipPlain(p, end);
    if (p >= end) break;
    const byte = <u32>load<u8>(p);
    if (byte == QUOTE) return p;
    p += byte == BACKSLASH ? 2 : 1;
  }
  return end;
}

/**
 * Whether the inside of a JSON string, `rawBytes` bytes at `raw`, stands for the `bytes` bytes of UTF-8 at `text`. A
 * surrogate without its other half stands for U+FFFD, as in scanner.ts.
 */
export function rawEquals(raw: usize, rawBytes: u32, text: usize, bytes: u32): bool {
  const end = raw + rawBytes;
  let held: u32 = 0;
  while (raw < end) {
    if (<u32>load<u8>(raw) != BACKSLASH) {
      if (held >= bytes || load<u8>(raw) != load<u8>(text + held)) return false;
      raw++;
      held++;
      continue;
    }
    const taken = decodeEscape(raw, end);
    if (taken == 0 || held + unescapedBytes > bytes) return false;
    if (memory.compare(unescaped, text + held, unescapedBytes) != 0) return false;
    raw += taken;
    held += unescapedBytes;
  }
  return held == bytes;
}

const unescaped: usize = memory.data(4, 4);
let unescapedBytes: u32 = 0;

// Decodes the escape at p into `unescaped`; returns its length in the text, 0 = cut short or none that JSON has.
function decodeEscape(p: usize, end: usize): usize {
  if (p + 2 > end) return 0;
  const letter = <u32>load<u8>(p, 1);
  if (letter != 0x75) {
    const plain = plainEscape(letter);
    store<u8>(unescaped, <u8>plain);
    unescapedBytes = 1;
    return plain == 0 ? 0 : 2;
  }
  const unit = hexUnit(p + 2, end);
  if (unit == NO_UNIT) return 0;
  if ((unit & 0xfc00) == 0xd800 && p + 12 <= end && load<u16>(p, 6) == 0x755c) {
    const low = hexUnit(p + 8, end);
    if (low != NO_UNIT && (low & 0xfc00) == 0xdc00) {
      encode(0x10000 + ((unit & 0x3ff) << 10) + (low & 0x3ff));
      return 12;
    }
  }
  encode((unit & 0xf800) == 0xd800 ? 0xfffd : unit);
  return 6;
}

function plainEscape(letter: u32): u32 {
  switch (letter) {
    case 0x22:
    case 0x2f:
    case 0x5c:
      return letter;
    case 0x62:
      return 8;
    case 0x66:
      return 12;
    case 0x6e:
      return 10;
    case 0x72:
      return 13;
    case 0x74:
      return 9;
    default:
      return 0;
  }
}

const NO_UNIT: u32 = 0xffffffff;

function hexUnit(p: usize, end: usize): u32 {
  if (p + 4 > end) return NO_UNIT;
  let unit: u32 = 0;
  for (let i: usize = 0; i < 4; i++) {
    const byte = <u32>load<u8>(p + i);
    const letter = (byte | 0x20) - 0x61;
    if (byte - 0x30 < 10) unit = (unit << 4) | (byte - 0x30);
    else if (letter < 6) unit = (unit << 4) | (letter + 10);
    else return NO_UNIT;
  }
  return unit;
}

function encode(code: u32): void {
  if (code < 0x80) {
    store<u8>(unescaped, <u8>code);
    unescapedBytes = 1;
  } else if (code < 0x800) {
    store<u8>(unescaped, <u8>(0xc0 | (code >> 6)));
    store<u8>(unescaped, <u8>(0x80 | (code & 0x3f)), 1);
    unescapedBytes = 2;
  } else if (code < 0x10000) {
    store<u8>(unescaped, <u8>(0xe0 | (code >> 12)));
    store<u8>(unescaped, <u8>(0x80 | ((code >> 6) & 0x3f)), 1);
    store<u8>(unescaped, <u8>(0x80 | (code & 0x3f)), 2);
    unescapedBytes = 3;
  } else {
    store<u8>(unescaped, <u8>(0xf0 | (code >> 18)));
    store<u8>(unescaped, <u8>(0x80 | ((code >> 12) & 0x3f)), 1);
    store<u8>(unescaped, <u8>(0x80 | ((code >> 6) & 0x3f)), 2);
    store<u8>(unescaped, <u8>(0x80 | (code & 0x3f)), 3);
    unescapedBytes = 4;
  }
}
