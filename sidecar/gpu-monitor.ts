// Watches the DCGM exporters of one pool and gives each endpoint its GPU figures.
import type { CredentialStore } from "./config/credentials.ts";
import type { DcgmSettings } from "./config/settings.ts";
import type { EndpointMonitor, TransportFactory } from "./endpoint-monitor.ts";
import { codeOf, UnknownPageError } from "./errors.ts";
import type { Logger } from "./log.ts";
import { DcgmPage, type GpuSample } from "./scrape/dcgm-page.ts";
import { figuresOf, type GpuMapping, gpusOf } from "./scrape/gpu-join.ts";
import { nextIntervalMs } from "./scrape/pace.ts";
import { hostPort, type PageTarget } from "./scrape/page-client.ts";
import { Poller, type PollOwner } from "./scrape/poller.ts";
import type { Ticker } from "./scrape/ticker.ts";

/** Figures are used for this many intervals, and at least for VALID_MIN_MS; then the endpoint has none. */
const VALID_INTERVALS = 5;
const VALID_MIN_MS = 10_000;

/** What a pool lends its GPU monitor. */
export interface GpuMonitorContext {
  readonly settings: DcgmSettings;
  readonly ticker: Ticker;
  readonly credentials: CredentialStore;
  readonly makeTransport: TransportFactory;
  readonly random: () => number;
  readonly log: Logger;
}

/** One exporter and the endpoints whose GPUs it may show. */
interface Exporter {
  readonly poller: Poller;
  readonly page: DcgmPage;
  monitors: readonly EndpointMonitor[];
}

/** All exporters of a pool: one poller a URL, however many endpoints it serves. */
export class GpuMonitor {
  /** By URL. At most one an endpoint, plus the configured ones. */
  readonly exporters = new Map<string, Exporter>();

  constructor(private readonly context: GpuMonitorContext) {}

  /** Makes `monitors` the endpoints to look for. */
  update(monitors: readonly EndpointMonitor[]): void {
    const wanted = new Map<string, EndpointMonitor[]>();
    const want = (url: string, monitor: EndpointMonitor): void => {
      const list = wanted.get(url);
      if (list === undefined) wanted.set(url, [monitor]);
      else list.push(monitor);
    };
    for (const monitor of monitors) {
      for (const url of this.urlsOf(monitor)) want(url, monitor);
    }
    for (const [url, exporter] of this.exporters) {
      if (wanted.has(url)) continue;
      exporter.poller.stop();
      this.exporters.delete(url);
    }
    for (const [url, list] of wanted) {
      const exporter = this.exporters.get(url);
      if (exporter === undefined) this.exporters.set(url, this.watch(url, list));
      else exporter.monitors = list;
    }
  }

  /** The token or the CA changed. */
  renewTransports(): void {
    for (const [url, { poller }] of this.exporters) {
      poller.replaceTransport((sink) => this.context.makeTransport(this.target(url), sink));
    }
  }

  stop(): void {
    for (const { poller } of this.exporters.values()) poller.stop();
    this.exporters.clear();
  }

  private urlsOf(monitor: EndpointMonitor): readonly string[] {
    const mapping = this.mappingOf(monitor);
    if (mapping !== null && mapping.url !== "") return [mapping.url];
    const own = this.ownUrl(monitor);
    return own === null ? this.context.settings.urls : [own, ...this.context.settings.urls];
  }

  private mappingOf(monitor: EndpointMonitor): GpuMapping | null {
    const { address, name } = monitor.description;
    const { endpoints } = this.context.settings;
    return endpoints.get(address) ?? endpoints.get(name) ?? null;
  }

  private ownUrl(monitor: EndpointMonitor): string | null {
    const { port, scheme, path, useNodeAddress } = this.context.settings;
    if (port === null) return null;
    const { ip, nodeAddress } = monitor.description;
    const host = useNodeAddress && nodeAddress !== "" ? nodeAddress : ip;
    return `${scheme}://${hostPort(host, port)}${path}`;
  }

  private watch(url: string, monitors: readonly EndpointMonitor[]): Exporter {
    const page = new DcgmPage();
    const { ticker, settings, random } = this.context;
    const exporter: Exporter = {
      page,
      monitors,
      poller: new Poller(
        ticker,
        url,
        settings.timeoutMs,
        this.owner(url, page, () => exporter.monitors),
        (sink) => this.context.makeTransport(this.target(url), sink),
        random() * Math.min(1_000, settings.intervalMs),
      ),
    };
    return exporter;
  }

  private owner(url: string, dcgm: DcgmPage, monitors: () => readonly EndpointMonitor[]): PollOwner {
    const { settings, log, random } = this.context;
    let reported = "";
    return {
      onPage: (page, nowMs) => {
        const samples = dcgm.read(page);
        if (samples.length === 0) throw new UnknownPageError(url, page.toString("latin1", 0, 60));
        reported = "";
        const validMs = Math.max(VALID_MIN_MS, VALID_INTERVALS * settings.intervalMs);
        for (const monitor of monitors()) this.give(monitor, url, samples, nowMs + validMs);
      },
      onFailure: (error) => {
        if (codeOf(error) === reported) return;
        reported = codeOf(error);
        log.warn({ exporter: url, code: reported }, error.message);
      },
      intervalMs: (failures) => {
        const pace = { failures, waiting: 0, running: 0, changed: false };
        return Math.max(settings.intervalMs / 2, nextIntervalMs(settings.intervalMs, pace, random()));
      },
    };
  }

  private give(
    monitor: EndpointMonitor,
    url: string,
    samples: readonly GpuSample[],
    validUntilMs: number,
  ): void {
    const own = !this.context.settings.useNodeAddress && url === this.ownUrl(monitor);
    const gpus = gpusOf(monitor.description, samples, this.mappingOf(monitor), own);
    if (gpus.length > 0) monitor.setGpu(figuresOf(gpus), validUntilMs);
  }

  private target(url: string): PageTarget {
    const { hostname, port, pathname, search, protocol } = new URL(url);
    const { tls, token } = this.context.credentials.current;
    return {
      host: hostname.replace(/^\[|\]$/g, ""),
      port: port === "" ? (protocol === "https:" ? 443 : 80) : Number(port),
      path: `${pathname}${search}`,
      tls: protocol === "https:" ? (tls ?? DEFAULT_TLS) : null,
      token,
      accept: "text/plain",
      keepAlive: true,
      bytesMax: this.context.settings.bytesMax,
    };
  }
}

/** TLS of an https URL in a pool whose own exporters are plain: the system's authorities. */
const DEFAULT_TLS = { ca: null, cert: null, key: null, serverName: null, insecureSkipVerify: false } as const;
