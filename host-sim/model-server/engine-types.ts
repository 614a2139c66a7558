// What goes into the simulated engine, what comes out, and how it is configured.
import type { EngineRates } from "./rates.ts";

/** Configuration of one engine (one data-parallel rank). Defaults: `defaultEngineConfig`. */
export interface EngineConfig {
  /** Tokens of one KV block. */
  readonly blockSize: number;
  /** KV blocks; one of them is vLLM's null block, so that one fewer can be used. */
  readonly blockCount: number;
  /** Token budget of one step (`--max-num-batched-tokens`). */
  readonly batchedTokensMax: number;
  /** Sequences in one batch (`--max-num-seqs`). */
  readonly sequencesMax: number;
  /** Different LoRA adapters in one batch (`--max-loras`); requests for a further one wait. */
  readonly lorasMax: number;
  readonly prefixCaching: boolean;
  readonly rates: EngineRates;
  /** KV cache of one token in bytes, all layers together. */
  readonly kvBytesPerToken: number;
  /** Speed at which blocks are pulled from another engine, bytes a millisecond; each pull has it to itself. */
  readonly transferBytesPerMs: number;
  /** Duration of a pull beyond its bytes, ms: finding the peer's memory, posting the reads, being told. */
  readonly transferBaseMs: number;
  /** Blocks held for another engine are released after this, ms (vLLM's kv_lease_duration). */
  readonly holdMs: number;
}

/** One sequence to generate. The engine knows tokens by number and blocks by hash, never by content. */
export interface EngineSubmission {
  readonly id: string;
  /** Prompt length in tokens, ≥ 1. */
  readonly promptTokens: number;
  /** Tokens that will be generated, ≥ 0; 0 = the request ends with its prefill (embeddings, scores). */
  readonly outputTokens: number;
  /** Chained hash of each full block of prompt and output, in order (block-hash.ts). */
  readonly blockHashes: ArrayLike<number>;
  /** LoRA adapter, absent for the base model. */
  readonly lora?: string | undefined;
  /**
   * Keep its blocks when it is done, under its id, for another engine to pull (vLLM's do_remote_decode). Ends
   * with `Engine.release`, or `EngineConfig.holdMs` after the end. The id must be no other hold's.
   */
  readonly holdBlocks?: boolean;
  /** The prompt's KV is on another engine, to be pulled (vLLM's do_remote_prefill); see `Engine.beginPull`. */
  readonly remotePrefill?: boolean;
}

/** Why a request ended; "failed" = its blocks could not be pulled. */
export type FinishReason = "done" | "aborted" | "failed";

/** A request inside the engine. Fields are the engine's to write and everyone's to read. */
export interface EngineRequest extends EngineSubmission {
  /** "pulling" = its blocks are allocated and filled from another engine (WAITING_FOR_REMOTE_KVS). */
  state: "waiting" | "pulling" | "running" | "finished";
  /** Tokens whose KV is in the cache. */
  computedTokens: number;
  generatedTokens: number;
  /** KV blocks in order, shared prefix first. */
  blocks: number[];
  /** Prompt tokens found in the prefix cache when the request was first scheduled; −1 before. */
  cachedTokens: number;
  /** Prompt tokens whose KV comes from another engine; 0 until blocks are allocated for them. */
  pulledTokens: number;
  preemptions: number;
  /** Tokens of this request in the step that is being computed. */
  scheduledTokens: number;
  /** Blocks already published under their hash. */
  publishedBlocks: number;
  readonly arrivalMs: number;
  /** First time in a batch; NaN before. */
  scheduledMs: number;
  /** End of the step that made the first token; NaN before. */
  firstTokenMs: number;
  /** End of the step that made the latest token; NaN before. */
  lastTokenMs: number;
}

/** What happened in one finished step. */
export interface StepReport {
  readonly endMs: number;
  readonly durationMs: number;
  readonly prefillTokens: number;
  readonly decodeSequences: number;
}

/**
 * Observer of an engine; every call names the simulated time. Calls come from every method that is given a
 * time.
 */
export interface EngineListener {
  /** The request entered a batch for the first time. */
  scheduled?(request: EngineRequest, nowMs: number): void;
  /**
   * A request with `remotePrefill` has its blocks. Nothing more happens to it before `Engine.beginPull` or
   * `Engine.failPull`, which may be called from here.
   */
  allocated?(request: EngineRequest, nowMs: number): void;
  /** The pull is over: the other engine may release its hold. Also told of a request aborted meanwhile. */
  pulled?(request: EngineRequest, nowMs: number): void;
  /** Nobody came for held blocks in time; they are free. */
  expired?(holdId: string, nowMs: number): void;
  /**
   * One more token; its index is `request.generatedTokens − 1`. `previousMs` is the token before, NaN at
   * first.
   */
  token?(request: EngineRequest, nowMs: number, previousMs: number): void;
  finished?(request: EngineRequest, reason: FinishReason, nowMs: number): void;
  preempted?(request: EngineRequest, nowMs: number): void;
  step?(report: StepReport): void;
  /** Blocks `from…to − 1` of a request can be found by their hashes. */
  stored?(request: EngineRequest, from: number, to: number): void;
  /** A block that could be found by this hash holds something else now. */
  evicted?(hash: number): void;
  /** No block can be found any more. */
  cleared?(): void;
}

/** Totals since the engine started, in the units of vLLM's counters of the same names. */
export interface EngineCounters {
  prefixCacheQueryTokens: number;
  prefixCacheHitTokens: number;
  promptTokens: number;
  /** Of `promptTokens`, those whose KV was pulled from another engine. */
  pulledPromptTokens: number;
  /** Prompt tokens that the local cache did not have, and those of them to be pulled, at admission. */
  externalQueryTokens: number;
  externalHitTokens: number;
  generatedTokens: number;
  preemptions: number;
  steps: number;
  busyMs: number;
}

/** The request can never run: it needs more KV blocks than the engine has. */
export class SequenceTooLongError extends Error {
  readonly code = "sequence_too_long";
  constructor(id: string, blocks: number, blocksMax: number) {
    super(`request ${id} needs ${blocks} KV blocks, the engine has ${blocksMax}`);
  }
}

/** A submission's numbers contradict each other. */
export class SubmissionError extends Error {
  readonly code = "bad_submission";
}
