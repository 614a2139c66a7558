// Which requests of the simulated engine run, wait and are pulled, and what the next step computes.
import type { EngineConfig, EngineCounters, EngineListener, EngineRequest } from "./engine-types.ts";
import type { KvCache } from "./kv-cache.ts";
import { KvPulls } from "./kv-pulls.ts";

/**
 * Scheduling is vLLM V1's (vllm/v1/core/sched/scheduler.py, v0.32.0), first come first served: running
 * requests first (decodes and further chunks of long prompts), then waiting ones while the step's token
 * budget, the batch and the cache have room. A waiting request is admitted only if its whole prompt fits into
 * free blocks (scheduler_reserve_full_isl); when a running one finds no block, the youngest running request
 * is preempted and recomputed later. In a step with a preemption nothing new is admitted.
 *
 * A request whose prompt is on another engine gets its blocks in its turn but no place in the batch; when they
 * are filled it waits again, before all that have no blocks, for the step that computes its last prompt token.
 */
export class Scheduler {
  readonly running: EngineRequest[] = [];
  readonly waiting: EngineRequest[] = [];
  readonly pulls = new KvPulls();
  /** What the step computes; filled by `plan`. */
  readonly batch: EngineRequest[] = [];
  /** Waiting requests that were passed over because their adapter has no slot. */
  deferredByLora = 0;
  private readonly config: EngineConfig;
  private readonly cache: KvCache;
  private readonly counters: EngineCounters;
  private readonly listener: EngineListener;

  constructor(config: EngineConfig, cache: KvCache, counters: EngineCounters, listener: EngineListener) {
    this.config = config;
    this.cache = cache;
    this.counters = counters;
    this.listener = listener;
  }

  /** Chooses the batch of a step that starts now; empty when there is nothing to compute. */
  plan(nowMs: number): void {
    this.batch.length = 0;
    let budget = this.scheduleRunning(nowMs);
    // With every running request preempted there is no step to wait for: requests with pulled blocks go first.
    if (budget < 0 && this.running.length === 0) budget = this.config.batchedTokensMax;
    if (budget >= 0) this.scheduleWaiting(budget, nowMs);
  }

  /** Takes a request out of its queue. One that is being pulled keeps its blocks until the transfer ends. */
  remove(request: EngineRequest): void {
    if (request.state === "pulling") return;
    const queue = request.state === "running" ? this.running : this.waiting;
    queue.splice(queue.indexOf(request), 1);
    this.releaseBlocks(request);
  }

  /**
   * Its transfer has ended: the blocks can be found by others, and it waits for a step. Only its last token is
   * left to compute, for the logits.
   */
  resumePulled(request: EngineRequest): void {
    if (this.config.prefixCaching) this.publish(request, request.promptTokens);
    request.computedTokens = request.promptTokens - 1;
    request.state = "waiting";
    this.waitBeforeOthers(request);
  }

  /** Whether it still has to be pulled: once, as after a preemption it is recomputed, like in vLLM. */
  needsPull(request: EngineRequest): boolean {
    return request.remotePrefill === true && request.pulledTokens === 0 && request.preemptions === 0;
  }

  /** Gives all blocks back. */
  releaseBlocks(request: EngineRequest): void {
    this.cache.releaseAll(request.blocks);
    request.blocks = [];
    request.computedTokens = 0;
    request.publishedBlocks = 0;
    request.scheduledTokens = 0;
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
      if (this.needsPull(request)) {
        if (!this.startPull(request, index, nowMs)) return;
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
    const known = knownTokens(request);
    if (request.blocks.length === 0) {
      const hits = this.findPrefix(request);
      const blocksNeeded = Math.ceil(known / this.config.blockSize) - hits.length;
      if (blocksNeeded + this.cache.countFree(hits) > this.cache.freeCount) return 0;
      this.takePrefix(request, hits);
    }
    request.state = "running";
    if (Number.isNaN(request.scheduledMs)) {
      request.scheduledMs = nowMs;
      this.listener.scheduled?.(request, nowMs);
    }
    const tokens = Math.min(known - request.computedTokens, budget);
    this.grow(request, tokens);
    return tokens;
  }

  // Allocates the whole prompt and hands the request over to `pulls`. False: no room. Blocks that running
  // prefills still need stay free, as a request that is pulled cannot be preempted.
  private startPull(request: EngineRequest, index: number, nowMs: number): boolean {
    const { blockSize } = this.config;
    const hits = this.findPrefix(request);
    const blocksNeeded = Math.ceil(request.promptTokens / blockSize) - hits.length;
    const free = this.cache.freeCount - this.blocksOwedToPrefills();
    if (blocksNeeded + this.cache.countFree(hits) > free) return false;
    this.takePrefix(request, hits);
    request.pulledTokens = request.promptTokens - request.computedTokens;
    this.counters.externalHitTokens += request.pulledTokens;
    for (let i = 0; i < blocksNeeded; i++) request.blocks.push(this.cache.allocate());
    request.state = "pulling";
    this.waiting.splice(index, 1);
    this.pulls.add(request);
    this.listener.allocated?.(request, nowMs);
    return true;
  }

  private blocksOwedToPrefills(): number {
    let blocks = 0;
    for (const request of this.running) {
      blocks += Math.max(0, Math.ceil(request.promptTokens / this.config.blockSize) - request.blocks.length);
    }
    return blocks;
  }

  // The last token is always recomputed, for its logits: a fully cached prompt loses its last block.
  private findPrefix(request: EngineRequest): number[] {
    const { blockSize, prefixCaching } = this.config;
    const blocksMax = Math.floor((knownTokens(request) - 1) / blockSize);
    return prefixCaching ? this.cache.findPrefix(request.blockHashes, blocksMax) : [];
  }

  private takePrefix(request: EngineRequest, hits: number[]): void {
    for (const block of hits) this.cache.acquire(block);
    request.blocks = hits;
    request.computedTokens = hits.length * this.config.blockSize;
    request.publishedBlocks = hits.length;
    if (request.cachedTokens >= 0) return;
    request.cachedTokens = request.computedTokens;
    this.counters.prefixCacheQueryTokens += request.promptTokens;
    this.counters.prefixCacheHitTokens += request.computedTokens;
    this.counters.externalQueryTokens += request.promptTokens - request.computedTokens;
  }

  // Gives the request blocks for `tokens` more tokens and publishes the blocks that they fill. False: no
  // room.
  private grow(request: EngineRequest, tokens: number): boolean {
    const end = request.computedTokens + tokens;
    const missing = Math.ceil(end / this.config.blockSize) - request.blocks.length;
    if (missing > this.cache.freeCount) return false;
    for (let i = 0; i < missing; i++) request.blocks.push(this.cache.allocate());
    if (this.config.prefixCaching) this.publish(request, end);
    return true;
  }

  private publish(request: EngineRequest, tokens: number): void {
    const full = Math.floor(tokens / this.config.blockSize);
    const from = request.publishedBlocks;
    if (full <= from) return;
    for (let block = from; block < full; block++) {
      this.cache.publish(request.blocks[block]!, request.blockHashes[block]!);
    }
    request.publishedBlocks = full;
    this.listener.stored?.(request, from, full);
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
    this.waitBeforeOthers(request);
    this.listener.preempted?.(request, nowMs);
  }

  // Requests that hold blocks come first: until they run, nobody else can have the blocks.
  private waitBeforeOthers(request: EngineRequest): void {
    let index = 0;
    while (index < this.waiting.length && this.waiting[index]!.blocks.length > 0) index++;
    this.waiting.splice(index, 0, request);
  }
}

/** Tokens that exist: the prompt and what was generated so far. */
export function knownTokens(request: EngineRequest): number {
  return request.promptTokens + request.generatedTokens;
}
