// The value of a JSON number's text.

/** Largest power of ten that an f64 holds exactly. */
const EXACT_POWER: i32 = 22;

/**
 * Value of the number of `len` bytes at `ptr`, which must be JSON's grammar; NaN when there is no text.
 * Exact for up to 15 digits with a power of ten of up to ±22 (Clinger's fast path: one rounding); beyond
 * that within a few units in the last place.
 */
export function parseNumber(ptr: usize, len: u32): f64 {
  if (len == 0) return NaN;
  const end = ptr + len;
  const negative = load<u8>(ptr) == 0x2d;
  if (negative) ptr++;
  let mantissa: u64 = 0;
  let power: i32 = 0;
  let afterPoint = false;
  while (ptr < end) {
    const digit = <u32>load<u8>(ptr) - 0x30;
    if (digit <= 9) {
      // 18 digits fit; further ones only move the point.
      if (mantissa < 100000000000000000) {
        mantissa = mantissa * 10 + digit;
        if (afterPoint) power--;
      } else if (!afterPoint) {
        power++;
      }
    } else if (digit == 0xfffffffe) {
      afterPoint = true;
    } else {
      power += parseExponent(ptr + 1, end);
      break;
    }
    ptr++;
  }
  const value = scale(<f64>mantissa, power);
  return negative ? -value : value;
}

// Saturates: no exponent beyond ±9999 changes an f64.
function parseExponent(ptr: usize, end: usize): i32 {
  const negative = load<u8>(ptr) == 0x2d;
  if (negative || load<u8>(ptr) == 0x2b) ptr++;
  let exponent: i32 = 0;
  while (ptr < end) {
    if (exponent < 9999) exponent = exponent * 10 + <i32>(<u32>load<u8>(ptr) - 0x30);
    ptr++;
  }
  exponent = min<i32>(exponent, 9999);
  return negative ? -exponent : exponent;
}

function scale(value: f64, power: i32): f64 {
  // Zero and infinity are reached after at most 350 / 22 rounds.
  while (power > EXACT_POWER && value != 0 && value != Infinity) {
    value *= 1e22;
    power -= EXACT_POWER;
  }
  while (power < -EXACT_POWER && value != 0) {
    value /= 1e22;
    power += EXACT_POWER;
  }
  if (value == 0 || value == Infinity) return value;
  let factor: f64 = 1;
  for (let i = 0; i < abs<i32>(power); i++) factor *= 10;
  return power < 0 ? value / factor : value * factor;
}
