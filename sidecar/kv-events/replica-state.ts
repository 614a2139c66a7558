// Whether the view of one engine's cache is the truth, and if not, why.

/** Why a view may differ from the engine's cache; the first that holds is told. */
export const DEGRADED_REASONS = [
  /** Nothing was heard of the engine yet. */
  "starting",
  /** The connection is down. */
  "unreachable",
  /** Events were missed and are being asked for. */
  "catching-up",
  /** Events were missed and cannot be had: blocks from before are not known. */
  "history-lost",
  /** A message could not be read, not even when asked for again. */
  "bad-event",
  /** A block came whose parent is not known. */
  "unknown-parent",
  /** A block came with one hash and two places in a chain. */
  "conflicting-block",
  /** Tokens came whose bytes are not known. */
  "unknown-token",
  /** The engine holds more blocks than are kept of one. */
  "too-many-blocks",
] as const;
export type DegradedReason = (typeof DEGRADED_REASONS)[number];

/** Reasons that stay until the cache is known to be empty. */
export type Fault = Exclude<DegradedReason, "starting" | "unreachable" | "catching-up">;

/** State of one engine's view. */
export class ReplicaState {
  private progress: "starting" | "unreachable" | "catching-up" | null = "starting";
  private readonly faults = new Set<Fault>();
  private told: DegradedReason | null = "starting";

  /** @param changed called after each change of `degraded` */
  constructor(private readonly changed: (degraded: DegradedReason | null) => void = () => undefined) {}

  /** null = EXACT. */
  get degraded(): DegradedReason | null {
    if (this.progress !== null) return this.progress;
    return DEGRADED_REASONS.find((reason) => this.faults.has(reason as Fault)) ?? null;
  }

  /** How far the connection is; null = all that was published is applied. */
  setProgress(progress: "unreachable" | "catching-up" | null): void {
    this.progress = progress;
    this.tell();
  }

  fault(fault: Fault): void {
    this.faults.add(fault);
    this.tell();
  }

  has(fault: Fault): boolean {
    return this.faults.has(fault);
  }

  /** The engine's cache is empty, and so is the view: nothing is wrong with it any more. */
  emptied(): void {
    this.faults.clear();
    this.tell();
  }

  /** "EXACT" or "DEGRADED(reason)". */
  toString(): string {
    const { degraded } = this;
    return degraded === null ? "EXACT" : `DEGRADED(${degraded})`;
  }

  private tell(): void {
    const { degraded } = this;
    if (degraded === this.told) return;
    this.told = degraded;
    this.changed(degraded);
  }
}
