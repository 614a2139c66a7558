// Base64 of session tokens: standard alphabet with padding (RFC 4648, section 4), as Go's StdEncoding.

/** Longest text that is encoded or decoded; a longer one is refused. */
export const BASE64_TEXT_BYTES_MAX: u32 = 384;

/** Bytes that base64Encode writes for `bytes` bytes. */
export function base64EncodedBytes(bytes: u32): u32 {
  return ((bytes + 2) / 3) * 4;
}

/** Writes the base64 of `bytes` bytes at `ptr` to `out`, base64EncodedBytes(bytes) long. */
export function base64Encode(ptr: usize, bytes: u32, out: usize): void {
  for (let i: u32 = 0; i < bytes; i += 3) {
    const left = bytes - i;
    let group = (<u32>load<u8>(ptr + i)) << 16;
    if (left > 1) group |= (<u32>load<u8>(ptr + i + 1)) << 8;
    if (left > 2) group |= <u32>load<u8>(ptr + i + 2);
    store<u8>(out, digit(group >> 18));
    store<u8>(out + 1, digit((group >> 12) & 63));
    store<u8>(out + 2, left > 1 ? digit((group >> 6) & 63) : 61);
    store<u8>(out + 3, left > 2 ? digit(group & 63) : 61);
    out += 4;
  }
}

/** Decodes to `out`, which holds `bytes` × 3/4; the text's length, or -1 when this is no padded base64. */
export function base64Decode(ptr: usize, bytes: u32, out: usize): i32 {
  if (bytes == 0 || (bytes & 3) != 0) return -1;
  let padding: u32 = 0;
  if (load<u8>(ptr + bytes - 1) == 61) padding = load<u8>(ptr + bytes - 2) == 61 ? 2 : 1;
  let at = out;
  for (let i: u32 = 0; i < bytes; i += 4) {
    let digits: u32 = 4;
    if (i + 4 == bytes) digits -= padding;
    let group: u32 = 0;
    for (let j: u32 = 0; j < 4; j++) {
      const value = j < digits ? valueOf(load<u8>(ptr + i + j)) : 0;
      if (value < 0) return -1;
      group = (group << 6) | (<u32>value);
    }
    store<u8>(at++, <u8>(group >> 16));
    if (digits > 2) store<u8>(at++, <u8>(group >> 8));
    if (digits > 3) store<u8>(at++, <u8>group);
  }
  return <i32>(at - out);
}

function digit(value: u32): u8 {
  if (value < 26) return <u8>(65 + value);
  if (value < 52) return <u8>(71 + value);
  if (value < 62) return <u8>(value - 4);
  return value == 62 ? 43 : 47;
}

function valueOf(char: u8): i32 {
  if (char >= 65 && char <= 90) return char - 65;
  if (char >= 97 && char <= 122) return char - 71;
  if (char >= 48 && char <= 57) return char + 4;
  return char == 43 ? 62 : char == 47 ? 63 : -1;
}
