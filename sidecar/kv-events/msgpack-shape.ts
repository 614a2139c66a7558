// Looks a MessagePack message over before it is decoded, so that decoding allocates no more than it has bytes for.
import { BadEventError } from "../errors.ts";
import { DEPTH_MAX } from "./limits.ts";

/** Payload bytes of the fixed-size formats 0xc0–0xdf; −1 = a length or a count follows (see `lengthAt`). */
const FIXED_BYTES: readonly number[] = [
  0, -1, 0, 0, -1, -1, -1, -1, -1, -1, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 2, 3, 5, 9, 17, -1, -1, -1, -1, -1, -1,
  -1,
];

/**
 * Checks that `bytes` are one whole MessagePack value: nothing cut off, nothing behind it, not nested deeper than
 * DEPTH_MAX, and no array or map that claims more entries than bytes are left. Format: msgpack/spec.md.
 * @throws BadEventError naming the byte
 */
export function checkShape(bytes: Uint8Array): void {
  // Values that are still to come at each depth.
  const left = new Int32Array(DEPTH_MAX + 1);
  left[0] = 1;
  let depth = 0;
  let at = 0;
  while (depth >= 0) {
    if (left[depth] === 0) {
      depth -= 1;
      continue;
    }
    if (at >= bytes.length) throw new BadEventError("message", `${bytes.length} bytes`, "more bytes");
    left[depth]! -= 1;
    const format = bytes[at]!;
    at += 1;
    if (format < 0x80 || format >= 0xe0) continue;
    let entries = -1;
    if (format < 0x90) entries = 2 * (format & 0x0f);
    else if (format < 0xa0) entries = format & 0x0f;
    else if (format < 0xc0) at += format & 0x1f;
    else {
      const fixed = FIXED_BYTES[format - 0xc0]!;
      if (fixed >= 0) at += fixed;
      else {
        const width = widthOf(format, at - 1);
        const length = lengthAt(bytes, at, width);
        at += width;
        if (format >= 0xde) entries = 2 * length;
        else if (format >= 0xdc) entries = length;
        else at += length + (format >= 0xc7 && format <= 0xc9 ? 1 : 0);
      }
    }
    if (at > bytes.length) throw new BadEventError("message", `${bytes.length} bytes`, `${at} bytes`);
    if (entries < 0) continue;
    if (entries > bytes.length - at) {
      throw new BadEventError(`message byte ${at}`, `${entries} entries`, `at most ${bytes.length - at}`);
    }
    depth += 1;
    if (depth > DEPTH_MAX) throw new BadEventError(`message byte ${at}`, `depth ${depth}`, `≤ ${DEPTH_MAX}`);
    left[depth] = entries;
  }
  if (at < bytes.length) throw new BadEventError("message", `${bytes.length} bytes`, `${at} bytes`);
}

/** Bytes of the length of bin (c4–c6), ext (c7–c9), str (d9–db), array (dc, dd), map (de, df). */
function widthOf(format: number, at: number): number {
  if (format >= 0xc4 && format <= 0xc6) return 1 << (format - 0xc4);
  if (format >= 0xc7 && format <= 0xc9) return 1 << (format - 0xc7);
  if (format >= 0xd9 && format <= 0xdb) return 1 << (format - 0xd9);
  if (format >= 0xdc) return format % 2 === 0 ? 2 : 4;
  throw new BadEventError(`message byte ${at}`, "0xc1", "a MessagePack format");
}

function lengthAt(bytes: Uint8Array, at: number, width: number): number {
  if (at + width > bytes.length) throw new BadEventError("message", `${bytes.length} bytes`, "more bytes");
  let length = 0;
  for (let i = 0; i < width; i++) length = length * 256 + bytes[at + i]!;
  return length;
}
