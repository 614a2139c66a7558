// Lets simulated engines run on a real clock: one timer per engine, armed for its next event.
import type { Engine } from "./engine.ts";

/** Milliseconds on a clock that never goes back. */
export type Clock = () => number;

/** The process's monotonic clock. */
export const monotonicMs: Clock = () => performance.now();

/**
 * Advances an engine as time passes. Steps follow each other in simulated time, so that a late timer delays
 * what is told, never what happens next.
 */
export class EngineDriver {
  private readonly engine: Engine;
  private readonly clock: Clock;
  private timer: NodeJS.Timeout | undefined;
  private armedForMs = Number.POSITIVE_INFINITY;

  constructor(engine: Engine, clock: Clock) {
    this.engine = engine;
    this.clock = clock;
  }

  /** Arms the timer for the engine's next event; to be called after every submit and abort. */
  arm(): void {
    const nextMs = this.engine.nextEventMs();
    if (nextMs === this.armedForMs) return;
    this.stop();
    if (nextMs === Number.POSITIVE_INFINITY) return;
    this.armedForMs = nextMs;
    this.timer = setTimeout(() => this.fire(), Math.max(0, Math.ceil(nextMs - this.clock())));
  }

  /** Stops the clock for this engine. */
  stop(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.armedForMs = Number.POSITIVE_INFINITY;
  }

  private fire(): void {
    this.armedForMs = Number.POSITIVE_INFINITY;
    this.engine.advance(this.clock());
    this.arm();
  }
}
