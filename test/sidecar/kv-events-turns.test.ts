// What following many engines leaves to everything else: turns of the event loop, and replays at once.
import { Publisher, Router } from "zeromq";
import { describe, expect, it, onTestFinished } from "vitest";
import { encodeBatch } from "../../host-sim/model-server/kv-events/encode.ts";
import { EventHistory } from "../../sidecar/kv-events/history.ts";
import { LONG_REPLAYS_MAX } from "../../sidecar/kv-events/limits.ts";
import { LoopShare } from "../../sidecar/kv-events/loop-share.ts";
import { Subscriber } from "../../sidecar/kv-events/subscriber.ts";
import { Turns } from "../../sidecar/kv-events/turns.ts";
import { makeView, SILENT, type View } from "./kv-events-support.ts";
import { eventually } from "./servers.ts";

/** A loop whose turns come when they are called for. */
class SteppedLoop {
  nowMs = 0;
  readonly turns: (() => void)[] = [];
  readonly share = new LoopShare({
    now: () => (this.nowMs += this.stepMs),
    nextTurn: (run) => void this.turns.push(run),
  });

  /** @param stepMs how far the clock goes on whenever it is looked at */
  constructor(private readonly stepMs = 0) {}

  async turn(): Promise<void> {
    this.turns.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A batch with an event for each list of hashes, of blocks of one token. */
function batchOf(...events: number[][]): Uint8Array {
  const stored = events.map((hashes) => ({
    type: "BlockStored" as const,
    hashes,
    parent: null,
    tokens: hashes.map(() => 65),
    blockSize: 1,
    lora: null,
    cacheSalt: null,
  }));
  return encodeBatch(stored, 1_000, 0, { encoding: "map", hashes: "uint64" });
}

function historyOf(view: View, { share: loop }: SteppedLoop, signal: AbortSignal): EventHistory {
  return new EventHistory({ ...view, log: SILENT, publisher: "tcp://test", learn: null, signal, loop });
}

describe("the event loop", () => {
  it("is shared turn by turn, in the order of asking", async () => {
    const loop = new SteppedLoop();
    const done: string[] = [];
    const work = async (name: string): Promise<void> => {
      for (let piece = 0; piece < 3; piece++) {
        const rest = loop.share.rest();
        if (rest !== null) await rest;
        done.push(name + piece);
        loop.nowMs += 4;
      }
    };
    const works = [work("a"), work("b")];
    const turns: string[] = [];
    for (let turn = 0; turn < 4; turn++) {
      await loop.turn();
      turns.push(done.splice(0).join(" "));
    }
    await Promise.all(works);
    expect(turns).toEqual(["a0 a1", "b0 b1", "a2", "b2"]);
  });

  it("has its turns within a batch, and within an event of many blocks", async () => {
    const loop = new SteppedLoop();
    const view = makeView();
    const blocks = 4_096;
    const batch = batchOf(Array.from({ length: blocks }, (_, i) => i + 1));
    const taken = historyOf(view, loop, new AbortController().signal).takeLive(0, batch, true);
    const sizes: number[] = [];
    for (await loop.turn(); loop.turns.length > 0; await loop.turn()) {
      sizes.push(view.blocks.size);
      loop.nowMs += 5;
    }
    expect(await taken).toBe("done");
    const grown = sizes.map((size, index) => size - (sizes[index - 1] ?? 0));
    expect([view.blocks.size, Math.max(...grown) <= 512]).toEqual([blocks, true]);
  });

  it("is left alone once the view is not followed any more", async () => {
    const loop = new SteppedLoop(5);
    const view = makeView();
    const stopping = new AbortController();
    const taken = historyOf(view, loop, stopping.signal).takeLive(0, batchOf([1], [2]), true);
    await loop.turn();
    expect(view.blocks.size).toBe(1);
    stopping.abort();
    view.blocks.clear();
    while (loop.turns.length > 0) await loop.turn();
    await taken;
    expect(view.blocks.size).toBe(0);
  });
});

describe("turns", () => {
  it("are handed on, also by work that fails", async () => {
    const turns = new Turns(2);
    let [working, most] = [0, 0];
    const work = (fails: boolean) => async (): Promise<void> => {
      working += 1;
      most = Math.max(most, working);
      await new Promise((resolve) => setImmediate(resolve));
      working -= 1;
      if (fails) throw new Error("failed");
    };
    const works = Array.from({ length: 9 }, (_, index) => turns.do(work(index % 2 === 0)));
    const ends = await Promise.allSettled(works);
    expect([most, ends.filter(({ status }) => status === "rejected").length]).toEqual([2, 5]);
  });
});

const u64 = (value: bigint): Buffer => {
  const frame = Buffer.alloc(8);
  frame.writeBigUInt64BE(value);
  return frame;
};

/** Engines whose replays are answered when the test says so. @returns the questions that wait */
async function startEngines(count: number): Promise<(() => Promise<void>)[]> {
  const waiting: (() => Promise<void>)[] = [];
  for (let index = 0; index < count; index++) {
    const publisher = new Publisher({ linger: 0 });
    const router = new Router({ linger: 0 });
    await publisher.bind("tcp://127.0.0.1:*");
    await router.bind("tcp://127.0.0.1:*");
    onTestFinished(() => [publisher, router].forEach((socket) => void socket.close()));
    void (async () => {
      for await (const [peer] of router) {
        waiting.push(() => router.send([peer!, "", "", u64(2n ** 64n - 1n), ""]));
      }
    })();
    follow(publisher.lastEndpoint!, router.lastEndpoint!);
  }
  return waiting;
}

function follow(endpoint: string, replayEndpoint: string): void {
  const view = makeView();
  const settings = { endpoint, replayEndpoint, topic: "", replayTimeoutMs: 60_000, idleCheckMs: 60_000 };
  const subscriber = new Subscriber(settings, { ...view, log: SILENT, learn: null });
  onTestFinished(() => subscriber.stop());
  void subscriber.run();
}

describe("replays of everything", () => {
  it("are asked for by a few at once", async () => {
    const waiting = await startEngines(2 * LONG_REPLAYS_MAX + 1);
    for (let left = 2 * LONG_REPLAYS_MAX + 1; left > 0; left--) {
      const atOnce = Math.min(left, LONG_REPLAYS_MAX);
      await eventually("those whose turn it is have asked", () => waiting.length >= atOnce);
      expect(waiting).toHaveLength(atOnce);
      await waiting.shift()!();
    }
  });

  it("do not wait for those who cannot be reached", async () => {
    const publisher = new Publisher({ linger: 0 });
    await publisher.bind("tcp://127.0.0.1:*");
    onTestFinished(() => publisher.close());
    for (let index = 0; index < 2 * LONG_REPLAYS_MAX; index++)
      follow(publisher.lastEndpoint!, "tcp://127.0.0.1:1");
    const waiting = await startEngines(1);
    await eventually("the one that answers is asked", () => waiting.length === 1);
  });
});
