// Fleet runs as Markdown tables and as the JSON document.
import { describe, expect, it } from "vitest";
import {
  FIGURES,
  fleetDocument,
  type FleetSummary,
  markdownTable,
  rateTable,
  ratioTable,
  runsReport,
} from "../../host-sim/fleet/report/index.ts";
import { fleetSummary } from "./support/fleet-records.ts";

const slow = fleetSummary("slow");
const fast: FleetSummary = {
  ...slow,
  policy: "fast",
  ttftMs: { mean: 123.4, p50: 299, p90: 400, p99: 900 },
  goodputRps: 0.75,
  hitRatio: Number.NaN,
  failures: 2,
  failureKinds: { died: 2 },
};

describe("markdownTable", () => {
  it("marks the best of each column unless all read the same", () => {
    expect(markdownTable([slow, fast]).split("\n")).toEqual([
      "| policy | mean TTFT, s | TTFT p50, s | TTFT p90, s | TTFT p99, s | mean TPOT, ms | TPOT p50, ms" +
        " | TPOT p99, ms | mean E2E, s | E2E p50, s | E2E p90, s | E2E p99, s | in TTFT SLO | in TPOT SLO" +
        " | in both SLOs | requests/s in TTFT SLO | requests/s in both SLOs | output tokens/s | all tokens/s" +
        " | cache hits | requests max/mean | busy max/mean | load CV | preemptions | failures |",
      `| --- |${" ---: |".repeat(24)}`,
      "| slow | 0.30 | 0.30 | 0.50 | **0.50** | 20.0 | 20.0 | 20.0 | 0.50 | 0.50 | 0.70 | 0.70 | 100.0 %" +
        " | 100.0 % | 100.0 % | 0.50 | 0.50 | 6 | 56 | **25.0 %** | 1.20 | 1.50 | – | 3 | 0 |",
      "| fast | **0.12** | 0.30 | **0.40** | 0.90 | 20.0 | 20.0 | 20.0 | 0.50 | 0.50 | 0.70 | 0.70 | 100.0 %" +
        " | 100.0 % | 100.0 % | 0.50 | **0.75** | 6 | 56 | – | 1.20 | 1.50 | – | 3 | 2 (2 × died) |",
    ]);
  });

  it("marks values that print alike alike", () => {
    const alike = { ...fast, policy: "alike", ttftMs: { ...fast.ttftMs, mean: 124.4 } };
    const rows = markdownTable([slow, fast, alike]).split("\n").slice(2);
    expect(rows.map((row) => row.split(" | ")[1])).toEqual(["0.30", "**0.12**", "**0.12**"]);
  });

  it("prints times below a tenth of a second to the millisecond", () => {
    const quick = { ...slow, policy: "quick", ttftMs: { mean: 99.9, p50: 51.2, p90: 100, p99: 200 } };
    const row = markdownTable([slow, quick]).split("\n").at(-1)!;
    expect(row).toMatch(/^\| quick \| \*\*0\.100\*\* \| \*\*0\.051\*\* \| \*\*0\.10\*\* \| \*\*0\.20\*\* \|/);
  });

  it("marks nothing for a single run", () => {
    expect(markdownTable([slow])).not.toContain("**");
  });
});

describe("ratioTable", () => {
  it("says how many times better one policy is than each other", () => {
    const idle = { ...slow, policy: "idle", goodputRps: 0, totalTokensPerSecond: 5.55 };
    expect(ratioTable([slow, fast, idle], "slow").split("\n")).toEqual([
      "| slow against | mean TTFT | TTFT p90 | TTFT p99 | mean E2E | requests/s in TTFT SLO" +
        " | requests/s in both SLOs | all tokens/s |",
      `| --- |${" ---: |".repeat(7)}`,
      "| fast | 0.41× | 0.80× | 1.80× | 1.00× | 1.00× | 0.67× | 1.00× |",
      "| idle | 1.00× | 1.00× | 1.00× | 1.00× | 1.00× | ∞ | 10.0× |",
    ]);
  });

  it("has no ratio where a side was not measured", () => {
    const refused = { ...slow, policy: "none", ttftMs: { mean: NaN, p50: NaN, p90: NaN, p99: NaN } };
    expect(ratioTable([slow, refused], "slow")).toContain("| none | – | – | – | 1.00× |");
  });

  it("refuses a policy that was not run", () => {
    expect(() => ratioTable([slow, fast], "epp")).toThrow(
      new RangeError('ours is "epp", expected one of slow, fast'),
    );
  });
});

describe("rateTable", () => {
  it("has a column a rate in order, and marks the best of each", () => {
    const runs = [
      { rate: 2, summary: { ...slow, ttftMs: { ...slow.ttftMs, mean: 4000 } } },
      { rate: 1.5, summary: slow },
      { rate: 1.5, summary: fast },
    ];
    expect(rateTable(runs, FIGURES.ttftMean).split("\n")).toEqual([
      "| mean TTFT, s | × 1.5 | × 2 |",
      "| --- | ---: | ---: |",
      "| slow | 0.30 | **4.00** |",
      "| fast | **0.12** | – |",
    ]);
  });
});

describe("runsReport", () => {
  const [ours, other] = [
    { ...slow, policy: "epp", reuseCeiling: 0.374 },
    { ...slow, policy: "other", reuseCeiling: 0.374 },
  ];
  const headings = (text: string): string[] => text.split("\n").filter((line) => line.startsWith("#"));

  it("has all figures of a rate, and ours against the others", () => {
    const runs = [
      { rate: 1.5, summary: ours },
      { rate: 1.5, summary: other },
    ];
    expect(runsReport(runs, "1 gateway, seed 1", "epp")).toBe(
      "### hand-made × 1.5: 5 requests, 1.25 a second, 2 replicas; 1 gateway, seed 1; " +
        `one cache for all would hit 37.4 %\n\n${markdownTable([ours, other])}\n\n` +
        `${ratioTable([ours, other], "epp")}\n`,
    );
  });

  it("has ratios only where ours was run beside others", () => {
    for (const summary of [ours, other]) {
      expect(runsReport([{ rate: 1, summary }], "x", "epp")).not.toContain("against");
    }
  });

  it("has tables over the rates of a workload that was run at several", () => {
    const chats = { ...slow, workload: "chats", reuseCeiling: Number.NaN };
    const runs = [
      { rate: 1, summary: ours },
      { rate: 1, summary: chats },
      { rate: 2, summary: chats },
    ];
    const report = runsReport(runs, "x", "epp");
    expect(headings(report)).toEqual([
      "### hand-made × 1: 5 requests, 1.25 a second, 2 replicas; x; one cache for all would hit 37.4 %",
      "### chats × 1: 5 requests, 1.25 a second, 2 replicas; x",
      "### chats × 2: 5 requests, 1.25 a second, 2 replicas; x",
      "### chats over its rates; x",
    ]);
    expect(report.split("\n").filter((line) => line.endsWith("| × 1 | × 2 |"))).toEqual([
      "| mean TTFT, s | × 1 | × 2 |",
      "| in TTFT SLO | × 1 | × 2 |",
      "| in both SLOs | × 1 | × 2 |",
      "| requests/s in both SLOs | × 1 | × 2 |",
      "| all tokens/s | × 1 | × 2 |",
    ]);
  });
});

describe("fleetDocument", () => {
  it("says what was run, and null where nothing was measured", () => {
    const text = fleetDocument({
      versions: { node: "v20.0.0" },
      seed: 7,
      slo: { ttftMs: 4000, tpotMs: 50 },
      options: { replicas: 16 },
      runs: [{ rate: 1.5, summary: fast }],
    });
    expect(text.endsWith("}\n")).toBe(true);
    expect(JSON.parse(text)).toEqual({
      format: "epp-wasm/fleet-report",
      version: 1,
      versions: { node: "v20.0.0" },
      seed: 7,
      slo: { ttftMs: 4000, tpotMs: 50 },
      options: { replicas: 16 },
      runs: [{ rate: 1.5, summary: { ...fast, hitRatio: null, reuseCeiling: null, loadVariation: null } }],
    });
  });
});
