// The report's arithmetic and its tables.
import { describe, expect, it } from "vitest";
import {
  markdownTable,
  percentile,
  type RunSummary,
  SLO,
  summarize,
  textTable,
  ttftGain,
} from "../../host-sim/workload/report.ts";
import type { RequestResult } from "../../host-sim/workload/result.ts";
import { measureStickiness } from "../../host-sim/workload/stickiness.ts";
import type { PlannedRequest } from "../../host-sim/workload/types.ts";

function result(index: number, more: Partial<RequestResult> = {}): RequestResult {
  return {
    index,
    kind: "chat",
    session: "s",
    turn: 0,
    sentMs: index * 1000,
    lateMs: 1,
    timeToFirstTokenMs: 100 * (index + 1),
    endToEndMs: 1000,
    timePerTokenMs: 20,
    promptTokens: 100,
    cachedTokens: 25,
    outputTokens: 10,
    servedBy: `r${index % 4}`,
    status: 200,
    failure: null,
    failureDetail: "",
    ...more,
  };
}

describe("percentile", () => {
  it.each([
    [[], 0.5, Number.NaN],
    [[7], 0.5, 7],
    [[7], 0.99, 7],
    [[4, 1, 3, 2], 0.5, 2],
    [[4, 1, 3, 2], 0.51, 3],
    [[4, 1, 3, 2], 1, 4],
    [Array.from({ length: 100 }, (_, i) => i + 1), 0.9, 90],
    [Array.from({ length: 100 }, (_, i) => i + 1), 0.99, 99],
    [Array.from({ length: 101 }, (_, i) => i + 1), 0.99, 100],
  ])("of %j at %d is %d", (values, p, expected) => {
    expect(percentile(values, p)).toBe(expected);
  });
});

describe("summarize", () => {
  it("works out every figure", () => {
    const summary = summarize(
      "x",
      [0, 1, 2, 3, 4].map((index) => result(index)),
      8,
    );
    expect(summary).toEqual({
      policy: "x",
      requests: 5,
      errors: 0,
      errorKinds: {},
      ttftMeanS: 0.3,
      ttftP50S: 0.3,
      ttftP90S: 0.5,
      ttftP99S: 0.5,
      e2eP50S: 1,
      e2eP99S: 1,
      tpotP50Ms: 20,
      tpotP99Ms: 20,
      inSlo: 1,
      outputTokensPerSecond: 10,
      prefixHitRatio: 0.25,
      busiestShare: 0.4,
      replicas: 8,
      lateMsMax: 1,
    });
  });

  it("keeps failures out of the latencies and counts them by kind", () => {
    const failed = { failure: "reset", timeToFirstTokenMs: 9e9, endToEndMs: Number.NaN } as const;
    const results = [result(0), result(1, failed), result(2, failed), result(3, { failure: "http-5xx" })];
    const summary = summarize("x", results, 4);
    expect([summary.errors, summary.errorKinds]).toEqual([3, { reset: 2, "http-5xx": 1 }]);
    expect([summary.ttftMeanS, summary.ttftP99S, summary.e2eP99S]).toEqual([0.1, 0.1, 1]);
  });

  it("counts as within the SLO what keeps both limits, and no failure", () => {
    const { ttftMs, tpotMs } = SLO;
    const shares: [Partial<RequestResult>, number][] = [
      [{ timeToFirstTokenMs: ttftMs, timePerTokenMs: tpotMs }, 1],
      [{ timeToFirstTokenMs: ttftMs + 1 }, 0],
      [{ timePerTokenMs: tpotMs + 0.1 }, 0],
      [{ timePerTokenMs: Number.NaN }, 1],
      [{ failure: "reset" }, 0],
    ];
    for (const [more, share] of shares) expect(summarize("x", [result(0, more)], 4).inSlo).toBe(share);
  });

  it("leaves out requests of one token where it takes the time between tokens", () => {
    const single = result(1, { timePerTokenMs: Number.NaN });
    expect(summarize("x", [result(0), single], 4).tpotP50Ms).toBe(20);
  });
});

describe("tables", () => {
  const runs: RunSummary[] = [
    summarize("ours", [result(0), result(1)], 4),
    summarize("a_longer_name", [result(2), result(3, { failure: "connect" })], 4),
  ];

  it("aligns the columns", () => {
    const lines = textTable(runs).split("\n");
    expect(lines).toHaveLength(4);
    expect(new Set(lines.map((line) => line.length)).size).toBe(1);
    expect(lines[0]).toMatch(/^policy\s+TTFT mean s\s+p50\s+p90\s+p99\s+E2E p50 s\s+p99\s+tokens\/s/);
    expect(lines[3]).toContain("1 (1 × connect)");
  });

  it("writes Markdown with as many cells in every row", () => {
    const cells = markdownTable(runs)
      .split("\n")
      .map((line) => line.split("|").length);
    expect(cells).toHaveLength(4);
    expect(new Set(cells).size).toBe(1);
  });

  it("compares mean times to first token", () => {
    expect(ttftGain(runs[0]!, runs[1]!)).toBeCloseTo(2, 9);
  });
});

describe("measureStickiness", () => {
  const turns = ["s", "s", "t", "s", "t"].map((session, index) => ({ index, session }) as PlannedRequest);

  it("counts turns that stayed with the replica before", () => {
    const served = ["a", "a", "b", "b", "b"].map((servedBy, index) => result(index, { servedBy }));
    const report = measureStickiness(turns, served);
    expect(report).toMatchObject({ laterTurns: 3, replicas: 2, failures: 0 });
    expect(report.stayedShare).toBeCloseTo(2 / 3, 9);
  });

  it("compares with the last turn that was answered", () => {
    const served = ["a", "x", "b", "a", "c"].map((servedBy, index) => {
      return result(index, { servedBy, failure: index === 1 ? "reset" : null });
    });
    const report = measureStickiness(turns, served);
    expect(report).toMatchObject({ laterTurns: 2, failures: 1 });
    expect(report.stayedShare).toBe(0.5);
  });
});
