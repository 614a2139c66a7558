// How loaded each role of a pool is: what an autoscaler that sizes prefill and decode apart needs to know.
//
//   saturation = mean over ready endpoints of max(waiting / queueDepthThreshold, kvUsage / kvCacheUtilThreshold)
//   TTFT       = base + (uncached tokens in flight + foreign waiting × mean + mean) / prefill rate
//   TPOT       = base + slope × (requests in flight + foreign requests)
//
// Saturation is llm-d's (llm-d-router pkg/epp/framework/plugins/flowcontrol/saturationdetector/utilization): an endpoint
// whose figures are not known counts as full, and so does a role of which nothing is ready. TTFT and TPOT are the filter's
// learnt lines (docs/ARCHITECTURE.md) for a request of the pool's mean size, as a mean over the role's ready endpoints:
// the picker chooses better than that, so the prediction is what is left when there is no choice.
import { ROLE_DECODE, ROLE_ENCODE, ROLE_PREFILL } from "../assembly/wire/snapshot.ts";
import type { PoolSettings } from "./config/settings.ts";
import type { EndpointMonitor } from "./endpoint-monitor.ts";
import type { GatewayStatus } from "./serve/gateway-status.ts";

/** Roles as metrics name them; "all" is the whole pool, each endpoint once. */
export const ROLE_NAMES = ["all", "prefill", "decode", "encode"] as const;
export type RoleName = (typeof ROLE_NAMES)[number];

const ROLE_BITS: Readonly<Record<Exclude<RoleName, "all">, number>> = {
  prefill: ROLE_PREFILL,
  decode: ROLE_DECODE,
  encode: ROLE_ENCODE,
};

/** What the pools' owner asks of a role. */
export interface ScalingSettings {
  /** Wished time to the first token, ms; null = none. */
  readonly ttftMs: number | null;
  /** Wished time between tokens, ms; null = none. */
  readonly tpotMs: number | null;
  /** Queued requests at which an endpoint is full. */
  readonly queueDepthThreshold: number;
  /** Share of its KV cache at which an endpoint is full, 0–1. */
  readonly kvCacheUtilThreshold: number;
}

/** llm-d's thresholds, and no wishes. */
export const SCALING_DEFAULTS: ScalingSettings = {
  ttftMs: null,
  tpotMs: null,
  queueDepthThreshold: 5,
  kvCacheUtilThreshold: 0.8,
};

/** What of an endpoint's monitor matters here. */
export type WatchedEndpoint = Pick<
  EndpointMonitor,
  "description" | "reading" | "usable" | "hasLoad" | "lastError"
>;

/** What of a pool matters here. */
export interface WatchedPool {
  readonly name: string;
  readonly settings: Pick<PoolSettings, "scaling">;
  readonly monitors: ReadonlyMap<string, WatchedEndpoint>;
}

/** One role of one pool; NaN = not known. */
export interface RoleLoad {
  readonly pool: string;
  readonly role: RoleName;
  readonly endpoints: number;
  readonly ready: number;
  /** Requests queued in the engines. */
  readonly waiting: number;
  readonly running: number;
  /** 1 = full; may be above. */
  readonly saturation: number;
  /** Requests in flight, by the gateway's count. */
  readonly inflightRequests: number;
  /** Prompt tokens in flight that are not in a cache and have given no first token, by the gateway's count. */
  readonly uncachedTokens: number;
  readonly ttftMs: number;
  readonly tpotMs: number;
}

/** Reads the roles of pools; remembers what the gateway says only now and then. */
export class RoleLoads {
  /** Uncached tokens of a request: a worker that had no request since its start knows none. */
  private readonly meanTokens = new Map<string, number>();
  private figures: Figures = new Map();
  private figuresOf: GatewayStatus | null = null;

  /** The roles that a known endpoint of the pool has, and "all". `status`: null = the gateway does not answer. */
  of(pool: WatchedPool, status: GatewayStatus | null): RoleLoad[] {
    this.index(status);
    const monitors = [...pool.monitors.values()];
    return ROLE_NAMES.flatMap((role) => {
      const members =
        role === "all"
          ? monitors
          : monitors.filter(({ description }) => (description.roles & ROLE_BITS[role]) !== 0);
      return members.length === 0 && role !== "all" ? [] : [this.load(pool, role, members)];
    });
  }

  private load(pool: WatchedPool, role: RoleName, members: readonly WatchedEndpoint[]): RoleLoad {
    const ready = members.filter((monitor) => monitor.usable && monitor.description.draining !== true);
    const loaded = members.filter((monitor) => monitor.hasLoad);
    const figure = (field: string) => (monitor: WatchedEndpoint) => this.figure(pool.name, monitor, field);
    return {
      pool: pool.name,
      role,
      endpoints: members.length,
      ready: ready.length,
      waiting: sum(loaded, ({ reading }) => reading.waiting),
      running: sum(loaded, ({ reading }) => reading.running),
      saturation: ready.length === 0 ? 1 : mean(ready, (monitor) => saturationOf(monitor, pool)),
      inflightRequests: sum(members, figure("inflightRequests")),
      uncachedTokens: sum(members, figure("inflightTokens")),
      ttftMs: mean(ready, (monitor) => this.ttftMs(pool.name, monitor)),
      tpotMs: mean(ready, (monitor) => this.tpotMs(pool.name, monitor)),
    };
  }

  private ttftMs(pool: string, monitor: WatchedEndpoint): number {
    const figure = (field: string): number => this.figure(pool, monitor, field);
    const meanTokens = this.meanTokens.get(pool) ?? Number.NaN;
    const { waiting, running } = monitor.reading;
    const requests = waiting + running;
    // Of the foreign requests as many wait as of all that the engine reports.
    const foreign = figure("foreignRequests");
    const foreignWaiting = requests > 0 && foreign > 0 ? (foreign * waiting) / requests : 0;
    const tokens = figure("inflightTokens") + (foreignWaiting + 1) * meanTokens;
    return figure("prefillBaseMs") + (tokens / figure("prefillTokensPerSecond")) * 1_000;
  }

  private tpotMs(pool: string, monitor: WatchedEndpoint): number {
    const figure = (field: string): number => this.figure(pool, monitor, field);
    const foreign = figure("foreignRequests");
    const requests = figure("inflightRequests") + (foreign > 0 ? foreign : 0);
    return figure("tpotBaseMs") + figure("tpotRequestMs") * requests;
  }

  private figure(pool: string, monitor: WatchedEndpoint, field: string): number {
    return this.figures.get(pool)?.get(monitor.description.address)?.get(field) ?? Number.NaN;
  }

  private index(status: GatewayStatus | null): void {
    if (status === this.figuresOf) return;
    this.figuresOf = status;
    this.figures = new Map();
    for (const { pool, endpoint, field, value } of status?.figures ?? []) {
      let endpoints = this.figures.get(pool);
      if (endpoints === undefined) this.figures.set(pool, (endpoints = new Map()));
      let fields = endpoints.get(endpoint);
      if (fields === undefined) endpoints.set(endpoint, (fields = new Map()));
      fields.set(field, value);
      if (endpoint === "" && field === "meanUncachedTokens") this.meanTokens.set(pool, value);
    }
  }
}

/** Figures of a status by pool, address and field. */
type Figures = Map<string, Map<string, Map<string, number>>>;

function saturationOf(monitor: WatchedEndpoint, { settings }: WatchedPool): number {
  if (!monitor.hasLoad || monitor.lastError !== null) return 1;
  const { queueDepthThreshold, kvCacheUtilThreshold } = settings.scaling;
  const { waiting, kvUsage } = monitor.reading;
  return Math.max(waiting / queueDepthThreshold, kvUsage / kvCacheUtilThreshold);
}

/** Sum of what is known; NaN where nothing is. */
function sum<T>(members: readonly T[], value: (member: T) => number): number {
  const known = members.map(value).filter((one) => !Number.isNaN(one));
  return known.length === 0 ? Number.NaN : known.reduce((total, one) => total + one, 0);
}

/** Mean of what is known; NaN where nothing is. */
function mean<T>(members: readonly T[], value: (member: T) => number): number {
  const known = members.map(value).filter((one) => !Number.isNaN(one));
  return known.length === 0 ? Number.NaN : known.reduce((total, one) => total + one, 0) / known.length;
}
