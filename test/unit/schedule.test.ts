// The scheduler: what is ours, and what llm-d's cases leave open.
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { compileHarness } from "./support/harness.ts";
import { type Endpoint, OPERATORS, Scheduler, TYPES } from "./support/scheduler.ts";

let module: WebAssembly.Module;
let scheduler: Scheduler;
beforeAll(async () => {
  module = await compileHarness("schedule");
});
beforeEach(() => {
  scheduler = new Scheduler(module);
});

function expectScores(actual: number[], expected: number[]): void {
  expect(actual).toHaveLength(expected.length);
  for (const [i, score] of expected.entries())
    expect(actual[i], `score of endpoint ${i}`).toBeCloseTo(score, 6);
}

describe("pickers", () => {
  const DRAWS = 4000;

  function shares(picker: number, totals: number[], seed: bigint): number[] {
    const counts = totals.map(() => 0);
    let random = seed;
    for (let i = 0; i < DRAWS; i++) {
      random = (random * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn;
      scheduler.request({}, 1, random);
      scheduler.candidates(totals.map((_, row) => row));
      for (const [row, total] of totals.entries()) scheduler.call("setTotal", row, total);
      scheduler.call("pick", picker, 1);
      const row = scheduler.call("resultRow", 0);
      counts[row] = (counts[row] ?? 0) + 1;
    }
    return counts.map((count) => count / DRAWS);
  }

  test("max-score-picker shuffles ties", () => {
    const seed = 12345n;
    for (const share of shares(TYPES["max-score-picker"], [1, 1, 1, 0.5], seed).slice(0, 3)) {
      expect(share, `seed ${seed}`).toBeGreaterThan(0.28);
    }
  });

  test("random-picker ignores the scores", () => {
    const seed = 777n;
    for (const share of shares(TYPES["random-picker"], [9, 0, 1, -3], seed)) {
      expect(share, `seed ${seed}`).toBeGreaterThan(0.2);
    }
  });

  test("weighted-random-picker picks in proportion to the scores, and 0 never before others", () => {
    const seed = 4242n;
    const [a, b, c] = shares(TYPES["weighted-random-picker"], [3, 1, 0], seed);
    expect(a, `seed ${seed}`).toBeGreaterThan(0.71);
    expect(a, `seed ${seed}`).toBeLessThan(0.79);
    expect(b, `seed ${seed}`).toBeGreaterThan(0.21);
    expect(c).toBe(0);
  });

  test("weighted-random-picker is random where no score is above 0", () => {
    const seed = 99n;
    for (const share of shares(TYPES["weighted-random-picker"], [0, 0, -1], seed)) {
      expect(share, `seed ${seed}`).toBeGreaterThan(0.28);
    }
  });

  test("names at most 16 endpoints", () => {
    scheduler.request();
    scheduler.candidates(Array.from({ length: 20 }, (_, row) => row));
    scheduler.call("pick", TYPES["max-score-picker"], 100);
    expect(scheduler.results()).toHaveLength(16);
  });
});

describe("our own scorers", () => {
  test("gpu-utilization-scorer and gpu-memory-scorer: 1 − use, unknown is neutral", () => {
    scheduler.endpoints([
      { name: "a", gpuUtilization: 0.25, gpuMemory: 1 },
      { name: "b", gpuUtilization: 1, gpuMemory: 0.4 },
      { name: "c" },
    ]);
    expectScores(
      scheduler.scores(scheduler.instance({ type: TYPES["gpu-utilization-scorer"] })),
      [0.75, 0, 0.5],
    );
    expectScores(scheduler.scores(scheduler.instance({ type: TYPES["gpu-memory-scorer"] })), [0, 0.6, 0.5]);
  });
});

test("GPU use that was never published counts as the mean of the others where the plan says so", () => {
  scheduler.endpoints([{ name: "a", gpuUtilization: 0.2 }, { name: "b", gpuUtilization: 1 }, { name: "c" }]);
  scheduler.call("setUnknownMean", 1);
  expectScores(
    scheduler.scores(scheduler.instance({ type: TYPES["gpu-utilization-scorer"] })),
    [0.8, 0, 0.4],
  );
});

describe("load that was never published", () => {
  const endpoints: Endpoint[] = [
    { name: "a", metrics: { waiting: 4, kvUsage: 0.4 } },
    { name: "b", metrics: { waiting: 0, kvUsage: 0.8 } },
    { name: "c", metrics: null },
  ];

  test("counts as idle, as llm-d reads it", () => {
    scheduler.endpoints(endpoints);
    scheduler.call("setUnknownMean", 0);
    expectScores(scheduler.scores(scheduler.instance({ type: TYPES["queue-scorer"] })), [0, 1, 1]);
    expectScores(
      scheduler.scores(scheduler.instance({ type: TYPES["kv-cache-utilization-scorer"] })),
      [0.6, 0.2, 1],
    );
  });

  test("counts as the mean of the others where the plan says so", () => {
    scheduler.endpoints(endpoints);
    scheduler.call("setUnknownMean", 1);
    expectScores(scheduler.scores(scheduler.instance({ type: TYPES["queue-scorer"] })), [0, 1, 0.5]);
    expectScores(
      scheduler.scores(scheduler.instance({ type: TYPES["kv-cache-utilization-scorer"] })),
      [0.6, 0.2, 0.4],
    );
    expectScores(
      scheduler.scores(scheduler.instance({ type: TYPES["load-aware-scorer"], a: 4 })),
      [0, 0.5, 0.25],
    );
  });

  test("of all endpoints leaves them equal", () => {
    scheduler.endpoints(endpoints.map(({ name }) => ({ name })));
    scheduler.call("setUnknownMean", 1);
    expectScores(scheduler.scores(scheduler.instance({ type: TYPES["queue-scorer"] })), [1, 1, 1]);
  });
});

describe("session_id", () => {
  const TTL_MS = 1_000;
  const endpoints = ["a", "b", "c", "d"].map((name, i) => ({ name, address: `10.0.0.${i + 1}:8000` }));
  let scorer: number;
  let plan: number;
  beforeEach(() => {
    scorer = scheduler.instance({
      type: TYPES["session-affinity-scorer"],
      mode: 1,
      headers: [1, 0],
      a: TTL_MS,
    });
    plan = scheduler.alloc(336);
    scheduler.call("planReset", plan, TYPES["max-score-picker"], 1);
    scheduler.call("planAddScorer", plan, scorer, 1);
    scheduler.endpoints(endpoints);
  });

  function scores(id: string | undefined, nowMs: number, candidates = [0, 1, 2, 3]): number[] {
    scheduler.request({}, nowMs);
    if (id !== undefined) scheduler.header(0, id);
    scheduler.candidates(candidates);
    return scheduler.scores(scorer);
  }

  test("an unbound session has the same endpoint on every worker, and sessions spread", () => {
    const other = new Scheduler(module);
    other.endpoints(endpoints);
    const twin = other.instance({ type: TYPES["session-affinity-scorer"], mode: 1, headers: [0], a: TTL_MS });
    const seen = new Set<number>();
    for (let i = 0; i < 64; i++) {
      const here = scores(`session-${i}`, 1);
      other.request({}, 1);
      other.header(0, `session-${i}`);
      other.candidates([0, 1, 2, 3]);
      expect(other.scores(twin)).toEqual(here);
      seen.add(here.indexOf(1));
    }
    expect(seen.size).toBe(4);
  });

  test("a session stays where it was placed until it was idle for longer than its time to live", () => {
    const first = scores("s", 1).indexOf(1);
    const placed = (first + 1) % 4;
    scheduler.call("schedulePlaced", plan, 0, placed);
    expect(scores("s", 1 + TTL_MS).indexOf(1)).toBe(placed);
    scheduler.call("schedulePlaced", plan, 0, placed);
    expect(scores("s", 1 + 2 * TTL_MS).indexOf(1)).toBe(placed);
    expect(scores("s", 2 + 3 * TTL_MS).indexOf(1)).toBe(first);
  });

  test("a session moves only when its endpoint is no candidate", () => {
    scores("s", 1);
    scheduler.call("schedulePlaced", plan, 0, 2);
    scores("s", 2);
    scheduler.call("schedulePlaced", plan, 0, 3);
    expect(scores("s", 3)).toEqual([0, 0, 1, 0]);
    scores("s", 4, [0, 3]);
    scheduler.call("schedulePlaced", plan, 0, 3);
    expect(scores("s", 5)).toEqual([0, 0, 0, 1]);
  });

  test("a binding ends with the endpoint's generation", () => {
    const first = scores("s", 1).indexOf(1);
    const placed = (first + 1) % 4;
    scheduler.call("schedulePlaced", plan, 0, placed);
    scheduler.call("setRowU32", 2, placed, 2);
    expect(scores("s", 2).indexOf(1)).toBe(first);
  });

  test("a request without an id is neutral", () => {
    expect(scores(undefined, 1)).toEqual([0, 0, 0, 0]);
  });

  test("the filter keeps all for an unbound session and one for a bound one", () => {
    const filter = scheduler.instance({
      type: TYPES["session-affinity-filter"],
      mode: 1,
      headers: [0],
      a: TTL_MS,
    });
    scores("s", 1);
    expect(scheduler.kept(filter)).toEqual([0, 1, 2, 3]);
    scheduler.call("schedulePlaced", plan, 0, 2);
    scores("s", 2);
    expect(scheduler.kept(filter)).toEqual([2]);
  });

  test("a full table forgets old sessions and keeps the latest", () => {
    const SESSIONS = 40_000;
    const id = scheduler.alloc(8);
    const request = (session: number) => {
      scheduler.call("requestReset", session, 1n);
      scheduler.view.setUint32(id, session, true);
      scheduler.call("requestSetHeader", 0, id, 4);
    };
    for (let session = 0; session < SESSIONS; session++) {
      request(session);
      scheduler.call("schedulePlaced", plan, 0, session % 4);
    }
    for (const session of [SESSIONS - 1, SESSIONS - 2, SESSIONS - 3]) {
      request(session);
      scheduler.candidates([0, 1, 2, 3]);
      expect(scheduler.scores(scorer).indexOf(1)).toBe(session % 4);
    }
  });
});

describe("schedule", () => {
  function plan(
    filters: number[],
    scorers: [number, number][],
    picker: number = TYPES["max-score-picker"],
    results = 3,
  ): number {
    const at = scheduler.alloc(336);
    scheduler.call("planReset", at, picker, results);
    for (const filter of filters) scheduler.call("planAddFilter", at, filter);
    for (const [scorer, weight] of scorers) scheduler.call("planAddScorer", at, scorer, weight);
    return at;
  }

  test("sums weight × score and lists the best first", () => {
    scheduler.request({ matchable: 100 });
    scheduler.endpoints([
      {
        name: "a",
        metrics: { waiting: 10, kvUsage: 0.2 },
        prefixMatch: { matchBlocks: 100, totalBlocks: 100, blockSizeTokens: 1 },
      },
      { name: "b", metrics: { waiting: 0, kvUsage: 0.5 } },
      { name: "c", metrics: { waiting: 5, kvUsage: 0.9 } },
    ]);
    const of = (type: keyof typeof TYPES, a?: number, b?: number) =>
      scheduler.instance({
        type: TYPES[type],
        ...(a === undefined ? {} : { a }),
        ...(b === undefined ? {} : { b }),
      });
    const at = plan(
      [],
      [
        [of("queue-scorer"), 2],
        [of("kv-cache-utilization-scorer"), 2],
        [of("prefix-cache-scorer", 0, 8192), 3],
      ],
    );
    expect(scheduler.call("schedule", at, 0)).toBe(3);
    const results = scheduler.results();
    expect(results.map(({ row }) => row)).toEqual([0, 1, 2]);
    expectScores(
      results.map(({ total }) => total),
      [4.6, 3, 1.2],
    );
  });

  test("takes negative and zero weights", () => {
    scheduler.request();
    scheduler.endpoints([
      { name: "a", metrics: { waiting: 0 } },
      { name: "b", metrics: { waiting: 9 } },
    ]);
    const queue = scheduler.instance({ type: TYPES["queue-scorer"] });
    scheduler.call("schedule", plan([], [[queue, -1]]), 0);
    expect(scheduler.results().map(({ row }) => row)).toEqual([1, 0]);
    scheduler.candidates([0, 1]);
    scheduler.call("schedule", plan([], [[queue, 0]]), 0);
    expect(scheduler.results().map(({ total }) => total)).toEqual([0, 0]);
  });

  test("clamps every score to 0–1 and reads NaN as 0", () => {
    scheduler.candidates([0, 1, 2, 3]);
    scheduler.call("totalsReset");
    for (const [i, score] of [-5, 7, 0.5, Number.NaN].entries()) scheduler.call("setScore", i, score);
    scheduler.call("totalsAdd", 2);
    expect([0, 1, 2, 3].map((i) => scheduler.call("totalOf", i))).toEqual([0, 2, 1, 0]);
  });

  test("says why there is no result", () => {
    const none = scheduler.instance({
      type: TYPES["label-selector-filter"],
      requirements: [{ op: OPERATORS.exists, key: "absent", values: [] }],
    });
    const at = plan([scheduler.instance({ type: TYPES["role-filter"], mode: 1 }), none], []);
    scheduler.request();
    scheduler.endpoints([]);
    expect(scheduler.call("schedule", at, 0)).toBe(0);
    expect(scheduler.call("scheduleReason")).toBe(1);
    scheduler.endpoints([{ name: "a" }]);
    expect(scheduler.call("schedule", at, 0)).toBe(0);
    expect(scheduler.call("scheduleReason")).toBe(2);
    expect(scheduler.call("scheduleRefuser")).toBe(none);
    scheduler.candidates([0]);
    expect(scheduler.call("schedule", plan([], []), 0)).toBe(1);
    expect(scheduler.call("scheduleReason")).toBe(0);
    expect(scheduler.call("scheduleRefuser")).toBe(0);
  });

  test("the same request and random state give the same answer", () => {
    scheduler.endpoints(Array.from({ length: 256 }, (_, i) => ({ name: `e${i}` })));
    const at = plan([], [], TYPES["random-picker"]);
    const answer = (random: bigint) => {
      scheduler.request({}, 1, random);
      scheduler.candidates(Array.from({ length: 256 }, (_, i) => i));
      scheduler.call("schedule", at, 0);
      return scheduler.results();
    };
    expect(answer(7n)).toEqual(answer(7n));
    expect(answer(7n)).not.toEqual(answer(8n));
  });

  test("a plan holds 16 filters and 16 scorers and refuses more", () => {
    const at = plan([], []);
    const instance = scheduler.instance({ type: TYPES["queue-scorer"] });
    for (let i = 0; i < 16; i++) expect(scheduler.call("planAddScorer", at, instance, 1)).toBe(1);
    expect(scheduler.call("planAddScorer", at, instance, 1)).toBe(0);
    for (let i = 0; i < 16; i++) expect(scheduler.call("planAddFilter", at, instance)).toBe(1);
    expect(scheduler.call("planAddFilter", at, instance)).toBe(0);
  });
});

describe("base64 of session tokens", () => {
  test.each(["", "a", "ab", "abc", "abcd", "default/pod-1", "ü/ñ", "~~~???"])(
    "%j round-trips as Node's",
    (text) => {
      const { ptr, len } = scheduler.put(text);
      const out = scheduler.alloc(64);
      scheduler.call("base64Encode", ptr, len, out);
      const encoded = scheduler.text(out, scheduler.call("base64EncodedBytes", len));
      expect(encoded).toBe(Buffer.from(text).toString("base64"));
      const back = scheduler.alloc(64);
      if (len > 0)
        expect(scheduler.text(back, scheduler.call("base64Decode", out, encoded.length, back))).toBe(text);
    },
  );

  test.each(["", "a", "abc", "abcde", "ab=c", "====", "a===", "ab c", "abc\n", "ab-_"])(
    "refuses %j",
    (text) => {
      const { ptr, len } = scheduler.put(text);
      expect(scheduler.call("base64Decode", ptr, len, scheduler.alloc(64))).toBe(-1);
    },
  );
});
