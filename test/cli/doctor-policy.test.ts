// What doctor says of pool policies that were refused, and of rewrites that could not be made.
import { describe, expect, it } from "vitest";
import { judge } from "../../cli/commands/doctor.ts";
import type { Observation } from "../../cli/commands/doctor/collect.ts";

/** A gateway about which there is nothing else to say but these statistics. */
function codesOf(stats: Readonly<Record<string, number>>): string[] {
  const observation = {
    version: "1.40.0",
    view: { plugins: [], clusters: new Map(), statsTags: [], refused: [] },
    stats: new Map(Object.entries(stats).map(([name, value]) => [`wasmcustom.epp_${name}`, value])),
    status: null,
    readiness: null,
  } as unknown as Observation;
  return judge(observation).findings.map(({ code, severity }) => `${severity} ${code}`);
}

describe("doctor", () => {
  const others = codesOf({});

  it.each([
    ["policies_refused_total", "warning policy-refused"],
    ["rewrites_missed_total", "warning rewrites-missed"],
    ["responses_not_restored_total", "warning responses-not-restored"],
  ])("names %s from the first one on", (metric, finding) => {
    expect(codesOf({ [metric]: 0 })).toEqual(others);
    expect(codesOf({ [metric]: 1 }).filter((code) => !others.includes(code))).toEqual([finding]);
  });
});
