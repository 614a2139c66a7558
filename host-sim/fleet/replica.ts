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
 * absent ─ join ─► serving ─ drain ─► draining ─ last answer ─► absent
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
  private readonly ended = { steps: 0, generatedTokens: 0, prefillTokens: 0, preemptions: 0, busyMs: 0 };

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
    this.endIfDrained();
  }

  /** Starts a process with an empty cache; while one drains, as soon as that has ended. */
  join(): void {
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
    this.engine = new Engine(this.spec.engine, listener);
    this.engine.slowdown = this.factor;
    this.generation++;
  }

  /** Connections are refused from now on; the process ends with its last answer. */
  drain(): void {
    if (this.engine === undefined) return;
    this.draining = true;
    this.joinsLater = false;
    this.endIfDrained();
  }

  /** The process is gone, and what it served with it. */
  fail(): void {
    this.end();
    this.joinsLater = false;
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

  /** Work of all processes so far. */
  totals(): ReplicaTotals {
    const counters = this.engine?.counters;
    return {
      steps: this.ended.steps + (counters?.steps ?? 0),
      generatedTokens: this.ended.generatedTokens + (counters?.generatedTokens ?? 0),
      prefillTokens: this.ended.prefillTokens,
      preemptions: this.ended.preemptions + (counters?.preemptions ?? 0),
      busyMs: this.ended.busyMs + (counters?.busyMs ?? 0),
    };
  }

  private endIfDrained(): void {
    const { engine } = this;
    if (!this.draining || engine === undefined || engine.runningCount + engine.waitingCount > 0) return;
    this.end();
    if (this.joinsLater) this.join();
    this.joinsLater = false;
  }

  private end(): void {
    const counters = this.engine?.counters;
    this.engine = undefined;
    this.draining = false;
    if (counters === undefined) return;
    this.ended.steps += counters.steps;
    this.ended.generatedTokens += counters.generatedTokens;
    this.ended.preemptions += counters.preemptions;
    this.ended.busyMs += counters.busyMs;
  }
}
