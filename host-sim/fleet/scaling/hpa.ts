// How many replicas a HorizontalPodAutoscaler wants: Kubernetes' rule, without Kubernetes.

/** A figure and what it should be. */
export interface Figure {
  /** NaN: not known, and left out. */
  readonly value: number;
  /** > 0. */
  readonly target: number;
  /** "Value": a mean, replicas × value ÷ target are wanted. "AverageValue": a sum, value ÷ target are. */
  readonly type: "Value" | "AverageValue";
}

/** How fast the number may change, as in `spec.behavior` of autoscaling/v2. */
export interface ScalingBehavior {
  /** The least that was wanted in this time counts for more, the most for fewer replicas; ms. */
  readonly upStabilizationMs: number;
  readonly downStabilizationMs: number;
  /** Within a period at most so many percent more, and so many replicas fewer. */
  readonly upPercent: number;
  readonly upPeriodMs: number;
  readonly downPods: number;
  readonly downPeriodMs: number;
}

/** Of envoy/scaling/hpa. */
export const SHIPPED_BEHAVIOR: ScalingBehavior = {
  upStabilizationMs: 0,
  downStabilizationMs: 300_000,
  upPercent: 100,
  upPeriodMs: 60_000,
  downPods: 1,
  downPeriodMs: 120_000,
};

/** Time between two decisions, ms (kube-controller-manager --horizontal-pod-autoscaler-sync-period). */
export const SYNC_PERIOD_MS = 15_000;
/** A figure this close to its target, as a share of it, changes nothing (--horizontal-pod-autoscaler-tolerance). */
export const TOLERANCE = 0.1;

interface Stamped {
  readonly atMs: number;
  readonly replicas: number;
}

/**
 * One autoscaler. Source: Kubernetes, "Horizontal Pod Autoscaling" (algorithm details, configurable scaling behavior)
 * and pkg/controller/podautoscaler (replica_calculator.go, horizontal.go) of release 1.33.
 */
export class HorizontalAutoscaler {
  /** What was wanted lately, oldest first; as long as the longer stabilization window. */
  private wanted: Stamped[] = [];
  /** How many replicas came (> 0) or went (< 0) lately. */
  private changes: Stamped[] = [];

  /** @param min replicas at least, ≥ 1 @param max at most, ≥ min */
  constructor(
    private readonly min: number,
    private readonly max: number,
    private readonly behavior: ScalingBehavior = SHIPPED_BEHAVIOR,
  ) {}

  /**
   * The number of replicas from now on.
   * @param current replicas asked for at present @param ready of those, the ones that serve
   */
  decide(current: number, ready: number, figures: readonly Figure[], nowMs: number): number {
    const known = figures.filter(({ value }) => !Number.isNaN(value));
    const wants = known.map((figure) => wantedBy(figure, current, ready));
    const wanted = this.clamped(wants.length === 0 ? current : Math.max(...wants));
    this.wanted.push({ atMs: nowMs, replicas: wanted });
    const replicas = this.clamped(this.limited(current, this.stabilized(current, nowMs), nowMs));
    if (replicas !== current) this.changes.push({ atMs: nowMs, replicas: replicas - current });
    this.forget(nowMs);
    return replicas;
  }

  private clamped(replicas: number): number {
    return Math.min(this.max, Math.max(this.min, replicas));
  }

  private stabilized(current: number, nowMs: number): number {
    const { upStabilizationMs, downStabilizationMs } = this.behavior;
    const within = (windowMs: number): number[] =>
      this.wanted.filter(({ atMs }) => atMs >= nowMs - windowMs).map(({ replicas }) => replicas);
    const up = Math.min(...within(upStabilizationMs));
    const down = Math.max(...within(downStabilizationMs));
    return Math.max(Math.min(current, down), up);
  }

  private limited(current: number, replicas: number, nowMs: number): number {
    const { upPercent, upPeriodMs, downPods, downPeriodMs } = this.behavior;
    const came = this.changed(nowMs - upPeriodMs, 1);
    const went = this.changed(nowMs - downPeriodMs, -1);
    const most = Math.max(current, Math.ceil((current - came) * (1 + upPercent / 100)));
    const least = Math.min(current, current + went - downPods);
    return Math.min(most, Math.max(least, replicas));
  }

  private changed(sinceMs: number, sign: number): number {
    return this.changes
      .filter(({ atMs, replicas }) => atMs > sinceMs && replicas * sign > 0)
      .reduce((sum, { replicas }) => sum + replicas * sign, 0);
  }

  private forget(nowMs: number): void {
    const { upStabilizationMs, downStabilizationMs, upPeriodMs, downPeriodMs } = this.behavior;
    const windowMs = Math.max(upStabilizationMs, downStabilizationMs);
    this.wanted = this.wanted.filter(({ atMs }) => atMs >= nowMs - windowMs);
    this.changes = this.changes.filter(({ atMs }) => atMs > nowMs - Math.max(upPeriodMs, downPeriodMs));
  }
}

function wantedBy({ value, target, type }: Figure, current: number, ready: number): number {
  const ratio = type === "Value" ? value / target : value / (target * current);
  if (Math.abs(ratio - 1) <= TOLERANCE) return current;
  return Math.ceil(type === "Value" ? ratio * ready : value / target);
}
