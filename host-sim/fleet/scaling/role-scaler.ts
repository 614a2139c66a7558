// Sizes the prefill and the decode replicas of a run apart, each by its own figures.
import type { Engine } from "../../model-server/engine.ts";
import { stepDurationMs } from "../../model-server/rates.ts";
import { Backlog } from "../policies/oracle.ts";
import type { FleetEvent, ReplicaRole, ReplicaSpec, Scaler, ScalerView } from "../types.ts";
import {
  type Figure,
  HorizontalAutoscaler,
  type ScalingBehavior,
  SHIPPED_BEHAVIOR,
  SYNC_PERIOD_MS,
} from "./hpa.ts";

/** Thresholds of llm-d's saturation: sidecar/role-load.ts has the same. */
const QUEUE_DEPTH_THRESHOLD = 5;
const KV_CACHE_UTIL_THRESHOLD = 0.8;

/** What the figures should be, as in envoy/scaling/hpa. */
export interface ScalingTargets {
  /** epp_scaling_uncached_tokens{role="prefill"}, of one replica. */
  readonly uncachedTokens: number;
  /** epp_scaling_saturation{role="decode"}. */
  readonly saturation: number;
  /** epp_scaling_tpot_slo_ratio{role="decode"}. */
  readonly tpotRatio: number;
}

export const SHIPPED_TARGETS: ScalingTargets = { uncachedTokens: 10_000, saturation: 0.7, tpotRatio: 0.8 };
/** Figures are means over this long, as the queries of envoy/scaling have them. */
export const SHIPPED_WINDOW_MS = 120_000;

/** How a fleet is scaled. */
export interface RoleScaling {
  /** Replicas at the start, and the least there are; ≥ 1 each. */
  readonly prefillMin: number;
  readonly decodeMin: number;
  /** From the decision to the first request that a new replica takes: its model is loaded meanwhile; ms. */
  readonly startupMs: number;
  /** Wished time between tokens, ms. */
  readonly tpotMs: number;
  readonly targets?: ScalingTargets;
  readonly behavior?: ScalingBehavior;
  /** How long a mean of the figures looks back, ms; 0 = the figures are of the moment. */
  readonly windowMs?: number;
}

/** Figures of one moment. */
interface Sample {
  readonly atMs: number;
  readonly figures: readonly Figure[];
}

interface Group {
  readonly role: ReplicaRole;
  readonly replicas: readonly number[];
  readonly min: number;
  readonly autoscaler: HorizontalAutoscaler;
  /** Replicas that are asked for, in the order in which they came. */
  readonly up: number[];
  /** Figures of the window, oldest first. */
  samples: readonly Sample[];
}

/**
 * Two HorizontalPodAutoscalers over the replicas of a run, which are as many as there may ever be. A replica that
 * comes takes its GPUs at once and requests `startupMs` later; of those that go the youngest that serves goes first,
 * and ends what it has.
 */
export class RoleScaler implements Scaler {
  readonly everyMs = SYNC_PERIOD_MS;
  private readonly groups: readonly Group[];
  private readonly backlog = new Backlog();

  /** @param specs of roles "prefill" and "decode", at least as many of each as the least */
  constructor(
    specs: readonly ReplicaSpec[],
    private readonly scaling: RoleScaling,
  ) {
    const { prefillMin, decodeMin, behavior = SHIPPED_BEHAVIOR } = scaling;
    const group = (role: ReplicaRole, min: number): Group => {
      const replicas = specs.flatMap((spec, index) => (spec.role === role ? [index] : []));
      const autoscaler = new HorizontalAutoscaler(min, replicas.length, behavior);
      return { role, replicas, min, autoscaler, up: replicas.slice(0, min), samples: [] };
    };
    this.groups = [group("prefill", prefillMin), group("decode", decodeMin)];
  }

  absent(replica: number): boolean {
    return !this.groups.some(({ up }) => up.includes(replica));
  }

  decide(view: ScalerView, nowMs: number): FleetEvent[] {
    const events = this.groups.flatMap((group) => this.resize(group, view, nowMs));
    return events.sort((a, b) => a.atMs - b.atMs);
  }

  private resize(group: Group, view: ScalerView, nowMs: number): FleetEvent[] {
    const { up, replicas, autoscaler } = group;
    const ready = up.filter((replica) => view.scrapes[replica]!.ready);
    const figures = this.meanOf(group, this.figures(group, ready, view), nowMs);
    const wanted = autoscaler.decide(up.length, ready.length, figures, nowMs);
    const atMs = nowMs + this.scaling.startupMs;
    const events: FleetEvent[] = [];
    for (const replica of replicas) {
      if (up.length >= wanted) break;
      // One that still ends its answers is not free.
      if (up.includes(replica) || view.truth(replica) !== undefined) continue;
      up.push(replica);
      events.push({ kind: "join", replica, atMs, takenMs: nowMs });
    }
    for (let surplus = up.length - wanted; surplus > 0 && ready.length > 1; surplus--) {
      const replica = ready.pop()!;
      up.splice(up.indexOf(replica), 1);
      events.push({ kind: "drain", replica, atMs: nowMs });
    }
    return events;
  }

  private meanOf(group: Group, figures: readonly Figure[], nowMs: number): Figure[] {
    const { windowMs = SHIPPED_WINDOW_MS } = this.scaling;
    const kept = group.samples.filter(({ atMs }) => atMs > nowMs - windowMs);
    group.samples = [...kept, { atMs: nowMs, figures }];
    return figures.map((figure, i) => {
      const values = group.samples.map((sample) => sample.figures[i]!.value);
      const known = values.filter((value) => !Number.isNaN(value));
      return { ...figure, value: sum(known) / known.length };
    });
  }

  // NaN where no replica of the role is ready.
  private figures({ role }: Group, ready: readonly number[], view: ScalerView): Figure[] {
    const { targets = SHIPPED_TARGETS } = this.scaling;
    const engines = ready.map((replica) => view.truth(replica)!);
    const mean = (values: readonly number[]): number => sum(values) / values.length;
    if (role === "prefill") {
      const tokens =
        ready.length === 0 ? Number.NaN : sum(engines.map((engine) => this.backlog.tokens(engine)));
      return [{ type: "AverageValue", value: tokens, target: targets.uncachedTokens }];
    }
    const saturations = ready.map((replica) => {
      const { waiting, kvUsage } = view.scrapes[replica]!;
      return Math.max(waiting / QUEUE_DEPTH_THRESHOLD, kvUsage / KV_CACHE_UTIL_THRESHOLD);
    });
    const ratios = engines.map((engine) => this.tpotMs(engine) / this.scaling.tpotMs);
    return [
      { type: "Value", value: mean(saturations), target: targets.saturation },
      { type: "Value", value: mean(ratios), target: targets.tpotRatio },
    ];
  }

  // What the filter would have learnt: a step with the answers that are being generated.
  private tpotMs(engine: Engine): number {
    let contextTokens = 0;
    const running = engine.requests("running");
    for (const request of running) contextTokens += request.computedTokens;
    const { rates } = engine.config;
    return stepDurationMs(rates, { prefillTokens: 0, decodeSequences: running.length, contextTokens });
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
