// How much work a workload is for its fleet: how the default rates were chosen.
import { stepDurationMs } from "../../model-server/rates.ts";
import type { ReplicaSpec, Workload } from "../types.ts";
import { reuseOf } from "./reuse.ts";

/** Share of the fleet's KV memory that is taken to be free for reuse; running requests fill the rest. */
export const REUSE_MEMORY_SHARE = 0.5;

/** Estimated demand, before any run. */
export interface LoadEstimate {
  /**
   * Compute that prefill and decode need, as a share of the fleet's, 0 upwards: 1 = no time is left for the
   * fixed cost of a step, so that queues grow before it.
   */
  readonly load: number;
  /** Share of the prompt tokens that is taken to be reused. */
  readonly reuse: number;
}

/**
 * Demand of a workload over its duration (to the last arrival), with the best reuse that the fleet's memory
 * allows: one LRU cache of REUSE_MEMORY_SHARE of all its KV. A request's work is what it adds to steps of its
 * replica by `stepDurationMs`: uncached prompt tokens, and for each answer token a sequence in the batch with
 * its context. Replicas of other speeds count in proportion to the first one's prefill speed.
 */
export function estimateLoad(workload: Workload, replicas: readonly ReplicaSpec[]): LoadEstimate {
  const kvTokens = replicas.reduce((sum, { engine }) => sum + engine.blockCount * engine.blockSize, 0);
  const { promptTokens, reusedTokens } = reuseOf(workload, kvTokens * REUSE_MEMORY_SHARE);
  const { rates } = replicas[0]!.engine;
  const idleMs = stepDurationMs(rates, { prefillTokens: 0, decodeSequences: 0, contextTokens: 0 });
  const speed = replicas.reduce((sum, { engine }) => {
    return sum + rates.prefillMsPerToken / engine.rates.prefillMsPerToken;
  }, 0);
  let workMs = (promptTokens - reusedTokens) * rates.prefillMsPerToken;
  for (const request of workload.requests) {
    const contextTokens = request.promptTokens + request.outputTokens / 2;
    const token = { prefillTokens: 0, decodeSequences: 1, contextTokens };
    workMs += request.outputTokens * (stepDurationMs(rates, token) - idleMs);
  }
  const durationMs = workload.requests.at(-1)!.arrivalMs;
  return { load: workMs / (speed * durationMs), reuse: reusedTokens / promptTokens };
}
