// Metrics for autoscalers: the load of each pool and role, and what is left of the wished times.
//
// Their names and labels stay as they are: autoscalers' queries are written against them (docs/OPERATIONS.md).
import type { Pool } from "../pool.ts";
import { type RoleLoad, RoleLoads, type ScalingSettings } from "../role-load.ts";
import type { Add } from "./metric-adder.ts";
import type { StatusReader } from "./status-reader.ts";

interface Source {
  readonly pools: readonly Pool[];
  readonly status: StatusReader;
}

/** Gauges by pool and role; what is not known has no sample. */
export function addScalingMetrics(add: Add, { pools, status }: Source): void {
  const loads = new RoleLoads();
  const gauge = (
    name: string,
    help: string,
    value: (load: RoleLoad, scaling: ScalingSettings) => number,
  ): void =>
    add("gauge", name, help, ["pool", "role"], () =>
      pools.flatMap((pool) =>
        loads
          .of(pool, status.status)
          .map((load) => [{ pool: load.pool, role: load.role }, value(load, pool.settings.scaling)] as const)
          .filter(([, figure]) => !Number.isNaN(figure)),
      ),
    );
  gauge("epp_scaling_endpoints", "Endpoints with this role.", (load) => load.endpoints);
  gauge("epp_scaling_endpoints_ready", "Those that may be picked.", (load) => load.ready);
  gauge("epp_scaling_waiting_requests", "Requests queued in the role's engines.", (load) => load.waiting);
  gauge("epp_scaling_running_requests", "Requests running in the role's engines.", (load) => load.running);
  gauge("epp_scaling_saturation", "Mean of max(queue, KV cache) over its thresholds; 1 = full.", (load) => {
    return load.saturation;
  });
  gauge("epp_scaling_inflight_requests", "Requests in flight, by this gateway's count.", (load) => {
    return load.inflightRequests;
  });
  gauge(
    "epp_scaling_uncached_tokens",
    "Prompt tokens still to be computed, by this gateway's count.",
    (load) => {
      return load.uncachedTokens;
    },
  );
  addTimes(
    gauge,
    "ttft",
    "time to the first token",
    (load) => load.ttftMs,
    (scaling) => scaling.ttftMs,
  );
  addTimes(
    gauge,
    "tpot",
    "time between tokens",
    (load) => load.tpotMs,
    (scaling) => scaling.tpotMs,
  );
}

type AddGauge = (
  name: string,
  help: string,
  value: (load: RoleLoad, scaling: ScalingSettings) => number,
) => void;

function addTimes(
  gauge: AddGauge,
  time: "ttft" | "tpot",
  meaning: string,
  predicted: (load: RoleLoad) => number,
  wished: (scaling: ScalingSettings) => number | null,
): void {
  const wish = (scaling: ScalingSettings): number => wished(scaling) ?? Number.NaN;
  const metric = NAMES[time];
  gauge(
    metric.predicted,
    `Predicted ${meaning} of a request of mean size.`,
    (load) => predicted(load) / 1_000,
  );
  gauge(metric.headroom, `Wished ${meaning} less the predicted one; negative = missed.`, (load, scaling) => {
    return (wish(scaling) - predicted(load)) / 1_000;
  });
  gauge(metric.ratio, `Predicted ${meaning} as a share of the wished one; 1 = just met.`, (load, scaling) => {
    return predicted(load) / wish(scaling);
  });
}

const NAMES = {
  ttft: {
    predicted: "epp_scaling_predicted_ttft_seconds",
    headroom: "epp_scaling_ttft_headroom_seconds",
    ratio: "epp_scaling_ttft_slo_ratio",
  },
  tpot: {
    predicted: "epp_scaling_predicted_tpot_seconds",
    headroom: "epp_scaling_tpot_headroom_seconds",
    ratio: "epp_scaling_tpot_slo_ratio",
  },
} as const;
