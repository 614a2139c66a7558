// Autoscaled fleets: Kubernetes' rule, replicas that come and go in a run, and the comparison with fixed fleets.
import { describe, expect, it } from "vitest";
import {
  autoscaleReport,
  meanReplicas,
  type RunPoint,
  runAutoscale,
} from "../../host-sim/fleet/experiments/index.ts";
import {
  HorizontalAutoscaler,
  type ScalingBehavior,
  SHIPPED_BEHAVIOR,
} from "../../host-sim/fleet/scaling/hpa.ts";
import { RoleScaler, SHIPPED_TARGETS, SHIPPED_WINDOW_MS } from "../../host-sim/fleet/scaling/role-scaler.ts";
import { readText } from "../project/files.ts";
import { parse } from "yaml";
import type { FleetEvent, Scaler } from "../../host-sim/fleet/types.ts";
import { fleetOf, fleetOfRoles, fleetRequest, inTurn, recordingPolicy, run } from "./support/fleet.ts";
import { fleetSummary } from "./support/fleet-records.ts";

const FREE: ScalingBehavior = {
  upStabilizationMs: 0,
  downStabilizationMs: 0,
  upPercent: 10_000,
  upPeriodMs: 1,
  downPods: 1000,
  downPeriodMs: 1,
};
const mean = (value: number) => [{ value, target: 0.5, type: "Value" as const }];
const total = (value: number) => [{ value, target: 100, type: "AverageValue" as const }];

describe("HorizontalAutoscaler", () => {
  it.each([
    ["replicas × mean ÷ target, rounded up", 4, 4, mean(0.8), 7],
    ["by ready replicas", 6, 4, mean(0.8), 7],
    ["sum ÷ target, rounded up", 4, 4, total(501), 6],
    ["no change within a tenth", 4, 4, mean(0.549), 4],
    ["a change beyond", 4, 4, mean(0.56), 5],
    ["no change of a sum within a tenth", 4, 4, total(439), 4],
    ["the figure that asks for most", 4, 4, [...mean(0.1), ...total(900)], 9],
    ["no figure, no change", 4, 4, mean(Number.NaN), 4],
    ["what is not known is left out", 4, 4, [...mean(Number.NaN), ...total(501)], 6],
    ["never fewer than the least", 4, 4, mean(0), 2],
    ["never more than the most", 4, 4, mean(9), 20],
  ])("wants %s", (_, current, ready, figures, wanted) => {
    expect(new HorizontalAutoscaler(2, 20, FREE).decide(current, ready, figures, 0)).toBe(wanted);
  });

  it("goes down to the most that was wanted within the window, and up at once", () => {
    const scaler = new HorizontalAutoscaler(1, 20, { ...FREE, downStabilizationMs: 100 });
    const steps = [
      [0, 800, 8],
      [50, 300, 8],
      [99, 200, 8],
      [101, 200, 3],
      [160, 200, 2],
      [161, 900, 9],
    ] as const;
    let current = 4;
    for (const [nowMs, sum, wanted] of steps) {
      current = scaler.decide(current, current, total(sum), nowMs);
      expect([nowMs, current]).toEqual([nowMs, wanted]);
    }
  });

  it("goes up to the least that was wanted within the window", () => {
    const scaler = new HorizontalAutoscaler(1, 20, { ...FREE, upStabilizationMs: 100 });
    expect(scaler.decide(4, 4, total(400), 0)).toBe(4);
    expect(scaler.decide(4, 4, total(900), 50)).toBe(4);
    expect(scaler.decide(4, 4, total(800), 120)).toBe(8);
  });

  it("adds and takes away so many in a period", () => {
    const limits = { upPercent: 100, upPeriodMs: 60_000, downPods: 1, downPeriodMs: 120_000 };
    const scaler = new HorizontalAutoscaler(1, 99, { ...FREE, ...limits });
    let current = 3;
    const sizes = [0, 15, 30, 45, 60, 75].map((s) => {
      current = scaler.decide(current, current, total(5000), s * 1000);
      return current;
    });
    expect(sizes).toEqual([6, 6, 6, 6, 12, 12]);
    const down = [200, 215, 319, 320, 440].map((s) => {
      current = scaler.decide(current, current, total(0), s * 1000);
      return current;
    });
    expect(down).toEqual([11, 11, 11, 10, 9]);
  });

  it("has the behaviour and the targets of the manifests", () => {
    const { upStabilizationMs, downStabilizationMs, upPercent, upPeriodMs, downPods, downPeriodMs } =
      SHIPPED_BEHAVIOR;
    const targets: unknown[] = [];
    for (const role of ["prefill", "decode"]) {
      const { spec } = parse(readText(`envoy/scaling/hpa/${role}.yaml`)) as { spec: HpaSpec };
      expect(spec.behavior.scaleUp).toEqual({
        stabilizationWindowSeconds: upStabilizationMs / 1000,
        policies: [{ type: "Percent", value: upPercent, periodSeconds: upPeriodMs / 1000 }],
      });
      expect(spec.behavior.scaleDown).toEqual({
        stabilizationWindowSeconds: downStabilizationMs / 1000,
        policies: [{ type: "Pods", value: downPods, periodSeconds: downPeriodMs / 1000 }],
      });
      for (const { external } of spec.metrics) targets.push([external.metric.name, external.target]);
    }
    const { uncachedTokens, saturation, tpotRatio } = SHIPPED_TARGETS;
    const milli = (share: number): object => ({ type: "Value", value: `${share * 1000}m` });
    expect(targets).toEqual([
      ["epp_scaling_uncached_tokens", { type: "AverageValue", averageValue: String(uncachedTokens) }],
      ["epp_scaling_ttft_slo_ratio", milli(0.8)],
      ["epp_scaling_saturation", milli(saturation)],
      ["epp_scaling_tpot_slo_ratio", milli(tpotRatio)],
    ]);
  });
});

interface AdapterManifest {
  readonly data: Readonly<Record<string, string>>;
}

interface HpaSpec {
  readonly metrics: readonly { external: { metric: { name: string }; target: object } }[];
  readonly behavior: { readonly scaleUp: object; readonly scaleDown: object };
}

// The small engine computes 120 tokens in 130 ms; they come every 60 ms, so that more and more of them wait.
const SMALL = { uncachedTokens: 100, saturation: 0.5, tpotRatio: 100 };

describe("RoleScaler in a run", () => {
  const burst = Array.from({ length: 60 }, (_, i) => fleetRequest(i, 1000 + i * 60, 120, 2));
  const after = fleetRequest(60, 200_000, 10, 1);
  const workload = { name: "burst", requests: [...burst, after] };
  const replicas = fleetOfRoles("prefill,prefill,prefill,decode,decode");

  async function scaled(startupMs: number, windowMs = 0) {
    const behavior = { ...FREE, downStabilizationMs: 5000 };
    const scaling = {
      prefillMin: 1,
      decodeMin: 1,
      startupMs,
      tpotMs: 50,
      targets: SMALL,
      behavior,
      windowMs,
    };
    const scaler = new RoleScaler(replicas, scaling);
    const decided: FleetEvent[] = [];
    const noting: Scaler = {
      everyMs: 500,
      absent: (replica) => scaler.absent(replica),
      decide: (view, nowMs) => {
        const events = scaler.decide(view, nowMs);
        decided.push(...events);
        return events;
      },
    };
    // Prompts go to the prefill replica with the least to do; one that drains refuses, and the decoder computes them.
    const { policy } = recordingPolicy(
      (_, { truth }) => {
        const loads = [0, 1, 2].map((one) => {
          const engine = truth(one);
          return engine === undefined ? Infinity : engine.waitingCount + engine.runningCount;
        });
        return { endpoint: 3, prefill: loads.indexOf(Math.min(...loads)), prefillBy: "gateway" };
      },
      {},
      ({ failure }, prefill) =>
        failure === "" ? { endpoint: 3, prefill, prefillBy: "gateway" } : { endpoint: 3 },
    );
    const record = await run({ replicas, policy, workload, scaler: noting, scrapeMs: 100, sampleMs: 1000 });
    return { record, decided };
  }

  it("starts replicas for a burst, and takes them away after it", async () => {
    const { record, decided } = await scaled(300);
    expect(record.requests.every(({ failure }) => failure === "")).toBe(true);
    expect(new Set(record.requests.map(({ prefill }) => prefill))).toContain(2);
    const joins = decided.filter(({ kind }) => kind === "join");
    expect(joins.map(({ replica }) => replica).filter((replica) => replica < 3)).toEqual([1, 2]);
    for (const join of joins) expect(join.atMs - (join as { takenMs: number }).takenMs).toBe(300);
    // The youngest goes first; one of each role stays.
    const drained = decided.filter(({ kind, replica }) => kind === "drain" && replica < 3);
    expect(drained.map(({ replica }) => replica)).toEqual([2, 1]);
    // GPUs count from the decision to the end of the process.
    const [first, second, third] = record.totals.map(({ upMs }) => upMs);
    expect(first).toBe(record.endMs);
    expect(second).toBeLessThan(20_000);
    expect(second).toBeGreaterThan(300);
    expect(third).toBeGreaterThan(300);
  });

  it("goes by what was there for a while, as the manifests' queries do", async () => {
    const firstDrain = async (windowMs: number): Promise<number> => {
      const { decided } = await scaled(300, windowMs);
      return decided.find(({ kind, replica }) => kind === "drain" && replica < 3)!.atMs;
    };
    expect(await firstDrain(10_000)).toBeGreaterThan(await firstDrain(0));
    const { data } = parse(readText("envoy/scaling/hpa/prometheus-adapter.yaml")) as AdapterManifest;
    expect(data["config.yaml"]).toContain(`[${SHIPPED_WINDOW_MS / 60_000}m]`);
  });

  it("helps the less the longer a start takes", async () => {
    const lastEnd = async (startupMs: number): Promise<number> => {
      const { record } = await scaled(startupMs);
      return Math.max(...record.requests.slice(0, 60).map(({ endMs }) => endMs));
    };
    const [soon, late, never] = [await lastEnd(100), await lastEnd(3000), await lastEnd(100_000)];
    expect(soon).toBeLessThan(late);
    expect(late).toBeLessThan(never);
  });

  it.each([
    [{ kind: "fail", replica: 0, atMs: 600 }, 'scaler: kind is fail, expected "join" or "drain"'],
    [{ kind: "join", replica: 9, atMs: 600 }, "scaler: replica is 9, expected a whole number from 0 to 4"],
    [{ kind: "join", replica: 1, atMs: 400 }, "scaler: atMs is 400, expected a time from 500 ms on"],
  ] as const)("refuses %j", async (event, message) => {
    const scaler: Scaler = { everyMs: 500, absent: () => false, decide: () => [event] };
    const policy = recordingPolicy(() => ({ endpoint: 3 })).policy;
    await expect(run({ replicas, policy, workload, scaler })).rejects.toThrow(message);
  });

  it("refuses a period of nothing", async () => {
    const scaler: Scaler = { everyMs: 0, absent: () => false, decide: () => [] };
    const options = { replicas: fleetOf(3), policy: inTurn(3), workload, scaler };
    await expect(run(options)).rejects.toThrow("scaler.everyMs is 0, expected a number of ms, at least 1");
  });
});

describe("runAutoscale", () => {
  const point: RunPoint = { policy: "p", workload: "w", rate: 2, gateways: 1, scrapeMs: 50 };
  const most = { prefill: 4, decode: 4, both: 0 };
  const least = { prefill: 1, decode: 1, both: 0 };
  const plan = { point, most, least };
  const points: RunPoint[] = [];
  // Ten hours; 3.2 replicas on average where it is scaled.
  const model = (at: RunPoint) => {
    points.push(at);
    const { split, autoscaledFrom } = at;
    const fixed = autoscaledFrom === undefined;
    const replicaHours = fixed ? 40 : 32;
    const inSlo = fixed ? 0.5 + split!.prefill / 10 : 0.95;
    const fleet = `${split!.prefill}:${split!.decode}`;
    return Promise.resolve({ ...fleetSummary("p"), workload: "w", durationMs: 36_000_000, replicaHours, inSlo, fleet }); // prettier-ignore
  };

  it("compares with every split of a fleet of no fewer GPU hours, under the same requests", async () => {
    const { autoscaled, fixed } = await runAutoscale(plan, model);
    expect(meanReplicas(autoscaled)).toBeCloseTo(3.2, 9);
    expect(fixed.map(({ fleet }) => fleet)).toEqual(["1:3", "2:2", "3:1"]);
    expect(points).toHaveLength(4);
    for (const at of points) expect(at).toMatchObject({ ...point, drawnFor: 8 });
    expect(points[0]).toMatchObject({ split: most, autoscaledFrom: least });
    const report = autoscaleReport({ autoscaled, fixed }, plan, ["as the test has it"]);
    expect(report).toContain("- as the test has it\n");
    expect(report).toContain("In both SLOs: **95.0 %** scaled, 80.0 % with the best fixed split (3:1)");
    expect(report).toContain("| 1:1 to 4:4, by their load | 32.00 | 3.20 | 95.0 % |");
    expect(report).toContain("| 2:2 fixed | 40.00 | 4.00 | 70.0 % |");
  });

  it.each([
    [
      "most",
      { ...plan, most: { prefill: 0, decode: 4, both: 0 } },
      "most is 0:4:0, expected prefill and decode",
    ],
    ["least", { ...plan, least: { prefill: 1, decode: 1, both: 1 } }, "least is 1:1:1, expected prefill"],
  ])("refuses %s without both roles", async (_, bad, message) => {
    await expect(runAutoscale(bad, model)).rejects.toThrow(message);
  });
});
