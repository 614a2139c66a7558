// Tokens that are parts of characters: their bytes, from the characters that other bytes make of them.
import { pieceBytes, type PieceForm } from "./token-pieces.ts";

/**
 * Characters that hardly any vocabulary has whole, so that some of their bytes are tokens of their own: unassigned ones,
 * and such of rare scripts, of two, three and four bytes.
 */
export const RARE_CHARACTERS = [
  0x378, 0x3a2, 0x530, 0x58b, 0x61d, 0x70e, 0x7bf, 0x85f, 0x9b1, 0xa84, 0xb91, 0xce5, 0xd80, 0xe3b, 0x12b1,
  0x167b, 0x1a7d, 0x1fb5, 0x2d98, 0x2fe8, 0xa4d1, 0xa8c6, 0xab2f, 0xd7a8, 0xfb48, 0x50000, 0x6a9b8, 0x7c218,
  0x90c85, 0xa1b9a, 0xb0418, 0xc8a90, 0xd3f8c, 0xe3fb5,
]
  .map((code) => String.fromCodePoint(code))
  .join(" ");

/** Ids of tokens of a single byte. */
export interface ByteTokens {
  /** One that begins a character of four bytes, and may be followed by any other. */
  readonly lead: number;
  /** Bytes inside characters: one below 0x90 and one from 0xa0 on, as some first bytes go with one half alone. */
  readonly trails: readonly [number, number];
}

/** Finds them among the tokens of RARE_CHARACTERS; null = some kind is not there. */
export function byteTokensOf(
  tokens: readonly number[],
  pieces: readonly string[],
  form: PieceForm,
): ByteTokens | null {
  const ids = new Map<number, number>();
  pieces.forEach((piece, index) => {
    const bytes = pieceBytes(piece, form);
    if (bytes?.length === 1) ids.set(bytes[0]!, tokens[index]!);
  });
  return chooseByteTokens(ids);
}

/** The same where a server does not spell tokens: a character of as many tokens as bytes has one for each. */
export async function askByteTokens(
  tokenize: (text: string) => Promise<{ readonly tokens: readonly number[] }>,
): Promise<ByteTokens | null> {
  const ids = new Map<number, number>();
  for (const character of RARE_CHARACTERS.split(" ")) {
    const bytes = Buffer.from(character);
    if (bytes.length < 4) continue;
    const { tokens } = await tokenize(character);
    if (tokens.length !== bytes.length) continue;
    for (const [index, id] of tokens.entries()) ids.set(bytes[index]!, id);
    const found = chooseByteTokens(ids);
    if (found !== null) return found;
  }
  return null;
}

/** @param ids by byte */
function chooseByteTokens(ids: ReadonlyMap<number, number>): ByteTokens | null {
  const find = (first: number, last: number): number | undefined =>
    [...ids].find(([byte]) => byte >= first && byte <= last)?.[1];
  const [lead, low, high] = [find(0xf1, 0xf3), find(0x80, 0x8f), find(0xa0, 0xbf)];
  return lead === undefined || low === undefined || high === undefined ? null : { lead, trails: [low, high] };
}

/** A token with others around it; some of these ways make whole characters of any part of one. */
export interface Completion {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

/** All ways: a character's first bytes before it, up to three, and up to three others behind it. */
export function completionsOf({ lead, trails }: ByteTokens): readonly Completion[] {
  const fill = (count: number): number[] => Array<number>(count).fill(trails[0]);
  const starts = [[], ...[0, 1, 2].map((more) => [lead, ...fill(more)])];
  const ends = [[], ...[0, 1, 2].flatMap((more) => trails.map((first) => [first, ...fill(more)]))];
  return starts.flatMap((before) => ends.map((after) => ({ before, after })));
}

/** Bytes of a token from the text of one of its completions; null = that is no text of whole characters. */
export function completedBytes(text: string, { before, after }: Completion): Uint8Array | null {
  const bytes = Buffer.from(text);
  const end = bytes.length - after.length;
  return text.includes("\uFFFD") || end <= before.length ? null : bytes.subarray(before.length, end);
}
