// The figures of a fleet run, worked out by hand.
import { describe, expect, it } from "vitest";
import { type FleetSummary, type Slo, summarizeRun } from "../../host-sim/fleet/report/index.ts";
import {
  failedRecord,
  fleetRequest,
  fleetWorkload,
  loadSample,
  requestRecord,
  runRecord,
} from "./support/fleet-records.ts";

const SLO: Slo = { ttftMs: 4000, tpotMs: 50 };
const FIVE = [0, 1, 2, 3, 4].map((index) => requestRecord(index));

describe("summarizeRun", () => {
  it("works out every figure", () => {
    const samples = [
      loadSample(0, 0, 0, 0),
      loadSample(0, 1, 0, 0),
      loadSample(1000, 0, 1, 2),
      loadSample(1000, 1, 0, 1),
      loadSample(2000, 0, 0, 3),
      loadSample(2000, 1, 4, 5),
    ];
    const record = runRecord(FIVE, { samples });
    expect(summarizeRun(record, fleetWorkload(5), { ttftMs: 300, tpotMs: 20 }, () => 0.4)).toEqual({
      policy: "p",
      workload: "hand-made",
      requests: 5,
      replicas: 2,
      offeredRps: 5 / 4,
      ttftMs: { mean: 300, p50: 300, p90: 500, p99: 500 },
      tpotMs: { mean: 20, p50: 20, p90: 20, p99: 20 },
      e2eMs: { mean: 500, p50: 500, p90: 700, p99: 700 },
      ttftInSlo: 0.6,
      tpotInSlo: 1,
      inSlo: 0.6,
      ttftGoodputRps: 0.3,
      goodputRps: 0.3,
      outputTokensPerSecond: 5.5,
      totalTokensPerSecond: 55.5,
      hitRatio: 0.25,
      reuseCeiling: 0.4,
      requestImbalance: 3 / 2.5,
      busyImbalance: 1.5,
      // Deviations 0, 1 and 3 over means 0, 2 and 6.
      loadVariation: 0.5,
      failures: 0,
      failureKinds: {},
      preemptions: 3,
      replicaHours: 4000 / 3_600_000,
      durationMs: 10_000,
      wallMs: 7,
    } satisfies FleetSummary);
  });

  it("counts a failed request as a missed SLO, and only what it brought", () => {
    const diedAfterTwo = requestRecord(1, { outputTokens: 2, failure: "died" });
    const requests = [FIVE[0]!, diedAfterTwo, failedRecord(2, "refused"), failedRecord(3, "refused")];
    const summary = summarizeRun(runRecord(requests), fleetWorkload(4), SLO);
    expect(summary).toMatchObject({
      ttftMs: { mean: 100, p50: 100, p90: 100, p99: 100 },
      ttftInSlo: 0.25,
      tpotInSlo: 0.25,
      inSlo: 0.25,
      goodputRps: 0.1,
      outputTokensPerSecond: 1.3,
      totalTokensPerSecond: 21.3,
      hitRatio: 0.25,
      requestImbalance: 1,
      failures: 3,
      failureKinds: { died: 1, refused: 2 },
    });
  });

  it("holds a request to its client's own SLO first", () => {
    const workload = fleetWorkload(
      5,
      fleetRequest(0, { sloTtftMs: 99 }),
      fleetRequest(1, { sloTtftMs: 200, sloTpotMs: 19 }),
      fleetRequest(2, { sloTtftMs: 300, sloTpotMs: 20 }),
    );
    const strict = summarizeRun(runRecord(FIVE), workload, { ttftMs: 450, tpotMs: 20 });
    // TTFT is missed by 0 (its own wish) and 4 (the default), TPOT by 1.
    expect(strict).toMatchObject({
      ttftInSlo: 0.6,
      tpotInSlo: 0.8,
      inSlo: 0.4,
      ttftGoodputRps: 0.3,
      goodputRps: 0.2,
    });
  });

  it("gives an answer of one token no time between tokens, and any TPOT SLO", () => {
    const one = requestRecord(0, { outputTokens: 1, endMs: 100 });
    const summary = summarizeRun(runRecord([one]), fleetWorkload(1), { ttftMs: 1000, tpotMs: 1e-9 });
    expect(summary.tpotMs).toEqual({ mean: NaN, p50: NaN, p90: NaN, p99: NaN });
    expect(summary.tpotInSlo).toBe(1);
  });

  it("has no figures where nothing was measured", () => {
    const summary = summarizeRun(runRecord([failedRecord(0, "connect")]), fleetWorkload(1), SLO);
    expect(summary.ttftMs.mean).toBeNaN();
    expect(summary.e2eMs.p99).toBeNaN();
    expect(summary.hitRatio).toBeNaN();
    expect(summary.loadVariation).toBeNaN();
    expect(summary.reuseCeiling).toBeNaN();
    expect(summary.requestImbalance).toBeNaN();
    expect(summary.inSlo).toBe(0);
  });

  it.each([
    [{ ttftMs: 0, tpotMs: 50 }, "slo.ttftMs is 0, expected a number above 0"],
    [{ ttftMs: 4000, tpotMs: -1 }, "slo.tpotMs is -1, expected a number above 0"],
    [{ ttftMs: Number.NaN, tpotMs: 50 }, "slo.ttftMs is NaN, expected a number above 0"],
  ])("refuses the SLO %j", (slo, message) => {
    expect(() => summarizeRun(runRecord(FIVE), fleetWorkload(5), slo)).toThrow(new RangeError(message));
  });

  it("refuses a record of another workload", () => {
    expect(() => summarizeRun(runRecord(FIVE), fleetWorkload(4), SLO)).toThrow(
      new RangeError('request index is 4, expected 0–3 as in "hand-made"'),
    );
  });
});
