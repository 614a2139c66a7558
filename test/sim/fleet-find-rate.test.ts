// The search for the highest rate that keeps an SLO.
import { describe, expect, it } from "vitest";
import {
  FIND_RATE_RUNS_MAX,
  findRate,
  rateText,
  remembered,
} from "../../host-sim/fleet/experiments/index.ts";
import { FIGURES, type FleetSummary } from "../../host-sim/fleet/report/index.ts";
import { fleetModel } from "./support/fleet-model.ts";
import { fleetSummary } from "./support/fleet-records.ts";

const SETTING = { gateways: 1, scrapeMs: 50 };

/** All requests are in SLO up to a rate, none beyond. */
function cliff(at: number): { run: (rate: number) => Promise<FleetSummary>; rates: number[] } {
  const rates: number[] = [];
  const run = (rate: number): Promise<FleetSummary> => {
    rates.push(rate);
    return Promise.resolve({ ...fleetSummary("p"), inSlo: rate <= at ? 1 : 0 });
  };
  return { run, rates };
}

describe("findRate", () => {
  it.each([
    [1, 1],
    [1.83, 1.811],
    [1.999, 1.961],
    [2, 2],
    [0.6, 0.5976],
    [0.0317, 0.03126],
    [31.9, 31.36],
  ])("finds the rate below a cliff at %d to 2 %%", async (at, expected) => {
    const { run, rates } = cliff(at);
    const found = await findRate(run, 0.9);
    expect(found).toMatchObject({ rate: expected, bound: "", runs: rates.length });
    expect(found.summary.inSlo).toBe(1);
    expect(expected * 1.021).toBeGreaterThan(at);
    expect(new Set(rates).size).toBe(rates.length);
    expect(rates.length).toBeLessThanOrEqual(FIND_RATE_RUNS_MAX);
    expect(rateText(found)).toBe(String(expected));
  });

  it("takes its share at the boundary, and the figure it is given", async () => {
    const { run } = fleetModel({ p: 1 });
    const at = (rate: number): Promise<FleetSummary> =>
      run({ policy: "p", workload: "w", rate, ...SETTING }).then((summary) => ({ ...summary, inSlo: 0 }));
    // The model keeps all at rate 1 exactly, and 75 % at 1.5.
    expect(await findRate(at, 1, FIGURES.ttftInSlo)).toMatchObject({ rate: 1 });
    expect(await findRate(at, 0.75, FIGURES.ttftInSlo)).toMatchObject({ rate: 1.486 });
    expect(await findRate(at, 0.75)).toMatchObject({ bound: "below" });
  });

  it("stops at the lowest rate", async () => {
    const { run, rates } = cliff(0.031);
    const found = await findRate(run, 0.9);
    expect(found).toMatchObject({ rate: 0.03126, bound: "below", runs: 6 });
    expect(rates).toEqual([1, 0.5, 0.25, 0.125, 0.06251, 0.03126]);
    expect(rateText(found)).toBe("< 0.03126");
  });

  it("stops at the highest rate", async () => {
    const { run, rates } = cliff(100);
    const found = await findRate(run, 0.9);
    expect(found).toMatchObject({ rate: 31.99, bound: "above", runs: 6 });
    expect(rates.at(-1)).toBe(31.99);
    expect(rateText(found)).toBe("≥ 31.99");
  });

  it.each([0, -0.1, 1.01, Number.NaN])("refuses the share %d", async (share) => {
    await expect(findRate(cliff(1).run, share)).rejects.toThrow(
      `share is ${share}, expected a number above 0, at most 1`,
    );
  });

  it("fails when a run fails", async () => {
    await expect(findRate(() => Promise.reject(new Error("no engine")), 0.9)).rejects.toThrow("no engine");
  });
});

describe("remembered", () => {
  it("carries out each point once", async () => {
    const { run, points } = fleetModel({ a: 1, b: 1 });
    const once = remembered(run);
    const point = { policy: "a", workload: "w", rate: 1, ...SETTING };
    const [first, again] = await Promise.all([once(point), once({ ...point })]);
    expect(again).toBe(first);
    for (const other of [
      { policy: "b" },
      { workload: "v" },
      { rate: 2 },
      { gateways: 2 },
      { scrapeMs: 51 },
    ]) {
      await once({ ...point, ...other });
    }
    expect(points).toHaveLength(6);
  });
});
