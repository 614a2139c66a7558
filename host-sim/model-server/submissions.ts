// What is handed in to an engine: checked, and made into a request that waits.
import {
  type EngineConfig,
  type EngineRequest,
  type EngineSubmission,
  SequenceTooLongError,
  SubmissionError,
} from "./engine-types.ts";

/**
 * Checks the numbers of a submission against an engine's configuration.
 * @param blocksMax blocks of its whole cache
 * @throws SubmissionError for impossible numbers, SequenceTooLongError if it exceeds the whole cache.
 */
export function checkSubmission(
  submission: EngineSubmission,
  { blockSize }: EngineConfig,
  blocksMax: number,
): void {
  const { id, promptTokens, outputTokens, blockHashes } = submission;
  if (!Number.isInteger(promptTokens) || promptTokens < 1) {
    throw new SubmissionError(`request ${id}: promptTokens is ${promptTokens}, expected an integer ≥ 1`);
  }
  if (!Number.isInteger(outputTokens) || outputTokens < 0) {
    throw new SubmissionError(`request ${id}: outputTokens is ${outputTokens}, expected an integer ≥ 0`);
  }
  const total = promptTokens + outputTokens;
  const hashesNeeded = Math.floor((total - 1) / blockSize);
  if (blockHashes.length < hashesNeeded) {
    throw new SubmissionError(
      `request ${id}: ${blockHashes.length} block hashes, expected ≥ ${hashesNeeded}`,
    );
  }
  const blocks = Math.ceil(total / blockSize);
  if (blocks > blocksMax) throw new SequenceTooLongError(id, blocks, blocksMax);
}

/** A request of which nothing is computed, as it arrives at `nowMs`. */
export function newRequest(submission: EngineSubmission, nowMs: number): EngineRequest {
  return {
    ...submission,
    state: "waiting",
    computedTokens: 0,
    generatedTokens: 0,
    blocks: [],
    cachedTokens: -1,
    pulledTokens: 0,
    preemptions: 0,
    scheduledTokens: 0,
    publishedBlocks: 0,
    arrivalMs: nowMs,
    scheduledMs: Number.NaN,
    firstTokenMs: Number.NaN,
    lastTokenMs: Number.NaN,
  };
}
