// Text inside a JSON string: finds the next byte that is not plain text, checking UTF-8 on the way.
import { JSON_BAD_UTF8 } from "./events";
import { AT_UTF8, fail } from "./state";

const QUOTE: u32 = 0x22;
const BACKSLASH: u32 = 0x5c;

// Bytes below 0x20 or above 0x7f, quotes and backslashes have the top bit of their lane set.
function specialLanes(bytes: v128): v128 {
  // One signed comparison finds control characters and non-ASCII bytes together.
  return v128.or(
    i8x16.lt_s(bytes, i8x16.splat(0x20)),
    v128.or(i8x16.eq(bytes, i8x16.splat(0x22)), i8x16.eq(bytes, i8x16.splat(0x5c))),
  );
}

/**
 * Skips plain text from `p`. Returns the address of the first quote, backslash, control character or byte
 * that breaks UTF-8 (that one also fails the state), or `end`. A character cut by `end` is remembered.
 */
export function skipText(state: usize, p: usize, end: usize): usize {
  if (load<u32>(state, AT_UTF8) != 0) {
    p = finishCharacter(state, p, end);
    if (load<u32>(state, AT_UTF8) != 0) return p;
  }
  while (p < end) {
    p = skipAscii(p, end);
    if (p >= end || load<u8>(p) < 0x80) return p;
    const q = skipBlocks(p, end);
    if (q != p) {
      p = q;
      continue;
    }
    p = startCharacter(state, p, end);
    if (load<u32>(state, AT_UTF8) != 0) return p;
  }
  return p;
}

// First byte from p that is not printable ASCII, or is a quote or a backslash.
function skipAscii(p: usize, end: usize): usize {
  while (p + 64 <= end) {
    const a = specialLanes(v128.load(p));
    const b = specialLanes(v128.load(p, 16));
    const c = specialLanes(v128.load(p, 32));
    const d = specialLanes(v128.load(p, 48));
    if (v128.any_true(v128.or(v128.or(a, b), v128.or(c, d)))) {
      const low = <u64>((<u32>i8x16.bitmask(a)) | ((<u32>i8x16.bitmask(b)) << 16));
      const high = <u64>((<u32>i8x16.bitmask(c)) | ((<u32>i8x16.bitmask(d)) << 16));
      return p + <usize>ctz<u64>(low | (high << 32));
    }
    p += 64;
  }
  while (p + 16 <= end) {
    const mask = i8x16.bitmask(specialLanes(v128.load(p)));
    if (mask != 0) return p + <usize>ctz<i32>(mask);
    p += 16;
  }
  while (p < end) {
    const byte = <u32>load<u8>(p);
    if (byte < 0x20 || byte >= 0x80 || byte == QUOTE || byte == BACKSLASH) return p;
    p++;
  }
  return p;
}

// A character's first byte at p ≥ 0x80. Sets what must follow; goes on through what is there.
function startCharacter(state: usize, p: usize, end: usize): usize {
  const byte = <u32>load<u8>(p);
  const next = continuationAfter(byte);
  if (next == 0) {
    store<u32>(state, NO_CONTINUATION, AT_UTF8);
    fail(state, p, JSON_BAD_UTF8);
    return p;
  }
  store<u32>(state, next, AT_UTF8);
  return finishCharacter(state, p + 1, end);
}

// AT_UTF8 while a character is open: bytes missing | lowest next byte << 8 | highest << 16.
const ANY_CONTINUATION: u32 = (0x80 << 8) | (0xbf << 16);
/** A refused text leaves this, so that the callers stop. */
const NO_CONTINUATION: u32 = 0xff;

// RFC 3629 section 4: what may follow a first byte; 0 = not a first byte.
function continuationAfter(byte: u32): u32 {
  if (byte < 0xc2 || byte > 0xf4) return 0;
  if (byte < 0xe0) return 1 | ANY_CONTINUATION;
  if (byte == 0xe0) return 2 | (0xa0 << 8) | (0xbf << 16);
  if (byte == 0xed) return 2 | (0x80 << 8) | (0x9f << 16);
  if (byte < 0xf0) return 2 | ANY_CONTINUATION;
  if (byte == 0xf0) return 3 | (0x90 << 8) | (0xbf << 16);
  if (byte == 0xf4) return 3 | (0x80 << 8) | (0x8f << 16);
  return 3 | ANY_CONTINUATION;
}

function finishCharacter(state: usize, p: usize, end: usize): usize {
  let next = load<u32>(state, AT_UTF8);
  while (p < end) {
    const byte = <u32>load<u8>(p);
    if (byte < ((next >> 8) & 0xff) || byte > next >> 16) {
      store<u32>(state, NO_CONTINUATION, AT_UTF8);
      fail(state, p, JSON_BAD_UTF8);
      return p;
    }
    p++;
    const missing = (next & 0xff) - 1;
    next = missing == 0 ? 0 : missing | ANY_CONTINUATION;
    if (missing == 0) break;
  }
  store<u32>(state, next, AT_UTF8);
  return p;
}

// Skips 16-byte blocks of valid UTF-8 from a character's start at p; stops before a block that is all ASCII,
// has a quote, backslash or control character, or an error, and then at a character's start.
// The checks are the three table look-ups of Keiser and Lemire, "Validating UTF-8 in less than one
// instruction per byte", Software: Practice and Experience 51(5), 2021.
function skipBlocks(p: usize, end: usize): usize {
  const start = p;
  let previous = i8x16.splat(0);
  while (p + 16 <= end) {
    const bytes = v128.load(p);
    if (i8x16.bitmask(bytes) == 0 && p != start && !endsOpen(previous)) return p;
    // Unsigned "below 0x20" has its own comparison here: the top bit belongs to text.
    const special = v128.or(
      i8x16.lt_u(bytes, i8x16.splat(0x20)),
      v128.or(i8x16.eq(bytes, i8x16.splat(0x22)), i8x16.eq(bytes, i8x16.splat(0x5c))),
    );
    if (v128.any_true(v128.or(special, utf8Errors(bytes, previous)))) break;
    previous = bytes;
    p += 16;
  }
  return p == start ? p : characterStart(start, p);
}

// Whether a block's last character goes on in the next block.
function endsOpen(bytes: v128): bool {
  const open = i8x16.gt_u(bytes, i8x16(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -17, -33, -65));
  return v128.any_true(open);
}

// The last address ≤ p at which a character may start, given valid text before p.
function characterStart(start: usize, p: usize): usize {
  for (let back: usize = 1; back <= 3 && p - back >= start; back++) {
    const byte = <u32>load<u8>(p - back);
    if (byte < 0x80) return p;
    if (byte >= 0xc0) {
      const length: usize = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
      return length > back ? p - back : p;
    }
  }
  return p;
}

// Error classes, one bit each, as in the paper.
const TOO_SHORT: i8 = 1 << 0;
const TOO_LONG: i8 = 1 << 1;
const OVERLONG_3: i8 = 1 << 2;
const TOO_LARGE: i8 = 1 << 3;
const SURROGATE: i8 = 1 << 4;
const OVERLONG_2: i8 = 1 << 5;
const TOO_LARGE_1000: i8 = 1 << 6;
const OVERLONG_4: i8 = 1 << 6;
const TWO_CONTS: i8 = -128;
const CARRY: i8 = TOO_SHORT | TOO_LONG | TWO_CONTS;

function utf8Errors(bytes: v128, previous: v128): v128 {
  // prettier-ignore
  const before1 = v128.shuffle<i8>(
    previous, bytes, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30,
  );
  // prettier-ignore
  const byFirstHigh = i8x16.swizzle(
    i8x16(
      TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG,
      TWO_CONTS, TWO_CONTS, TWO_CONTS, TWO_CONTS,
      TOO_SHORT | OVERLONG_2, TOO_SHORT, TOO_SHORT | OVERLONG_3 | SURROGATE,
      TOO_SHORT | TOO_LARGE | TOO_LARGE_1000 | OVERLONG_4,
    ),
    i8x16.shr_u(before1, 4),
  );
  // prettier-ignore
  const byFirstLow = i8x16.swizzle(
    i8x16(
      CARRY | OVERLONG_3 | OVERLONG_2 | OVERLONG_4, CARRY | OVERLONG_2, CARRY, CARRY,
      CARRY | TOO_LARGE,
      CARRY | TOO_LARGE | TOO_LARGE_1000, CARRY | TOO_LARGE | TOO_LARGE_1000,
      CARRY | TOO_LARGE | TOO_LARGE_1000, CARRY | TOO_LARGE | TOO_LARGE_1000,
      CARRY | TOO_LARGE | TOO_LARGE_1000, CARRY | TOO_LARGE | TOO_LARGE_1000,
      CARRY | TOO_LARGE | TOO_LARGE_1000, CARRY | TOO_LARGE | TOO_LARGE_1000,
      CARRY | TOO_LARGE | TOO_LARGE_1000 | SURROGATE,
      CARRY | TOO_LARGE | TOO_LARGE_1000, CARRY | TOO_LARGE | TOO_LARGE_1000,
    ),
    v128.and(before1, i8x16.splat(0x0f)),
  );
  // prettier-ignore
  const bySecondHigh = i8x16.swizzle(
    i8x16(
      TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT,
      TOO_LONG | OVERLONG_2 | TWO_CONTS | OVERLONG_3 | TOO_LARGE_1000 | OVERLONG_4,
      TOO_LONG | OVERLONG_2 | TWO_CONTS | OVERLONG_3 | TOO_LARGE,
      TOO_LONG | OVERLONG_2 | TWO_CONTS | SURROGATE | TOO_LARGE,
      TOO_LONG | OVERLONG_2 | TWO_CONTS | SURROGATE | TOO_LARGE,
      TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT,
    ),
    i8x16.shr_u(bytes, 4),
  );
  const pairs = v128.and(v128.and(byFirstHigh, byFirstLow), bySecondHigh);
  // prettier-ignore
  const before2 = v128.shuffle<i8>(
    previous, bytes, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29,
  );
  // prettier-ignore
  const before3 = v128.shuffle<i8>(
    previous, bytes, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28,
  );
  // A third byte follows 0xe0 and above, a fourth 0xf0 and above: those lanes must be second
  // continuations. 0x60 = 0xe0 - 0x80 and 0x70 = 0xf0 - 0x80: what reaches 0x80 after that is such a byte.
  const third = i8x16.sub_sat_u(before2, i8x16.splat(0x60));
  const fourth = i8x16.sub_sat_u(before3, i8x16.splat(0x70));
  const mustContinue = v128.and(v128.or(third, fourth), i8x16.splat(-128));
  return v128.xor(mustContinue, pairs);
}
