// A hash of bytes that come in pieces: the same for every way they are cut.
import { PRIME_1, PRIME_2, PRIME_3, PRIME_4, avalanche, mixWord } from "../text/hash";
import { AT_DIGEST, AT_DIGEST_BYTES, AT_TAIL, AT_TAIL_BYTES } from "./layout";

const BLOCK: u32 = 32;

/** The digest of `bytes` bytes at `ptr` that are there at once; equal to digestAdd of the same in pieces. */
export function digestOf(ptr: usize, bytes: u32): u64 {
  let hash = PRIME_4;
  const end = ptr + bytes;
  while (ptr + BLOCK <= end) {
    hash = block(hash, ptr);
    ptr += BLOCK;
  }
  return finish(hash, ptr, <u32>(end - ptr), bytes);
}

/** Adds a piece to the record's digest. */
export function digestAdd(record: usize, ptr: usize, bytes: u32): void {
  const total = load<u32>(record, AT_DIGEST_BYTES);
  if (total == 0) store<u64>(record, PRIME_4, AT_DIGEST);
  store<u32>(record, total + bytes, AT_DIGEST_BYTES);
  let tail = load<u32>(record, AT_TAIL_BYTES);
  let hash = load<u64>(record, AT_DIGEST);
  const end = ptr + bytes;
  if (tail > 0) {
    const taken = min<u32>(BLOCK - tail, bytes);
    memory.copy(record + AT_TAIL + tail, ptr, taken);
    ptr += taken;
    tail += taken;
    if (tail == BLOCK) {
      hash = block(hash, record + AT_TAIL);
      tail = 0;
    }
  }
  while (ptr + BLOCK <= end) {
    hash = block(hash, ptr);
    ptr += BLOCK;
  }
  if (ptr < end) {
    memory.copy(record + AT_TAIL + tail, ptr, end - ptr);
    tail += <u32>(end - ptr);
  }
  store<u64>(record, hash, AT_DIGEST);
  store<u32>(record, tail, AT_TAIL_BYTES);
}

/** Adds the last piece and takes the digest; the record is ready for the next one. */
export function digestEnd(record: usize, ptr: usize, bytes: u32): u64 {
  if (load<u32>(record, AT_DIGEST_BYTES) == 0) return digestOf(ptr, bytes);
  digestAdd(record, ptr, bytes);
  const total = load<u32>(record, AT_DIGEST_BYTES);
  const digest = finish(
    load<u64>(record, AT_DIGEST),
    record + AT_TAIL,
    load<u32>(record, AT_TAIL_BYTES),
    total,
  );
  digestReset(record);
  return digest;
}

/** Forgets what was added. */
export function digestReset(record: usize): void {
  store<u32>(record, 0, AT_DIGEST_BYTES);
  store<u32>(record, 0, AT_TAIL_BYTES);
}

// Two independent lanes and one serial step for 32 bytes: images come as megabytes of base64.
function block(hash: u64, ptr: usize): u64 {
  const a = rotl<u64>(load<u64>(ptr, 0) * PRIME_1 + load<u64>(ptr, 8), 31) * PRIME_2;
  const b = rotl<u64>(load<u64>(ptr, 16) * PRIME_2 + load<u64>(ptr, 24), 29) * PRIME_3;
  return mixWord(hash, a ^ rotl<u64>(b, 17));
}

// The last `rest` < 32 bytes at ptr of `total`.
function finish(hash: u64, ptr: usize, rest: u32, total: u32): u64 {
  const end = ptr + rest;
  while (ptr + 8 <= end) {
    hash = mixWord(hash, load<u64>(ptr));
    ptr += 8;
  }
  let word: u64 = 0;
  while (ptr < end) {
    word = (word << 8) | (<u64>load<u8>(ptr));
    ptr++;
  }
  return avalanche(mixWord(mixWord(hash, word), <u64>total));
}
