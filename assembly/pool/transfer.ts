// How long a prompt's KV cache takes from a prefill to a decode endpoint, learnt for each pool.
//
// A sample is the time from when the decode endpoint was asked to its first token, less what it takes for a prompt that
// it holds whole. The configured rate counts as PRIOR_SAMPLES samples, so that a wrong one fades.
import { POOLS_MAX } from "../wire/limits";

/** Samples that the configured rate counts for. */
const PRIOR_SAMPLES: f64 = 4;
/** Samples that the moving mean goes over. */
const MEAN_SAMPLES: f64 = 32;
/** Fewer tokens say nothing of the rate: what every answer costs is more. */
const SAMPLE_TOKENS_MIN: f64 = 256;
/** A transfer that took longer waited for something else, ms. */
const SAMPLE_MS_MAX: f64 = 60000;

//   ┌ pool, 16 bytes: 0 f64 ms for a token, mean   8 f64 samples ┐
const pools: usize = memory.data(16 * 16, 8);
if (<u32>POOLS_MAX != 16) unreachable();

/** The KV of `tokens` tokens was there `ms` after it was asked for. */
export function noteTransfer(pool: u32, tokens: f64, ms: f64): void {
  if (tokens < SAMPLE_TOKENS_MIN || !(ms >= 0) || ms > SAMPLE_MS_MAX) return;
  const at = pools + ((<usize>pool) << 4);
  const count = Math.min(load<f64>(at, 8) + 1, MEAN_SAMPLES);
  const mean = load<f64>(at);
  store<f64>(at, mean + (ms / tokens - mean) / count);
  store<f64>(at, count, 8);
}

/** ms for the KV of one token in that pool; `configured` is what the configuration says, NaN: what was learnt alone. */
export function transferTokenMs(pool: u32, configured: f64): f64 {
  const at = pools + ((<usize>pool) << 4);
  const samples = load<f64>(at, 8);
  if (configured != configured) return load<f64>(at);
  return (load<f64>(at) * samples + configured * PRIOR_SAMPLES) / (samples + PRIOR_SAMPLES);
}

/** Samples behind it. */
export function transferSamples(pool: u32): f64 {
  return load<f64>(pools + ((<usize>pool) << 4), 8);
}
