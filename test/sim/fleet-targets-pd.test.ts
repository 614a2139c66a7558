// The targets of prefill and decode apart: which runs they take, how they are judged, and the report.
import { describe, expect, it } from "vitest";
import {
  type PdTargetPlan,
  pdTargetsReport,
  pdVerdicts,
  type RunPoint,
  runPdTargets,
} from "../../host-sim/fleet/experiments/index.ts";
import type { FleetSummary } from "../../host-sim/fleet/report/index.ts";
import { splitText } from "../../host-sim/fleet/roles.ts";
import { fleetSummary } from "./support/fleet-records.ts";

const split = (prefill: number, decode: number) => ({ prefill, decode, both: 0 });
const PLAN: PdTargetPlan = {
  trace: "trace",
  short: "short",
  policy: "pd",
  splits: [split(1, 3), split(2, 2)],
  rates: [1, 2, 3],
  seeds: 2,
  setting: { gateways: 1, scrapeMs: 50 },
};
/** Rates up to which all requests keep their SLOs; beyond, the share falls by a half of (rate ÷ capacity − 1). */
const CAPACITIES: Readonly<Record<string, number>> = {
  "round-robin both": 1.2,
  "epp both": 2,
  "pd both": 3,
  "pd 1:3": 1.5,
  "pd 2:2": 2.5,
};

function model(
  capacities: Readonly<Record<string, number>> = CAPACITIES,
  changes: (point: RunPoint) => Partial<FleetSummary> = () => ({}),
) {
  const points: RunPoint[] = [];
  const run = (point: RunPoint): Promise<FleetSummary> => {
    points.push(point);
    const fleet = splitText(point.split!);
    const load = point.rate / capacities[`${point.policy} ${fleet}`]!;
    const inSlo = Math.min(1, Math.max(0, 1.5 - load / 2));
    return Promise.resolve({ ...fleetSummary(point.policy), fleet, inSlo, offeredRps: point.rate * 10, ...changes(point) }); // prettier-ignore
  };
  return { run, points };
}

async function missed(...given: Parameters<typeof model>): Promise<string[]> {
  const results = await runPdTargets(PLAN, model(...given).run);
  const verdicts = pdVerdicts(results, PLAN).filter(({ met }) => !met);
  return verdicts.map(({ target, measured }) => `${target}: ${measured}`);
}

describe("runPdTargets", () => {
  it("compares every fleet at every rate, and searches the highest of each", async () => {
    const { run, points } = model();
    const { roundRobin, aggregated, elastic, splits, short } = await runPdTargets(PLAN, run);
    // The model keeps 90 % at 1.2 times its capacity.
    expect(
      [roundRobin, aggregated, elastic, ...splits].map(({ name, highest }) => [name, highest.rate]),
    ).toEqual([
      ["round-robin, aggregated", 1.428],
      ["epp, aggregated", 2.39],
      ["pd, elastic", 3.551],
      ["pd, 1:3", 1.776],
      ["pd, 2:2", 2.972],
    ]);
    for (const { runs } of [roundRobin, aggregated, elastic, ...splits])
      expect(runs.map((seeds) => seeds.length)).toEqual([2, 2, 2]);
    expect(short).toMatchObject({ aggregated: { policy: "epp" }, elastic: { policy: "pd" } });
    const keys = points.map((point) => JSON.stringify(point));
    expect(new Set(keys).size).toBe(keys.length);
    for (const point of points) expect(point).toMatchObject({ drawnFor: 4, gateways: 1, scrapeMs: 50 });
    const onShort = points.filter(({ workload }) => workload === "short");
    expect(onShort.map(({ policy, rate }) => [policy, rate])).toEqual([
      ["epp", 1],
      ["pd", 1],
    ]);
  });

  it.each([
    [{ splits: [] }, "splits is , expected splits of one number of replicas"],
    [{ splits: [split(1, 3), split(1, 1)] }, "splits is 1:3,1:1, expected splits of one number"],
    [{ splits: [{ prefill: 0, decode: 0, both: 0 }] }, "splits is both, expected splits of one number"],
    [{ seeds: 0 }, "seeds is 0, expected at least 1"],
    [{ rates: [] }, "rates is empty, expected at least one rate"],
  ])("refuses %j", async (changes, message) => {
    await expect(runPdTargets({ ...PLAN, ...changes }, model().run)).rejects.toThrow(message);
  });
});

describe("pdVerdicts", () => {
  it("judges every target", async () => {
    const verdicts = pdVerdicts(await runPdTargets(PLAN, model().run), PLAN);
    expect(verdicts.filter(({ met }) => !met)).toEqual([]);
    expect(verdicts.map(({ target, measured }) => `${target}: ${measured}`)).toEqual([
      "× 1: elastic in both SLOs no less than aggregated and the best split: 100.0 % against 100.0 % (epp, aggregated)",
      "× 2: elastic in both SLOs no less than aggregated and the best split: 100.0 % against 100.0 % (epp, aggregated)",
      "× 3: elastic in both SLOs no less than aggregated and the best split: 100.0 % against 90.0 % (pd, 2:2)",
      "elastic's highest rate no lower than aggregated's and the best split's: × 3.551 against × 2.972 (pd, 2:2)",
      "elastic's highest rate ≥ 2.30× round robin's: 2.49× (× 3.551 against × 1.428)",
      "× 1: the split with the fewest prefill replicas in both SLOs no less than round robin: 100.0 % (pd, 1:3) against 100.0 %",
      "× 2: the split with the fewest prefill replicas in both SLOs no less than round robin: 83.3 % (pd, 1:3) against 66.7 %",
      "× 3: the split with the fewest prefill replicas in both SLOs no less than round robin: 50.0 % (pd, 1:3) against 25.0 %",
      "short prompts: mean TTFT at most 5 % worse than aggregated: 1.00×",
      "short prompts: TTFT p90 at most 5 % worse than aggregated: 1.00×",
      "short prompts: in both SLOs at most 5 % worse than aggregated: 1.00×",
      "short prompts: none computed elsewhere: 0.0 %",
    ]);
  });

  it("misses what a weaker elastic fleet misses", async () => {
    expect(await missed({ ...CAPACITIES, "pd both": 2.4 })).toEqual([
      "× 3: elastic in both SLOs no less than aggregated and the best split: 87.5 % against 90.0 % (pd, 2:2)",
      "elastic's highest rate no lower than aggregated's and the best split's: × 2.856 against × 2.972 (pd, 2:2)",
      "elastic's highest rate ≥ 2.30× round robin's: 2.00× (× 2.856 against × 1.428)",
    ]);
  });

  it("misses a wrong split that is worse than none, and takes a difference of half a percent for none", async () => {
    expect(
      (await missed({ ...CAPACITIES, "pd 1:3": 1 })).filter((text) => text.includes("fewest")),
    ).toHaveLength(2);
    const near =
      (by: number, seeds = [0, 1]) =>
      (point: RunPoint) =>
        seeds.includes(point.seedStep ?? 0) &&
        point.rate === 1 &&
        point.policy === "pd" &&
        splitText(point.split!) === "both" &&
        point.workload === "trace"
          ? { inSlo: 1 - by }
          : {};
    expect(await missed(CAPACITIES, near(0.004))).toEqual([]);
    expect(await missed(CAPACITIES, near(0.006))).toHaveLength(1);
    // What counts is the mean over the seeds.
    expect(await missed(CAPACITIES, near(0.006, [1]))).toEqual([]);
    expect(await missed(CAPACITIES, near(0.012, [1]))).toHaveLength(1);
  });

  it("misses slower short prompts, and short prompts that are computed elsewhere", async () => {
    const onShort = (changes: Partial<FleetSummary>) => (point: RunPoint) =>
      point.workload === "short" && point.policy === "pd" ? changes : {};
    const { ttftMs } = fleetSummary("pd");
    const slower = { ttftMs: { ...ttftMs, mean: ttftMs.mean * 1.06 } };
    expect(await missed(CAPACITIES, onShort(slower))).toEqual([
      "short prompts: mean TTFT at most 5 % worse than aggregated: 0.94×",
    ]);
    const disaggregation = { share: 0.01, handoverMs: 1, pulledShare: 1, failedPrefills: 0 };
    expect(await missed(CAPACITIES, onShort({ disaggregation }))).toEqual([
      "short prompts: none computed elsewhere: 1.0 %",
    ]);
  });
});

it("reports verdicts first, then every fleet", async () => {
  const results = await runPdTargets(PLAN, model({ ...CAPACITIES, "pd both": 2.4 }).run);
  const report = pdTargetsReport(results, PLAN, ["as the test has it"]);
  expect(report).toMatch(
    /^# Targets of prefill and decode apart\n\n- as the test has it\n\n\*\*9 of 12 met\.\*\*\n/,
  );
  expect(report).toContain("| 87.5 % against 90.0 % (pd, 2:2) | **missed** |");
  expect(report).toContain("| pd, elastic | 2.856 | 28.56 |");
  expect(report).toContain("| in both SLOs | × 1 | × 2 | × 3 |");
  expect(report).toContain("| pd, 1:3 | 100.0 % | 83.3 % | 50.0 % |");
  expect(report).toContain("## short\n\n| policy |");
});
