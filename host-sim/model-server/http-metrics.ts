// Request counts, sizes and durations by route, as vLLM's HTTP instrumentation exposes them.
import type { Exposition, Labels } from "./exposition.ts";
import { Histogram } from "./metrics.ts";

/** Routes that vLLM does not instrument. */
const UNCOUNTED = new Set(["/metrics", "/health", "/load", "/ping", "/version", "/server_info"]);

const COARSE_SECONDS = [0.1, 0.5, 1];
const FINE_SECONDS = [
  0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5, 10, 30, 60,
];

/** One answered request. */
export interface HttpExchange {
  /** Route, or "none" for a path that does not exist. */
  readonly handler: string;
  readonly method: string;
  readonly status: number;
  readonly requestBytes: number;
  readonly responseBytes: number;
  readonly seconds: number;
}

/** HTTP counters of one replica. Handlers are routes, so the number of label sets is bounded. */
export class HttpMetrics {
  private readonly requests = new Map<string, { labels: Labels; count: number }>();
  private readonly requestBytes = new Map<string, Histogram>();
  private readonly responseBytes = new Map<string, Histogram>();
  private readonly duration = new Map<string, { labels: Labels; histogram: Histogram }>();
  private readonly durationOfAll = new Histogram(FINE_SECONDS);

  record(exchange: HttpExchange): void {
    const { handler, method, status } = exchange;
    if (UNCOUNTED.has(handler)) return;
    const statusClass = `${Math.floor(status / 100)}xx`;
    const key = `${handler} ${method} ${statusClass}`;
    const counted = this.requests.get(key) ?? { labels: { handler, method, status: statusClass }, count: 0 };
    counted.count++;
    this.requests.set(key, counted);
    observe(this.requestBytes, handler, exchange.requestBytes);
    observe(this.responseBytes, handler, exchange.responseBytes);
    const timed = this.duration.get(`${handler} ${method}`) ?? {
      labels: { handler, method },
      histogram: new Histogram(COARSE_SECONDS),
    };
    timed.histogram.observe(exchange.seconds);
    this.duration.set(`${handler} ${method}`, timed);
    this.durationOfAll.observe(exchange.seconds);
  }

  write(page: Exposition): void {
    const requests = [...this.requests.values()].map(({ labels, count }) => [labels, count] as const);
    page.counter("http_requests", "Answered requests by route, method and status class.", requests);
    page.summary(
      "http_request_size_bytes",
      "Announced size of request bodies by route.",
      byHandler(this.requestBytes),
    );
    page.summary("http_response_size_bytes", "Size of responses by route.", byHandler(this.responseBytes));
    page.histogram("http_request_duration_highr_seconds", "Duration of all requests, finely bucketed.", [
      [{}, this.durationOfAll],
    ]);
    const durations = [...this.duration.values()].map(
      ({ labels, histogram }) => [labels, histogram] as const,
    );
    page.histogram("http_request_duration_seconds", "Duration of requests by route.", durations);
  }
}

function observe(series: Map<string, Histogram>, handler: string, value: number): void {
  const histogram = series.get(handler) ?? new Histogram([]);
  histogram.observe(value);
  series.set(handler, histogram);
}

function byHandler(series: Map<string, Histogram>): (readonly [Labels, Histogram])[] {
  return [...series].map(([handler, histogram]) => [{ handler }, histogram] as const);
}
