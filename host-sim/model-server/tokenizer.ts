// A small deterministic subword tokenizer: known words, else greedy pieces, else bytes. About four characters
// a token.
import { WORDS } from "./lexicon.ts";

/** Ids of the special tokens; text never encodes to them. */
export const SPECIAL = { endOfText: 0, messageStart: 1, messageEnd: 2, pad: 3 } as const;

const SPECIAL_TEXTS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"] as const;
const FIRST_BYTE = SPECIAL_TEXTS.length;
const LETTERS = "abcdefghijklmnopqrstuvwxyz";
const PUNCTUATION = [
  ".",
  ",",
  ":",
  ";",
  "!",
  "?",
  "(",
  ")",
  "{",
  "}",
  "[",
  "]",
  '"',
  "'",
  "-",
  "_",
  "/",
  "=",
  "\n",
];
const PUNCTUATION_PAIRS = [
  '":',
  '",',
  '{"',
  '"}',
  "\n\n",
  "  ",
  "    ",
  "--",
  "==",
  "=>",
  "->",
  "()",
  "//",
  ". ",
];
const PIECE_CHARS_MAX = 24;

// The shape of GPT-style pre-tokenizers: words with one leading blank, numbers by up to three digits, runs of
// punctuation, runs of white space.
const PRETOKENS = / ?[A-Za-z]+|\d{1,3}| ?[^\sA-Za-z\d]+|\s+(?!\S)|\s+/g;

/** Pre-tokens whose pieces are remembered; beyond it the memory starts anew. */
const REMEMBERED_MAX = 65_536;
/** Longer pre-tokens are split anew each time. */
const REMEMBERED_CHARS_MAX = 64;

/** By byte, the character that stands for it in GPT-2's alphabet (openai/gpt-2, src/encoder.py, bytes_to_unicode). */
export const BYTE_CHARACTERS: readonly string[] = byteCharacters();
const texts: string[] = [];
const ids = new Map<string, number>();
const remembered = new Map<string, readonly number[]>();

function addPiece(text: string): void {
  if (ids.has(text)) return;
  ids.set(text, texts.length);
  texts.push(text);
}

// The order of these calls is the vocabulary: it fixes every id.
function buildVocabulary(): void {
  for (const text of SPECIAL_TEXTS) texts.push(text);
  for (let byte = 0; byte < 256; byte++) {
    if (byte < 128) ids.set(String.fromCharCode(byte), texts.length);
    texts.push("");
  }
  for (const mark of PUNCTUATION) addPiece(` ${mark}`);
  for (const pair of PUNCTUATION_PAIRS) addPiece(pair);
  for (let n = 10; n < 1000; n++) addPiece(String(n));
  for (const a of LETTERS) addPiece(` ${a}`);
  for (const a of LETTERS) for (const b of LETTERS) addPiece(a + b);
  for (const a of LETTERS) for (const b of LETTERS) for (const c of "aeiounrst") addPiece(a + b + c);
  for (const word of WORDS) {
    const capital = word[0]!.toUpperCase() + word.slice(1);
    for (const form of [word, ` ${word}`, capital, ` ${capital}`]) addPiece(form);
  }
}

buildVocabulary();

/** Number of ids; every id is below it. */
export const VOCABULARY_SIZE = texts.length;

const utf8 = new TextEncoder();

/**
 * Token ids of a text. `decode(encode(text)) === text` for every well-formed text; special-token texts inside
 * it are ordinary characters. Linear in the length of the text.
 */
export function encode(text: string): number[] {
  const tokens: number[] = [];
  for (const [pretoken] of text.matchAll(PRETOKENS)) {
    let pieces = remembered.get(pretoken);
    if (pieces === undefined) {
      pieces = splitPretoken(pretoken);
      if (remembered.size >= REMEMBERED_MAX) remembered.clear();
      if (pretoken.length <= REMEMBERED_CHARS_MAX) remembered.set(pretoken, pieces);
    }
    for (const piece of pieces) tokens.push(piece);
  }
  return tokens;
}

/** Bytes of one token. Ids outside the vocabulary are a RangeError. */
export function tokenBytes(id: number): Buffer {
  const text = texts[id];
  if (text === undefined) {
    throw new RangeError(`token id ${id} is outside the vocabulary of ${texts.length}`);
  }
  const byte = id - FIRST_BYTE;
  return byte >= 0 && byte < 256 ? Buffer.of(byte) : Buffer.from(text);
}

/** Text of token ids; bytes that are not UTF-8 become U+FFFD. Ids outside the vocabulary are a RangeError. */
export function decode(tokens: ArrayLike<number>): string {
  return Buffer.concat(Array.from(tokens, tokenBytes)).toString("utf8");
}

/**
 * Text of one token as a server streams it; a token that is a lone byte of a longer character gives U+FFFD.
 */
export function tokenText(id: number): string {
  const text = texts[id];
  return text === undefined || text === "" ? decode([id]) : text;
}

/**
 * A token as a vocabulary spells it: one character a byte, in the alphabet of GPT-2 (bytes_to_unicode); special tokens
 * as they are.
 */
export function tokenPiece(id: number): string {
  if (id < FIRST_BYTE) return texts[id]!;
  return Array.from(tokenBytes(id), (byte) => BYTE_CHARACTERS[byte]!).join("");
}

function byteCharacters(): readonly string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const isPrintable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    return String.fromCharCode(isPrintable ? byte : next++);
  });
}

function splitPretoken(pretoken: string): number[] {
  const whole = ids.get(pretoken);
  if (whole !== undefined) return [whole];
  const tokens: number[] = [];
  let start = 0;
  while (start < pretoken.length) {
    const length = longestPiece(pretoken, start);
    if (length > 0) {
      tokens.push(ids.get(pretoken.slice(start, start + length))!);
      start += length;
      continue;
    }
    const character = String.fromCodePoint(pretoken.codePointAt(start)!);
    for (const byte of utf8.encode(character)) tokens.push(FIRST_BYTE + byte);
    start += character.length;
  }
  return tokens;
}

function longestPiece(text: string, start: number): number {
  for (let length = Math.min(PIECE_CHARS_MAX, text.length - start); length > 0; length--) {
    if (ids.has(text.slice(start, start + length))) return length;
  }
  return 0;
}
