// 64-bit hashing of byte strings and of hash pairs: names, ingredients of prefix keys, block chains.
// Multiply-rotate mixing in the manner of xxHash64 (Collet, https://xxhash.com; constants are its primes).

export const PRIME_1: u64 = 0x9e3779b185ebca87;
export const PRIME_2: u64 = 0xc2b2ae3d27d4eb4f;
export const PRIME_3: u64 = 0x165667b19e3779f9;
export const PRIME_4: u64 = 0x85ebca77c2b2ae63;
export const PRIME_5: u64 = 0x27d4eb2f165667c5;

/** Final avalanche: every input bit changes every output bit with probability near one half. */
export function avalanche(value: u64): u64 {
  value ^= value >> 33;
  value *= PRIME_2;
  value ^= value >> 29;
  value *= PRIME_3;
  return value ^ (value >> 32);
}

/** One word into a running hash. */
export function mixWord(hash: u64, word: u64): u64 {
  hash ^= rotl<u64>(word * PRIME_2, 31) * PRIME_1;
  return rotl<u64>(hash, 27) * PRIME_1 + PRIME_4;
}

/** Two hashes into one; the order matters. */
export function mixPair(left: u64, right: u64): u64 {
  return avalanche(mixWord(mixWord(PRIME_5, left), right));
}

/** Hash of `bytes` bytes at `ptr`. Any length; no bytes beyond are read. */
export function hashBytes(ptr: usize, bytes: usize, seed: u64 = 0): u64 {
  let hash: u64 = seed + PRIME_5 + <u64>bytes;
  const end = ptr + bytes;
  while (ptr + 8 <= end) {
    hash = mixWord(hash, load<u64>(ptr));
    ptr += 8;
  }
  if (ptr + 4 <= end) {
    hash ^= <u64>load<u32>(ptr) * PRIME_1;
    hash = rotl<u64>(hash, 23) * PRIME_2 + PRIME_3;
    ptr += 4;
  }
  while (ptr < end) {
    hash ^= <u64>load<u8>(ptr) * PRIME_5;
    hash = rotl<u64>(hash, 11) * PRIME_1;
    ptr++;
  }
  return avalanche(hash);
}
