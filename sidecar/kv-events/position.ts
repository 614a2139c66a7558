// Where a subscription stands in an engine's sequence of batches, and what the next message means.

/** A batch that was applied: its number and its time by the engine's clock. */
export interface Anchor {
  readonly sequence: number;
  readonly timeSeconds: number;
}

/**
 * "next": apply it. "duplicate": it was applied. "gap": some before it are missing. "restart": it is of another engine
 * process, whose numbers begin at 0 again.
 */
export type Verdict = "next" | "duplicate" | "gap" | "restart";

/** Position in one engine's stream. Numbers alone do not tell a repetition from a restart, so times are compared. */
export class StreamPosition {
  /** Number of the batch that is to come. */
  next = 0;
  /** The last batch that was applied and could be read; null = none since the engine started. */
  anchor: Anchor | null = null;
  private firstSeconds: number | null = null;

  /** What a batch means that comes now. */
  judge({ sequence, timeSeconds }: Anchor): Verdict {
    if (sequence === this.next) return "next";
    if (sequence > this.next) return "gap";
    if (this.anchor === null || timeSeconds > this.anchor.timeSeconds) return "restart";
    const isOtherFirst = sequence === 0 && this.firstSeconds !== null && timeSeconds !== this.firstSeconds;
    return isOtherFirst ? "restart" : "duplicate";
  }

  /** A batch was applied. @param timeSeconds null = it could not be read and was passed over */
  accept(sequence: number, timeSeconds: number | null): void {
    this.next = sequence + 1;
    if (timeSeconds === null) return;
    this.anchor = { sequence, timeSeconds };
    if (sequence === 0) this.firstSeconds = timeSeconds;
  }

  /** What comes next is number `next` of an engine of which nothing is known. */
  reset(next = 0): void {
    this.next = next;
    this.anchor = null;
    this.firstSeconds = null;
  }
}
