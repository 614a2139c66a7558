// Polls one page over and over: pace, deadline, failures. What the page means is the owner's business.
import { codeOf, StatusError, TimeoutError } from "../errors.ts";
import type { PageSink, PageTransport } from "./page-client.ts";
import type { Ticker, Ticking } from "./ticker.ts";

/** The owner of a poller. */
export interface PollOwner {
  /**
   * A page with status 200; `page` may only be used during the call. Throws a SidecarError if it is no good.
   */
  onPage(page: Buffer, nowMs: number): void;
  /** The poll failed for the `failures`-th time in a row. */
  onFailure(error: Error, failures: number, nowMs: number): void;
  /** Time from this poll to the next, start to start, ms. */
  intervalMs(failures: number): number;
}

/** Poll counts since start, for metrics. */
export interface PollCounts {
  succeeded: number;
  failed: number;
  /** Time from request to whole page, summed over successes, ms. */
  durationMs: number;
  /** Failures by error code. */
  readonly byCode: Map<string, number>;
}

/** Counts of nothing. */
export function emptyCounts(): PollCounts {
  return { succeeded: 0, failed: 0, durationMs: 0, byCode: new Map() };
}

/** Adds `counts` to `total`. */
export function addCounts(total: PollCounts, counts: PollCounts): void {
  total.succeeded += counts.succeeded;
  total.failed += counts.failed;
  total.durationMs += counts.durationMs;
  for (const [code, count] of counts.byCode) total.byCode.set(code, (total.byCode.get(code) ?? 0) + count);
}

/** One page's poller. */
export class Poller implements Ticking, PageSink {
  dueAtMs: number;
  failures = 0;
  readonly counts: PollCounts = emptyCounts();
  private transport: PageTransport;
  private startedAtMs = 0;
  private plannedAtMs = 0;
  private stopped = false;

  /**
   * @param label host, port and path for messages
   * @param firstDelayMs pause before the first poll
   */
  constructor(
    private readonly ticker: Ticker,
    private readonly label: string,
    private readonly timeoutMs: number,
    private readonly owner: PollOwner,
    makeTransport: (sink: PageSink) => PageTransport,
    firstDelayMs: number,
  ) {
    this.transport = makeTransport(this);
    this.dueAtMs = ticker.now() + firstDelayMs;
    ticker.add(this);
  }

  /** Polls as soon as possible, unless a poll is under way. */
  pollNow(): void {
    if (this.transport.busy || this.stopped) return;
    this.dueAtMs = Math.min(this.dueAtMs, this.ticker.now());
    this.ticker.schedule(this);
  }

  /** Goes on with another transport (the token or CA changed); a poll under way is given up and repeated. */
  replaceTransport(makeTransport: (sink: PageSink) => PageTransport): void {
    this.transport.close();
    this.transport = makeTransport(this);
    this.pollNow();
  }

  stop(): void {
    this.stopped = true;
    this.ticker.remove(this);
    this.transport.close();
  }

  tick(nowMs: number): void {
    if (this.transport.busy) {
      this.transport.abort(new TimeoutError(this.label, this.timeoutMs));
      return;
    }
    this.startedAtMs = nowMs;
    this.plannedAtMs = this.dueAtMs;
    this.dueAtMs = nowMs + this.timeoutMs;
    this.transport.fetch();
  }

  onPage(status: number, body: Buffer): void {
    if (this.stopped) return;
    const nowMs = this.ticker.now();
    try {
      if (status !== 200) throw new StatusError(this.label, status);
      this.owner.onPage(body, nowMs);
    } catch (error) {
      this.onFailure(error as Error);
      return;
    }
    this.failures = 0;
    this.counts.succeeded += 1;
    this.counts.durationMs += nowMs - this.startedAtMs;
    this.plan(nowMs);
  }

  onFailure(error: Error): void {
    if (this.stopped) return;
    const nowMs = this.ticker.now();
    this.failures += 1;
    this.counts.failed += 1;
    const code = codeOf(error);
    this.counts.byCode.set(code, (this.counts.byCode.get(code) ?? 0) + 1);
    this.owner.onFailure(error, this.failures, nowMs);
    this.plan(nowMs);
  }

  /**
   * Counts from when the poll was due, not from when the tick came, so that ticks do not stretch the
   * interval.
   */
  private plan(nowMs: number): void {
    this.dueAtMs = Math.max(nowMs, this.plannedAtMs + this.owner.intervalMs(this.failures));
    this.ticker.schedule(this);
  }
}
