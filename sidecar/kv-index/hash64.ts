// The filter's 64-bit hashes (assembly/text/hash.ts, hashBlock of assembly/prefix/chain.ts) in halves of 32 bits.
//
// A BigInt an operation would cost an allocation each; halves stay in registers. Functions of pairs leave their
// result in `high` and `low`, signed, until the next call.

const P1_HIGH = 0x9e3779b1 | 0;
const P1_LOW = 0x85ebca87 | 0;
const P2_HIGH = 0xc2b2ae3d | 0;
const P2_LOW = 0x27d4eb4f;
const P3_HIGH = 0x165667b1;
const P3_LOW = 0x9e3779f9 | 0;
const P4_HIGH = 0x85ebca77 | 0;
const P4_LOW = 0xc2b2ae63 | 0;
const P5_HIGH = 0x27d4eb2f;
const P5_LOW = 0x165667c5;

/** Hash of no cell: where chains start (PRIME_5). */
export const CHAIN_START_HIGH = P5_HIGH;
export const CHAIN_START_LOW = P5_LOW;
/** Words of a cell of 64 bytes. */
export const CELL_WORDS = 16;

/** Halves of the last result. */
export let high = 0;
export let low = 0;

/** A hash that is kept. */
export interface Hash64 {
  readonly high: number;
  readonly low: number;
}

/** High half of the 64-bit product of two unsigned words. */
function highOfProduct(left: number, right: number): number {
  const leftLow = left & 0xffff;
  const leftHigh = left >>> 16;
  const rightLow = right & 0xffff;
  const rightHigh = right >>> 16;
  const crossLeft = Math.imul(leftHigh, rightLow);
  const crossRight = Math.imul(leftLow, rightHigh);
  const middle = (Math.imul(leftLow, rightLow) >>> 16) + (crossLeft & 0xffff) + (crossRight & 0xffff);
  return (Math.imul(leftHigh, rightHigh) + (crossLeft >>> 16) + (crossRight >>> 16) + (middle >>> 16)) | 0;
}

function multiply(leftHigh: number, leftLow: number, rightHigh: number, rightLow: number): void {
  high =
    (highOfProduct(leftLow, rightLow) + Math.imul(leftHigh, rightLow) + Math.imul(leftLow, rightHigh)) | 0;
  low = Math.imul(leftLow, rightLow);
}

/** Adds to the last result. */
function add(otherHigh: number, otherLow: number): void {
  const sum = (low + otherLow) | 0;
  high = (high + otherHigh + (sum >>> 0 < low >>> 0 ? 1 : 0)) | 0;
  low = sum;
}

/** Rotates the last result to the left, by 1 to 31 bits, or by 33 to 63. */
function rotate(bits: number): void {
  const isSwapped = bits > 32;
  const top = isSwapped ? low : high;
  const bottom = isSwapped ? high : low;
  const shift = bits & 31;
  high = (top << shift) | (bottom >>> (32 - shift));
  low = (bottom << shift) | (top >>> (32 - shift));
}

/** One of the four lanes of a cell: rotl(word × first + next word, bits) × second. */
function lane(
  words: Int32Array,
  at: number,
  firstHigh: number,
  firstLow: number,
  bits: number,
  secondHigh: number,
  secondLow: number,
): void {
  multiply(words[at + 1]!, words[at]!, firstHigh, firstLow);
  add(words[at + 3]!, words[at + 2]!);
  rotate(bits);
  multiply(high, low, secondHigh, secondLow);
}

/**
 * One cell into the running hash of its chain.
 * @param words the cell's bytes as 16 little-endian words
 */
export function hashCell(hashHigh: number, hashLow: number, words: Int32Array): void {
  lane(words, 0, P1_HIGH, P1_LOW, 31, P2_HIGH, P2_LOW);
  const aHigh = high;
  const aLow = low;
  lane(words, 4, P2_HIGH, P2_LOW, 29, P3_HIGH, P3_LOW);
  rotate(17);
  multiply(high ^ aHigh, low ^ aLow, P3_HIGH, P3_LOW);
  const wordHigh = high;
  const wordLow = low ^ high;
  lane(words, 8, P3_HIGH, P3_LOW, 37, P4_HIGH, P4_LOW);
  const cHigh = high;
  const cLow = low;
  lane(words, 12, P4_HIGH, P4_LOW, 27, P1_HIGH, P1_LOW);
  rotate(41);
  add(cHigh, cLow);
  add(wordHigh, wordLow);
  multiply(high, low, P2_HIGH, P2_LOW);
  const mixedHigh = high ^ (high >>> 29);
  const mixedLow = low ^ ((low >>> 29) | (high << 3));
  high = hashHigh ^ mixedHigh;
  low = hashLow ^ mixedLow;
  rotate(27);
  multiply(high, low, P1_HIGH, P1_LOW);
  add(P4_HIGH, P4_LOW);
}

/** One word into a running hash. */
function mixWord(hashHigh: number, hashLow: number, wordHigh: number, wordLow: number): void {
  multiply(wordHigh, wordLow, P2_HIGH, P2_LOW);
  rotate(31);
  multiply(high, low, P1_HIGH, P1_LOW);
  high ^= hashHigh;
  low ^= hashLow;
  rotate(27);
  multiply(high, low, P1_HIGH, P1_LOW);
  add(P4_HIGH, P4_LOW);
}

/** Final mixing of the last result. */
function avalanche(): void {
  low ^= high >>> 1;
  multiply(high, low, P2_HIGH, P2_LOW);
  low ^= (low >>> 29) | (high << 3);
  high ^= high >>> 29;
  multiply(high, low, P3_HIGH, P3_LOW);
  low ^= high;
}

/** Two hashes into one; the order matters. */
export function mixPair(leftHigh: number, leftLow: number, rightHigh: number, rightLow: number): void {
  mixWord(P5_HIGH, P5_LOW, leftHigh, leftLow);
  mixWord(high, low, rightHigh, rightLow);
  avalanche();
}

/** Key of a cell from the chain's hash after it and the chain's root. */
export function cellKey(hashHigh: number, hashLow: number, root: Hash64): void {
  mixPair(hashHigh, hashLow, root.high, root.low);
  if ((high | low) !== 0) return;
  high = P3_HIGH;
  low = P3_LOW;
}

/** Hash of a name's UTF-8 bytes, as hashBytes of assembly/text/hash.ts with seed 0. */
export function hashName(name: string): Hash64 {
  const bytes = Buffer.from(name, "utf8");
  high = P5_HIGH;
  low = P5_LOW;
  add(0, bytes.length);
  let at = 0;
  for (; at + 8 <= bytes.length; at += 8) {
    mixWord(high, low, bytes.readInt32LE(at + 4), bytes.readInt32LE(at));
  }
  if (at + 4 <= bytes.length) {
    fold(0, bytes.readInt32LE(at), P1_HIGH, P1_LOW);
    rotate(23);
    multiply(high, low, P2_HIGH, P2_LOW);
    add(P3_HIGH, P3_LOW);
    at += 4;
  }
  for (; at < bytes.length; at++) {
    fold(0, bytes[at]!, P5_HIGH, P5_LOW);
    rotate(11);
    multiply(high, low, P1_HIGH, P1_LOW);
  }
  avalanche();
  return { high, low };
}

/** The last result ^ word × prime. */
function fold(wordHigh: number, wordLow: number, primeHigh: number, primeLow: number): void {
  const hashHigh = high;
  const hashLow = low;
  multiply(wordHigh, wordLow, primeHigh, primeLow);
  high ^= hashHigh;
  low ^= hashLow;
}

/** Root of a chain: adapter and salt, null = none of them. */
export function hashRoot(adapter: string | null, salt: string | null): Hash64 {
  const left = adapter === null ? NO_HASH : hashName(adapter);
  const right = salt === null ? NO_HASH : hashName(salt);
  mixPair(left.high, left.low, right.high, right.low);
  return { high, low };
}

const NO_HASH: Hash64 = { high: 0, low: 0 };
