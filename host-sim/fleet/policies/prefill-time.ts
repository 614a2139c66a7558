// How long an engine takes for a prompt: what policies that predict times have fitted offline.
import type { EngineConfig } from "../../model-server/engine-types.ts";
import { stepDurationMs } from "../../model-server/rates.ts";

/** Decodes that share the steps of a prefill. */
export interface DecodeLoad {
  readonly sequences: number;
  /** Tokens in their KV cache, in all. */
  readonly contextTokens: number;
}

const NO_DECODES: DecodeLoad = { sequences: 0, contextTokens: 0 };

/**
 * Milliseconds in which an engine computes `tokens` prompt tokens, in as few steps as their token budget
 * allows; the decodes take one token each out of every step's budget. 0 for 0 tokens.
 */
export function prefillMs(engine: EngineConfig, tokens: number, decodes = NO_DECODES): number {
  const budget = Math.max(1, engine.batchedTokensMax - decodes.sequences);
  const work = { decodeSequences: decodes.sequences, contextTokens: decodes.contextTokens };
  const fullSteps = Math.floor(tokens / budget);
  const rest = tokens - fullSteps * budget;
  const fullMs =
    fullSteps > 0 ? fullSteps * stepDurationMs(engine.rates, { prefillTokens: budget, ...work }) : 0;
  return fullMs + (rest > 0 ? stepDurationMs(engine.rates, { prefillTokens: rest, ...work }) : 0);
}
