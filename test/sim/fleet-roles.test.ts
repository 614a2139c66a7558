// Splits of a fleet into roles, and the tables that compare them.
import { describe, expect, it } from "vitest";
import {
  bestSplitTable,
  markdownTable,
  namedByFleet,
  splitsReport,
} from "../../host-sim/fleet/report/index.ts";
import { ALL_BOTH, parseSplit, replicasOf, splitText, withRoles } from "../../host-sim/fleet/roles.ts";
import { summarizeRun } from "../../host-sim/fleet/report/index.ts";
import { fleetOf } from "./support/fleet.ts";
import { fleetSummary, fleetWorkload, requestRecord, runRecord } from "./support/fleet-records.ts";

describe("splits", () => {
  it.each([
    ["4:12", { prefill: 4, decode: 12, both: 0 }, 16],
    ["4:4:8", { prefill: 4, decode: 4, both: 8 }, 16],
    ["0:1", { prefill: 0, decode: 1, both: 0 }, 1],
    ["255:0:1", { prefill: 255, decode: 0, both: 1 }, 256],
    ["both", ALL_BOTH, 0],
  ])("%s is read and written", (text, split, replicas) => {
    expect(parseSplit(text)).toEqual(split);
    expect(splitText(split)).toBe(text);
    expect(replicasOf(split)).toBe(replicas);
  });

  it.each(["", "4", "4:", ":4", "4:0", "0:0", "-1:4", "4:4:4:4", "1.5:2", "200:57", "BOTH", "4 : 4"])(
    "%j is none",
    (text) => expect(parseSplit(text)).toBeUndefined(),
  );

  it("give replicas roles in order", () => {
    const roles = withRoles(fleetOf(4), { prefill: 1, decode: 2, both: 1 }).map(({ role }) => role);
    expect(roles).toEqual(["prefill", "decode", "decode", "both"]);
    expect(withRoles(fleetOf(2), ALL_BOTH).map(({ role }) => role)).toEqual(["both", "both"]);
  });
});

const runOf = (fleet: string, rate: number, inSlo: number, ttftS = 1) => {
  const summary = { ...fleetSummary("p"), workload: "w", fleet, inSlo };
  return { rate, summary: { ...summary, ttftMs: { ...summary.ttftMs, mean: ttftS * 1000 } } };
};

describe("the tables of splits", () => {
  const runs = [
    runOf("4:12", 1, 0.9),
    runOf("8:8", 1, 0.95),
    runOf("4:12", 2, 0.5, 3),
    runOf("8:8", 2, 0.5, 2),
  ];

  it("name the best and the worst of each rate, of equal shares the faster", () => {
    const rows = bestSplitTable(runs).split("\n").slice(2);
    expect(rows.map((row) => row.split("|").map((cell) => cell.trim()))).toEqual([
      ["", "p", "× 1", "8:8", "95.0 %", "1.00", "20.0", "0.50", "4:12", "90.0 %", ""],
      ["", "p", "× 2", "8:8", "50.0 %", "2.00", "20.0", "0.50", "4:12", "50.0 %", ""],
    ]);
  });

  it("tell the fleets of a policy apart, and say which was best first", () => {
    expect(namedByFleet(runs).map(({ summary }) => summary.policy)).toEqual([
      "p 4:12",
      "p 8:8",
      "p 4:12",
      "p 8:8",
    ]);
    const report = splitsReport(runs, "here");
    expect(report).toMatch(/^### w: best split of each rate; here\n\n\| policy \| rate, × \| best split/);
    expect(report).toContain("| p 8:8 | ");
    expect(report).toContain("### w over its rates; here");
  });
});

describe("the figures of prompts that were computed elsewhere", () => {
  it("are told where there were any", () => {
    const handover = { prefilledMs: 100, pulledMs: 150, pulledTokens: 25 };
    const requests = [
      requestRecord(0, { promptTokens: 100, prefill: 1, handover }),
      requestRecord(1, {
        promptTokens: 300,
        prefill: 1,
        handover: { prefilledMs: 0, pulledMs: 150, pulledTokens: 75 },
      }),
      requestRecord(2, { failedPrefills: 2 }),
      requestRecord(3),
    ];
    const summary = summarizeRun(runRecord(requests), fleetWorkload(4), { ttftMs: 4000, tpotMs: 50 });
    expect(summary.disaggregation).toEqual({
      share: 0.5,
      handoverMs: 100,
      pulledShare: 0.25,
      failedPrefills: 2,
    });
    const [titles, , row] = markdownTable([summary]).split("\n");
    expect(titles).toMatch(
      /\| prompts computed elsewhere \| mean handover, s \| their tokens pulled \| failed prefill legs \| failures \|$/,
    );
    expect(row).toMatch(/\| 50\.0 % \| 0\.10 \| 25\.0 % \| 2 \| 0 \|$/);
    const without = markdownTable([fleetSummary("p")]);
    expect(without).not.toContain("elsewhere");
  });
});
