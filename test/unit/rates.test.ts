// What is learnt of endpoints' speed: from pieces of work, per endpoint and pool, and together over workers.
import { beforeAll, describe, expect, test } from "vitest";
import { compileHarness } from "./support/harness.ts";
import { LATENCY_COLUMNS, LatencyFleet, type Speed } from "./support/latency-fleet.ts";
import { random } from "./support/random.ts";

let module: WebAssembly.Module;
beforeAll(async () => {
  module = await compileHarness("latency");
});

const FAST: Speed = { baseMs: 20, tokenMs: 0.08 };
const SLOW: Speed = { baseMs: 20, tokenMs: 0.24 };
const PROMPTS = [200, 3_000, 900, 8_000, 1_500, 400, 12_000, 2_500, 5_000, 700];
const HOUR_MS = 3_600_000;

function near(actual: number, expected: number, share: number, what = ""): void {
  expect(actual, what).toBeGreaterThan(expected * (1 - share));
  expect(actual, what).toBeLessThan(expected * (1 + share));
}

describe("prefill", () => {
  test("is nothing known and 10,000 tokens/s before the first sample", () => {
    const fleet = new LatencyFleet(module, 2);
    expect(fleet.rates(0, 1000)).toEqual({ baseMs: 0, tokenMs: 0.1, samples: 0 });
  });

  test("counts as measured from 4 samples on, and as last measured however long nothing comes", () => {
    const fleet = new LatencyFleet(module, 1);
    const first = fleet.serve(0, PROMPTS.slice(0, 2), FAST, 1000);
    fleet.rates(0, first + 1000);
    expect(fleet.call("poolIsMeasured", 0)).toBe(0);
    const end = fleet.serve(0, Array.from({ length: 4 }, () => PROMPTS).flat(), FAST, first + 1000);
    const known = fleet.rates(0, end + 1000);
    near(known.tokenMs, FAST.tokenMs, 0.15);
    for (const hours of [1, 100]) {
      fleet.call("ratesBeginOthers");
      const later = fleet.rates(0, end + hours * HOUR_MS);
      expect(fleet.call("poolIsMeasured", 0)).toBe(1);
      expect(later.samples).toBeLessThan(0.001);
      near(later.tokenMs, known.tokenMs, 0.15);
    }
  });

  test("tells a fast endpoint from a slow one", () => {
    const fleet = new LatencyFleet(module, 2);
    const prompts = Array.from({ length: 6 }, () => PROMPTS).flat();
    const now = Math.max(fleet.serve(0, prompts, FAST, 1000), fleet.serve(1, prompts, SLOW, 1000));
    near(fleet.rates(0, now).tokenMs, FAST.tokenMs, 0.15);
    near(fleet.rates(1, now).tokenMs, SLOW.tokenMs, 0.15);
    expect(fleet.rates(0, now).baseMs).toBe(fleet.rates(1, now).baseMs);
  });

  test("is right where several prompts are computed in one step, and parts of the next", () => {
    const { seed, next } = random();
    const fleet = new LatencyFleet(module, 1);
    const STEP_TOKENS = 8192;
    let nowMs = 1000;
    let queue: { tokens: number; left: number }[] = [];
    for (let step = 0; step < 300; step++) {
      while (queue.length < 12) {
        const tokens = 100 + Math.floor(next() * 4_000);
        fleet.send(0, tokens, nowMs);
        queue.push({ tokens, left: tokens });
      }
      nowMs += 8 + FAST.tokenMs * STEP_TOKENS;
      let budget = STEP_TOKENS;
      for (const prompt of queue) {
        const done = Math.min(prompt.left, budget);
        prompt.left -= done;
        budget -= done;
      }
      for (const prompt of queue.filter(({ left }) => left === 0)) {
        fleet.firstToken(0, prompt.tokens, nowMs);
        fleet.ended(0, prompt.tokens);
      }
      queue = queue.filter(({ left }) => left > 0);
    }
    const { baseMs, tokenMs } = fleet.rates(0, nowMs + 20);
    near(baseMs + tokenMs * 20_000, (8 / STEP_TOKENS + FAST.tokenMs) * 20_000, 0.08, `seed ${seed}`);
  });

  test("of an endpoint that was never asked is the others'", () => {
    const fleet = new LatencyFleet(module, 3);
    const now = fleet.serve(0, PROMPTS, SLOW, 1000);
    near(fleet.rates(2, now).tokenMs, SLOW.tokenMs, 0.1);
  });

  test("of an endpoint that nobody asks any more drifts back to the others'", () => {
    const fleet = new LatencyFleet(module, 2);
    const now = fleet.serve(1, PROMPTS, SLOW, 1000);
    const before = fleet.rates(1, now).tokenMs;
    fleet.serve(0, PROMPTS, FAST, now + HOUR_MS);
    const after = fleet.rates(1, now + HOUR_MS + 60_000).tokenMs;
    near(before, SLOW.tokenMs, 0.1);
    near(after, FAST.tokenMs, 0.2);
  });

  test("is forgotten when another endpoint comes into the row", () => {
    const fleet = new LatencyFleet(module, 2);
    const now = fleet.serve(1, PROMPTS, SLOW, fleet.serve(0, PROMPTS, FAST, 1000));
    fleet.call("setRowU32", 2, 1, 7);
    near(fleet.rates(1, now + 200).tokenMs, FAST.tokenMs, 0.15);
  });

  test("counts the tokens that other workers' requests had computed meanwhile", () => {
    const fleet = new LatencyFleet(module, 1);
    let nowMs = 1000;
    for (let i = 0; i < 12; i++) {
      fleet.send(0, 4_000, nowMs);
      nowMs += FAST.tokenMs * 8_000;
      fleet.set(0, LATENCY_COLUMNS.othersComputed, fleet.get(0, LATENCY_COLUMNS.othersComputed) + 4_000);
      fleet.firstToken(0, 4_000, nowMs);
      fleet.ended(0, 4_000);
      nowMs += 50;
    }
    near(fleet.rates(0, nowMs).tokenMs, FAST.tokenMs, 0.1);
  });

  test("does not count what others had computed after a worker's own last first token", () => {
    const fleet = new LatencyFleet(module, 1);
    let nowMs = 1000;
    for (let i = 0; i < 12; i++) {
      fleet.send(0, 4_000, nowMs);
      nowMs += FAST.tokenMs * 4_000;
      fleet.firstToken(0, 4_000, nowMs);
      fleet.ended(0, 4_000);
      nowMs += FAST.tokenMs * 40_000;
      fleet.set(0, LATENCY_COLUMNS.othersComputed, fleet.get(0, LATENCY_COLUMNS.othersComputed) + 40_000);
    }
    near(fleet.rates(0, nowMs).tokenMs, FAST.tokenMs, 0.1);
  });
});

describe("time between tokens", () => {
  test("grows with the requests in flight", () => {
    const fleet = new LatencyFleet(module, 2);
    for (let i = 0; i < 60; i++) fleet.call("rateTpot", 0, 1 + (i % 30), 15 + 0.5 * (1 + (i % 30)), 1000 + i);
    fleet.call("ratesOf", 0, 1100);
    near(fleet.call("tpotMs", 10), 20, 0.05);
    near(fleet.call("tpotMs", 40), 35, 0.1);
  });

  test("is not known before a stream has ended", () => {
    const fleet = new LatencyFleet(module, 1);
    fleet.call("ratesOf", 0, 1000);
    expect(fleet.call("tpotMs", 10)).toBeNaN();
  });
});

describe("rates of several workers", () => {
  const OWNER = 7n;

  function told(from: LatencyFleet, nowMs: number): Uint8Array {
    from.call("ratesBuild", OWNER, nowMs);
    return from.built("rates");
  }

  test("reach one that comes later, and count as its own there", () => {
    const early = new LatencyFleet(module, 2);
    const now = early.serve(0, PROMPTS, SLOW, 1000);
    const late = new LatencyFleet(module, 2);
    const bytes = told(early, now);
    const ptr = late.lay(bytes);
    expect(late.call("ratesCheck", ptr, bytes.length)).toBe(1);
    late.call("ratesBeginOthers");
    late.call("ratesTake", ptr, now, 0);
    near(late.rates(0, now).tokenMs, early.rates(0, now).tokenMs, 0.02);
    late.call("ratesBeginOthers");
    expect(late.rates(0, now + 200).samples, "a worker that tells nothing any more").toBe(0);
  });

  test("that a predecessor left behind become the own ones", () => {
    const before = new LatencyFleet(module, 2);
    const now = before.serve(0, PROMPTS, SLOW, 1000);
    const bytes = told(before, now);
    const after = new LatencyFleet(module, 2);
    after.call("ratesTake", after.lay(bytes), now, 1);
    near(after.rates(0, now).tokenMs, SLOW.tokenMs, 0.1);
    expect(told(after, now).length).toBe(bytes.length);
  });

  test("say since when an endpoint is of another speed: the others forget what was before", () => {
    const [one, other] = [new LatencyFleet(module, 2), new LatencyFleet(module, 2)];
    let now = one.serve(0, PROMPTS, FAST, 1000);
    other.serve(0, PROMPTS, FAST, 1000);
    now = one.serve(0, PROMPTS, { baseMs: 60, tokenMs: 3 * FAST.tokenMs }, now);
    expect(one.call("ratesRegimeMs", 0, 0)).toBeGreaterThan(0);
    near(other.rates(0, now).tokenMs, FAST.tokenMs, 0.1);
    other.call("ratesBeginOthers");
    other.call("ratesTake", other.lay(told(one, now)), now, 0);
    near(other.rates(0, now + 200).tokenMs, 3 * FAST.tokenMs, 0.2);
  });

  test("of an endpoint that is another one by now are passed over", () => {
    const [one, other] = [new LatencyFleet(module, 2), new LatencyFleet(module, 2)];
    const now = one.serve(0, PROMPTS, SLOW, 1000);
    other.call("setRowU32", 2, 0, 9);
    other.call("ratesBeginOthers");
    other.call("ratesTake", other.lay(told(one, now)), now, 0);
    expect(other.rates(0, now).samples).toBe(0);
  });

  test.each<[string, (bytes: DataView) => void, number?]>([
    ["another magic", (view) => view.setUint32(0, 1, true)],
    ["another version", (view) => view.setUint16(4, 2, true)],
    ["more pools than there may be", (view) => view.setUint16(6, 17, true)],
    ["more entries than bytes", (view) => view.setUint32(32 + 8, 2, true)],
    ["a sum that is no number", (view) => view.setFloat32(48 + 16, Number.NaN, true)],
    ["a sum below 0", (view) => view.setFloat32(48 + 20, -1, true)],
    ["a sum without end", (view) => view.setFloat32(48 + 40, Number.POSITIVE_INFINITY, true)],
    ["its last byte missing", () => {}, 1],
    ["a header that is cut", () => {}, 90],
  ])("with %s are refused", (_, spoil, missing = 0) => {
    const fleet = new LatencyFleet(module, 2);
    const bytes = told(fleet, fleet.serve(0, PROMPTS, SLOW, 1000));
    expect(fleet.call("ratesCheck", fleet.lay(bytes), bytes.length)).toBe(1);
    spoil(new DataView(bytes.buffer));
    expect(fleet.call("ratesCheck", fleet.lay(bytes), bytes.length - missing)).toBe(0);
  });
});

describe("a cell", () => {
  function cellOf(fleet: LatencyFleet, nowMs: number): Uint8Array {
    fleet.call("cellBuild", 5n, nowMs, 0n);
    return fleet.built("cell");
  }
  function read(fleet: LatencyFleet, cell: Uint8Array): void {
    fleet.call("cellsBegin");
    fleet.call("cellAdd", fleet.lay(cell));
    fleet.call("cellsEnd");
  }

  test("tells what is prefilling since when, the last first token and the tightest wish", () => {
    const [one, other] = [new LatencyFleet(module, 2), new LatencyFleet(module, 2)];
    one.send(0, 500, 900);
    one.send(0, 300, 950);
    one.firstToken(0, 500, 980);
    one.call("tpotSloAdd", 0, 40);
    other.call("tpotSloAdd", 0, 60);
    read(other, cellOf(one, 1000));
    expect(other.get(0, LATENCY_COLUMNS.prefilling)).toBe(1);
    expect(other.get(0, LATENCY_COLUMNS.inflightTokens)).toBe(300);
    expect(other.get(0, LATENCY_COLUMNS.headSinceMs)).toBe(980);
    expect(other.get(0, LATENCY_COLUMNS.headTokens)).toBe(300);
    expect(other.get(0, LATENCY_COLUMNS.othersComputed)).toBe(500);
    expect(other.get(0, LATENCY_COLUMNS.tpotSloMs)).toBe(40);
    other.call("cellsBegin");
    other.call("cellsEnd");
    expect(other.get(0, LATENCY_COLUMNS.prefilling)).toBe(0);
    expect(other.get(0, LATENCY_COLUMNS.tpotSloMs)).toBe(60);
  });

  test("of the version before is refused", () => {
    const fleet = new LatencyFleet(module, 1);
    const cell = cellOf(fleet, 1000);
    expect(fleet.call("cellCheck", fleet.lay(cell), cell.length)).toBe(1);
    new DataView(cell.buffer).setUint16(4, 1, true);
    expect(fleet.call("cellCheck", fleet.lay(cell), cell.length)).toBe(0);
  });

  test("does not move the head of a queue when it is read again", () => {
    const [one, other] = [new LatencyFleet(module, 1), new LatencyFleet(module, 1)];
    one.send(0, 1_000, 900);
    other.send(0, 2_000, 940);
    for (let nowMs = 950; nowMs < 1_000; nowMs += 7) read(other, cellOf(one, nowMs));
    expect(other.get(0, LATENCY_COLUMNS.headSinceMs)).toBe(900);
    expect(other.get(0, LATENCY_COLUMNS.headTokens)).toBe(3_000);
  });
});

test("wishes are counted by size class, and the tightest of each class is kept until it is empty", () => {
  const fleet = new LatencyFleet(module, 1);
  const tightest = (): number => fleet.get(0, LATENCY_COLUMNS.tpotSloMs);
  for (const ms of [50, 45, 200, 1e6]) fleet.call("tpotSloAdd", 0, ms);
  expect(tightest()).toBe(45);
  fleet.call("tpotSloRemove", 0, 45);
  expect(tightest(), "50 ms are in the same class").toBe(45);
  fleet.call("tpotSloRemove", 0, 50);
  expect(tightest()).toBe(200);
  fleet.call("tpotSloRemove", 0, 200);
  expect(tightest()).toBe(1e6);
  fleet.call("tpotSloRemove", 0, 1e6);
  expect(tightest()).toBe(0);
});
