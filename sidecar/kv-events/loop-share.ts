// Shares the event loop among all engines that are followed, so that scrapes, timers and answers are never long in coming.

/** Work of all followers in one turn of the event loop, ms; the piece at hand is finished beyond it. */
const TURN_MS = 5;

/** The clock and the next turn, to be replaced in tests. */
export interface LoopClock {
  now(): number;
  nextTurn(run: () => void): void;
}

const PROCESS_CLOCK: LoopClock = { now: () => performance.now(), nextTurn: (run) => void setImmediate(run) };

/**
 * Whoever has much to do asks before each piece. Once a turn is used up, those who ask wait in a line, and each turn of
 * the loop lets one of them on.
 */
export class LoopShare {
  private turnEndsAtMs = Number.NEGATIVE_INFINITY;
  private isPlanned = false;
  private readonly waiting: (() => void)[] = [];

  constructor(private readonly clock = PROCESS_CLOCK) {}

  /** When the next piece may be done; null = now. */
  rest(): Promise<void> | null {
    if (this.clock.now() < this.turnEndsAtMs) return null;
    return new Promise((resolve) => {
      this.waiting.push(resolve);
      this.plan();
    });
  }

  private plan(): void {
    if (this.isPlanned) return;
    this.isPlanned = true;
    this.clock.nextTurn(() => {
      this.isPlanned = false;
      this.turnEndsAtMs = this.clock.now() + TURN_MS;
      this.waiting.shift()?.();
      if (this.waiting.length > 0) this.plan();
    });
  }
}

/** The one of this process. */
export const PROCESS_LOOP = new LoopShare();
