// The order of one engine's batches: gaps, repetitions, restarts, and what replays can and cannot bring back.
import { describe, expect, it } from "vitest";
import { encodeBatch } from "../../host-sim/model-server/kv-events/encode.ts";
import { type AskReplay, type Cause, EventHistory } from "../../sidecar/kv-events/history.ts";
import type { ReplayEnd } from "../../sidecar/kv-events/replay.ts";
import { heldInView, makeView, SILENT, type View } from "./kv-events-support.ts";

/** An engine that stores a block of one token in each batch: number n stores a block with the hash 1 + n. */
class FakeEngine {
  /** What a replay answers with. */
  kept: { sequence: number; payload: Uint8Array }[] = [];
  asked: number[] = [];
  /** Ends of replays, first come first served; "end" after that. */
  ends: ReplayEnd[] = [];

  constructor(private readonly startSeconds = 1_000) {}

  /** Publishes batches up to number `last`. */
  publish(last: number): this {
    for (let sequence = this.kept.length; sequence <= last; sequence++) {
      this.kept.push({ sequence, payload: this.payload(sequence) });
    }
    return this;
  }

  payload(sequence: number): Uint8Array {
    const event = {
      type: "BlockStored",
      hashes: [1 + sequence],
      parent: null,
      tokens: [65],
      blockSize: 1,
      lora: null,
      cacheSalt: null,
    } as const;
    return encodeBatch([event], this.startSeconds + sequence, 0, { encoding: "map", hashes: "uint64" });
  }

  readonly ask: AskReplay = async (start, take) => {
    this.asked.push(start);
    for (const message of this.kept) {
      if (message.sequence >= start && (await take(message)) === "stop") return "stopped";
    }
    return this.ends.shift() ?? "end";
  };
}

interface Subject extends View {
  readonly history: EventHistory;
  live(engine: FakeEngine, ...sequences: number[]): Promise<void>;
  /** @returns whether it is asked for */
  garbage(sequence: number | null): Promise<boolean>;
  recover(engine: FakeEngine | null, cause: Cause): Promise<void>;
  /** State and number of blocks. */
  readonly outcome: string;
}

function subject(isReplayed = true): Subject {
  const view = makeView();
  view.state.setProgress(null);
  const signal = new AbortController().signal;
  const history = new EventHistory({ ...view, log: SILENT, publisher: "tcp://test", learn: null, signal });
  return {
    ...view,
    history,
    live: async (engine, ...sequences) => {
      for (const sequence of sequences) {
        const found = await history.takeLive(sequence, engine.payload(sequence), isReplayed);
        if (typeof found === "object")
          await history.recover(isReplayed ? engine.ask : null, "missing", found);
      }
    },
    garbage: async (sequence) =>
      (await history.takeLive(sequence, Buffer.from("garbage"), isReplayed)) === "missing",
    recover: async (engine, cause) => void (await history.recover(engine?.ask ?? null, cause)),
    get outcome(): string {
      return `${view.state} ${heldInView(view.blocks).length}`;
    },
  };
}

describe("a history with replays", () => {
  it("starts with all that the engine has", async () => {
    const engine = new FakeEngine().publish(4);
    const it = subject();
    await it.recover(engine, "connected");
    await it.live(engine.publish(5), 5);
    expect([it.outcome, engine.asked, it.history.counts.replayedBatches]).toEqual(["EXACT 6", [0], 5]);
  });

  it("is exact and empty over an engine that has published nothing", async () => {
    const it = subject();
    it.state.fault("history-lost");
    await it.recover(new FakeEngine(), "connected");
    expect(it.outcome).toBe("EXACT 0");
  });

  it("is lost where the engine's memory does not reach back to its start", async () => {
    const engine = new FakeEngine().publish(9);
    engine.kept.splice(0, 4);
    const it = subject();
    await it.recover(engine, "connected");
    expect([it.outcome, it.history.counts.historiesLost]).toEqual(["DEGRADED(history-lost) 6", 1]);
  });

  it("fills a gap from the last batch that it knows", async () => {
    const engine = new FakeEngine().publish(1);
    const it = subject();
    await it.recover(engine, "connected");
    await it.live(engine.publish(6), 6);
    expect([it.outcome, engine.asked, it.history.counts.gaps]).toEqual(["EXACT 7", [0, 1], 1]);
  });

  it("drops what was applied, however late it comes", async () => {
    const engine = new FakeEngine().publish(3);
    const it = subject();
    await it.recover(engine, "connected");
    await it.live(engine, 3, 0, 2, 1);
    expect([it.outcome, it.history.counts.duplicates, it.history.counts.restarts]).toEqual(["EXACT 4", 4, 0]);
  });

  it("begins anew with an engine that restarted, whatever its first message is that arrives", async () => {
    for (const first of [0, 1, 3, 4, 7]) {
      const engine = new FakeEngine().publish(3);
      const it = subject();
      await it.recover(engine, "connected");
      const next = new FakeEngine(2_000).publish(first);
      // A new process comes over a new connection; a message that would be the next one tells nothing by itself.
      await it.recover(next, "connected");
      await it.live(next, first);
      expect([first, it.outcome, it.history.counts.restarts]).toEqual([first, `EXACT ${first + 1}`, 1]);
    }
  });

  it("sees a restart by the numbers alone when they fall", async () => {
    const engine = new FakeEngine().publish(5);
    const it = subject();
    await it.recover(engine, "connected");
    await it.live(new FakeEngine(2_000).publish(2), 2);
    expect([it.outcome, it.history.counts.restarts]).toEqual(["EXACT 3", 1]);
  });

  it("is empty over a new connection to an engine with nothing to tell, and lost over the old one", async () => {
    for (const [cause, outcome] of [
      ["connected", "EXACT 0"],
      ["idle", "DEGRADED(history-lost) 0"],
    ] as const) {
      const it = subject();
      await it.recover(new FakeEngine().publish(5), "connected");
      await it.recover(new FakeEngine(2_000), cause);
      expect(it.outcome).toBe(outcome);
      await it.live(new FakeEngine(2_000), 0);
      expect(it.outcome).toBe("EXACT 1");
    }
  });

  it("is lost when what is missing is no longer kept", async () => {
    const engine = new FakeEngine().publish(1);
    const it = subject();
    await it.recover(engine, "connected");
    engine.publish(9).kept.splice(0, 5);
    await it.live(engine, 9);
    expect([it.outcome, it.history.counts.historiesLost]).toEqual(["DEGRADED(history-lost) 5", 1]);
  });

  it("asks again for what was dropped in the middle of a replay", async () => {
    const engine = new FakeEngine().publish(9);
    const it = subject();
    const whole = engine.kept;
    let calls = 0;
    const ask: AskReplay = (start, take, cause) => {
      calls += 1;
      engine.kept = calls === 1 ? whole.filter(({ sequence }) => sequence !== 4) : whole;
      return engine.ask(start, take, cause);
    };
    await it.history.recover(ask, "connected");
    expect([it.outcome, engine.asked]).toEqual(["EXACT 10", [0, 3]]);
  });

  it("takes garbage from the engine's memory, and is told bad when that is garbage too", async () => {
    const engine = new FakeEngine().publish(2);
    const it = subject();
    await it.recover(engine, "connected");
    await it.garbage(3);
    await it.garbage(null);
    await it.recover(engine.publish(3), "missing");
    expect([it.outcome, it.history.counts.bad]).toEqual(["EXACT 4", 2]);
    engine.publish(5).kept[4] = { sequence: 4, payload: Buffer.from("garbage") };
    await it.live(engine, 5);
    expect([it.outcome, it.history.counts.bad]).toEqual(["DEGRADED(bad-event) 5", 3]);
    await it.live(new FakeEngine(3_000), 0);
    expect(it.outcome).toBe("EXACT 1");
  });

  it("does not ask for each message of an engine that writes garbage, and does again once all is known", async () => {
    const engine = new FakeEngine().publish(2);
    const it = subject();
    await it.recover(engine, "connected");
    expect(await it.garbage(3)).toBe(true);
    engine.kept[3] = { sequence: 3, payload: Buffer.from("garbage") };
    await it.recover(engine, "missing");
    expect([await it.garbage(4), await it.garbage(5), await it.garbage(9)]).toEqual([false, false, true]);
    expect(it.outcome).toBe("DEGRADED(bad-event) 3");
    it.blocks.apply({ kind: "cleared" });
    expect([it.outcome, await it.garbage(6)]).toEqual(["EXACT 0", true]);
  });

  it("gives a replay three attempts, then starts with what it has", async () => {
    const engine = new FakeEngine();
    engine.ends = ["timeout", "timeout", "timeout"];
    const it = subject();
    await it.recover(engine, "connected");
    expect([it.outcome, it.history.counts.replayFailures]).toEqual(["DEGRADED(history-lost) 0", 3]);
    engine.ends = ["timeout", "timeout", "timeout"];
    await it.live(engine, 7);
    expect(it.outcome).toBe("DEGRADED(history-lost) 1");
  });

  it("does not trust what it had when nobody answers over a new connection, and does over the old one", async () => {
    for (const [cause, blocks] of [
      ["connected", 0],
      ["idle", 3],
    ] as const) {
      const engine = new FakeEngine().publish(2);
      const it = subject();
      await it.recover(engine, "connected");
      const silent = new FakeEngine();
      silent.ends = ["timeout", "timeout", "timeout"];
      await it.recover(silent, cause);
      expect(heldInView(it.blocks)).toHaveLength(blocks);
    }
  });

  it("applies the batch that showed a gap when a replay does not have it yet", async () => {
    const engine = new FakeEngine().publish(1);
    const it = subject();
    await it.recover(engine, "connected");
    engine.publish(2);
    const found = await it.history.takeLive(3, engine.payload(3), true);
    await it.history.recover(engine.ask, "missing", found as never);
    expect(it.outcome).toBe("EXACT 4");
  });
});

describe("a history without replays", () => {
  it("is exact from an engine's first batch on, and lost from any other", async () => {
    const fresh = subject(false);
    await fresh.recover(null, "connected");
    expect(fresh.outcome).toBe("DEGRADED(history-lost) 0");
    await fresh.live(new FakeEngine(), 0, 1);
    expect(fresh.outcome).toBe("EXACT 2");
    const late = subject(false);
    await late.live(new FakeEngine(), 5, 6);
    expect([late.outcome, late.history.counts.gaps]).toEqual(["DEGRADED(history-lost) 2", 0]);
  });

  it("forgets what it had at a gap, and starts anew at a restart", async () => {
    const it = subject(false);
    await it.live(new FakeEngine(), 0, 1, 4);
    expect([it.outcome, it.history.counts.historiesLost]).toEqual(["DEGRADED(history-lost) 1", 1]);
    await it.live(new FakeEngine(2_000), 0);
    expect([it.outcome, it.history.counts.restarts]).toEqual(["EXACT 1", 1]);
  });

  it("does not trust what it had over a new connection, where the same numbers may be another engine's", async () => {
    for (const first of [0, 2, 4]) {
      const it = subject(false);
      await it.recover(null, "connected");
      await it.live(new FakeEngine(), 0, 1);
      expect(it.outcome).toBe("EXACT 2");
      await it.recover(null, "connected");
      expect(it.outcome).toBe("DEGRADED(history-lost) 0");
      await it.live(new FakeEngine(2_000), first);
      expect([first, it.outcome]).toEqual([first, first === 0 ? "EXACT 1" : "DEGRADED(history-lost) 1"]);
    }
  });

  it("passes over a batch that cannot be read, and says so", async () => {
    const it = subject(false);
    await it.live(new FakeEngine(), 0);
    await it.garbage(1);
    await it.live(new FakeEngine(), 2);
    expect(it.outcome).toBe("DEGRADED(bad-event) 2");
  });
});
