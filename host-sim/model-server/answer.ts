// What the simulated model says: a text that depends on the prompt alone, as greedy decoding of a real one
// does.
import { hashText } from "./block-hash.ts";
import { WORDS } from "./lexicon.ts";
import { encode, tokenText } from "./tokenizer.ts";

/** Answers end on their own after this many tokens: median, and the spread of a log-normal distribution. */
const NATURAL_TOKENS_MEDIAN = 180;
const NATURAL_TOKENS_SIGMA = 0.6;
const NATURAL_TOKENS_MIN = 8;

const startWords: number[] = [];
const nextWords: number[] = [];
for (const word of WORDS) {
  const capital = word[0]!.toUpperCase() + word.slice(1);
  startWords.push(...encode(capital).slice(0, 1));
  nextWords.push(...encode(` ${word}`).slice(0, 1));
}
const capitalWords = WORDS.map((word) => encode(` ${word[0]!.toUpperCase()}${word.slice(1)}`)[0]!);
const [comma] = encode(",") as [number];
const [period] = encode(".") as [number];

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
export function answerTokens(seed: number, count: number): number[] {
  const random = randomFrom(seed);
  const pick = (from: readonly number[]): number => from[Math.floor(random() * from.length)]!;
  const tokens: number[] = [];
  let sentenceLeft = 0;
  while (tokens.length < count) {
    if (sentenceLeft === 0) {
      if (tokens.length > 0) tokens.push(period);
      tokens.push(pick(tokens.length === 0 ? startWords : capitalWords));
      sentenceLeft = 6 + Math.floor(random() * 14);
    } else {
      if (random() < 0.08) tokens.push(comma);
      tokens.push(pick(nextWords));
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
