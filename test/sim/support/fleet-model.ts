// A stand-in for runs: policies whose figures follow from one capacity each by simple formulas.
import type { RunFleetAt, RunPoint } from "../../../host-sim/fleet/experiments/index.ts";
import type { FleetSummary } from "../../../host-sim/fleet/report/index.ts";
import { fleetSummary } from "./fleet-records.ts";

/** What was asked for, and answers to it. */
export interface FleetModel {
  readonly run: RunFleetAt;
  readonly points: RunPoint[];
}

/**
 * Policies by the multiple of the workload's rate up to which all requests keep their SLO. Beyond, the share in
 * SLO falls by a half of (rate ÷ capacity − 1); mean TTFT is rate ÷ capacity seconds, p90 twice that. 10
 * requests a second at rate 1. `changes` alter what comes out at a point.
 */
export function fleetModel(
  capacities: Readonly<Record<string, number>>,
  changes: (point: RunPoint) => Partial<FleetSummary> = () => ({}),
): FleetModel {
  const points: RunPoint[] = [];
  const run = (point: RunPoint): Promise<FleetSummary> => {
    points.push(point);
    const load = point.rate / capacities[point.policy]!;
    const share = Math.min(1, Math.max(0, 1.5 - load / 2));
    return Promise.resolve({
      ...fleetSummary(point.policy),
      workload: point.workload,
      offeredRps: point.rate * 10,
      ttftMs: { mean: load * 1000, p50: load * 900, p90: load * 2000, p99: load * 3000 },
      ttftInSlo: share,
      inSlo: share,
      ttftGoodputRps: share * point.rate * 10,
      goodputRps: share * point.rate * 10,
      ...changes(point),
    });
  };
  return { run, points };
}
