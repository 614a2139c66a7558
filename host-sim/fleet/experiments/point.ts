// One run of an experiment: what is set for it, and who carries it out.
import type { FleetSummary } from "../report/index.ts";
import type { Split } from "../roles.ts";

/** What the gateways are like. */
export interface Setting {
  /** Gateways in front of the fleet, ≥ 1. */
  readonly gateways: number;
  /** Time between two scrapes, ms. */
  readonly scrapeMs: number;
}

/** A run; whatever else it takes (fleet, first seed, SLOs) is the same over an experiment. */
export interface RunPoint extends Setting {
  readonly policy: string;
  /** Name of a workload that whoever runs it knows. */
  readonly workload: string;
  /** Multiple of the workload's own rate, > 0. */
  readonly rate: number;
  /** Roles of the replicas; absent: every replica does both. */
  readonly split?: Split;
  /** Replicas that a drawn workload's own rate is for; as many as there are when absent. */
  readonly drawnFor?: number;
  /** Added to the experiment's seed; 0 when absent. */
  readonly seedStep?: number;
  /** Replicas at the start and at the least of a fleet that is scaled up to `split`; absent: all, all the time. */
  readonly autoscaledFrom?: Split;
}

/** Carries out a run; bounds by itself how many go on at once. */
export type RunFleetAt = (point: RunPoint) => Promise<FleetSummary>;

/** Carries out each point once, however often it is asked for. A failure is remembered too. */
export function remembered(run: RunFleetAt): RunFleetAt {
  const known = new Map<string, Promise<FleetSummary>>();
  return (point) => {
    const { policy, workload, rate, gateways, scrapeMs, split, drawnFor, seedStep, autoscaledFrom } = point;
    const fleet = [split, drawnFor, autoscaledFrom];
    const key = JSON.stringify([policy, workload, rate, gateways, scrapeMs, seedStep ?? 0, ...fleet]);
    const summary = known.get(key) ?? run(point);
    known.set(key, summary);
    return summary;
  };
}
