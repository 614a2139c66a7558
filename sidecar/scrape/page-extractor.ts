// Turns one server's metrics pages into its Reading: finds the engine, then reads only the lines that matter.
import { EnginePage } from "./engine-page.ts";
import type { EngineSpec } from "./engines.ts";
import { MetricLocator } from "./page.ts";
import { emptyReading, type Reading } from "./reading.ts";

/** Metrics that were absent, and facts that only change with the process, are looked for this often. */
const SLOW_READ_INTERVAL_MS = 1_000;

/** What a page said. */
export const enum PageResult {
  /** No metric of a known engine. */
  Unknown,
  /** The same as the page before. */
  Same,
  /** Some figure changed. */
  Changed,
  /** The engine restarted since the page before: its KV cache is empty. */
  Restarted,
}

/** The extractor of one server. */
export class PageExtractor {
  readonly reading: Reading = emptyReading();
  private engine: EnginePage | null = null;
  private slowReadAtMs = Number.NEGATIVE_INFINITY;
  private previous: Reading = emptyReading();

  /**
   * @param engines in order of detection
   * @param engineName the engine as named by the endpoint's label; "" or a name that is not in `engines` =
   * detect
   * @param defaultEngineName tried first when nothing names the engine; "" = plain detection
   */
  constructor(
    private readonly engines: readonly EngineSpec[],
    private readonly engineName = "",
    private readonly defaultEngineName = "",
  ) {}

  /** LoRA adapters that did not fit, since the engine was detected. */
  get lorasDropped(): number {
    return this.engine === null ? 0 : this.engine.lorasDropped;
  }

  /**
   * Reads a page into `reading`. The page is only used during the call.
   * @param nowMs monotonic clock
   */
  read(page: Buffer, nowMs: number): PageResult {
    const slow = nowMs - this.slowReadAtMs >= SLOW_READ_INTERVAL_MS;
    Object.assign(this.previous, this.reading);
    const engine = this.readLoad(page, slow);
    if (engine === null) return PageResult.Unknown;
    const changedEngine = engine !== this.engine;
    this.engine = engine;
    const restarted = engine.readCounters(page, this.reading, slow || changedEngine);
    if (slow || restarted || changedEngine) {
      engine.readSlow(page, this.reading);
      this.slowReadAtMs = nowMs;
    }
    const replaced = changedEngine && this.reading.engine !== "";
    this.reading.engine = engine.spec.name;
    if (restarted || replaced) return PageResult.Restarted;
    return sameReading(this.previous, this.reading) ? PageResult.Same : PageResult.Changed;
  }

  /** Reads the load with the known engine, else with the one that the page shows; null = no engine's page. */
  private readLoad(page: Buffer, searchAll: boolean): EnginePage | null {
    const known = this.engine;
    if (known !== null) {
      if (known.readLoad(page, this.reading, searchAll)) return known;
      if (!searchAll && known.readLoad(page, this.reading, true)) return known;
    }
    const found = this.detect(page);
    return found?.readLoad(page, this.reading, true) === true ? found : null;
  }

  private detect(page: Buffer): EnginePage | null {
    const named = this.engines.find((engine) => engine.name === this.engineName);
    const preferred = this.engines.find((engine) => engine.name === this.defaultEngineName);
    const candidates = named !== undefined ? [named] : [...(preferred ? [preferred] : []), ...this.engines];
    for (const engine of candidates) {
      if (hasEngine(page, engine)) return new EnginePage(engine);
    }
    return null;
  }
}

function hasEngine(page: Buffer, engine: EngineSpec): boolean {
  for (const metric of [...engine.waiting, ...engine.running]) {
    if (new MetricLocator(metric.name).find(page) >= 0) return true;
  }
  return false;
}

function sameReading(before: Reading, after: Reading): boolean {
  return (
    before.waiting === after.waiting &&
    before.running === after.running &&
    before.kvUsage === after.kvUsage &&
    before.promptTokens === after.promptTokens &&
    before.generationTokens === after.generationTokens &&
    before.preemptions === after.preemptions &&
    before.kvCapacityTokens === after.kvCapacityTokens &&
    before.blockTokens === after.blockTokens &&
    before.loraMax === after.loraMax &&
    before.loraActive === after.loraActive &&
    before.loraWaiting === after.loraWaiting &&
    before.asleep === after.asleep &&
    before.engine === after.engine &&
    before.startTimeSeconds === after.startTimeSeconds &&
    Object.is(before.gpuUtilization, after.gpuUtilization) &&
    Object.is(before.gpuMemory, after.gpuMemory)
  );
}
