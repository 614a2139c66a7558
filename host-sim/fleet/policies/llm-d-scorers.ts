// llm-d's three default scorers and their weights.

/** Weights of the picker that is made when there is no configuration. */
export const LLM_D_WEIGHTS = { queue: 2, kvCache: 2, prefix: 3 } as const;

/** queue-scorer: (max − x) / (max − min) over the candidates; 1 for all if they are equal. f64[candidates] */
export function queueScores(waiting: readonly number[]): number[] {
  const max = Math.max(...waiting);
  const min = Math.min(...waiting);
  return waiting.map((x) => (max === min ? 1 : (max - x) / (max - min)));
}

/** kv-cache-utilization-scorer: 1 − usage. @param kvUsage 0–1 */
export function kvCacheScore(kvUsage: number): number {
  return 1 - kvUsage;
}

/** prefix-cache-scorer: the share of the prompt's blocks that match; 0 for a prompt without blocks. */
export function prefixScore(matchedBlocks: number, totalBlocks: number): number {
  return totalBlocks === 0 ? 0 : matchedBlocks / totalBlocks;
}

/** The weighted sum of a candidate's scores, each clamped to 0–1. */
export function totalScore(queue: number, kvCache: number, prefix: number): number {
  const { queue: q, kvCache: k, prefix: p } = LLM_D_WEIGHTS;
  return q * clamp(queue) + k * clamp(kvCache) + p * clamp(prefix);
}

function clamp(score: number): number {
  return Math.min(1, Math.max(0, score));
}
