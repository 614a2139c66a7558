// Fixed ASCII strings as bytes for the host, and a bounded writer for texts that are put together.
//
// A Text is the address of its bytes; the length stands in the four bytes before. Texts are laid down
// once, by global initialisers in `_initialize`, so that nothing is converted or allocated later.

/** Bytes for all fixed texts; ascii() traps at start-up when they are used up. */
const TEXTS_BYTES: usize = 32768;
const texts: usize = memory.data(32768, 8);
let textsUsed: usize = 0;

/** Lays down `literal` (ASCII) as bytes and returns its Text. Only for global initialisers. */
export function ascii(literal: string): usize {
  const chars = changetype<usize>(literal);
  const count = <usize>literal.length;
  if (textsUsed + count + 8 > TEXTS_BYTES) unreachable();
  const text = texts + textsUsed + 4;
  store<u32>(text - 4, <u32>count);
  for (let i: usize = 0; i < count; i++) store<u8>(text + i, load<u8>(chars + (i << 1)));
  textsUsed += (count + 4 + 3) & ~3;
  return text;
}

/** Length of a Text in bytes. */
export function textBytes(text: usize): u32 {
  return load<u32>(text - 4);
}

/** Whether the bytes at `ptr` are exactly those of `text`. */
export function textEquals(text: usize, ptr: usize, bytes: u32): bool {
  return textBytes(text) == bytes && memory.compare(text, ptr, bytes) == 0;
}

/** Whether the bytes at `ptr` begin with those of `text`. */
export function textStarts(text: usize, ptr: usize, bytes: u32): bool {
  return textBytes(text) <= bytes && memory.compare(text, ptr, textBytes(text)) == 0;
}

// The writer: one text at a time, into a buffer of the caller's. What does not fit is cut and seen by writeCut().
let writeAt: usize = 0;
let writeStart: usize = 0;
let writeLimit: usize = 0;
let cut: bool = false;

/** Starts a text in the `bytes` bytes at `buffer`. */
export function writeBegin(buffer: usize, bytes: u32): void {
  writeStart = buffer;
  writeAt = buffer;
  writeLimit = buffer + bytes;
  cut = false;
}

/** Bytes written since writeBegin. */
export function writeLength(): u32 {
  return <u32>(writeAt - writeStart);
}

/** Whether something did not fit since writeBegin. */
export function writeCut(): bool {
  return cut;
}

export function writeBytes(ptr: usize, bytes: u32): void {
  let count = <usize>bytes;
  if (count > writeLimit - writeAt) {
    count = writeLimit - writeAt;
    cut = true;
  }
  memory.copy(writeAt, ptr, count);
  writeAt += count;
}

export function writeByte(byte: u8): void {
  if (writeAt >= writeLimit) {
    cut = true;
    return;
  }
  store<u8>(writeAt++, byte);
}

export function writeText(text: usize): void {
  writeBytes(text, textBytes(text));
}

/** An ASCII literal, straight from its static storage. */
export function writeLiteral(literal: string): void {
  const chars = changetype<usize>(literal);
  for (let i: usize = 0, count = <usize>literal.length; i < count; i++) writeByte(load<u8>(chars + (i << 1)));
}

const digits: usize = memory.data(24);

export function writeU64(value: u64): void {
  let at: usize = 24;
  do {
    store<u8>(digits + --at, <u8>(48 + (value % 10)));
    value /= 10;
  } while (value != 0);
  writeBytes(digits + at, 24 - <u32>at);
}

/** A number with up to three decimals, as JSON: 0.25, -3, null for NaN; saturates at ±2^53. */
export function writeF64(value: f64): void {
  if (value != value) return writeLiteral("null");
  if (value < 0) {
    writeByte(45);
    value = -value;
  }
  if (value > 9007199254740991) value = 9007199254740991;
  let whole = <u64>value;
  let rest = <u32>((value - <f64>whole) * 1000 + 0.5);
  if (rest == 1000) {
    rest = 0;
    whole++;
  }
  writeU64(whole);
  if (rest == 0) return;
  writeByte(46);
  for (let unit: u32 = 100; rest > 0; unit /= 10) {
    writeByte(<u8>(48 + rest / unit));
    rest %= unit;
  }
}

/** Bytes as the inside of a JSON string: quotes, backslashes and control characters escaped. */
export function writeJsonInner(ptr: usize, bytes: u32): void {
  for (let i: usize = 0; i < bytes; i++) {
    const byte = load<u8>(ptr + i);
    if (byte == 34 || byte == 92) {
      writeByte(92);
      writeByte(byte);
    } else if (byte < 32) {
      writeLiteral("\\u00");
      writeByte(<u8>(48 + (byte >> 4)));
      const low = byte & 15;
      writeByte(low < 10 ? 48 + low : 87 + low);
    } else {
      writeByte(byte);
    }
  }
}
