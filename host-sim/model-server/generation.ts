// Runs generation calls on the engines of one replica and reports their tokens as text.
import { answerSeed, answerTokens, naturalLength } from "./answer.ts";
import { hashBlocks } from "./block-hash.ts";
import type { GenerationCall } from "./calls.ts";
import { type Clock, EngineDriver } from "./driver.ts";
import { Engine } from "./engine.ts";
import type { EngineConfig, EngineListener, EngineRequest, FinishReason } from "./engine-types.ts";
import { badParameter, engineBusy, engineDead } from "./errors.ts";
import { EngineMetrics } from "./metrics.ts";
import { tokenText } from "./tokenizer.ts";

/** Limits and layout of a replica's engines. */
export interface GenerationOptions {
  readonly engine: EngineConfig;
  /** Engines behind one port (`--data-parallel-size`). */
  readonly dataParallelSize: number;
  /** Tokens of prompt and answer together (`--max-model-len`). */
  readonly modelTokensMax: number;
  /** Requests in flight, running or waiting, beyond which new ones get 503 (`--max-num-queued-reqs`). */
  readonly requestsMax: number;
}

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
}

/** Token numbers of a call. */
export interface Usage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly cachedTokens: number;
}

/** Receives a call's progress. Exactly one of `done` and `failed` comes, last, unless the call is aborted. */
export interface GenerationSink {
  token(sequence: Sequence, text: string, last: boolean): void;
  done(job: GenerationJob): void;
  failed(): void;
}

/** A call in progress. */
export interface GenerationJob {
  readonly call: GenerationCall;
  readonly sequences: readonly Sequence[];
  readonly sink: GenerationSink;
  /** Sequences that have not ended. */
  open: number;
}

/** An engine with what belongs to it: its metrics and its timer. */
export interface SequenceEngine {
  readonly engine: Engine;
  readonly metrics: EngineMetrics;
  readonly driver: EngineDriver;
}

interface Active {
  readonly job: GenerationJob;
  readonly sequence: Sequence;
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
  return {
    promptTokens,
    completionTokens,
    cachedTokens: Math.max(0, job.sequences[0]?.request?.cachedTokens ?? 0),
  };
}

/** The engines of one replica. */
export class GenerationService {
  readonly engines: readonly SequenceEngine[];
  /** Calls refused because too many were in flight. */
  rejections = 0;
  private readonly options: GenerationOptions;
  private readonly clock: Clock;
  private readonly active = new Map<string, Active>();
  private nextId = 0;
  private dead = false;

  constructor(options: GenerationOptions, clock: Clock) {
    this.options = options;
    this.clock = clock;
    this.engines = Array.from({ length: options.dataParallelSize }, () => this.createEngine());
  }

  /** False after `die`. */
  get alive(): boolean {
    return !this.dead;
  }

  /** Sequences running or waiting. */
  get inFlight(): number {
    return this.active.size;
  }

  /**
   * Starts a call.
   * @param lora adapter, undefined for the base model. @param rank data-parallel engine, undefined = least
   * loaded.
   * @param openSink makes the receiver once the call is accepted; it may begin its answer then.
   * @throws ApiError 400 if prompt or limit exceed the model's context, 503 if too many calls are in flight,
   * 500 if the engine is dead.
   */
  start(
    call: GenerationCall,
    lora: string | undefined,
    rank: number | undefined,
    openSink: () => GenerationSink,
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
        sequences.push(
          this.planSequence(call, prompt, { index, promptIndex, choice }, this.chooseEngine(rank)),
        );
      }
    });
    const job: GenerationJob = { call, sequences, sink: openSink(), open: sequences.length };
    for (const sequence of sequences) this.active.set(sequence.id, { job, sequence });
    for (const sequence of sequences) this.submit(sequence, call, lora);
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
    for (const job of jobs) job.sink.failed();
  }

  /** Stops all timers. */
  stop(): void {
    this.active.clear();
    for (const { driver } of this.engines) driver.stop();
  }

  /** Multiplies the duration of every further step, 1 = as configured. */
  slowDown(factor: number): void {
    for (const { engine } of this.engines) engine.slowdown = factor;
  }

  private createEngine(): SequenceEngine {
    const metrics = new EngineMetrics(this.options.modelTokensMax);
    const engine = new Engine(this.options.engine, this.listener(metrics));
    return { engine, metrics, driver: new EngineDriver(engine, this.clock) };
  }

  private listener(metrics: EngineMetrics): EngineListener {
    return {
      token: (request, nowMs, previousMs) => {
        metrics.token(request, nowMs, previousMs);
        this.emit(request);
      },
      finished: (request, reason, nowMs) => this.finish(request, reason, nowMs, metrics),
      step: (report) => metrics.step(report),
    };
  }

  private submit(sequence: Sequence, call: GenerationCall, lora: string | undefined): void {
    const { engine, driver } = sequence.engine;
    const tokens = [...call.prompts[sequence.promptIndex]!, ...sequence.answer];
    const root = { lora, cacheSalt: call.cacheSalt };
    const submission = {
      id: sequence.id,
      promptTokens: sequence.promptTokens,
      outputTokens: sequence.answer.length,
      blockHashes: hashBlocks(tokens, this.options.engine.blockSize, root),
      lora,
    };
    sequence.request = engine.submit(submission, this.clock());
    driver.arm();
  }

  private planSequence(
    call: GenerationCall,
    prompt: readonly number[],
    place: { index: number; promptIndex: number; choice: number },
    engine: SequenceEngine,
  ): Sequence {
    const room = this.options.modelTokensMax - prompt.length;
    this.checkLength(call, prompt.length);
    const seed = answerSeed(prompt, place.choice);
    const limit = call.promptOnly ? 0 : Math.min(call.maxTokens ?? room, room);
    const natural = call.ignoreEos ? Number.POSITIVE_INFINITY : naturalLength(seed);
    const plan = cutAtStop(answerTokens(seed, Math.min(limit, natural)), call.stop);
    return {
      id: `${this.nextId++}`,
      index: place.index,
      promptIndex: place.promptIndex,
      promptTokens: prompt.length,
      ...plan,
      finishReason: plan.stopText !== null || natural <= limit ? "stop" : "length",
      engine,
      request: undefined,
    };
  }

  private checkLength(call: GenerationCall, promptTokens: number): void {
    const contextMax = this.options.modelTokensMax;
    if (call.maxTokens !== undefined && call.maxTokens > contextMax) {
      throw badParameter(
        `${call.maxTokensName}=${call.maxTokens} cannot be greater than max_model_len=${contextMax}. ` +
          "Please request fewer output tokens.",
        call.maxTokensName,
        String(call.maxTokens),
      );
    }
    if (promptTokens + (call.maxTokens ?? 1) > contextMax) {
      throw badParameter(
        `This model's maximum context length is ${contextMax} tokens. However, your prompt contains at ` +
          `least ${promptTokens} tokens and you asked for ${call.maxTokens ?? 1} output tokens. Please reduce ` +
          "the length of the input prompt or the number of requested output tokens.",
        "input_tokens",
        String(promptTokens),
      );
    }
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
    job.sink.token(sequence, sequence.texts[index]!, index === sequence.answer.length - 1);
  }

  private finish(request: EngineRequest, reason: FinishReason, nowMs: number, metrics: EngineMetrics): void {
    const active = this.active.get(request.id);
    if (active === undefined || reason === "aborted") return;
    this.active.delete(request.id);
    const { job, sequence } = active;
    metrics.finished(request, nowMs, {
      finishReason: sequence.finishReason,
      choices: job.call.choices,
      maxTokens: job.call.maxTokens ?? this.options.modelTokensMax - sequence.promptTokens,
    });
    if (--job.open === 0) job.sink.done(job);
  }
}

// Ends the answer with the token that completes the first stop text in it, and hides the stop text.
function cutAtStop(
  answer: readonly number[],
  stops: readonly string[],
): Pick<Sequence, "answer" | "texts" | "stopText"> {
  const texts = answer.map(tokenText);
  if (stops.length === 0) return { answer, texts, stopText: null };
  let text = "";
  for (let i = 0; i < texts.length; i++) {
    text += texts[i]!;
    const stopText = stops.find((stop) => text.includes(stop));
    if (stopText === undefined) continue;
    const kept = answer.slice(0, i + 1);
    return { answer: kept, texts: clipTexts(texts.slice(0, i + 1), text.indexOf(stopText)), stopText };
  }
  return { answer, texts, stopText: null };
}

// Shows only the first `length` characters of consecutive texts.
function clipTexts(texts: readonly string[], length: number): string[] {
  let shown = 0;
  return texts.map((text) => {
    const visible = text.slice(0, Math.max(0, length - shown));
    shown += text.length;
    return visible;
  });
}
