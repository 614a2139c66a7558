// The listeners that recorded streams run on: the same table configures host-sim and a real Envoy.
import type { FailurePolicy } from "../../host-sim/host/index.ts";

/** One listener with one probe plugin, in a VM of its own unless `vm` names another's. */
export interface ProbeListener {
  /** Name; also root id and, unless `vm` is given, vm_id. */
  readonly name: string;
  readonly vm?: string;
  /** `allow_on_headers_stop_iteration`. */
  readonly stop: boolean;
  readonly policy?: FailurePolicy;
  /** `per_connection_buffer_limit_bytes`; Envoy's default when absent. */
  readonly bufferLimitBytes?: number;
  /** Script of the root context. */
  readonly configuration?: string;
  readonly vmConfiguration?: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** Cluster of the route; `up` when absent. */
  readonly cluster?: string;
  /** Retry policy of the route; none when absent. */
  readonly retry?: { readonly retryOn: string; readonly retries: number; readonly backOffMs: number };
}

const TICK = "cfg=tick,20";

/** Phases in which a trap is recorded, each on a fail-closed listener of its own. */
export const TRAP_PHASES = ["qh", "qb", "qt", "sh", "sb", "log", "tk"] as const;

/** All listeners, in the order of their configuration. */
export const LISTENERS: readonly ProbeListener[] = [
  { name: "plain", stop: false, configuration: TICK },
  { name: "stop", stop: true, configuration: TICK },
  { name: "small", stop: true, configuration: TICK, bufferLimitBytes: 1024 },
  { name: "twin", vm: "stop", stop: true, configuration: TICK },
  { name: "env", stop: true, vmConfiguration: "vm=env", environment: { PROBE_A: "one" } },
  { name: "queues", stop: true, configuration: "cfg=qreg,work|queue=qdeq,work;qdeq,work" },
  { name: "reload", stop: true, policy: "reload", configuration: TICK },
  { name: "open", stop: true, policy: "open" },
  ...TRAP_PHASES.map((phase) => ({ name: `closed-${phase}`, stop: true, configuration: TICK })),
  { name: "closed-two", stop: true, configuration: TICK },
  { name: "closed-malloc", stop: true, configuration: TICK },
];

/** Metadata of the route of every listener. */
export const ROUTE_METADATA = { epp: { pool: "gold", weight: 2.5, hot: true } } as const;
/** Dynamic metadata set by a filter before the probe. */
export const FILTER_METADATA = { "envoy.lb": { subset_hint: "10.0.0.1:80" } } as const;
export const ROUTE_NAME = "probe-route";
/** The cluster of the route, and of http_call. */
export const CLUSTER = "up";
/** A cluster whose only host refuses connections, and one without hosts. */
export const DEAD_CLUSTER = "dead";
export const EMPTY_CLUSTER = "empty";
