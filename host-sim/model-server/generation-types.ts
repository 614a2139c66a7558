// A call in progress: its answers, who receives them, and what it cost.
import type { GenerationCall } from "./calls.ts";
import type { KvLeg } from "./disaggregation/leg.ts";
import type { EngineDriver } from "./driver.ts";
import type { Engine } from "./engine.ts";
import type { EngineRequest } from "./engine-types.ts";
import type { ApiError } from "./errors.ts";
import type { EventRecorder } from "./kv-events/recorder.ts";
import type { EngineMetrics } from "./metrics.ts";

/** One answer that is being written. */
export interface Sequence {
  readonly id: string;
  /** Position in the response's choices. */
  readonly index: number;
  /** Which prompt of the call it answers. */
  readonly promptIndex: number;
  readonly promptTokens: number;
  /** Token ids of the answer, as far as it will go. */
  readonly answer: readonly number[];
  /**
   * What each token adds to the text that the client sees; a stop text and what follows it are never seen.
   */
  readonly texts: readonly string[];
  /** "stop" = natural end or stop text, "length" = the client's or the model's limit. */
  readonly finishReason: "stop" | "length";
  /** The stop text that ended the answer, else null. */
  readonly stopText: string | null;
  readonly engine: SequenceEngine;
  request: EngineRequest | undefined;
  /** Its KV is not that of its prompt: what it says is worthless. */
  garbled: boolean;
}

/** Token numbers of a call. */
export interface Usage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly cachedTokens: number;
  /** Prompt tokens in full blocks that this call added to the prefix cache; 0 when they were pulled. */
  readonly createdCacheTokens: number;
}

/** Receives a call's progress. Exactly one of `done` and `failed` comes, last, unless the call is aborted. */
export interface GenerationSink {
  token(sequence: Sequence, text: string, last: boolean): void;
  done(job: GenerationJob): void;
  failed(error: ApiError): void;
}

/** A call in progress. */
export interface GenerationJob {
  readonly call: GenerationCall;
  readonly sequences: readonly Sequence[];
  readonly sink: GenerationSink;
  /** Sequences that have not ended. */
  open: number;
  /** Set if the call is one leg of a disaggregated one. */
  readonly leg: KvLeg | undefined;
  /** Text of the answer's `kv_transfer_params`, null = none. */
  transferParams: string | null;
}

/** An engine with what belongs to it: its metrics and its timer. */
export interface SequenceEngine {
  readonly engine: Engine;
  readonly metrics: EngineMetrics;
  readonly driver: EngineDriver;
  /** Writes down what its cache does; undefined: nobody asks. */
  readonly recorder: EventRecorder | undefined;
}

/** Prompt, answer and cached tokens of a call so far; a prompt answered several times counts once. */
export function usageOf(job: GenerationJob): Usage {
  const prompts = new Map<number, number>();
  let completionTokens = 0;
  for (const sequence of job.sequences) {
    prompts.set(sequence.promptIndex, sequence.promptTokens);
    completionTokens += sequence.request?.generatedTokens ?? 0;
  }
  let promptTokens = 0;
  for (const tokens of prompts.values()) promptTokens += tokens;
  const first = job.sequences[0];
  if (first?.request === undefined) {
    return { promptTokens, completionTokens, cachedTokens: 0, createdCacheTokens: 0 };
  }
  const cachedTokens = job.leg?.cachedTokens(first.request) ?? Math.max(0, first.request.cachedTokens);
  return { promptTokens, completionTokens, cachedTokens, createdCacheTokens: createdCacheTokens(first) };
}

function createdCacheTokens({ engine, request }: Sequence): number {
  const { blockSize, prefixCaching } = engine.engine.config;
  if (request === undefined || !prefixCaching || request.pulledTokens > 0) return 0;
  const fullBlockTokens = Math.floor(request.promptTokens / blockSize) * blockSize;
  return Math.max(0, fullBlockTokens - Math.max(0, request.cachedTokens));
}
