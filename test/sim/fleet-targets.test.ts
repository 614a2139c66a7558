// The targets: which runs they take, how they are judged, and the report.
import { describe, expect, it } from "vitest";
import {
  runTargets,
  SIMPLE,
  TARGET_SETTINGS,
  type TargetPlan,
  targetsReport,
  type Verdict,
  verdictsOf,
} from "../../host-sim/fleet/experiments/index.ts";
import { type FleetModel, fleetModel } from "./support/fleet-model.ts";

const POLICIES = ["epp", "round-robin", "llm-d", "lmetric", "oracle"];
const SETTING = { gateways: 4, scrapeMs: 500 };
const PLAN: TargetPlan = { trace: "trace", policies: POLICIES, builtIns: ["chats"], settings: [SETTING] };
const CAPACITIES = {
  epp: 6,
  "round-robin": 2,
  "llm-d": 3,
  lmetric: 4,
  oracle: 6,
  random: 2,
  "least-request": 2.5,
  "power-of-two": 2.5,
};

async function missed(model: FleetModel): Promise<Verdict[]> {
  return verdictsOf(await runTargets(PLAN, model.run)).filter(({ met }) => !met);
}

describe("runTargets", () => {
  it("compares all policies where the searches lead", async () => {
    const { run } = fleetModel(CAPACITIES);
    const [result] = await runTargets(PLAN, run);
    // The model keeps a half at twice, three quarters at 1.5 times and 90 % at 1.2 times its capacity.
    expect(result!.places.map(({ name, rate }) => [name, rate])).toEqual([
      ["round-robin-half", 4],
      ["llm-d-three-quarters", 4.416],
      ["our-highest", 7.103],
      ["beyond-capacity", 10.65],
    ]);
    for (const { runs } of result!.places) expect(runs.map(({ policy }) => policy)).toEqual(POLICIES);
    expect([...result!.highest].map(([policy, { rate }]) => [policy, rate])).toEqual([
      ["epp", 7.103],
      ["round-robin", 2.39],
      ["llm-d", 3.551],
      ["lmetric", 4.78],
      ["oracle", 7.103],
    ]);
    expect(result!.builtIns.map(({ workload }) => workload)).toEqual(["chats"]);
    expect(result!.builtIns[0]!.runs.map(({ policy }) => policy)).toEqual(["epp", ...SIMPLE]);
  });

  it("runs every point once, in every setting", async () => {
    const { run, points } = fleetModel(CAPACITIES);
    await runTargets({ ...PLAN, settings: TARGET_SETTINGS }, run);
    const keys = points.map((point) => JSON.stringify(point));
    expect(new Set(keys).size).toBe(keys.length);
    for (const setting of TARGET_SETTINGS) {
      expect(points).toContainEqual({ policy: "random", workload: "chats", rate: 1, ...setting });
    }
  });

  it.each([
    [
      { policies: ["epp", "llm-d"] },
      "policies is epp,llm-d, expected epp, round-robin, llm-d, lmetric, oracle among",
    ],
    [{ settings: [] }, "settings is empty, expected at least one setting"],
  ])("refuses %j", async (changes, message) => {
    await expect(runTargets({ ...PLAN, ...changes }, fleetModel(CAPACITIES).run)).rejects.toThrow(message);
  });

  it("fails when a run fails", async () => {
    const run = (): Promise<never> => Promise.reject(new Error("no engine"));
    await expect(runTargets(PLAN, run)).rejects.toThrow("no engine");
  });
});

describe("verdictsOf", () => {
  it("judges every target", async () => {
    const verdicts = verdictsOf(await runTargets(PLAN, fleetModel(CAPACITIES).run));
    expect(verdicts.every(({ met, setting }) => met && setting === SETTING)).toBe(true);
    expect(verdicts.map(({ target, measured }) => `${target}: ${measured}`)).toEqual([
      "mean TTFT ≥ 3.00× better than round-robin: 3.00×",
      "mean TTFT ≥ 1.50× better than llm-d: 2.00×",
      "requests/s in TTFT SLO ≥ 1.30× better than round-robin: 2.00×",
      "mean TTFT no worse than any but oracle: 1.50× against lmetric",
      "TTFT p90 no worse than any but oracle: 1.50× against lmetric",
      "mean TTFT ≥ 1.80× better than llm-d: 2.00×",
      "mean TTFT ≥ 1.20× better than lmetric: 1.50×",
      "mean TTFT ≥ 1.00× better than oracle: 1.00×",
      "in TTFT SLO ≥ 92.0 %: 100.0 %",
      "mean TTFT no worse than any but oracle: 1.50× against lmetric",
      "TTFT p90 no worse than any but oracle: 1.50× against lmetric",
      "mean TTFT no worse than any but oracle: 1.50× against lmetric",
      "TTFT p90 no worse than any but oracle: 1.50× against lmetric",
      "mean TTFT no worse than any but oracle: 1.50× against lmetric",
      "TTFT p90 no worse than any but oracle: 1.50× against lmetric",
      "output tokens/s no worse than any: 1.00× against round-robin",
      "all tokens/s no worse than any: 1.00× against round-robin",
      "rate ≥ 2.50× that of round-robin: 2.97× (× 7.103 against × 2.39)",
      "rate ≥ 1.50× that of llm-d: 2.00× (× 7.103 against × 3.551)",
      "mean TTFT at most 5.0 % worse than any: 2.40× against least-request",
      "TTFT p90 at most 5.0 % worse than any: 2.40× against least-request",
      "requests/s in both SLOs at most 5.0 % worse than any: 1.00× against round-robin",
    ]);
  });

  it("misses what a weaker picker misses", async () => {
    const weaker = await missed(fleetModel({ ...CAPACITIES, epp: 4 }));
    expect(weaker.map(({ target, measured }) => `${target}: ${measured}`)).toEqual(
      [
        "mean TTFT ≥ 3.00× better than round-robin: 2.00×",
        "mean TTFT ≥ 1.80× better than llm-d: 1.33×",
        "mean TTFT ≥ 1.20× better than lmetric: 1.00×",
        "mean TTFT ≥ 1.00× better than oracle: 0.67×",
        "rate ≥ 2.50× that of round-robin: 2.00× (× 4.78 against × 2.39)",
        "rate ≥ 1.50× that of llm-d: 1.35× (× 4.78 against × 3.551)",
      ].toSpliced(1, 0, "mean TTFT ≥ 1.50× better than llm-d: 1.33×"),
    );
  });

  it("counts figures half a percent apart as equal, and no more", async () => {
    const slower = (times: number): FleetModel =>
      fleetModel(CAPACITIES, ({ policy, workload }) => {
        return policy === "lmetric" && workload === "trace"
          ? { ttftMs: { mean: 1000, p50: 1000, p90: 1000, p99: 1000 } }
          : policy === "epp" && workload === "trace"
            ? { ttftMs: { mean: 1000 * times, p50: 1000, p90: 1000, p99: 1000 } }
            : {};
      });
    const worse = ({ target }: Verdict): boolean => target === "mean TTFT no worse than any but oracle";
    expect((await missed(slower(1.004))).filter(worse)).toHaveLength(0);
    expect((await missed(slower(1.006))).filter(worse)).toHaveLength(4);
  });

  it("allows 5 % against the best simple policy, and no more", async () => {
    const slower = (times: number): FleetModel =>
      fleetModel(CAPACITIES, ({ policy, workload }) =>
        policy === "epp" && workload === "chats"
          ? { ttftMs: { mean: 400 * times, p50: 400, p90: 800, p99: 1200 } }
          : {},
      );
    expect(await missed(slower(1.05))).toHaveLength(0);
    const [verdict, ...others] = await missed(slower(1.06));
    expect(others).toHaveLength(0);
    expect(verdict).toMatchObject({ at: "chats", measured: "0.94× against least-request" });
  });

  it("holds tokens a second against the oracle too", async () => {
    const model = fleetModel(CAPACITIES, ({ policy }) =>
      policy === "oracle" ? { outputTokensPerSecond: 6, totalTokensPerSecond: 56 } : {},
    );
    const measured = (await missed(model)).map(({ target, measured }) => `${target}: ${measured}`);
    expect(measured).toEqual([
      "output tokens/s no worse than any: 0.92× against oracle",
      "all tokens/s no worse than any: 0.99× against oracle",
    ]);
  });

  it("is missed where ours was not measured", async () => {
    const none = { mean: Number.NaN, p50: Number.NaN, p90: Number.NaN, p99: Number.NaN };
    const model = fleetModel(CAPACITIES, ({ policy }) => (policy === "epp" ? { ttftMs: none } : {}));
    const about = (await missed(model)).filter(({ target }) => /mean TTFT|p90/.test(target));
    expect(about).toHaveLength(5 + 8 + 2);
    for (const { measured } of about) expect(measured).toBe("–");
  });
});

describe("targetsReport", () => {
  it("has the verdicts first, then every figure", async () => {
    const model = fleetModel({ ...CAPACITIES, epp: 5 });
    const report = targetsReport(await runTargets(PLAN, model.run), ["seed 1", "16 replicas"]);
    const lines = report.split("\n");
    expect(lines.slice(0, 6)).toEqual([
      "# Targets of the picker",
      "",
      "- seed 1",
      "- 16 replicas",
      "",
      "**18 of 22 met.**",
    ]);
    expect(lines).toContain(
      "| 4 gateways, 500 ms scrapes | where llm-d's default keeps the TTFT SLO for 75 % | mean TTFT ≥ 1.80×" +
        " better than llm-d | 1.67× | **missed** |",
    );
    expect(lines.filter((line) => line.startsWith("#"))).toEqual([
      "# Targets of the picker",
      "## 4 gateways, 500 ms scrapes",
      "### Highest rate with 90 % in the TTFT SLO",
      "### × 4: where round robin misses its TTFT SLO for half of the requests",
      "### × 4.416: where llm-d's default keeps the TTFT SLO for 75 %",
      "### × 5.943: our own highest rate with 90 % in the TTFT SLO",
      "### × 10.65: beyond capacity",
      "### Built-in workload: chats",
    ]);
    expect(lines.filter((line) => line.startsWith("| round-robin | "))[0]).toMatch(
      /^\| round-robin \| 2\.39 \| 23\.90 \| 90\.3 % \| 90\.3 % \| 1\.20 \| 2\.39 \| 21\.57 \| \d+ \|$/,
    );
    expect(report.endsWith("|\n")).toBe(true);
  });
});
