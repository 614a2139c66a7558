// The ABI's list of pairs: count, then (name length, value length) each, then both texts, zero-terminated.
import { PAIRS_BYTES_MAX, PAIRS_COUNT_MAX } from "./abi.ts";

/** A name and a value, each byte one Latin-1 character, as Node's HTTP parser gives them. */
export type Pair = readonly [name: string, value: string];

/** Bytes that `encodePairs` will write. */
export function pairsBytes(pairs: readonly Pair[]): number {
  let bytes = 4;
  for (const [name, value] of pairs) bytes += 10 + name.length + value.length;
  return bytes;
}

/** Writes `pairs` into `target` from its first byte; `target` must hold `pairsBytes(pairs)`. */
export function encodePairs(pairs: readonly Pair[], target: Buffer): void {
  let position = target.writeUInt32LE(pairs.length, 0);
  for (const [name, value] of pairs) {
    position = target.writeUInt32LE(name.length, position);
    position = target.writeUInt32LE(value.length, position);
  }
  for (const [name, value] of pairs) {
    position += target.write(name, position, "latin1");
    target[position++] = 0;
    position += target.write(value, position, "latin1");
    target[position++] = 0;
  }
}

/**
 * Decodes a list of pairs. Anything malformed, with more than 1,024 entries, longer than 1 MiB, with a missing
 * terminator or with bytes left over is an empty list, never an error (proxy-wasm-cpp-host src/pairs_util.cc).
 */
export function decodePairs(bytes: Buffer): Pair[] {
  if (bytes.length > PAIRS_BYTES_MAX || bytes.length < 4) return [];
  const count = bytes.readUInt32LE(0);
  if (count > PAIRS_COUNT_MAX || 4 + count * 8 > bytes.length) return [];
  const pairs: Pair[] = [];
  let position = 4 + count * 8;
  const text = (length: number): string | null => {
    if (position + length + 1 > bytes.length || bytes[position + length] !== 0) return null;
    const value = bytes.toString("latin1", position, position + length);
    position += length + 1;
    return value;
  };
  for (let index = 0; index < count; index++) {
    const name = text(bytes.readUInt32LE(4 + index * 8));
    const value = name === null ? null : text(bytes.readUInt32LE(8 + index * 8));
    if (name === null || value === null) return [];
    pairs.push([name, value]);
  }
  return position === bytes.length ? pairs : [];
}
