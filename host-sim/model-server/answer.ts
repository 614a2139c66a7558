// What the simulated model says: a text that depends on the prompt alone, as greedy decoding of a real one
// does.
import { hashText } from "./block-hash.ts";
import { WORDS } from "./lexicon.ts";
import { encode, tokenText } from "./tokenizer.ts";

/** Answers end on their own after this many tokens: median, and the spread of a log-normal distribution. */
const NATURAL_TOKENS_MEDIAN = 180;
const NATURAL_TOKENS_SIGMA = 0.6;
const NATURAL_TOKENS_MIN = 8;

/** What answers are made of, each a single token of some vocabulary. */
export interface AnswerWords {
  /** Capitalised, without a space before them. */
  readonly first: readonly number[];
  /** With a space before them, as all that follow. */
  readonly next: readonly number[];
  readonly capital: readonly number[];
  readonly comma: number;
  readonly period: number;
}

/** Those of a tokenizer: known words that are one token to it. @param encodeWord without special tokens */
export function answerWords(encodeWord: (text: string) => readonly number[]): AnswerWords {
  const single = (texts: readonly string[]): number[] =>
    texts.map((text) => encodeWord(text)).flatMap((tokens) => (tokens.length === 1 ? [tokens[0]!] : []));
  const capitals = WORDS.map((word) => word[0]!.toUpperCase() + word.slice(1));
  return {
    first: single(capitals),
    next: single(WORDS.map((word) => ` ${word}`)),
    capital: single(capitals.map((word) => ` ${word}`)),
    comma: encodeWord(",")[0]!,
    period: encodeWord(".")[0]!,
  };
}

/** Those of the simulated tokenizer. */
export const SIMULATED_WORDS: AnswerWords = answerWords(encode);

/** Uniform numbers in [0, 1) from a 32-bit seed (mulberry32, public domain, by Tommy Ettinger). */
export function randomFrom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Seed of the answer to a prompt; `variant` tells the choices of one request (`n` > 1) apart. */
export function answerSeed(promptTokens: ArrayLike<number>, variant: number): number {
  let hash = hashText(String(variant), promptTokens.length);
  for (let i = 0; i < promptTokens.length; i++)
    hash = Math.imul(hash ^ promptTokens[i]!, 0x01000193) ^ (hash >>> 13);
  return hash >>> 0;
}

/** Tokens after which the model would stop by itself, ≥ 8. */
export function naturalLength(seed: number): number {
  const random = randomFrom(seed ^ 0x5bd1e995);
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return Math.max(
    NATURAL_TOKENS_MIN,
    Math.round(NATURAL_TOKENS_MEDIAN * Math.exp(NATURAL_TOKENS_SIGMA * normal)),
  );
}

/**
 * The first `count` tokens of the answer. Sentences of known words, so that encoding the text again, as the
 * next turn of a chat does, gives these same tokens.
 */
export function answerTokens(seed: number, count: number, words = SIMULATED_WORDS): number[] {
  const random = randomFrom(seed);
  const pick = (from: readonly number[]): number => from[Math.floor(random() * from.length)]!;
  const tokens: number[] = [];
  let sentenceLeft = 0;
  while (tokens.length < count) {
    if (sentenceLeft === 0) {
      if (tokens.length > 0) tokens.push(words.period);
      tokens.push(pick(tokens.length === 0 ? words.first : words.capital));
      sentenceLeft = 6 + Math.floor(random() * 14);
    } else {
      if (random() < 0.08) tokens.push(words.comma);
      tokens.push(pick(words.next));
      sentenceLeft--;
    }
  }
  tokens.length = count;
  return tokens;
}

/** The first `count` tokens of the answer as text. */
export function answerText(seed: number, count: number): string {
  return answerTokens(seed, count).map(tokenText).join("");
}
