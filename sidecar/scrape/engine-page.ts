// Reads the page of one server of a known engine into a Reading.
import type { CacheSpec, EngineSpec, MetricSpec } from "./engines.ts";
import { LoraMetric } from "./lora-metric.ts";
import { labelValue, MetricLocator } from "./page.ts";
import type { Reading } from "./reading.ts";
import { Counter, Gauge, hasLabels } from "./series.ts";

/** A process that reports a start this much later than before is another process. */
const RESTART_SECONDS_MIN = 1;

/** The metrics of one engine at one server, with what was remembered of their places and values. */
export class EnginePage {
  private readonly waiting: readonly Gauge[];
  private readonly running: readonly Gauge[];
  private readonly kvUsage: readonly Gauge[];
  private readonly counters: readonly Counter[];
  private readonly promptTokens: Counter | null;
  private readonly generationTokens: Counter | null;
  private readonly preemptions: Counter | null;
  private readonly lora: LoraMetric | null;
  private readonly caches: readonly CacheReader[];
  private readonly sleepState: Gauge | null;
  private readonly startTime = new Gauge({ name: "process_start_time_seconds", labels: {} });
  private readonly gpuUtilization: Gauge | null;
  private readonly gpuMemoryUsed: Gauge | null;
  private readonly gpuMemoryTotal: Gauge | null;

  constructor(readonly spec: EngineSpec) {
    const gauge = (metric: MetricSpec): Gauge => new Gauge(metric, spec.rankLabel);
    const optionalGauge = (metric: MetricSpec | null): Gauge | null =>
      metric === null ? null : new Gauge(metric);
    const counter = (metric: MetricSpec | null): Counter | null =>
      metric === null ? null : new Counter(metric);
    this.waiting = spec.waiting.map(gauge);
    this.running = spec.running.map(gauge);
    this.kvUsage = spec.kvUsage.map(gauge);
    this.promptTokens = counter(spec.promptTokens);
    this.generationTokens = counter(spec.generationTokens);
    this.preemptions = counter(spec.preemptions);
    this.counters = spec.restartCounters.map((metric) => new Counter(metric));
    this.lora = spec.lora === null ? null : new LoraMetric(spec.lora);
    this.caches = spec.caches.map((cache) => new CacheReader(cache, spec.rankLabel));
    this.sleepState = optionalGauge(spec.sleepState);
    this.gpuUtilization = optionalGauge(spec.gpuUtilization);
    this.gpuMemoryUsed = optionalGauge(spec.gpuMemoryUsed);
    this.gpuMemoryTotal = optionalGauge(spec.gpuMemoryTotal);
  }

  /** LoRA adapters that did not fit, since start. */
  get lorasDropped(): number {
    return this.lora === null ? 0 : this.lora.dropped;
  }

  /**
   * Overwrites `reading` with the load on `page`.
   * @param searchAll also search for metrics that were not on the page before
   * @returns false when the page has neither queued nor running requests of this engine
   */
  readLoad(page: Buffer, reading: Reading, searchAll: boolean): boolean {
    const waiting = first(this.waiting, page, searchAll);
    const running = first(this.running, page, searchAll);
    if (waiting === null && running === null) return false;
    reading.waiting = waiting === null ? 0 : Math.max(0, waiting.total);
    reading.running = running === null ? 0 : Math.max(0, running.total);
    const kvUsage = first(this.kvUsage, page, searchAll);
    // The mean, not the largest: the server itself balances its requests over its data-parallel ranks, so one
    // full rank does not make the endpoint full. With the sum of the capacities it gives the tokens in use.
    reading.kvUsage = kvUsage === null ? 0 : Math.min(1, Math.max(0, kvUsage.mean));
    this.readLora(page, reading, searchAll);
    return true;
  }

  /**
   * Reads the counters.
   * @returns whether the engine restarted since the page before: a counter fell, or its process is a later
   * one
   */
  readCounters(page: Buffer, reading: Reading, searchAll: boolean): boolean {
    const all = [this.promptTokens, this.generationTokens, this.preemptions];
    let restarted = false;
    for (let index = 0; index < all.length; index++) {
      if (readCounter(all[index]!, page, searchAll)) restarted = true;
    }
    for (let index = 0; index < this.counters.length; index++) {
      if (readCounter(this.counters[index]!, page, searchAll)) restarted = true;
    }
    reading.promptTokens = this.promptTokens?.total ?? 0;
    reading.generationTokens = this.generationTokens?.total ?? 0;
    reading.preemptions = this.preemptions?.total ?? 0;
    if ((searchAll || this.startTime.locator.known) && this.startTime.read(page)) {
      const started = this.startTime.max;
      if (reading.startTimeSeconds > 0 && started > reading.startTimeSeconds + RESTART_SECONDS_MIN)
        restarted = true;
      // Never back: several processes behind one address would otherwise look like a restart at each scrape.
      if (started > reading.startTimeSeconds) reading.startTimeSeconds = started;
    }
    return restarted;
  }

  /** Reads what changes at most with the process: cache size, sleep, the engine's own GPU figures. */
  readSlow(page: Buffer, reading: Reading): void {
    for (const cache of this.caches) {
      if (cache.read(page)) {
        reading.blockTokens = cache.blockTokens;
        reading.kvCapacityTokens = cache.capacityTokens;
        break;
      }
    }
    reading.asleep = this.sleepState?.read(page) === true && this.sleepState.total === 0;
    if (this.gpuUtilization?.read(page) === true) {
      reading.gpuUtilization = Math.min(1, Math.max(0, this.gpuUtilization.max));
    }
    if (this.gpuMemoryUsed?.read(page) === true && this.gpuMemoryTotal?.read(page) === true) {
      const total = this.gpuMemoryTotal.total;
      if (total > 0) reading.gpuMemory = Math.min(1, Math.max(0, this.gpuMemoryUsed.total / total));
    }
  }

  private readLora(page: Buffer, reading: Reading, searchAll: boolean): void {
    const lora = this.lora;
    if (lora === null || (!searchAll && !lora.locator.known) || !lora.read(page)) return;
    reading.hasLora = true;
    reading.loraMax = lora.max;
    reading.loraActive = lora.active;
    reading.loraWaiting = lora.waiting;
  }
}

/** The first of the alternatives that is on the page. */
function first(gauges: readonly Gauge[], page: Buffer, searchAll: boolean): Gauge | null {
  for (let index = 0; index < gauges.length; index++) {
    const gauge = gauges[index]!;
    if ((searchAll || gauge.locator.known) && gauge.read(page)) return gauge;
  }
  return null;
}

function readCounter(counter: Counter | null, page: Buffer, searchAll: boolean): boolean {
  if (counter === null || (!searchAll && !counter.locator.known)) return false;
  return counter.read(page) && counter.fell;
}

/** Block size and number of blocks, summed over data-parallel ranks. */
class CacheReader {
  blockTokens = 0;
  capacityTokens = 0;
  private readonly info: MetricLocator | null;
  private readonly infoLabels: readonly (readonly [string, string])[];
  private readonly blockTokensGauge: Gauge | null;
  private readonly blocksGauge: Gauge | null;

  constructor(
    private readonly spec: CacheSpec,
    rankLabel: string | null,
  ) {
    this.info = spec.info === null ? null : new MetricLocator(spec.info.name);
    this.infoLabels = spec.info === null ? [] : Object.entries(spec.info.labels);
    this.blockTokensGauge = spec.blockTokens === null ? null : new Gauge(spec.blockTokens, rankLabel);
    this.blocksGauge = spec.blocks === null ? null : new Gauge(spec.blocks, rankLabel);
  }

  read(page: Buffer): boolean {
    this.blockTokens = 0;
    this.capacityTokens = 0;
    if (this.info !== null) this.readInfo(page, this.info);
    if (this.blockTokensGauge?.read(page) === true) {
      this.blockTokens = Math.max(0, Math.floor(this.blockTokensGauge.max));
      if (this.blocksGauge?.read(page) === true) {
        this.capacityTokens = Math.max(0, Math.floor(this.blocksGauge.total)) * this.blockTokens;
      }
    }
    return this.blockTokens > 0;
  }

  private readInfo(page: Buffer, info: MetricLocator): void {
    info.read(page, (line, bytes) => {
      if (!hasLabels(bytes, line, this.infoLabels)) return;
      const blockTokens = wholeNumber(labelValue(bytes, line, this.spec.blockTokensLabel));
      const blocks = wholeNumber(labelValue(bytes, line, this.spec.blocksLabel));
      if (blockTokens > 0) this.blockTokens = blockTokens;
      this.capacityTokens += blockTokens * blocks;
    });
  }
}

function wholeNumber(text: string | null): number {
  return text !== null && /^\d{1,12}$/.test(text) ? Number(text) : 0;
}
