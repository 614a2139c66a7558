// Wakes many pollers from one timer: all that are due within the same tick run together.
//
// One timer a poller would wake the process up to thousands of times a second; sharing ticks lets answers of
// many servers be read in one turn of the event loop.

/** Wake-ups are rounded up to this, so a poller runs at most this much late. */
const TICK_MS = 10;

/** Something with a next time to run. */
export interface Ticking {
  /** Monotonic time of the next `tick`, ms; Infinity = not before it is set again (then call `schedule`). */
  dueAtMs: number;
  /** Runs at or after `dueAtMs` and must set it anew. Must not throw. */
  tick(nowMs: number): void;
}

/** The clock and the timer, to be replaced in tests. */
export interface TickerClock {
  now(): number;
  setTimer(run: () => void, delayMs: number): unknown;
  clearTimer(timer: unknown): void;
}

/** The process's monotonic clock. */
export const SYSTEM_CLOCK: TickerClock = {
  now: () => performance.now(),
  setTimer: (run, delayMs) => setTimeout(run, delayMs),
  clearTimer: (timer) => clearTimeout(timer as NodeJS.Timeout),
};

/** Runs each item once its time has come. */
export class Ticker {
  private readonly items = new Set<Ticking>();
  private timer: unknown = null;
  private wakeAtMs = Number.POSITIVE_INFINITY;
  private ticking = false;
  private nextDuringTick = Number.POSITIVE_INFINITY;

  constructor(private readonly clock: TickerClock = SYSTEM_CLOCK) {}

  now(): number {
    return this.clock.now();
  }

  add(item: Ticking): void {
    this.items.add(item);
    this.schedule(item);
  }

  remove(item: Ticking): void {
    this.items.delete(item);
    if (this.items.size === 0) this.disarm();
  }

  /** To be called after an item's `dueAtMs` came nearer. */
  schedule(item: Ticking): void {
    if (!this.items.has(item)) return;
    if (this.ticking) this.nextDuringTick = Math.min(this.nextDuringTick, item.dueAtMs);
    else if (item.dueAtMs < this.wakeAtMs) this.arm(item.dueAtMs);
  }

  private run(): void {
    this.timer = null;
    this.wakeAtMs = Number.POSITIVE_INFINITY;
    this.ticking = true;
    const nowMs = this.clock.now();
    this.nextDuringTick = Number.POSITIVE_INFINITY;
    let next = Number.POSITIVE_INFINITY;
    for (const item of this.items) {
      if (item.dueAtMs <= nowMs) item.tick(nowMs);
      if (item.dueAtMs < next) next = item.dueAtMs;
    }
    this.ticking = false;
    next = Math.min(next, this.nextDuringTick);
    if (this.items.size > 0 && next !== Number.POSITIVE_INFINITY) this.arm(next);
  }

  private arm(dueAtMs: number): void {
    this.disarm();
    this.wakeAtMs = Math.ceil(dueAtMs / TICK_MS) * TICK_MS;
    this.timer = this.clock.setTimer(() => this.run(), Math.max(0, this.wakeAtMs - this.clock.now()));
  }

  private disarm(): void {
    if (this.timer !== null) this.clock.clearTimer(this.timer);
    this.timer = null;
    this.wakeAtMs = Number.POSITIVE_INFINITY;
  }
}
