// Finds "think>" in a text that comes in pieces: the end of the tags that chat templates look for in old answers.
import { R_LAST_BYTES } from "./render-layout";

/** The bytes of "think", the first one highest. */
const THINK: u64 = 0x7468696e6b;
const THINK_BYTES: u32 = 5;
const WORD_MASK: u64 = 0xffffffffff;
const GREATER: u32 = 0x3e;

/** Whether "think>" ends in this piece; the last five bytes before it are remembered from call to call. */
export function renderFindsThinking(render: usize, ptr: usize, bytes: u32): bool {
  const end = ptr + bytes;
  let at = ptr;
  while (at < end) {
    at = nextGreater(at, end);
    if (at < end && lastBytes(render, ptr, at) == THINK) return true;
    at++;
  }
  store<u64>(render, lastBytes(render, ptr, end), R_LAST_BYTES);
  return false;
}

// The five bytes before `at`, those before the piece at `ptr` included.
function lastBytes(render: usize, ptr: usize, at: usize): u64 {
  let word: u64 = 0;
  if (at - ptr < THINK_BYTES) word = load<u64>(render, R_LAST_BYTES);
  for (let p = at - ptr < THINK_BYTES ? ptr : at - THINK_BYTES; p < at; p++) {
    word = ((word << 8) | (<u64>load<u8>(p))) & WORD_MASK;
  }
  return word;
}

function nextGreater(p: usize, end: usize): usize {
  while (p + 16 <= end) {
    const mask = i8x16.bitmask(i8x16.eq(v128.load(p), i8x16.splat(<i8>GREATER)));
    if (mask != 0) return p + <usize>ctz<i32>(mask);
    p += 16;
  }
  while (p < end && <u32>load<u8>(p) != GREATER) p++;
  return p;
}
