// Watches one endpoint: scrapes its metrics and models, and knows whether it is ready, loaded, restarted.
import type { CredentialStore } from "./config/credentials.ts";
import type { PoolSettings } from "./config/settings.ts";
import { type Endpoint, labelOf } from "./discovery/endpoint.ts";
import { codeOf, ResponseTooLargeError, StatusError, UnknownPageError } from "./errors.ts";
import { MODELS_PAGE_BYTES_MAX } from "./limits.ts";
import type { Logger } from "./log.ts";
import { parseModels } from "./scrape/models-page.ts";
import { nextIntervalMs } from "./scrape/pace.ts";
import { hostPort, type PageSink, type PageTarget, type PageTransport } from "./scrape/page-client.ts";
import { PageExtractor, PageResult } from "./scrape/page-extractor.ts";
import { Poller, type PollOwner } from "./scrape/poller.ts";
import type { Reading } from "./scrape/reading.ts";
import type { Ticker } from "./scrape/ticker.ts";
import type { GpuFigures } from "./scrape/gpu-join.ts";

/** First scrapes of a list that came at once are spread over this. */
const START_SPREAD_MS = 50;
/** A model list that could not be read is tried again this soon at first. */
const MODELS_RETRY_MS = 1_000;

/** Makes the transport of a target; tests and benchmarks bring their own. */
export type TransportFactory = (target: PageTarget, sink: PageSink) => PageTransport;

/** What a pool lends its monitors. */
export interface MonitorContext {
  readonly settings: PoolSettings;
  readonly ticker: Ticker;
  readonly credentials: CredentialStore;
  readonly makeTransport: TransportFactory;
  readonly random: () => number;
  readonly log: Logger;
  /** Something that goes into the snapshot changed. */
  changed(): void;
  /** The engine behind the endpoint is another one than before, named by `identity`. */
  replaced(endpoint: Endpoint, identity: string): void;
}

/** One endpoint under watch. */
export class EndpointMonitor {
  models: readonly string[] = [];
  /** Of these the adapters, with their base models. */
  adapters: ReadonlyMap<string, string> = new Map();
  /** Model names and adapters that did not fit, in the present lists and since start respectively. */
  modelsDropped = 0;
  /** The endpoint answers. */
  ready = false;
  /** Waiting, running and KV usage were read at least once. */
  hasLoad = false;
  /** The first scrape ended, well or not. */
  tried = false;
  /** Restarts of the engine seen since the start of the watch. */
  restarts = 0;
  /** The last failure; null while the last scrape was good. */
  lastError: Error | null = null;
  readonly poller: Poller;
  private endpoint: Endpoint;
  private readonly extractor: PageExtractor;
  private readonly modelsPoller: Poller | null;
  private loadReadAtMs = 0;
  private pageChanged = true;
  private identity = "";
  private gpu: GpuFigures = { utilization: Number.NaN, memory: Number.NaN };
  private gpuValidUntilMs = Number.NEGATIVE_INFINITY;

  constructor(
    endpoint: Endpoint,
    private readonly context: MonitorContext,
  ) {
    this.endpoint = endpoint;
    const { settings, ticker, random } = context;
    const { label, preferred, specs } = settings.engines;
    this.extractor = new PageExtractor(specs, labelOf(endpoint, label) ?? "", preferred);
    const firstDelayMs = random() * START_SPREAD_MS;
    const { scrape } = settings;
    this.poller = new Poller(
      ticker,
      hostPort(endpoint.ip, scrape.port ?? endpoint.port) + scrape.path,
      scrape.timeoutMs,
      this.metricsOwner(),
      (sink) => context.makeTransport(this.metricsTarget(), sink),
      firstDelayMs,
    );
    this.modelsPoller =
      settings.models === null
        ? null
        : new Poller(
            ticker,
            hostPort(endpoint.ip, endpoint.port) + settings.models.path,
            scrape.timeoutMs,
            this.modelsOwner(settings.models.intervalMs),
            (sink) => context.makeTransport(this.modelsTarget(), sink),
            firstDelayMs,
          );
  }

  get description(): Endpoint {
    return this.endpoint;
  }

  get reading(): Reading {
    return this.extractor.reading;
  }

  get lorasDropped(): number {
    return this.extractor.lorasDropped;
  }

  /** Whether new requests may go there. */
  get usable(): boolean {
    return this.ready && !this.reading.asleep;
  }

  /** Age of the load figures, ms. */
  loadAgeMs(nowMs: number): number {
    return this.hasLoad ? nowMs - this.loadReadAtMs : 0;
  }

  /** The GPU figures from DCGM while they are fresh, else those of the engine's own page. */
  gpuFigures(nowMs: number): GpuFigures {
    if (nowMs < this.gpuValidUntilMs) return this.gpu;
    return { utilization: this.reading.gpuUtilization, memory: this.reading.gpuMemory };
  }

  setGpu(figures: GpuFigures, validUntilMs: number): void {
    const changed =
      !Object.is(figures.utilization, this.gpu.utilization) || !Object.is(figures.memory, this.gpu.memory);
    this.gpu = figures;
    this.gpuValidUntilMs = validUntilMs;
    if (changed) this.context.changed();
  }

  /** The same address with other labels, name or draining. */
  describe(endpoint: Endpoint): void {
    this.endpoint = endpoint;
  }

  /** The token or the CA changed. */
  renewTransports(): void {
    this.poller.replaceTransport((sink) => this.context.makeTransport(this.metricsTarget(), sink));
    this.modelsPoller?.replaceTransport((sink) => this.context.makeTransport(this.modelsTarget(), sink));
  }

  stop(): void {
    this.poller.stop();
    this.modelsPoller?.stop();
  }

  private metricsTarget(): PageTarget {
    const { scrape } = this.context.settings;
    return {
      host: this.endpoint.ip,
      port: scrape.port ?? this.endpoint.port,
      path: scrape.path,
      accept: "text/plain",
      keepAlive: true,
      bytesMax: scrape.bytesMax,
      ...this.context.credentials.current,
    };
  }

  private modelsTarget(): PageTarget {
    return {
      host: this.endpoint.ip,
      port: this.endpoint.port,
      path: this.context.settings.models!.path,
      accept: "application/json",
      keepAlive: false,
      bytesMax: MODELS_PAGE_BYTES_MAX,
      ...this.context.credentials.current,
    };
  }

  private metricsOwner(): PollOwner {
    return {
      onPage: (page, nowMs) => this.onMetrics(page, nowMs),
      onFailure: (error, failures) => this.onMetricsFailure(error, failures),
      intervalMs: (failures) => this.intervalMs(failures),
    };
  }

  private intervalMs(failures: number): number {
    const { waiting, running } = this.reading;
    const input = { failures, waiting, running, changed: this.pageChanged };
    return nextIntervalMs(this.context.settings.scrape.intervalMs, input, this.context.random());
  }

  private onMetrics(page: Buffer, nowMs: number): void {
    const result = this.extractor.read(page, nowMs);
    if (result === PageResult.Unknown) {
      throw new UnknownPageError(this.endpoint.address, page.toString("latin1", 0, 60));
    }
    this.loadReadAtMs = nowMs;
    this.pageChanged = result !== PageResult.Same;
    const wasIncomplete = !this.ready || !this.hasLoad || !this.tried;
    this.hasLoad = true;
    if (result === PageResult.Restarted) {
      this.restarts += 1;
      this.context.log.info({ endpoint: this.endpoint.address }, "engine restarted");
      this.modelsPoller?.pollNow();
    }
    this.identify();
    this.answered();
    if (wasIncomplete || this.pageChanged) this.context.changed();
  }

  /** Where the start time is published, it names the process; else restarts are counted. */
  private identify(): void {
    const start = this.reading.startTimeSeconds;
    const identity = `${start > 0 ? start : ""}${this.restarts > 0 ? `#${this.restarts}` : ""}`;
    if (identity === this.identity) return;
    this.identity = identity;
    this.context.replaced(this.endpoint, identity);
  }

  private answered(): void {
    this.tried = true;
    if (this.lastError !== null && this.ready === false) {
      this.context.log.info({ endpoint: this.endpoint.address }, "endpoint is back");
    }
    this.lastError = null;
    if (!this.ready) this.modelsPoller?.pollNow();
    this.ready = true;
  }

  /**
   * A server that answers, but with no page that can be read, serves requests all the same: it stays ready
   * and is without load figures. Only one that does not answer, or answers with a server error, is not ready.
   */
  private onMetricsFailure(error: Error, failures: number): void {
    const first = this.lastError === null || codeOf(this.lastError) !== codeOf(error);
    const alive =
      error instanceof UnknownPageError ||
      error instanceof ResponseTooLargeError ||
      (error instanceof StatusError && error.status < 500);
    const wasReady = this.ready;
    const wasTried = this.tried;
    this.tried = true;
    this.lastError = error;
    if (alive) this.ready = true;
    else if (failures >= this.context.settings.scrape.failuresMax) this.ready = false;
    if (first || wasReady !== this.ready) {
      const fields = { endpoint: this.endpoint.address, code: codeOf(error), failures, ready: this.ready };
      this.context.log.warn(fields, error.message);
    }
    if (wasReady !== this.ready || !wasTried) this.context.changed();
  }

  private modelsOwner(intervalMs: number): PollOwner {
    let reported = "";
    return {
      onPage: (page) => {
        const served = parseModels(page);
        this.modelsDropped = served.dropped;
        reported = "";
        if (served.names.join("\n") === this.models.join("\n")) return;
        this.models = served.names;
        this.adapters = served.adapters;
        this.context.changed();
      },
      onFailure: (error) => {
        if (codeOf(error) === reported) return;
        reported = codeOf(error);
        this.context.log.debug({ endpoint: this.endpoint.address, code: reported }, error.message);
      },
      intervalMs: (failures) =>
        failures === 0 ? intervalMs : Math.min(intervalMs, MODELS_RETRY_MS * 2 ** Math.min(10, failures - 1)),
    };
  }
}
