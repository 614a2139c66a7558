// Engines with round numbers, and the record of what they did.
import { Engine } from "../../../host-sim/model-server/engine.ts";
import type {
  EngineConfig,
  EngineRequest,
  EngineSubmission,
} from "../../../host-sim/model-server/engine-types.ts";
import type { EngineRates } from "../../../host-sim/model-server/rates.ts";

/** A step costs 10 ms, and each prefill token 1 ms beyond the 5 ms that the weights take: easy to add up. */
export const ROUND_RATES: EngineRates = {
  description: "round numbers",
  overheadMs: 5,
  weightsMs: 5,
  prefillMsPerToken: 1,
  decodeMsPerSequence: 0,
  contextMsPerToken: 0,
};

/**
 * Blocks of 4 tokens, 100 of them usable, 64 tokens a step, 8 sequences, 2 adapters. A pull takes 2 ms and 4 ms a
 * block, a hold lasts 300 ms.
 */
export function smallConfig(overrides: Partial<EngineConfig> = {}): EngineConfig {
  return {
    blockSize: 4,
    blockCount: 101,
    batchedTokensMax: 64,
    sequencesMax: 8,
    lorasMax: 2,
    prefixCaching: true,
    rates: ROUND_RATES,
    kvBytesPerToken: 10,
    transferBytesPerMs: 10,
    transferBaseMs: 2,
    holdMs: 300,
    ...overrides,
  };
}

export interface Recorded {
  readonly engine: Engine;
  /** "time event id": scheduled, token, done, aborted, preempted. */
  readonly log: string[];
  /** "prefill tokens + decoding sequences" of each step. */
  readonly steps: string[];
}

/** An engine that writes down what it does. */
export function recordedEngine(overrides: Partial<EngineConfig> = {}): Recorded {
  const log: string[] = [];
  const steps: string[] = [];
  const note = (nowMs: number, event: string, request: EngineRequest): void => {
    log.push(`${nowMs} ${event} ${request.id}`);
  };
  const engine = new Engine(smallConfig(overrides), {
    scheduled: (request, nowMs) => note(nowMs, "scheduled", request),
    token: (request, nowMs) => note(nowMs, "token", request),
    preempted: (request, nowMs) => note(nowMs, "preempted", request),
    finished: (request, reason, nowMs) => note(nowMs, reason, request),
    step: (report) => steps.push(`${report.prefillTokens}+${report.decodeSequences}`),
  });
  return { engine, log, steps };
}

/**
 * A submission whose content is spelled by a text, one letter a block: equal letters from the start are a
 * shared prefix, as block hashes chain. The output's blocks are the request's own.
 */
export function submission(
  id: string,
  blocks: string,
  outputTokens: number,
  more: Partial<EngineSubmission> = {},
): EngineSubmission {
  const promptTokens = more.promptTokens ?? blocks.length * 4;
  let chain = 17;
  const own = [...id].reduce((sum, letter) => sum * 31 + letter.charCodeAt(0), 1_000_003);
  const letters = [...blocks].map((letter) => letter.charCodeAt(0));
  const outputs = Array.from({ length: Math.ceil(outputTokens / 4) + 1 }, (_, i) => own + i);
  const blockHashes = [...letters, ...outputs].map((part) => (chain = (chain * 8191 + part) % 9_007_199_254));
  return { id, promptTokens, outputTokens, blockHashes, ...more };
}

/** Runs until nothing is left to do. */
export function drain(engine: Engine): void {
  while (engine.nextEventMs() < Number.POSITIVE_INFINITY) engine.advance(engine.nextEventMs());
}
