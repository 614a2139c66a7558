// The simulated engine: continuous batching with a token budget a step, paged KV cache, preemption. No I/O,
// no clock.
import {
  type EngineConfig,
  type EngineCounters,
  type EngineListener,
  type EngineRequest,
  type EngineSubmission,
  type FinishReason,
  SequenceTooLongError,
  SubmissionError,
} from "./engine-types.ts";
import { KvCache } from "./kv-cache.ts";
import { LLAMA_3_3_70B_FP8_2XH100, LLAMA_3_3_70B_FP8_2XH100_KV_TOKENS, stepDurationMs } from "./rates.ts";

/**
 * vLLM's defaults for an API server on a GPU of at least 70 GiB (vllm/engine/arg_utils.py, v0.32.0: 8,192
 * tokens and 1,024 sequences a step) with the rates and the cache of LLAMA_3_3_70B_FP8_2XH100.
 */
export function defaultEngineConfig(): EngineConfig {
  return {
    blockSize: 16,
    blockCount: Math.floor(LLAMA_3_3_70B_FP8_2XH100_KV_TOKENS / 16),
    batchedTokensMax: 8192,
    sequencesMax: 1024,
    lorasMax: 4,
    prefixCaching: true,
    rates: LLAMA_3_3_70B_FP8_2XH100,
  };
}

/**
 * One engine under simulated time. The caller owns the clock: it submits and aborts at non-decreasing times,
 * asks `nextEventMs` when something will happen, and calls `advance` no later than it wants to hear of it.
 * Equal calls give equal results.
 *
 * Scheduling is vLLM V1's (vllm/v1/core/sched/scheduler.py, v0.32.0), first come first served: running
 * requests first (decodes and further chunks of long prompts), then waiting ones while the step's token
 * budget, the batch and the cache have room. A waiting request is admitted only if its whole prompt fits into
 * free blocks (scheduler_reserve_full_isl); when a running one finds no block, the youngest running request
 * is preempted and recomputed later. In a step with a preemption nothing new is admitted.
 */
export class Engine {
  readonly config: EngineConfig;
  readonly cache: KvCache;
  readonly counters: EngineCounters = {
    prefixCacheQueryTokens: 0,
    prefixCacheHitTokens: 0,
    promptTokens: 0,
    generatedTokens: 0,
    preemptions: 0,
    steps: 0,
    busyMs: 0,
  };
  /** Durations are multiplied by this: 1 is the configured rates, 2 a GPU at half speed. */
  slowdown = 1;
  private readonly listener: EngineListener;
  private readonly running: EngineRequest[] = [];
  private readonly waiting: EngineRequest[] = [];
  private readonly batch: EngineRequest[] = [];
  private deferredByLora = 0;
  private stepStartMs = 0;
  private stepEndMs = Number.POSITIVE_INFINITY;
  private stepPrefillTokens = 0;
  private stepDecodes = 0;
  private finishing = false;

  constructor(config: EngineConfig, listener: EngineListener = {}) {
    this.config = config;
    this.listener = listener;
    this.cache = new KvCache(config.blockCount - 1);
  }

  get runningCount(): number {
    return this.running.length;
  }

  get waitingCount(): number {
    return this.waiting.length;
  }

  /** Waiting requests that were passed over because their adapter has no slot. */
  get waitingForLoraCount(): number {
    return Math.min(this.deferredByLora, this.waiting.length);
  }

  /** Adapters of the running, then of the waiting requests, each once, in order of first use. */
  loraNames(of: "running" | "waiting"): string[] {
    const names = new Set<string>();
    for (const request of of === "running" ? this.running : this.waiting) {
      if (request.lora !== undefined) names.add(request.lora);
    }
    return [...names];
  }

  /** End of the current step in ms, or Infinity while there is nothing to do. */
  nextEventMs(): number {
    return this.stepEndMs;
  }

  /** Runs every step that ends at or before `nowMs`. */
  advance(nowMs: number): void {
    while (this.stepEndMs <= nowMs) {
      const endMs = this.stepEndMs;
      this.finishStep(endMs);
      this.beginStep(endMs);
    }
  }

  /**
   * Takes a request at `nowMs`; an idle engine starts on it at once.
   * @throws SubmissionError for impossible numbers, SequenceTooLongError if it exceeds the whole cache.
   */
  submit(submission: EngineSubmission, nowMs: number): EngineRequest {
    this.checkSubmission(submission);
    if (!this.finishing) this.advance(nowMs);
    const request: EngineRequest = {
      ...submission,
      state: "waiting",
      computedTokens: 0,
      generatedTokens: 0,
      blocks: [],
      cachedTokens: -1,
      preemptions: 0,
      scheduledTokens: 0,
      publishedBlocks: 0,
      arrivalMs: nowMs,
      scheduledMs: Number.NaN,
      firstTokenMs: Number.NaN,
      lastTokenMs: Number.NaN,
    };
    this.waiting.push(request);
    if (!this.finishing && this.stepEndMs === Number.POSITIVE_INFINITY) this.beginStep(nowMs);
    return request;
  }

  /** Drops a request and frees its blocks; nothing happens when it has already ended. */
  abort(request: EngineRequest, nowMs: number): void {
    if (!this.finishing) this.advance(nowMs);
    if (request.state === "finished") return;
    const queue = request.state === "running" ? this.running : this.waiting;
    queue.splice(queue.indexOf(request), 1);
    this.end(request, "aborted", nowMs);
  }

  private checkSubmission(submission: EngineSubmission): void {
    const { id, promptTokens, outputTokens, blockHashes } = submission;
    if (!Number.isInteger(promptTokens) || promptTokens < 1) {
      throw new SubmissionError(`request ${id}: promptTokens is ${promptTokens}, expected an integer ≥ 1`);
    }
    if (!Number.isInteger(outputTokens) || outputTokens < 0) {
      throw new SubmissionError(`request ${id}: outputTokens is ${outputTokens}, expected an integer ≥ 0`);
    }
    const total = promptTokens + outputTokens;
    const hashesNeeded = Math.floor((total - 1) / this.config.blockSize);
    if (blockHashes.length < hashesNeeded) {
      throw new SubmissionError(
        `request ${id}: ${blockHashes.length} block hashes, expected ≥ ${hashesNeeded}`,
      );
    }
    const blocks = Math.ceil(total / this.config.blockSize);
    if (blocks > this.cache.blockCount) throw new SequenceTooLongError(id, blocks, this.cache.blockCount);
  }

  // Plans the next step, if there is anything to compute.
  private beginStep(nowMs: number): void {
    this.batch.length = 0;
    this.stepPrefillTokens = 0;
    this.stepDecodes = 0;
    const budget = this.scheduleRunning(nowMs);
    if (budget >= 0) this.scheduleWaiting(budget, nowMs);
    if (this.batch.length === 0) {
      this.stepEndMs = Number.POSITIVE_INFINITY;
      return;
    }
    let contextTokens = 0;
    for (const request of this.batch) {
      if (isDecode(request)) {
        this.stepDecodes++;
        contextTokens += request.computedTokens;
      } else {
        this.stepPrefillTokens += request.scheduledTokens;
      }
    }
    const work = { prefillTokens: this.stepPrefillTokens, decodeSequences: this.stepDecodes, contextTokens };
    this.stepStartMs = nowMs;
    this.stepEndMs = nowMs + stepDurationMs(this.config.rates, work) * this.slowdown;
  }

  // Returns the token budget left, or −1 if a request had to be preempted (then nothing new is admitted).
  private scheduleRunning(nowMs: number): number {
    let budget = this.config.batchedTokensMax;
    let preempted = false;
    for (let index = 0; index < this.running.length && budget > 0; index++) {
      const request = this.running[index]!;
      const tokens = Math.min(knownTokens(request) - request.computedTokens, budget);
      while (!this.grow(request, tokens)) {
        preempted = true;
        const victim = this.running.pop()!;
        this.preempt(victim, nowMs);
        if (victim === request) return -1;
      }
      this.addToBatch(request, tokens);
      budget -= tokens;
    }
    return preempted ? -1 : budget;
  }

  private scheduleWaiting(budget: number, nowMs: number): void {
    const loras = new Set<string>();
    for (const request of this.running) if (request.lora !== undefined) loras.add(request.lora);
    this.deferredByLora = 0;
    let index = 0;
    while (budget > 0 && index < this.waiting.length && this.running.length < this.config.sequencesMax) {
      const request = this.waiting[index]!;
      if (request.lora !== undefined && loras.size >= this.config.lorasMax && !loras.has(request.lora)) {
        this.deferredByLora++;
        index++;
        continue;
      }
      const tokens = this.admit(request, budget, nowMs);
      if (tokens === 0) return;
      this.waiting.splice(index, 1);
      this.running.push(request);
      if (request.lora !== undefined) loras.add(request.lora);
      this.addToBatch(request, tokens);
      budget -= tokens;
    }
  }

  // Takes the cached prefix and blocks for the first chunk. Returns the tokens to compute, 0 if there is no
  // room.
  private admit(request: EngineRequest, budget: number, nowMs: number): number {
    const { blockSize, prefixCaching } = this.config;
    const known = knownTokens(request);
    // The last token is always recomputed, for its logits: a fully cached prompt loses its last block.
    const hits = prefixCaching
      ? this.cache.findPrefix(request.blockHashes, Math.floor((known - 1) / blockSize))
      : [];
    const blocksNeeded = Math.ceil(known / blockSize) - hits.length;
    if (blocksNeeded + this.cache.countFree(hits) > this.cache.freeCount) return 0;
    for (const block of hits) this.cache.acquire(block);
    request.blocks = hits;
    request.computedTokens = hits.length * blockSize;
    request.publishedBlocks = hits.length;
    request.state = "running";
    if (request.cachedTokens < 0) {
      request.cachedTokens = request.computedTokens;
      request.scheduledMs = nowMs;
      this.counters.prefixCacheQueryTokens += request.promptTokens;
      this.counters.prefixCacheHitTokens += request.computedTokens;
      this.listener.scheduled?.(request, nowMs);
    }
    const tokens = Math.min(known - request.computedTokens, budget);
    this.grow(request, tokens);
    return tokens;
  }

  // Gives the request blocks for `tokens` more tokens and publishes the blocks that they fill. False: no
  // room.
  private grow(request: EngineRequest, tokens: number): boolean {
    const { blockSize, prefixCaching } = this.config;
    const end = request.computedTokens + tokens;
    const missing = Math.ceil(end / blockSize) - request.blocks.length;
    if (missing > this.cache.freeCount) return false;
    for (let i = 0; i < missing; i++) request.blocks.push(this.cache.allocate());
    if (!prefixCaching) return true;
    const full = Math.floor(end / blockSize);
    for (let block = request.publishedBlocks; block < full; block++) {
      this.cache.publish(request.blocks[block]!, request.blockHashes[block]!);
    }
    request.publishedBlocks = full;
    return true;
  }

  private addToBatch(request: EngineRequest, tokens: number): void {
    request.scheduledTokens = tokens;
    this.batch.push(request);
  }

  private preempt(request: EngineRequest, nowMs: number): void {
    this.releaseBlocks(request);
    request.state = "waiting";
    request.preemptions++;
    this.counters.preemptions++;
    this.waiting.unshift(request);
    this.listener.preempted?.(request, nowMs);
  }

  private finishStep(endMs: number): void {
    this.finishing = true;
    this.counters.steps++;
    this.counters.busyMs += endMs - this.stepStartMs;
    for (const request of this.batch) {
      if (request.state !== "running") continue;
      request.computedTokens += request.scheduledTokens;
      request.scheduledTokens = 0;
      if (request.computedTokens === knownTokens(request)) this.produce(request, endMs);
    }
    let kept = 0;
    for (const request of this.running) {
      if (request.state === "running") this.running[kept++] = request;
    }
    this.running.length = kept;
    this.listener.step?.({
      endMs,
      durationMs: endMs - this.stepStartMs,
      prefillTokens: this.stepPrefillTokens,
      decodeSequences: this.stepDecodes,
    });
    this.finishing = false;
  }

  // All known tokens are computed: the step made the next token, or ended a request that wants none.
  private produce(request: EngineRequest, nowMs: number): void {
    if (request.generatedTokens === 0) this.counters.promptTokens += request.promptTokens;
    if (request.outputTokens > 0) {
      const previousMs = request.lastTokenMs;
      request.generatedTokens++;
      this.counters.generatedTokens++;
      if (request.generatedTokens === 1) request.firstTokenMs = nowMs;
      request.lastTokenMs = nowMs;
      this.listener.token?.(request, nowMs, previousMs);
    }
    // A listener may have aborted the request on this very token.
    if (request.state === "running" && request.generatedTokens >= request.outputTokens) {
      this.end(request, "done", nowMs);
    }
  }

  private end(request: EngineRequest, reason: FinishReason, nowMs: number): void {
    this.releaseBlocks(request);
    request.state = "finished";
    this.listener.finished?.(request, reason, nowMs);
  }

  private releaseBlocks(request: EngineRequest): void {
    this.cache.releaseAll(request.blocks);
    request.blocks = [];
    request.computedTokens = 0;
    request.publishedBlocks = 0;
    request.scheduledTokens = 0;
  }
}

/** Tokens that exist: the prompt and what was generated so far. */
function knownTokens(request: EngineRequest): number {
  return request.promptTokens + request.generatedTokens;
}

function isDecode(request: EngineRequest): boolean {
  return request.generatedTokens > 0 && request.scheduledTokens === 1;
}
