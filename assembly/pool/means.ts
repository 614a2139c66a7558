// What a pool's requests are like on average: tokens of prompts and answers. Moving means over about MEAN_SAMPLES.

/** Requests that a mean goes over. */
const MEAN_SAMPLES: f64 = 64;

//   ┌ pool, 64 bytes: { f64 mean, f64 of so many } of uncached tokens, prompt tokens, tokens of an answer, movable ones ┐
const POOL_BYTES: usize = 64;
const AT_UNCACHED: usize = 0;
const AT_PROMPT: usize = 16;
const AT_ANSWER: usize = 32;
const AT_MOVABLE: usize = 48;
const pools: usize = memory.data(16 * 64, 8);

/** A request of so many prompt tokens, so many of them uncached, was sent to an endpoint of the pool. */
export function poolNoteTokens(pool: u32, uncached: f64, prompt: f64): void {
  noteMean(pool, AT_UNCACHED, uncached);
  noteMean(pool, AT_PROMPT, prompt);
}

/** Uncached tokens of a request of the pool, on average; `fallback` while there was none. */
export function poolMeanTokens(pool: u32, fallback: f64): f64 {
  return meanOf(pool, AT_UNCACHED, fallback);
}

/** Prompt tokens of a request of the pool, on average; `fallback` while there was none. */
export function poolMeanPrompt(pool: u32, fallback: f64): f64 {
  return meanOf(pool, AT_PROMPT, fallback);
}

/** An answer of the pool had so many tokens. */
export function poolNoteAnswer(pool: u32, tokens: f64): void {
  noteMean(pool, AT_ANSWER, tokens);
}

/** Tokens of an answer, on average; `fallback` while there was none. */
export function poolMeanAnswer(pool: u32, fallback: f64): f64 {
  return meanOf(pool, AT_ANSWER, fallback);
}

/** Of a request of the pool so many tokens could have been computed at another endpoint than the one that answers. */
export function poolNoteMovable(pool: u32, tokens: f64): void {
  noteMean(pool, AT_MOVABLE, tokens);
}

/** Such tokens of a request, on average; 0 while there was none. */
export function poolMeanMovable(pool: u32): f64 {
  return meanOf(pool, AT_MOVABLE, 0);
}

function noteMean(pool: u32, which: usize, value: f64): void {
  const at = pools + <usize>pool * POOL_BYTES + which;
  const count = Math.min(load<f64>(at, 8) + 1, MEAN_SAMPLES);
  const mean = load<f64>(at);
  store<f64>(at, mean + (value - mean) / count);
  store<f64>(at, count, 8);
}

function meanOf(pool: u32, which: usize, fallback: f64): f64 {
  const at = pools + <usize>pool * POOL_BYTES + which;
  return load<f64>(at, 8) > 0 ? load<f64>(at) : fallback;
}
