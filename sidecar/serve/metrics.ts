// The sidecar's own Prometheus metrics, read from the running parts at the moment of a scrape.
import { collectDefaultMetrics, Registry } from "prom-client";
import type { EndpointMonitor } from "../endpoint-monitor.ts";
import type { KvPush } from "../kv-index/kv-push.ts";
import type { Pool } from "../pool.ts";
import type { Pusher } from "../push/pusher.ts";
import type { PollCounts } from "../scrape/poller.ts";
import type { StatusFigure } from "./gateway-status.ts";
import { type Add, adderOf, type Row } from "./metric-adder.ts";
import { addKvEventsMetrics } from "./kv-events-metrics.ts";
import { addKvIndexMetrics } from "./kv-index-metrics.ts";
import { addPromptMetrics } from "./prompt-metrics.ts";
import { addScalingMetrics } from "./scaling-metrics.ts";
import type { StatusReader } from "./status-reader.ts";

/** What is measured. */
export interface MetricsSource {
  readonly pools: readonly Pool[];
  readonly pushers: readonly Pusher[];
  readonly kvPushes: readonly KvPush[];
  readonly status: StatusReader;
  now(): number;
}

/** A registry with all metrics of one sidecar. */
export function makeRegistry(source: MetricsSource): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: "epp_sidecar_" });
  const add = adderOf(registry);
  addPoolMetrics(add, source);
  addEndpointMetrics(add, source);
  addScrapeMetrics(add, source);
  addPushMetrics(add, source);
  addGatewayMetrics(add, source);
  addScalingMetrics(add, source);
  addKvEventsMetrics(add, source);
  addKvIndexMetrics(add, source);
  addPromptMetrics(add, source);
  return registry;
}

function addPoolMetrics(add: Add, { pools }: MetricsSource): void {
  const perPool = (value: (pool: Pool) => number) => (): Row[] =>
    pools.map((pool) => [{ pool: pool.name }, value(pool)] as const);
  add(
    "gauge",
    "epp_sidecar_endpoints",
    "Endpoints known.",
    ["pool"],
    perPool((pool) => pool.monitors.size),
  );
  add(
    "gauge",
    "epp_sidecar_endpoints_ready",
    "Endpoints that may be picked.",
    ["pool"],
    perPool((p) => p.readyEndpoints),
  );
  add(
    "counter",
    "epp_sidecar_discovery_updates_total",
    "Endpoint lists taken over.",
    ["pool"],
    perPool((pool) => pool.discoveryUpdates),
  );
  add(
    "counter",
    "epp_sidecar_discovery_failures_total",
    "Endpoint lists that could not be read; the last good one stayed in force.",
    ["pool"],
    perPool((pool) => pool.discoveryFailures),
  );
  add(
    "gauge",
    "epp_sidecar_policy_objects",
    "Objectives and model rewrite rules in force.",
    ["pool", "kind"],
    () =>
      pools.flatMap(({ name, policy }) =>
        policy === null
          ? []
          : [
              [{ pool: name, kind: "objectives" }, policy.objectives.length] as const,
              [{ pool: name, kind: "rewrites" }, policy.rewrites.length] as const,
            ],
      ),
  );
  add(
    "gauge",
    "epp_sidecar_discovery_figure",
    "What the source of the endpoints counts, by name.",
    ["pool", "figure"],
    () =>
      pools.flatMap((pool) =>
        [...pool.discoveryFigures].map(([figure, value]) => [{ pool: pool.name, figure }, value] as const),
      ),
  );
  add("gauge", "epp_sidecar_dropped", "Things left out because of a limit, now.", ["pool", "what"], () =>
    pools.flatMap((pool) => dropRows(pool)),
  );
}

function dropRows(pool: Pool): Row[] {
  let models = 0;
  let loras = 0;
  for (const monitor of pool.monitors.values()) {
    models += monitor.modelsDropped;
    loras += monitor.lorasDropped;
  }
  const counts: Record<string, number> = {
    endpoints: pool.drops.surplusEndpoints,
    duplicate_endpoints: pool.drops.duplicateEndpoints,
    labels: pool.drops.labels,
    models,
    loras,
  };
  return Object.entries(counts).map(([what, value]) => [{ pool: pool.name, what }, value] as const);
}

function addEndpointMetrics(add: Add, source: MetricsSource): void {
  const perEndpoint = (value: (monitor: EndpointMonitor, pool: Pool) => number) => (): Row[] =>
    source.pools.flatMap((pool) =>
      [...pool.monitors.values()]
        .map(
          (monitor) =>
            [{ pool: pool.name, endpoint: monitor.description.address }, value(monitor, pool)] as const,
        )
        .filter(([, figure]) => !Number.isNaN(figure)),
    );
  const gauge = (name: string, help: string, value: (monitor: EndpointMonitor, pool: Pool) => number): void =>
    add("gauge", name, help, ["pool", "endpoint"], perEndpoint(value));
  const ifLoaded = (monitor: EndpointMonitor, value: number): number =>
    monitor.hasLoad ? value : Number.NaN;
  gauge("epp_endpoint_ready", "1 = new requests may go there.", (monitor) => (monitor.usable ? 1 : 0));
  gauge("epp_endpoint_waiting_requests", "Requests queued in the engine.", (m) =>
    ifLoaded(m, m.reading.waiting),
  );
  gauge("epp_endpoint_running_requests", "Requests running in the engine.", (m) =>
    ifLoaded(m, m.reading.running),
  );
  gauge("epp_endpoint_kv_cache_usage", "KV cache in use, 0-1.", (m) => ifLoaded(m, m.reading.kvUsage));
  gauge("epp_endpoint_metrics_age_seconds", "Age of these figures.", (m) =>
    ifLoaded(m, m.loadAgeMs(source.now()) / 1_000),
  );
  gauge(
    "epp_endpoint_gpu_utilization",
    "GPU busy, 0-1.",
    (monitor) => monitor.gpuFigures(source.now()).utilization,
  );
  gauge(
    "epp_endpoint_gpu_memory",
    "GPU framebuffer in use, 0-1.",
    (monitor) => monitor.gpuFigures(source.now()).memory,
  );
  gauge("epp_endpoint_generation", "Generation of the snapshot slot.", (monitor, pool) =>
    Number(pool.slotOf(monitor.description.address)?.generation ?? Number.NaN),
  );
  add(
    "counter",
    "epp_endpoint_restarts_total",
    "Restarts of the engine seen.",
    ["pool", "endpoint"],
    perEndpoint((monitor) => monitor.restarts),
  );
}

function addScrapeMetrics(add: Add, { pools }: MetricsSource): void {
  const totals = (value: (counts: PollCounts) => number) => (): Row[] =>
    pools.flatMap((pool) =>
      pollsOf(pool).map(([page, polls]) => {
        const sum = polls.reduce((total, counts) => total + value(counts), 0);
        return [{ pool: pool.name, page }, sum] as const;
      }),
    );
  const labels = ["pool", "page"];
  add(
    "counter",
    "epp_sidecar_scrapes_total",
    "Pages read.",
    labels,
    totals((counts) => counts.succeeded),
  );
  add(
    "counter",
    "epp_sidecar_scrape_seconds_total",
    "Time from request to whole page, over all pages read.",
    labels,
    totals((counts) => counts.durationMs / 1_000),
  );
  add("counter", "epp_sidecar_scrape_failures_total", "Pages not read, by cause.", [...labels, "code"], () =>
    pools.flatMap((pool) => pollsOf(pool).flatMap(([page, polls]) => failureRows(pool.name, page, polls))),
  );
}

/** Counts of the endpoints and exporters of the present list. */
function pollsOf(pool: Pool): [page: string, polls: PollCounts[]][] {
  return [
    ["metrics", [pool.retiredPolls, ...[...pool.monitors.values()].map((monitor) => monitor.poller.counts)]],
    ["dcgm", [...(pool.gpus?.exporters.values() ?? [])].map((exporter) => exporter.poller.counts)],
  ];
}

function failureRows(pool: string, page: string, polls: readonly PollCounts[]): Row[] {
  const byCode = new Map<string, number>();
  for (const counts of polls) {
    for (const [code, count] of counts.byCode) byCode.set(code, (byCode.get(code) ?? 0) + count);
  }
  return [...byCode].map(([code, count]) => [{ pool, page, code }, count] as const);
}

function addPushMetrics(add: Add, source: MetricsSource): void {
  add("counter", "epp_sidecar_pushes_total", "Snapshots sent, by outcome.", ["pool", "result"], () =>
    source.pushers.flatMap(({ pool, counts }) =>
      (["accepted", "refused", "failed", "standby"] as const).map(
        (result) => [{ pool: pool.name, result }, counts[result]] as const,
      ),
    ),
  );
  add("gauge", "epp_sidecar_standby", "1 = another sidecar brings the pool to the gateway.", ["pool"], () =>
    source.pushers.map(({ pool, standbyBehind }) => [{ pool: pool.name }, standbyBehind === null ? 0 : 1]),
  );
  add("counter", "epp_sidecar_policy_pushes_total", "Policies sent, by outcome.", ["pool", "result"], () =>
    source.pushers.flatMap(({ pool, policy: { counts } }) =>
      (["accepted", "refused", "failed"] as const).map(
        (result) => [{ pool: pool.name, result }, counts[result]] as const,
      ),
    ),
  );
  add("gauge", "epp_sidecar_policy_age_seconds", "Time since a policy was last accepted.", ["pool"], () =>
    source.pushers
      .filter(({ policy }) => Number.isFinite(policy.acceptedAtMs))
      .map(
        ({ pool, policy }) => [{ pool: pool.name }, (source.now() - policy.acceptedAtMs) / 1_000] as const,
      ),
  );
  add(
    "counter",
    "epp_sidecar_snapshots_shortened_total",
    "Snapshots sent without all labels and names.",
    ["pool"],
    () => source.pushers.map(({ pool, counts }) => [{ pool: pool.name }, counts.shortened] as const),
  );
  add("gauge", "epp_sidecar_snapshot_bytes", "Size of the last snapshot.", ["pool"], () =>
    source.pushers.map(({ pool, counts }) => [{ pool: pool.name }, counts.bytes] as const),
  );
  add("gauge", "epp_sidecar_snapshot_age_seconds", "Time since a snapshot was last accepted.", ["pool"], () =>
    source.pushers
      .filter((pusher) => Number.isFinite(pusher.acceptedAtMs))
      .map((pusher) => [{ pool: pusher.pool.name }, (source.now() - pusher.acceptedAtMs) / 1_000] as const),
  );
}

/** Status fields with a metric of their own; the others share one metric each for pools and endpoints. */
const NAMED_FIGURES: Readonly<Record<string, readonly [name: string, help: string]>> = {
  inflightRequests: ["epp_gateway_endpoint_inflight_requests", "Requests in flight, by the gateway's count."],
  inflightTokens: [
    "epp_gateway_endpoint_inflight_tokens",
    "Uncached prompt tokens in flight, by the gateway's count.",
  ],
  setAside: ["epp_gateway_endpoint_set_aside", "1 = the gateway avoids it because it failed."],
};

function addGatewayMetrics(add: Add, { status }: MetricsSource): void {
  const figures = (): readonly StatusFigure[] => status.status?.figures ?? [];
  for (const [field, [name, help]] of Object.entries(NAMED_FIGURES)) {
    add("gauge", name, help, ["pool", "endpoint"], () =>
      figures()
        .filter((figure) => figure.field === field && figure.endpoint !== "")
        .map(({ pool, endpoint, value }) => [{ pool, endpoint }, value] as const),
    );
  }
  add(
    "gauge",
    "epp_gateway_endpoint_status",
    "Other figures of GET /status.",
    ["pool", "endpoint", "field"],
    () =>
      figures()
        .filter(({ field, endpoint }) => endpoint !== "" && !(field in NAMED_FIGURES))
        .map(({ pool, endpoint, field, value }) => [{ pool, endpoint, field }, value] as const),
  );
  add("gauge", "epp_gateway_pool_status", "Figures of pools of GET /status.", ["pool", "field"], () =>
    figures()
      .filter(({ endpoint }) => endpoint === "")
      .map(({ pool, field, value }) => [{ pool, field }, value] as const),
  );
  add("gauge", "epp_gateway_counter", "Counters of GET /status, by name.", ["name"], () =>
    (status.status?.counters ?? []).map(({ name, value }) => [{ name }, value] as const),
  );
  add("gauge", "epp_gateway_status_dropped", "Entries of GET /status that were left out.", [], () =>
    status.status === null ? [] : [[{}, status.status.dropped]],
  );
  add("gauge", "epp_gateway_status_up", "1 = GET /status was answered.", [], () => [
    [{}, status.status === null ? 0 : 1],
  ]);
}
