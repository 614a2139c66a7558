// One replica of the simulated fleet: the engine behind it, and how it comes, slows down, drains and dies.
import type { EngineListener } from "../model-server/engine-types.ts";
import { Engine } from "../model-server/engine.ts";
import type { ReplicaSpec, RunRecord, Scrape } from "./types.ts";

/** Totals of one replica over all its processes. */
export type ReplicaTotals = RunRecord["totals"][number];

/**
 * A place for one engine process at a time.
 *
 * ```
 * absent ─ join ─► serving ─ drain ─► draining ─ last answer given, last held block fetched ─► absent
 *    ▲               │                   │ join: the next process starts when this one has ended
 *    └───── fail ────┴───────────────────┘
 * ```
 */
export class Replica {
  private engine: Engine | undefined;
  private draining = false;
  private joinsLater = false;
  private factor = 1;
  private generation = 0;
  /** Requests that have connected and whose prompt is computed elsewhere. */
  private expected = 0;
  private startedMs = 0;
  private readonly ended = {
    steps: 0,
    generatedTokens: 0,
    prefillTokens: 0,
    preemptions: 0,
    busyMs: 0,
    upMs: 0,
  };

  /** @param listener hears of every process's requests */
  constructor(
    readonly spec: ReplicaSpec,
    private readonly listener: EngineListener,
  ) {}

  /** The process, undefined while there is none. */
  get process(): Engine | undefined {
    return this.engine;
  }

  /** The engine, if it takes connections. */
  get accepting(): Engine | undefined {
    return this.draining ? undefined : this.engine;
  }

  /** End of the engine's current step, ms; Infinity while it is idle or absent. */
  nextEventMs(): number {
    return this.engine?.nextEventMs() ?? Number.POSITIVE_INFINITY;
  }

  /** Runs the steps that end by `nowMs`; a drained process that has nothing left ends. */
  advance(nowMs: number): void {
    this.engine?.advance(nowMs);
    this.endIfDrained(nowMs);
  }

  /** A request has connected and will be submitted when its prompt is computed: until then the process stays. */
  expect(): void {
    this.expected++;
  }

  /** The request that was expected is submitted, or does not come. */
  unexpect(nowMs: number): void {
    this.expected--;
    this.endIfDrained(nowMs);
  }

  /** Frees blocks that the present process holds under an id, if it does. */
  releaseHold(id: string, nowMs: number): void {
    this.engine?.release(id, nowMs);
    this.endIfDrained(nowMs);
  }

  /**
   * Starts a process with an empty cache; while one drains, as soon as that has ended.
   * @param takenMs since when its GPUs are not free for others, at most `nowMs`
   */
  join(nowMs: number, takenMs = nowMs): void {
    if (this.engine !== undefined) {
      this.joinsLater = this.draining;
      return;
    }
    const listener: EngineListener = {
      ...this.listener,
      step: (report) => {
        this.ended.prefillTokens += report.prefillTokens;
      },
    };
    this.listener.cleared?.();
    this.engine = new Engine(this.spec.engine, listener);
    this.engine.slowdown = this.factor;
    this.startedMs = takenMs;
    this.generation++;
  }

  /** Connections are refused from now on; the process ends with its last answer. */
  drain(nowMs: number): void {
    if (this.engine === undefined) return;
    this.draining = true;
    this.joinsLater = false;
    this.endIfDrained(nowMs);
  }

  /** The process is gone, and what it served with it. */
  fail(nowMs: number): void {
    this.end(nowMs);
    this.joinsLater = false;
    this.expected = 0;
  }

  /** Steps take `factor` times as long; a process that joins later is as slow. */
  slow(factor: number): void {
    this.factor = factor;
    if (this.engine !== undefined) this.engine.slowdown = factor;
  }

  /** What a scrape of /metrics shows now. */
  scrape(): Scrape {
    const { engine, spec } = this;
    const { blockSize, blockCount } = spec.engine;
    return {
      ready: this.accepting !== undefined,
      waiting: engine?.waitingCount ?? 0,
      running: engine?.runningCount ?? 0,
      kvUsage: engine?.cache.usage ?? 0,
      kvCapacityTokens: (blockCount - 1) * blockSize,
      blockTokens: blockSize,
      promptTokens: engine?.counters.promptTokens ?? 0,
      generationTokens: engine?.counters.generatedTokens ?? 0,
      preemptions: engine?.counters.preemptions ?? 0,
      generation: Math.max(1, this.generation),
      loras: engine?.loraNames("running") ?? [],
      lorasWaiting: engine?.loraNames("waiting") ?? [],
      loraMax: spec.engine.lorasMax,
      role: spec.role,
    };
  }

  /** Work of all processes until `nowMs`. */
  totals(nowMs: number): ReplicaTotals {
    const counters = this.engine?.counters;
    return {
      steps: this.ended.steps + (counters?.steps ?? 0),
      generatedTokens: this.ended.generatedTokens + (counters?.generatedTokens ?? 0),
      prefillTokens: this.ended.prefillTokens,
      preemptions: this.ended.preemptions + (counters?.preemptions ?? 0),
      busyMs: this.ended.busyMs + (counters?.busyMs ?? 0),
      upMs: this.ended.upMs + (counters === undefined ? 0 : nowMs - this.startedMs),
    };
  }

  private endIfDrained(nowMs: number): void {
    if (!this.draining || this.engine === undefined || this.isNeeded(this.engine)) return;
    this.end(nowMs);
    if (this.joinsLater) this.join(nowMs);
    this.joinsLater = false;
  }

  // Also while a decoder has still to come for the blocks of a prompt.
  private isNeeded(engine: Engine): boolean {
    return this.expected + engine.runningCount + engine.waitingCount > 0 || [...engine.holds].length > 0;
  }

  private end(nowMs: number): void {
    const counters = this.engine?.counters;
    this.engine = undefined;
    this.draining = false;
    if (counters === undefined) return;
    this.ended.upMs += nowMs - this.startedMs;
    this.ended.steps += counters.steps;
    this.ended.generatedTokens += counters.generatedTokens;
    this.ended.preemptions += counters.preemptions;
    this.ended.busyMs += counters.busyMs;
  }
}
