// epp-wasm-latency-picker: the cost of each candidate term by term, equals, wishes, and how a burst spreads.
import { beforeAll, describe, expect, test } from "vitest";
import { compileHarness } from "./support/harness.ts";
import { LATENCY_COLUMNS, LatencyFleet } from "./support/latency-fleet.ts";
import { random } from "./support/random.ts";

let module: WebAssembly.Module;
beforeAll(async () => {
  module = await compileHarness("latency");
});

const SPEED = { baseMs: 10, tokenMs: 0.1 };
const PROMPTS = Array.from({ length: 200 }, (_, i) => 200 + ((i * 997) % 8_000));
/** CHOSEN_* of assembly/schedule/latency-picker.ts. */
const REASONS = { only: 0, cheapest: 1, match: 2, hash: 3, noneMeets: 4 };
/** Later than everything that was learnt, and soon enough that nothing is forgotten. */
let now = 0;

/** Endpoints that all compute prompts at SPEED, which is known well, and have nothing to do. */
function learnt(count: number): LatencyFleet {
  const fleet = new LatencyFleet(module, count);
  now = 0;
  for (let row = 0; row < count; row++) now = Math.max(now, fleet.serve(row, PROMPTS, SPEED, 1_000));
  now += 200;
  for (let row = 0; row < count; row++) fleet.clear(row);
  return fleet;
}

/** `tokens` queue at the row since just now, in one request. */
function queue(fleet: LatencyFleet, row: number, tokens: number, sinceMs = now): void {
  fleet.set(row, LATENCY_COLUMNS.inflightTokens, tokens);
  fleet.set(row, LATENCY_COLUMNS.inflightRequests, 1);
  fleet.set(row, LATENCY_COLUMNS.prefilling, 1);
  fleet.set(row, LATENCY_COLUMNS.headSinceMs, sinceMs);
  fleet.set(row, LATENCY_COLUMNS.headTokens, tokens);
}

describe("the cost of a candidate", () => {
  test("is its prefill where nothing waits", () => {
    const fleet = learnt(2);
    expect(fleet.decide([4_000, 1_000], { nowMs: now })).toBe(1);
    const [a, b] = fleet.costs(2);
    expect(a?.wait).toBe(0);
    expect(a!.prefill - b!.prefill).toBeCloseTo(3_000 * SPEED.tokenMs, -1);
    expect(fleet.call("costModelShare")).toBeGreaterThan(0.9);
  });

  test("grows by what waits, less what was done of it since the last first token", () => {
    const fleet = learnt(2);
    queue(fleet, 0, 10_000);
    fleet.decide([1_000, 1_000], { nowMs: now });
    const atOnce = fleet.costs(2)[0]!.wait;
    expect(atOnce / (10_000 * SPEED.tokenMs)).toBeCloseTo(1, 1);
    fleet.decide([1_000, 1_000], { nowMs: now + 400 });
    expect(atOnce - fleet.costs(2)[0]!.wait).toBeCloseTo(400, 3);
  });

  test("takes no more for done than what was there when the engine began: later arrivals wait", () => {
    const fleet = learnt(2);
    queue(fleet, 0, 10_000);
    fleet.set(0, LATENCY_COLUMNS.headTokens, 1_000);
    fleet.decide([1_000, 1_000], { nowMs: now + 150 });
    expect(fleet.costs(2)[0]!.wait / (9_000 * SPEED.tokenMs)).toBeCloseTo(1, 1);
  });

  test("grows with every millisecond that the head of the queue is late: a stuck engine draws nothing", () => {
    const fleet = learnt(2);
    queue(fleet, 0, 1_000);
    const waitAt = (ms: number): number => {
      fleet.decide([500, 500], { nowMs: now + ms });
      return fleet.costs(2)[0]!.wait;
    };
    expect(waitAt(150)).toBe(0);
    expect(waitAt(3_000) - waitAt(2_000)).toBeCloseTo(1_000, 3);
    queue(fleet, 1, 5_000, now + 9_000);
    expect(fleet.decide([500, 500], { nowMs: now + 9_000 })).toBe(1);
  });

  test("prices a miss by the mean wait of the fleet", () => {
    const fleet = learnt(3);
    for (const row of [0, 1, 2]) queue(fleet, row, 20_000);
    fleet.decide([100, 6_000, 6_000], { nowMs: now });
    expect(fleet.call("costMissPrice")).toBeCloseTo(2, 1);
    const [hit, miss] = fleet.costs(3);
    const share = fleet.call("costModelShare");
    const extra = miss!.cost - hit!.cost - share * (miss!.prefill - hit!.prefill);
    expect(extra / (share * 2 * 5_900 * SPEED.tokenMs)).toBeGreaterThan(0.9);
  });

  test("counts what other gateways sent, as many of it waiting as the engine says", () => {
    const fleet = learnt(2);
    for (let i = 0; i < 64; i++) fleet.call("poolNoteTokens", 0, 2_000, 3_000);
    fleet.set(0, LATENCY_COLUMNS.foreign, 8);
    fleet.set(0, LATENCY_COLUMNS.waiting, 3);
    fleet.set(0, LATENCY_COLUMNS.running, 9);
    fleet.decide([1_000, 1_000], { nowMs: now });
    const expected = 8 * (3 / 12) * 2_000 * SPEED.tokenMs;
    expect(fleet.costs(2)[0]!.wait / expected).toBeCloseTo(1, 1);
  });

  test("is the mean of the others for an endpoint that was never scraped", () => {
    const fleet = learnt(3);
    const mean = fleet.plan;
    fleet.call("planSetUnknownMean", mean, 1);
    for (let i = 0; i < 64; i++) fleet.call("poolNoteTokens", 0, 2_000, 3_000);
    for (const row of [0, 1]) {
      fleet.set(row, LATENCY_COLUMNS.foreign, 4);
      fleet.set(row, LATENCY_COLUMNS.running, 4);
    }
    fleet.set(2, LATENCY_COLUMNS.foreign, Number.NaN);
    fleet.decide([1_000, 1_000, 1_000], { nowMs: now });
    const [known, , unknown] = fleet.costs(3);
    expect(unknown!.cost).toBeGreaterThan(0.7 * known!.cost);
  });

  test("grows for a miss with the context that the endpoint holds", () => {
    const fleet = learnt(2);
    fleet.set(0, LATENCY_COLUMNS.contextTokens, 600_000);
    expect(fleet.decide([3_000, 3_000], { nowMs: now })).toBe(1);
    const [full, free] = fleet.costs(2);
    expect(full!.cost).toBeGreaterThan(2 * free!.cost);
  });
});

describe("before anything is known", () => {
  test("uncached tokens × (requests + 1) decides (LMetric)", () => {
    const fleet = new LatencyFleet(module, 3);
    const requests = [7, 1, 0];
    for (const [row, count] of requests.entries()) fleet.set(row, LATENCY_COLUMNS.inflightRequests, count);
    expect(fleet.decide([100, 1_000, 2_000])).toBe(0);
    expect(fleet.call("costModelShare")).toBe(0);
    const costs = fleet.costs(3).map(({ cost }) => cost);
    expect(costs.map((cost) => Math.round(cost * 10))).toEqual([
      (100 + 16) * 8,
      (1_000 + 16) * 2,
      2_000 + 16,
    ]);
  });

  test("the learnt model comes in sample by sample", () => {
    const fleet = new LatencyFleet(module, 2);
    const shares: number[] = [];
    let nowMs = 1_000;
    for (let i = 0; i < 20; i++) {
      nowMs = fleet.serve(0, [2_000 + 100 * i], SPEED, nowMs);
      fleet.decide([1_000, 1_000], { nowMs });
      shares.push(fleet.call("costModelShare"));
    }
    for (const [i, share] of shares.entries()) expect(share).toBeGreaterThan(i === 0 ? 0 : shares[i - 1]!);
    expect(shares[7]).toBeCloseTo(0.5, 1);
  });
});

describe("candidates that cost nearly the same", () => {
  const KEY = 0x1234_5678_9abcn;

  test("are chosen among by the prompt, alike for everybody", () => {
    const { seed, next } = random();
    for (let i = 0; i < 20; i++) {
      const key = BigInt(Math.floor(next() * 2 ** 48)) + 1n;
      const picks = [1n, 77n, 12345n].map((entropy) =>
        learntOnce().decide([2_000, 2_000, 2_000, 2_000], { nowMs: now, key, random: entropy }),
      );
      expect(new Set(picks).size, `seed ${seed}`).toBe(1);
      expect(learntOnce().call("latencyReason")).toBe(REASONS.hash);
    }
  });

  test("get different prompts in equal shares", () => {
    const counts = [0, 0, 0, 0];
    const fleet = learntOnce();
    for (let i = 1; i <= 400; i++) {
      const row = fleet.decide([2_000, 2_000, 2_000, 2_000], { nowMs: now, key: KEY * BigInt(i) });
      counts[row] = (counts[row] ?? 0) + 1;
    }
    for (const count of counts) expect(count).toBeGreaterThan(60);
  });

  test("give way to the one that holds most of the prompt", () => {
    const fleet = learnt(4);
    queue(fleet, 2, 1_900);
    const uncached = [2_000, 2_000, 100, 2_000];
    expect(fleet.decide(uncached, { nowMs: now, matched: [0, 0, 1_900, 0], key: KEY })).toBe(2);
    expect([REASONS.match, REASONS.cheapest]).toContain(fleet.call("latencyReason"));
  });

  let once: LatencyFleet | undefined;
  function learntOnce(): LatencyFleet {
    return (once ??= learnt(4));
  }
});

describe("wishes", () => {
  function paced(): LatencyFleet {
    const fleet = learnt(3);
    for (const [row, base] of [10, 40, 20].entries()) {
      for (let i = 0; i < 40; i++)
        fleet.call("rateTpot", row, 1 + (i % 20), base + 0.5 * (1 + (i % 20)), now - 100 + i);
    }
    return fleet;
  }

  test("for the time between tokens move a request to an endpoint that meets them", () => {
    const fleet = paced();
    expect(fleet.decide([1_500, 1_000, 3_000], { nowMs: now })).toBe(1);
    expect(fleet.decide([1_500, 1_000, 3_000], { nowMs: now, tpotMs: 30 })).toBe(0);
  });

  test("of those in flight keep away who would break them", () => {
    const fleet = paced();
    expect(fleet.decide([1_000, 2_000, 3_000], { nowMs: now })).toBe(0);
    fleet.set(0, LATENCY_COLUMNS.tpotSloMs, 10.2);
    fleet.set(0, LATENCY_COLUMNS.inflightRequests, 30);
    expect(fleet.decide([1_000, 2_000, 1_100], { nowMs: now })).toBe(2);
  });

  test("for the time between tokens are missed by a twentieth as by any more, and count less where all queues are long", () => {
    const fleet = paced();
    const brokenAt = (row: number, tpotMs: number): number => {
      fleet.decide([1_000, 1_000, 1_000], { nowMs: now, tpotMs });
      return fleet.call("brokenMs", row, 0);
    };
    fleet.decide([1_000, 1_000, 1_000], { nowMs: now, tpotMs: 1 });
    const { tpot } = fleet.costs(3)[1]!;
    // Of 200 tokens while no answer was counted.
    expect(brokenAt(1, tpot / 1.01)).toBeCloseTo(200 * (tpot - tpot / 1.01), 1);
    expect(brokenAt(1, tpot / 1.2)).toBeCloseTo((200 * 0.05 * tpot) / 1.2, 1);
    expect(brokenAt(1, tpot / 4)).toBeCloseTo((200 * 0.05 * tpot) / 4, 1);
    for (const row of [0, 1, 2]) queue(fleet, row, 10_000);
    const waited = brokenAt(1, tpot / 1.2);
    const meanWaitS = fleet.costs(3).reduce((sum, { wait }) => sum + wait, 0) / 3 / 1_000;
    expect(meanWaitS).toBeGreaterThan(0.5);
    expect(waited * (1 + 4 * meanWaitS)).toBeCloseTo((200 * 0.05 * tpot) / 1.2, 1);
  });

  test("for the first token price what is beyond them", () => {
    const fleet = learnt(2);
    queue(fleet, 0, 6_000);
    fleet.decide([100, 7_000], { nowMs: now, ttftMs: 300 });
    expect(fleet.call("brokenMs", 0, 0)).toBeCloseTo(
      fleet.costs(2)[0]!.wait + fleet.costs(2)[0]!.prefill - 300,
      3,
    );
    fleet.decide([100, 7_000], { nowMs: now });
    expect(fleet.call("brokenMs", 0, 0)).toBe(0);
  });

  test("that nobody can meet leave the choice to the least bad", () => {
    const fleet = paced();
    expect(fleet.decide([1_000, 1_000, 1_000], { nowMs: now, tpotMs: 1 })).toBe(0);
    expect(fleet.call("latencyReason")).toBe(REASONS.noneMeets);
  });

  test("that one endpoint alone can meet do not send everything there", () => {
    const fleet = paced();
    queue(fleet, 0, 400_000);
    expect(fleet.decide([1_000, 1_000, 1_000], { nowMs: now, tpotMs: 15 })).not.toBe(0);
  });

  test("are not broken by what is not predicted yet", () => {
    const fleet = learnt(2);
    fleet.decide([1_000, 1_000], { nowMs: now, tpotMs: 1 });
    expect(fleet.costs(2)[0]!.tpot).toBeNaN();
    expect(fleet.call("brokenMs", 0, 0)).toBe(0);
  });

  test("of an objective come from its own entry, of all others from the first", () => {
    const fleet = learnt(1);
    const instance = fleet.instance({ type: 68 });
    const list = fleet.alloc(32);
    fleet.call("objectiveSet", list, 0n, 900, 0);
    fleet.call("objectiveSet", list + 16, fleet.hash("chat"), 200, 30);
    fleet.view.setUint32(instance + 48, list, true);
    fleet.view.setUint32(instance + 52, 2, true);
    expect(fleet.call("objectiveTtftMs", instance, fleet.hash("chat"))).toBe(200);
    expect(fleet.call("objectiveTpotMs", instance, fleet.hash("chat"))).toBe(30);
    expect(fleet.call("objectiveTtftMs", instance, fleet.hash("batch"))).toBe(900);
    expect(fleet.call("objectiveTtftMs", instance, 0n)).toBe(900);
    expect(fleet.call("objectiveTtftMs", 0, 0n)).toBe(0);
  });
});

describe("the list of destinations", () => {
  test("has the choice first, then the next by cost, with the costs as totals", () => {
    const fleet = learnt(5);
    for (const [row, tokens] of [5_000, 100, 9_000, 3_000, 7_000].entries()) queue(fleet, row, tokens);
    fleet.decide([1_000, 1_000, 1_000, 1_000, 1_000], { nowMs: now });
    const results = fleet.results();
    expect(results.map(({ row }) => row)).toEqual([1, 3, 0]);
    expect(results.map(({ total }) => total)).toEqual(results.map(({ row }) => -fleet.call("costOf", row)));
  });

  test("is empty without a candidate, and of one where there is one", () => {
    const fleet = learnt(2);
    fleet.request({}, now);
    fleet.candidates([]);
    expect(fleet.call("schedule", fleet.plan, 0)).toBe(0);
    expect(fleet.decide([1_000], { nowMs: now })).toBe(0);
    expect(fleet.results()).toHaveLength(1);
    expect(fleet.call("latencyReason")).toBe(REASONS.only);
  });
});

test("a burst of new prompts between two scrapes spreads over the endpoints by the own reservations", () => {
  const ENDPOINTS = 8;
  const BURST = 96;
  const { seed, next } = random();
  const fleet = learnt(ENDPOINTS);
  const uncached = Array.from({ length: ENDPOINTS }, () => 2_000);
  // Old metrics make one endpoint look idle.
  for (let row = 0; row < ENDPOINTS; row++) {
    fleet.set(row, LATENCY_COLUMNS.running, row === 5 ? 0 : 3);
    fleet.set(row, LATENCY_COLUMNS.foreign, row === 5 ? 0 : 3);
  }
  const counts = uncached.map(() => 0);
  for (let i = 0; i < BURST; i++) {
    const row = fleet.decide(uncached, { nowMs: now + i, key: BigInt(1 + Math.floor(next() * 2 ** 40)) });
    fleet.send(row, 2_000, now + i);
    counts[row] = (counts[row] ?? 0) + 1;
  }
  expect(Math.max(...counts), `seed ${seed}: ${counts.join(" ")}`).toBeLessThanOrEqual(
    (2 * BURST) / ENDPOINTS,
  );
  expect(Math.min(...counts), `seed ${seed}: ${counts.join(" ")}`).toBeGreaterThan(BURST / ENDPOINTS / 3);
});
