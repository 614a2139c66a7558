// The simulated engine: continuous batching with a token budget a step, paged KV cache, preemption. No I/O,
// no clock.
import {
  type EngineConfig,
  type EngineCounters,
  type EngineListener,
  type EngineRequest,
  type EngineSubmission,
  type FinishReason,
  SubmissionError,
} from "./engine-types.ts";
import { HeldBlocks, type Hold } from "./held-blocks.ts";
import { KvCache } from "./kv-cache.ts";
import { pullDurationMs } from "./kv-pulls.ts";
import {
  KV_HOLD_MS,
  KV_TRANSFER_BASE_MS,
  KV_TRANSFER_BYTES_PER_MS,
  LLAMA_3_3_70B_FP8_2XH100,
  LLAMA_3_3_70B_FP8_2XH100_KV_TOKENS,
  LLAMA_3_3_70B_FP8_KV_BYTES_PER_TOKEN,
  stepDurationMs,
  type StepWork,
} from "./rates.ts";
import { knownTokens, Scheduler } from "./scheduler.ts";
import { stepWorkOf } from "./step-work.ts";
import { checkSubmission, newRequest } from "./submissions.ts";

const NO_WORK: StepWork = { prefillTokens: 0, decodeSequences: 0, contextTokens: 0 };

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
    kvBytesPerToken: LLAMA_3_3_70B_FP8_KV_BYTES_PER_TOKEN,
    transferBytesPerMs: KV_TRANSFER_BYTES_PER_MS,
    transferBaseMs: KV_TRANSFER_BASE_MS,
    holdMs: KV_HOLD_MS,
  };
}

/**
 * One engine under simulated time. The caller owns the clock: it submits and aborts at non-decreasing times,
 * asks `nextEventMs` when something will happen, and calls `advance` no later than it wants to hear of it.
 * Equal calls give equal results. What is scheduled when is told in scheduler.ts.
 *
 * **Prefill here, decode there.** Two engines share a prompt by these calls, with or without a network between:
 *
 * ```
 * prefiller.submit({ id, outputTokens: 1, holdBlocks: true, … })        finished ─► holdOf(id) is there
 * decoder.submit({ remotePrefill: true, … })                            allocated ─► decoder.beginPull(request)
 *   (while it waits for blocks: prefiller.extendHold(id))               pulled ─► prefiller.release(id)
 *   (if the prefiller is gone: decoder.failPull(request))               finished "failed"
 *   (if it ends before `allocated`: prefiller.release(id))
 * ```
 * Nobody computes what is pulled: it costs time, blocks and no token budget. A block that the decoder has cached
 * is not pulled. Holds that nobody releases end by themselves (`expired`); they count in `cache.usage`.
 */
export class Engine {
  readonly config: EngineConfig;
  readonly cache: KvCache;
  readonly counters: EngineCounters = {
    prefixCacheQueryTokens: 0,
    prefixCacheHitTokens: 0,
    promptTokens: 0,
    pulledPromptTokens: 0,
    externalQueryTokens: 0,
    externalHitTokens: 0,
    generatedTokens: 0,
    preemptions: 0,
    steps: 0,
    busyMs: 0,
  };
  /** Step durations are multiplied by this: 1 is the configured rates, 2 a GPU at half speed. */
  slowdown = 1;
  private readonly listener: EngineListener;
  private readonly scheduler: Scheduler;
  private readonly held: HeldBlocks;
  /** Ids of holds, and of requests that will become one. */
  private readonly holdIds = new Set<string>();
  private stepStartMs = 0;
  private stepEndMs = Number.POSITIVE_INFINITY;
  private stepWork = NO_WORK;
  /** True while listeners may be called: what they ask for takes effect, time does not go on. */
  private inside = false;

  constructor(config: EngineConfig, listener: EngineListener = {}) {
    this.config = config;
    this.listener = listener;
    this.cache = new KvCache(config.blockCount - 1, listener);
    this.scheduler = new Scheduler(config, this.cache, this.counters, listener);
    this.held = new HeldBlocks(this.cache, config.holdMs);
  }

  get runningCount(): number {
    return this.scheduler.running.length;
  }

  /** Requests without a place in the batch, those that are being pulled among them, as vLLM counts. */
  get waitingCount(): number {
    return this.scheduler.waiting.length + this.pullingCount;
  }

  /** Requests whose blocks are being pulled, or are allocated for it. */
  get pullingCount(): number {
    return this.scheduler.pulls.waitingCount;
  }

  /** Waiting requests that were passed over because their adapter has no slot. */
  get waitingForLoraCount(): number {
    return Math.min(this.scheduler.deferredByLora, this.scheduler.waiting.length);
  }

  /** Waiting requests by the stage of their pull, as vLLM counts them (KV_FETCH_STAGES). */
  pullStages(): { waiting_to_start: number; in_progress: number; completed_waiting: number } {
    let toStart = 0;
    let completed = 0;
    for (const request of this.scheduler.waiting) {
      if (request.blocks.length > 0) completed++;
      else if (this.scheduler.needsPull(request)) toStart++;
    }
    return { waiting_to_start: toStart, in_progress: this.pullingCount, completed_waiting: completed };
  }

  /** Blocks kept for other engines, oldest hold first. */
  get holds(): Iterable<Hold> {
    return this.held.all;
  }

  /** Requests in the batch, or those without a place in it (as `waitingCount` counts), in order. */
  requests(of: "running" | "waiting"): readonly EngineRequest[] {
    const { running, waiting, pulls } = this.scheduler;
    if (of === "running") return running;
    return pulls.waitingCount === 0 ? waiting : [...pulls.requests, ...waiting];
  }

  /** Adapters of the running, then of the waiting requests, each once, in order of first use. */
  loraNames(of: "running" | "waiting"): string[] {
    const { running, waiting, pulls } = this.scheduler;
    const names = new Set<string>();
    for (const request of of === "running" ? running : [...pulls.requests, ...waiting]) {
      if (request.lora !== undefined && request.state !== "finished") names.add(request.lora);
    }
    return [...names];
  }

  /** Next end of a step, of a pull or of a hold in ms, or Infinity while there is nothing to do. */
  nextEventMs(): number {
    return Math.min(this.stepEndMs, this.scheduler.pulls.nextEndMs, this.held.nextExpiryMs);
  }

  /** Lets everything happen that does so at or before `nowMs`. */
  advance(nowMs: number): void {
    if (this.inside) return;
    for (let eventMs = this.nextEventMs(); eventMs <= nowMs; eventMs = this.nextEventMs()) {
      this.inside = true;
      for (const request of this.scheduler.pulls.takeEnded(eventMs)) this.finishPull(request, eventMs);
      for (const id of this.held.expire(eventMs)) this.expireHold(id, eventMs);
      if (this.stepEndMs <= eventMs) this.finishStep(eventMs);
      this.inside = false;
      this.startIfIdle(eventMs);
    }
  }

  /**
   * Takes a request at `nowMs`; an idle engine starts on it at once.
   * @throws SubmissionError for impossible numbers, SequenceTooLongError if it exceeds the whole cache.
   */
  submit(submission: EngineSubmission, nowMs: number): EngineRequest {
    const { id, holdBlocks } = submission;
    if (holdBlocks === true && this.holdIds.has(id)) {
      throw new SubmissionError(`request ${id}: blocks are held under this id, expected another one`);
    }
    checkSubmission(submission, this.config, this.cache.blockCount);
    this.advance(nowMs);
    const request = newRequest(submission, nowMs);
    if (holdBlocks === true) this.holdIds.add(id);
    this.scheduler.waiting.push(request);
    this.startIfIdle(nowMs);
    return request;
  }

  /**
   * Drops a request and frees its blocks, those of a running transfer when that has ended; nothing happens when
   * it has already ended. Its blocks are not held.
   */
  abort(request: EngineRequest, nowMs: number): void {
    this.advance(nowMs);
    if (request.state === "finished") return;
    this.end(request, "aborted", nowMs);
    this.startIfIdle(nowMs);
  }

  /**
   * Starts the transfer of a request that was `allocated`; `pulled` follows after `pullDurationMs` of its blocks.
   * @throws SubmissionError when the request has no blocks to fill.
   */
  beginPull(request: EngineRequest, nowMs: number): void {
    this.advance(nowMs);
    this.checkPull(request);
    const cachedBlocks = request.computedTokens / this.config.blockSize;
    const durationMs = pullDurationMs(this.config, request.blocks.length - cachedBlocks);
    this.scheduler.pulls.begin(request, nowMs + durationMs);
  }

  /**
   * The blocks cannot be had: the request ends as "failed" (vLLM's kv_load_failure_policy "fail", its default).
   * @throws SubmissionError when the request is not being pulled.
   */
  failPull(request: EngineRequest, nowMs: number): void {
    this.advance(nowMs);
    this.checkPull(request);
    this.scheduler.pulls.remove(request);
    this.scheduler.releaseBlocks(request);
    if (request.state !== "finished") this.end(request, "failed", nowMs);
    this.startIfIdle(nowMs);
  }

  /** What is held under an id; undefined: nothing (any more). */
  holdOf(id: string): Hold | undefined {
    return this.held.get(id);
  }

  /** Frees held blocks: they were pulled, or nobody wants them. False: no such hold. */
  release(id: string, nowMs: number): boolean {
    this.advance(nowMs);
    const released = this.held.release(id);
    if (released) this.holdIds.delete(id);
    this.startIfIdle(nowMs);
    return released;
  }

  /** Keeps held blocks for ⅔ of `holdMs` from now, or as long as before if that is longer. False: no such hold. */
  extendHold(id: string, nowMs: number): boolean {
    this.advance(nowMs);
    return this.held.extend(id, nowMs);
  }

  private checkPull(request: EngineRequest): void {
    if (this.scheduler.pulls.has(request)) return;
    throw new SubmissionError(`request ${request.id} is ${request.state}, expected one with blocks to pull`);
  }

  private startIfIdle(nowMs: number): void {
    if (this.inside || this.stepEndMs !== Number.POSITIVE_INFINITY) return;
    this.inside = true;
    this.beginStep(nowMs);
    this.inside = false;
  }

  // Plans the next step, if there is anything to compute.
  private beginStep(nowMs: number): void {
    this.scheduler.plan(nowMs);
    if (this.scheduler.batch.length === 0) return;
    this.stepWork = stepWorkOf(this.scheduler.batch);
    this.stepStartMs = nowMs;
    this.stepEndMs = nowMs + stepDurationMs(this.config.rates, this.stepWork) * this.slowdown;
  }

  private finishStep(endMs: number): void {
    this.stepEndMs = Number.POSITIVE_INFINITY;
    this.counters.steps++;
    this.counters.busyMs += endMs - this.stepStartMs;
    for (const request of this.scheduler.batch) {
      if (request.state !== "running") continue;
      request.computedTokens += request.scheduledTokens;
      request.scheduledTokens = 0;
      if (request.computedTokens === knownTokens(request)) this.produce(request, endMs);
    }
    this.listener.step?.({
      endMs,
      durationMs: endMs - this.stepStartMs,
      prefillTokens: this.stepWork.prefillTokens,
      decodeSequences: this.stepWork.decodeSequences,
    });
  }

  private finishPull(request: EngineRequest, nowMs: number): void {
    if (request.state === "finished") this.scheduler.releaseBlocks(request);
    else this.scheduler.resumePulled(request);
    this.listener.pulled?.(request, nowMs);
  }

  private expireHold(id: string, nowMs: number): void {
    this.holdIds.delete(id);
    this.listener.expired?.(id, nowMs);
  }

  // All known tokens are computed: the step made the next token, or ended a request that wants none.
  private produce(request: EngineRequest, nowMs: number): void {
    if (request.generatedTokens === 0) {
      this.counters.promptTokens += request.promptTokens;
      this.counters.pulledPromptTokens += request.pulledTokens;
    }
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
    if (request.holdBlocks === true) {
      if (reason === "done") this.hold(request, nowMs);
      else this.holdIds.delete(request.id);
    }
    this.scheduler.remove(request);
    request.state = "finished";
    this.listener.finished?.(request, reason, nowMs);
  }

  private hold(request: EngineRequest, nowMs: number): void {
    this.held.add(request.id, request.blocks, request.computedTokens, nowMs);
    request.blocks = [];
  }
}
