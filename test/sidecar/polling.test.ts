// Pace, ticks and polls on a clock that stands until it is told.
import { describe, expect, it } from "vitest";
import { ConnectionError, type SidecarError, UnknownPageError } from "../../sidecar/errors.ts";
import {
  BACKOFF_MAX_MS,
  IDLE_INTERVAL_MS,
  nextIntervalMs,
  QUEUED_INTERVAL_MS,
  RUNNING_INTERVAL_MS,
} from "../../sidecar/scrape/pace.ts";
import type { PageSink, PageTransport } from "../../sidecar/scrape/page-client.ts";
import { addCounts, emptyCounts, Poller, type PollOwner } from "../../sidecar/scrape/poller.ts";
import { Ticker, type TickerClock } from "../../sidecar/scrape/ticker.ts";

/** A clock for tests: timers run in order when time is moved on. */
class FakeClock implements TickerClock {
  time = 1_000;
  private timers: { run: () => void; at: number }[] = [];

  now(): number {
    return this.time;
  }

  setTimer(run: () => void, delayMs: number): unknown {
    const timer = { run, at: this.time + delayMs };
    this.timers.push(timer);
    return timer;
  }

  clearTimer(timer: unknown): void {
    this.timers = this.timers.filter((other) => other !== timer);
  }

  get pending(): number {
    return this.timers.length;
  }

  advance(ms: number): void {
    const until = this.time + ms;
    for (;;) {
      const next = this.timers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.clearTimer(next);
      this.time = Math.max(this.time, next.at);
      next.run();
    }
    this.time = until;
  }
}

const MIDDLE = 0.5;

describe("the pace", () => {
  const pace = (
    input: Partial<Parameters<typeof nextIntervalMs>[1]>,
    interval: number | null = null,
  ): number =>
    nextIntervalMs(interval, { failures: 0, waiting: 0, running: 0, changed: true, ...input }, MIDDLE);

  it("is quickest with a queue, slower while requests run, slowest when idle", () => {
    expect(pace({ waiting: 1, running: 5 })).toBe(QUEUED_INTERVAL_MS);
    expect(pace({ running: 1 })).toBe(RUNNING_INTERVAL_MS);
    expect(pace({})).toBe(IDLE_INTERVAL_MS);
  });

  it("is a step calmer while a busy page stands still", () => {
    expect(pace({ waiting: 1, changed: false })).toBe(RUNNING_INTERVAL_MS);
    expect(pace({ running: 1, changed: false })).toBe(IDLE_INTERVAL_MS);
  });

  it("is what was configured, when it was", () => {
    expect(pace({ waiting: 1 }, 50)).toBe(50);
    expect(pace({}, 5_000)).toBe(5_000);
  });

  it("backs off from failing servers up to a limit, whatever the interval", () => {
    expect([1, 2, 3, 4, 5, 6, 100].map((failures) => pace({ failures }, 5_000))).toEqual([
      100,
      200,
      400,
      800,
      1_600,
      BACKOFF_MAX_MS,
      BACKOFF_MAX_MS,
    ]);
  });

  it("is spread by a tenth to both sides", () => {
    const input = { failures: 0, waiting: 0, running: 0, changed: true };
    expect(nextIntervalMs(100, input, 0)).toBeCloseTo(90);
    expect(nextIntervalMs(100, input, 0.999999)).toBeCloseTo(110);
  });
});

describe("the ticker", () => {
  it("runs what is due within the same tick together, and sleeps otherwise", () => {
    const clock = new FakeClock();
    const ticker = new Ticker(clock);
    const ran: [string, number][] = [];
    const item = (name: string, dueAtMs: number): { dueAtMs: number; tick(nowMs: number): void } => ({
      dueAtMs,
      tick(nowMs: number): void {
        ran.push([name, nowMs]);
        this.dueAtMs = Number.POSITIVE_INFINITY;
      },
    });
    for (const [name, at] of [
      ["a", 1_011],
      ["b", 1_019],
      ["c", 1_021],
    ] as const)
      ticker.add(item(name, at));
    clock.advance(100);
    expect(ran).toEqual([
      ["a", 1_020],
      ["b", 1_020],
      ["c", 1_030],
    ]);
    expect(clock.pending).toBe(0);
  });

  it("takes on items, new times and removals from inside a tick", () => {
    const clock = new FakeClock();
    const ticker = new Ticker(clock);
    const ran: string[] = [];
    const never = Number.POSITIVE_INFINITY;
    const early = {
      dueAtMs: never,
      tick: () => {
        ran.push("early");
        early.dueAtMs = never;
      },
    };
    const gone = { dueAtMs: 2_000, tick: () => void ran.push("gone") };
    const late = {
      dueAtMs: 1_010,
      tick: () => {
        ran.push("late");
        late.dueAtMs = never;
        early.dueAtMs = 1_050;
        ticker.schedule(early);
        ticker.remove(gone);
      },
    };
    for (const item of [early, late, gone]) ticker.add(item);
    clock.advance(5_000);
    expect(ran).toEqual(["late", "early"]);
    ticker.remove(early);
    ticker.remove(late);
    expect(clock.pending).toBe(0);
  });
});

/** A transport that answers when it is told to. */
class FakeTransport implements PageTransport {
  busy = false;
  fetches = 0;
  closed = false;

  constructor(readonly sink: PageSink) {}

  fetch(): void {
    this.busy = true;
    this.fetches += 1;
  }

  answer(status: number, body: string): void {
    this.busy = false;
    this.sink.onPage(status, Buffer.from(body));
  }

  abort(error: SidecarError): void {
    this.busy = false;
    this.sink.onFailure(error);
  }

  close(): void {
    this.busy = false;
    this.closed = true;
  }
}

function poll(intervalMs: (failures: number) => number = () => 100): {
  clock: FakeClock;
  poller: Poller;
  transport: () => FakeTransport;
  events: string[];
} {
  const clock = new FakeClock();
  const events: string[] = [];
  let transport: FakeTransport;
  const make = (sink: PageSink): PageTransport => {
    transport = new FakeTransport(sink);
    return transport;
  };
  const owner: PollOwner = {
    onPage: (page) => {
      if (page.toString() === "unknown") throw new UnknownPageError("it", "unknown");
      if (page.toString() === "bug") throw new TypeError("bug");
      events.push(`page ${page.toString()}`);
    },
    onFailure: (error, failures) => events.push(`${(error as SidecarError).code ?? error.name} ${failures}`),
    intervalMs,
  };
  const poller = new Poller(new Ticker(clock), "it", 500, owner, make, 0);
  return { clock, poller, transport: () => transport, events };
}

describe("a poller", () => {
  it("polls at its interval, start to start, whatever an answer takes", () => {
    const { clock, transport, events, poller } = poll();
    clock.advance(10);
    expect(transport().fetches).toBe(1);
    clock.advance(60);
    transport().answer(200, "1");
    clock.advance(40);
    expect(transport().fetches).toBe(2);
    clock.advance(250);
    transport().answer(200, "2");
    clock.advance(10);
    expect(transport().fetches).toBe(3);
    expect(events).toEqual(["page 1", "page 2"]);
    expect(poller.counts).toMatchObject({ succeeded: 2, failed: 0 });
  });

  it("gives an answer up at the timeout and asks again by its owner's back-off", () => {
    const { clock, transport, events, poller } = poll((failures) =>
      failures === 0 ? 100 : 1_000 * failures,
    );
    clock.advance(499);
    expect(events).toEqual([]);
    clock.advance(20);
    expect(events).toEqual(["timeout 1"]);
    clock.advance(400);
    expect(transport().fetches).toBe(1);
    clock.advance(200);
    expect(transport().fetches).toBe(2);
    transport().abort(new ConnectionError("it", new Error("gone")));
    expect(poller.failures).toBe(2);
    clock.advance(2_100);
    transport().answer(200, "back");
    expect(poller.failures).toBe(0);
    expect(events).toEqual(["timeout 1", "connection-failed 2", "page back"]);
    expect([...poller.counts.byCode]).toEqual([
      ["timeout", 1],
      ["connection-failed", 1],
    ]);
  });

  it("counts a bad status, a page its owner refuses, and a fault in its owner as failures", () => {
    const { clock, transport, events, poller } = poll(() => 10);
    for (const [status, body] of [
      [404, "x"],
      [200, "unknown"],
      [200, "bug"],
    ] as const) {
      clock.advance(20);
      transport().answer(status, body);
    }
    expect(events).toEqual(["status-unexpected 1", "page-unknown 2", "TypeError 3"]);
    expect([...poller.counts.byCode.keys()]).toEqual(["status-unexpected", "page-unknown", "internal"]);
  });

  it("polls at once when asked to, unless it is at it", () => {
    const { clock, transport, poller } = poll(() => 10_000);
    clock.advance(10);
    poller.pollNow();
    expect(transport().fetches).toBe(1);
    transport().answer(200, "1");
    poller.pollNow();
    clock.advance(10);
    expect(transport().fetches).toBe(2);
  });

  it("goes on with another transport, and with none once it is stopped", () => {
    const { clock, transport, poller, events } = poll();
    clock.advance(10);
    const first = transport();
    poller.replaceTransport((sink) => new FakeTransport(sink));
    expect(first.closed).toBe(true);
    poller.stop();
    clock.advance(10_000);
    first.answer(200, "late");
    expect(events).toEqual([]);
    expect(clock.pending).toBe(0);
  });

  it("adds up counts", () => {
    const total = emptyCounts();
    addCounts(total, { succeeded: 2, failed: 1, durationMs: 5, byCode: new Map([["timeout", 1]]) });
    addCounts(total, { succeeded: 1, failed: 1, durationMs: 5, byCode: new Map([["timeout", 1]]) });
    expect(total).toEqual({ succeeded: 3, failed: 2, durationMs: 10, byCode: new Map([["timeout", 2]]) });
  });
});
