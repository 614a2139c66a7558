// Text of a content that the template trims, piece by piece: white space at its ends is left out, or, of a content with
// RENDER_EDGES, breaks the rendering.
//
// White space is what Python's str.strip takes (CPython Objects/unicodectype_db.h, _PyUnicode_IsWhitespace; jinja2's
// trim filter calls it): U+0009–000D, 001C–0020, 0085, 00A0, 1680, 2000–200A, 2028, 2029, 202F, 205F, 3000.
import { cellsText } from "../prefix/cells";
import {
  HELD_BYTES_MAX,
  RENDER_EDGES,
  RENDER_SOLID,
  RENDER_WHITE_SPACE,
  R_CELLS,
  R_CUT_BYTES,
  R_HELD,
  R_HELD_BYTES,
  renderBreak,
  renderHas,
  renderSet,
} from "./render-layout";

/** The bytes so far may be the beginning of a white-space character. */
const CUT: i32 = -1;

/**
 * Adds `bytes` bytes at `ptr`. What may be the content's end is held back until more comes, and white space at its
 * beginning is dropped; renderTrimmed drops the rest. Pieces may be cut anywhere, inside a character too. `isEnd`: no
 * more comes, and nothing need be held.
 */
export function renderTrim(render: usize, ptr: usize, bytes: u32, isEnd: bool): void {
  const end = ptr + bytes;
  if (load<u8>(render, R_CUT_BYTES) > 0) ptr = completeCut(render, ptr, end);
  const solid = skipWhite(ptr, end);
  if (isEnd && solid == end) {
    if (ptr < end) drop(render);
    return;
  }
  if (!hold(render, ptr, solid) || solid == end) return;
  const cut = cutBytes(solid, end);
  if (cut > 0 && solid + cut == end) return holdCut(render, solid, cut);
  flush(render);
  const tail = trailingWhite(solid, end - cut);
  cellsText(<usize>load<u32>(render, R_CELLS), solid, <u32>(tail - solid));
  if (isEnd && tail < end) return drop(render);
  if (hold(render, tail, end - cut) && cut > 0) holdCut(render, end - cut, cut);
}

/** The content has ended. What is held was its end. */
export function renderTrimmed(render: usize): void {
  if (load<u8>(render, R_HELD_BYTES) > 0) drop(render);
  store<u8>(render, 0, R_CUT_BYTES);
}

// Bytes of the white-space character at ptr; 0 = another one; CUT = there are too few bytes to tell.
function whiteBytes(ptr: usize, bytes: usize): i32 {
  const first = <u32>load<u8>(ptr);
  if (first < 0x80) return first == 0x20 || first - 0x09 < 5 || first - 0x1c < 4 ? 1 : 0;
  if (first != 0xc2 && first - 0xe1 > 2) return 0;
  if (bytes < 2) return CUT;
  const second = <u32>load<u8>(ptr, 1);
  if (first == 0xc2) return second == 0x85 || second == 0xa0 ? 2 : 0;
  if (first == 0xe1 ? second != 0x9a : first == 0xe3 ? second != 0x80 : second - 0x80 > 1) return 0;
  if (bytes < 3) return CUT;
  const third = <u32>load<u8>(ptr, 2);
  if (first != 0xe2) return third == 0x80 ? 3 : 0;
  if (second == 0x81) return third == 0x9f ? 3 : 0;
  return third - 0x80 < 11 || third == 0xa8 || third == 0xa9 || third == 0xaf ? 3 : 0;
}

// Where the white space at ptr ends.
function skipWhite(ptr: usize, end: usize): usize {
  while (ptr < end) {
    const white = whiteBytes(ptr, end - ptr);
    if (white <= 0) break;
    ptr += white;
  }
  return ptr;
}

// Where the white space before `end` begins; none begins before `from`.
function trailingWhite(from: usize, end: usize): usize {
  while (end > from) {
    if (whiteBytes(end - 1, 1) == 1) end -= 1;
    else if (end - from >= 2 && whiteBytes(end - 2, 2) == 2) end -= 2;
    else if (end - from >= 3 && whiteBytes(end - 3, 3) == 3) end -= 3;
    else break;
  }
  return end;
}

// Bytes at the end that may become a white-space character with the next piece.
function cutBytes(from: usize, end: usize): u32 {
  if (end > from && whiteBytes(end - 1, 1) == CUT) return 1;
  return end - from >= 2 && whiteBytes(end - 2, 2) == CUT ? 2 : 0;
}

// Puts bytes of the next piece behind a character that was cut until it is known. Returns where the piece goes on.
function completeCut(render: usize, ptr: usize, end: usize): usize {
  let cut = <u32>load<u8>(render, R_CUT_BYTES);
  while (ptr < end) {
    const held = <u32>load<u8>(render, R_HELD_BYTES);
    const first = render + R_HELD + held - cut;
    store<u8>(first + cut, load<u8>(ptr));
    cut++;
    ptr++;
    const white = whiteBytes(first, cut);
    store<u8>(render, <u8>(held + 1), R_HELD_BYTES);
    store<u8>(render, <u8>cut, R_CUT_BYTES);
    if (white == CUT) continue;
    store<u8>(render, 0, R_CUT_BYTES);
    if (white == 0) flush(render);
    else if (!renderHas(render, RENDER_SOLID)) drop(render);
    break;
  }
  return ptr;
}

// What is held stands inside the content after all.
function flush(render: usize): void {
  const held = <u32>load<u8>(render, R_HELD_BYTES);
  if (held > 0) cellsText(<usize>load<u32>(render, R_CELLS), render + R_HELD, held);
  store<u8>(render, 0, R_HELD_BYTES);
  renderSet(render, RENDER_SOLID);
}

// White space at an end of the content, held or not.
function drop(render: usize): void {
  if (renderHas(render, RENDER_EDGES)) renderBreak(render, RENDER_WHITE_SPACE);
  store<u8>(render, 0, R_HELD_BYTES);
}

// Holds white space back, unless the content has not begun.
function hold(render: usize, from: usize, to: usize): bool {
  if (from == to) return true;
  if (!renderHas(render, RENDER_SOLID)) {
    drop(render);
    return true;
  }
  const held = <u32>load<u8>(render, R_HELD_BYTES);
  const bytes = <u32>(to - from);
  if (held + bytes > HELD_BYTES_MAX) {
    renderBreak(render, RENDER_WHITE_SPACE);
    return false;
  }
  memory.copy(render + R_HELD + held, from, bytes);
  store<u8>(render, <u8>(held + bytes), R_HELD_BYTES);
  return true;
}

/** Bytes of the longest white-space character. */
const WHITE_BYTES_MAX: u32 = 3;

// Holds the beginning of a character, which completeCut goes on with: there is room for all of it.
function holdCut(render: usize, from: usize, bytes: u32): void {
  const held = <u32>load<u8>(render, R_HELD_BYTES);
  if (held + WHITE_BYTES_MAX > HELD_BYTES_MAX) return renderBreak(render, RENDER_WHITE_SPACE);
  memory.copy(render + R_HELD + held, from, bytes);
  store<u8>(render, <u8>(held + bytes), R_HELD_BYTES);
  store<u8>(render, <u8>bytes, R_CUT_BYTES);
}
