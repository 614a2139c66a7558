// What one step of an engine computes, by its batch.
import type { EngineRequest } from "./engine-types.ts";
import type { StepWork } from "./rates.ts";

/** The work of a step over `batch`, whose requests have their tokens scheduled. */
export function stepWorkOf(batch: readonly EngineRequest[]): StepWork {
  let prefillTokens = 0;
  let decodeSequences = 0;
  let contextTokens = 0;
  for (const request of batch) {
    if (isDecode(request)) {
      decodeSequences++;
      contextTokens += request.computedTokens;
    } else {
      prefillTokens += request.scheduledTokens;
    }
  }
  return { prefillTokens, decodeSequences, contextTokens };
}

// A pulled prompt computes one token against a whole context, which is a decode's work.
function isDecode(request: EngineRequest): boolean {
  return request.scheduledTokens === 1 && (request.generatedTokens > 0 || request.pulledTokens > 0);
}
