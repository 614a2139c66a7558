// Runs generation calls on the engines of one replica and reports their tokens as text.
import { hashBlocks } from "./block-hash.ts";
import type { GenerationCall } from "./calls.ts";
import { type Clock, EngineDriver } from "./driver.ts";
import { Engine } from "./engine.ts";
import type { EngineConfig, EngineListener, EngineRequest, FinishReason } from "./engine-types.ts";
import type { KvLeg } from "./disaggregation/leg.ts";
import { engineBusy, engineDead, KvLoadError } from "./errors.ts";
import type { GenerationJob, GenerationSink, Sequence, SequenceEngine } from "./generation-types.ts";
import type { Hold } from "./held-blocks.ts";
import type { EventRecorder } from "./kv-events/recorder.ts";
import { EngineMetrics } from "./metrics.ts";
import { planAnswer } from "./plan-sequence.ts";
import type { TextModel } from "./text-model.ts";

/** What a token adds to the text when it was computed from blocks that hold something else. */
const GARBLED_TEXT = "\uFFFD";

/** Limits and layout of a replica's engines. */
export interface GenerationOptions {
  readonly engine: EngineConfig;
  /** Engines behind one port (`--data-parallel-size`). */
  readonly dataParallelSize: number;
  /** Tokens of prompt and answer together (`--max-model-len`). */
  readonly modelTokensMax: number;
  /** Requests in flight, running or waiting, beyond which new ones get 503 (`--max-num-queued-reqs`). */
  readonly requestsMax: number;
  /** Its tokenizer, its chat template and its words. */
  readonly textModel: TextModel;
}

interface Active {
  readonly job: GenerationJob;
  readonly sequence: Sequence;
}

/** The engines of one replica. */
export class GenerationService {
  readonly engines: readonly SequenceEngine[];
  /** Calls refused because too many were in flight. */
  rejections = 0;
  private readonly options: GenerationOptions;
  private readonly clock: Clock;
  private readonly active = new Map<string, Active>();
  /** Sequences of disaggregated calls until their blocks are nobody's business any more, by id. */
  private readonly legs = new Map<string, Active>();
  private nextId = 0;
  private dead = false;

  /** @param recorders of the engines' caches, by rank; none = nobody asks */
  constructor(options: GenerationOptions, clock: Clock, recorders: readonly EventRecorder[] = []) {
    this.options = options;
    this.clock = clock;
    this.engines = Array.from({ length: options.dataParallelSize }, (_, rank) =>
      this.createEngine(recorders[rank]),
    );
  }

  /** False after `die`. */
  get alive(): boolean {
    return !this.dead;
  }

  /** Sequences running or waiting. */
  get inFlight(): number {
    return this.active.size;
  }

  /** Configuration of the engines. */
  get engineConfig(): EngineConfig {
    return this.options.engine;
  }

  /** Blocks that are held for other replicas. */
  get heldBlocks(): number {
    let count = 0;
    for (const { engine } of this.engines) for (const { blocks } of engine.holds) count += blocks.length;
    return count;
  }

  /**
   * Starts a call.
   * @param lora adapter, undefined for the base model. @param rank data-parallel engine, undefined = least
   * loaded.
   * @param openSink makes the receiver once the call is accepted; it may begin its answer then.
   * @param leg what the call is part of, undefined = it is whole.
   * @throws ApiError 400 if prompt or limit exceed the model's context, 503 if too many calls are in flight,
   * 500 if the engine is dead.
   */
  start(
    call: GenerationCall,
    lora: string | undefined,
    rank: number | undefined,
    openSink: () => GenerationSink,
    leg?: KvLeg,
  ): GenerationJob {
    if (this.dead) throw engineDead();
    if (this.active.size >= this.options.requestsMax) {
      this.rejections++;
      throw engineBusy();
    }
    const sequences: Sequence[] = [];
    call.prompts.forEach((prompt, promptIndex) => {
      for (let choice = 0; choice < call.choices; choice++) {
        const index = promptIndex * call.choices + choice;
        sequences.push({
          id: `${this.nextId++}`,
          index,
          promptIndex,
          promptTokens: prompt.length,
          ...planAnswer(call, prompt, choice, this.options.modelTokensMax, this.options.textModel),
          engine: this.chooseEngine(rank),
          request: undefined,
          garbled: false,
        });
      }
    });
    const job = { call, sequences, sink: openSink(), open: sequences.length, leg, transferParams: null };
    for (const sequence of sequences) this.active.set(sequence.id, { job, sequence });
    for (const sequence of sequences) this.submit(sequence, job, lora);
    return job;
  }

  /** Drops what is left of a call: its client went away. */
  abort(job: GenerationJob): void {
    for (const { id, request, engine } of job.sequences) {
      this.active.delete(id);
      if (request !== undefined) engine.engine.abort(request, this.clock());
      engine.driver.arm();
    }
  }

  /** The engine process dies: every call fails, now and later. */
  die(): void {
    this.dead = true;
    const jobs = new Set([...this.active.values()].map(({ job }) => job));
    this.active.clear();
    for (const { driver } of this.engines) driver.stop();
    for (const job of jobs) job.sink.failed(engineDead());
  }

  /** The remote KV of a sequence is on its way; nothing happens if the engine died meanwhile. */
  beginPull({ engine, request }: Sequence): void {
    if (this.dead || request === undefined) return;
    engine.engine.beginPull(request, this.clock());
    engine.driver.arm();
  }

  /** The remote KV of a sequence cannot be had: its call fails. */
  failPull({ engine, request }: Sequence, error = new KvLoadError()): void {
    if (this.dead || request === undefined) return;
    const job = this.active.get(request.id)?.job;
    engine.engine.failPull(request, this.clock());
    engine.driver.arm();
    this.legs.delete(request.id);
    if (job === undefined) return;
    engine.metrics.failed();
    this.abort(job);
    job.sink.failed(error);
  }

  /** What is held of a sequence that has ended. */
  holdOf({ id, engine }: Sequence): Hold | undefined {
    return engine.engine.holdOf(id);
  }

  /** The blocks of a sequence are not needed any more. False: they are not held. */
  release({ id, engine }: Sequence): boolean {
    this.legs.delete(id);
    const released = engine.engine.release(id, this.clock());
    engine.driver.arm();
    return released;
  }

  /** A decoder still waits for the blocks of a sequence. False: they are not held. */
  extendHold({ id, engine }: Sequence): boolean {
    const extended = engine.engine.extendHold(id, this.clock());
    engine.driver.arm();
    return extended;
  }

  /** Stops all timers. */
  stop(): void {
    this.active.clear();
    this.legs.clear();
    for (const { driver } of this.engines) driver.stop();
  }

  /** Multiplies the duration of every further step, 1 = as configured. */
  slowDown(factor: number): void {
    for (const { engine } of this.engines) engine.slowdown = factor;
  }

  private createEngine(recorder: EventRecorder | undefined): SequenceEngine {
    const metrics = new EngineMetrics(this.options.modelTokensMax);
    const engine = new Engine(this.options.engine, this.listener(metrics, recorder));
    return { engine, metrics, driver: new EngineDriver(engine, this.clock), recorder };
  }

  private listener(metrics: EngineMetrics, recorder: EventRecorder | undefined): EngineListener {
    return {
      ...(recorder === undefined ? {} : recorder.listener),
      token: (request, nowMs, previousMs) => {
        metrics.token(request, nowMs, previousMs);
        this.emit(request);
      },
      finished: (request, reason, nowMs) => {
        recorder?.end(request.id);
        this.finish(request, reason, nowMs, metrics);
      },
      // May come out of `submit`, before the sequence knows its request.
      allocated: ({ id }) =>
        queueMicrotask(() => this.tellLeg(id, (leg, sequence) => leg.allocated(sequence))),
      pulled: (request) => {
        this.tellLeg(request.id, (leg, sequence) => leg.pulled(sequence));
        if (request.state === "finished") this.legs.delete(request.id);
      },
      expired: (holdId) => {
        this.tellLeg(holdId, (leg, sequence) => leg.expired(sequence));
        this.legs.delete(holdId);
      },
      step: (report) => {
        recorder?.flush();
        metrics.step(report);
      },
    };
  }

  private tellLeg(id: string, tell: (leg: KvLeg, sequence: Sequence) => void): void {
    const entry = this.legs.get(id);
    if (entry?.job.leg !== undefined) tell(entry.job.leg, entry.sequence);
  }

  private endLeg(request: EngineRequest, reason: FinishReason): void {
    const entry = this.legs.get(request.id);
    if (entry === undefined) return;
    entry.job.leg?.ended(entry.sequence, reason, entry.job);
    // Blocks that are held, or still being filled after an abort, have an end of their own.
    if (request.blocks.length === 0 && this.holdOf(entry.sequence) === undefined)
      this.legs.delete(request.id);
  }

  private submit(sequence: Sequence, job: GenerationJob, lora: string | undefined): void {
    const { call, leg } = job;
    const { engine, driver, recorder } = sequence.engine;
    if (leg !== undefined) this.legs.set(sequence.id, { job, sequence });
    const tokens = [...call.prompts[sequence.promptIndex]!, ...sequence.answer];
    const root = { lora, cacheSalt: call.cacheSalt };
    recorder?.begin(sequence.id, { tokens, ...root });
    const submission = {
      id: sequence.id,
      promptTokens: sequence.promptTokens,
      outputTokens: sequence.answer.length,
      blockHashes: hashBlocks(tokens, this.options.engine.blockSize, root),
      lora,
      holdBlocks: leg?.holdBlocks ?? false,
      remotePrefill: leg?.remotePrefill ?? false,
    };
    sequence.request = engine.submit(submission, this.clock());
    driver.arm();
  }

  // vLLM's balance between data-parallel engines: waiting requests weigh four times as much as running ones.
  private chooseEngine(rank: number | undefined): SequenceEngine {
    if (rank !== undefined && this.engines[rank] !== undefined) return this.engines[rank];
    let best = this.engines[0]!;
    let bestLoad = Number.POSITIVE_INFINITY;
    for (const candidate of this.engines) {
      const load = candidate.engine.waitingCount * 4 + candidate.engine.runningCount;
      if (load >= bestLoad) continue;
      best = candidate;
      bestLoad = load;
    }
    return best;
  }

  private emit(request: EngineRequest): void {
    const active = this.active.get(request.id);
    if (active === undefined) return;
    const { job, sequence } = active;
    const index = request.generatedTokens - 1;
    const text = sequence.garbled ? GARBLED_TEXT : sequence.texts[index]!;
    job.sink.token(sequence, text, index === sequence.answer.length - 1);
  }

  private finish(request: EngineRequest, reason: FinishReason, nowMs: number, metrics: EngineMetrics): void {
    const active = this.active.get(request.id);
    this.endLeg(request, reason);
    if (active === undefined || reason !== "done") return;
    this.active.delete(request.id);
    const { job, sequence } = active;
    metrics.finished(request, nowMs, {
      finishReason: sequence.finishReason,
      choices: job.call.choices,
      cachedTokens: job.leg?.cachedTokens(request) ?? request.cachedTokens,
      maxTokens: job.call.maxTokens ?? this.options.modelTokensMax - sequence.promptTokens,
    });
    if (--job.open === 0) job.sink.done(job);
  }
}
