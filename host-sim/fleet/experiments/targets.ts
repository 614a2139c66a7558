// The experiment that the picker's targets are judged by: which runs it takes, and what came out of them.
import { RunOptionError } from "../errors.ts";
import { FIGURES, type FleetSummary } from "../report/index.ts";
import { type FoundRate, findRate } from "./find-rate.ts";
import { remembered, type RunFleetAt, type Setting } from "./point.ts";

/** The policy that the targets are about. */
export const OURS = "epp";
export const ROUND_ROBIN = "round-robin";
export const LLM_D = "llm-d";
export const LMETRIC = "lmetric";
export const ORACLE = "oracle";
/** Policies that know nothing of prompts. */
export const SIMPLE = ["round-robin", "random", "least-request", "power-of-two"] as const;

const NEEDED: readonly string[] = [OURS, ROUND_ROBIN, LLM_D, LMETRIC, ORACLE];

/** Settings in which everything is run. */
export const TARGET_SETTINGS: readonly Setting[] = [
  { gateways: 1, scrapeMs: 50 },
  { gateways: 1, scrapeMs: 500 },
  { gateways: 4, scrapeMs: 50 },
  { gateways: 4, scrapeMs: 500 },
];

/** Share in the TTFT SLO that round robin has where it is compared. */
const ROUND_ROBIN_SHARE = 0.5;
/** Share in the TTFT SLO that llm-d's default has where it is compared. */
const LLM_D_SHARE = 0.75;
/** Share in the TTFT SLO that the highest rates keep. */
export const PROMISED_SHARE = 0.9;
/** Beyond capacity: times the highest rate at which any policy keeps the promised share. */
export const BEYOND_CAPACITY = 1.5;

/** What is run. */
export interface TargetPlan {
  /** Name of the recorded workload. */
  readonly trace: string;
  /** All that are compared on it; epp, round-robin, llm-d, lmetric and oracle among them. */
  readonly policies: readonly string[];
  /** Names of the workloads that are run at their own rate. */
  readonly builtIns: readonly string[];
  readonly settings: readonly Setting[];
}

/** Where on the scale of rates policies are compared. */
export type PlaceName = "round-robin-half" | "llm-d-three-quarters" | "our-highest" | "beyond-capacity";

/** All policies at one rate. */
export interface Place {
  readonly name: PlaceName;
  readonly rate: number;
  readonly runs: readonly FleetSummary[];
}

/** The simple policies and ours on one built-in workload. */
export interface BuiltInRuns {
  readonly workload: string;
  readonly runs: readonly FleetSummary[];
}

/** All that came out in one setting. */
export interface SettingResults {
  readonly setting: Setting;
  readonly places: readonly Place[];
  /** Highest rate with PROMISED_SHARE within the TTFT SLO, by policy, in the plan's order. */
  readonly highest: ReadonlyMap<string, FoundRate>;
  readonly builtIns: readonly BuiltInRuns[];
}

/**
 * Carries out the plan. Every search is for the TTFT SLO alone, and every point is run once.
 * @throws RunOptionError for a plan that lacks what the targets name; whatever a run throws
 */
export async function runTargets(plan: TargetPlan, runOnce: RunFleetAt): Promise<SettingResults[]> {
  checkPlan(plan);
  const run = remembered(runOnce);
  return Promise.all(
    plan.settings.map(async (setting): Promise<SettingResults> => {
      const [onTrace, builtIns] = await Promise.all([
        runTrace(plan, setting, run),
        runBuiltIns(plan, setting, run),
      ]);
      return { setting, ...onTrace, builtIns };
    }),
  );
}

function checkPlan({ policies, settings }: TargetPlan): void {
  for (const needed of NEEDED)
    if (!policies.includes(needed)) {
      throw new RunOptionError("policies", policies.join(","), `${NEEDED.join(", ")} among them`);
    }
  if (settings.length === 0) throw new RunOptionError("settings", "empty", "at least one setting");
}

async function runTrace(
  { trace, policies }: TargetPlan,
  setting: Setting,
  run: RunFleetAt,
): Promise<Pick<SettingResults, "places" | "highest">> {
  const search = (policy: string, share: number): Promise<FoundRate> => {
    const at = (rate: number): Promise<FleetSummary> => run({ policy, workload: trace, rate, ...setting });
    return findRate(at, share, FIGURES.ttftInSlo);
  };
  const [roundRobin, llmD, ...found] = await Promise.all([
    search(ROUND_ROBIN, ROUND_ROBIN_SHARE),
    search(LLM_D, LLM_D_SHARE),
    ...policies.map((policy) => search(policy, PROMISED_SHARE)),
  ]);
  const highest = new Map(policies.map((policy, index) => [policy, found[index]!]));
  const capacity = Math.max(...found.map(({ rate }) => rate));
  const rates: [PlaceName, number][] = [
    ["round-robin-half", roundRobin!.rate],
    ["llm-d-three-quarters", llmD!.rate],
    ["our-highest", highest.get(OURS)!.rate],
    ["beyond-capacity", Number((capacity * BEYOND_CAPACITY).toPrecision(4))],
  ];
  const places = await Promise.all(
    rates.map(async ([name, rate]): Promise<Place> => {
      const runs = policies.map((policy) => run({ policy, workload: trace, rate, ...setting }));
      return { name, rate, runs: await Promise.all(runs) };
    }),
  );
  return { places, highest };
}

function runBuiltIns({ builtIns }: TargetPlan, setting: Setting, run: RunFleetAt): Promise<BuiltInRuns[]> {
  return Promise.all(
    builtIns.map(async (workload): Promise<BuiltInRuns> => {
      const runs = [OURS, ...SIMPLE].map((policy) => run({ policy, workload, rate: 1, ...setting }));
      return { workload, runs: await Promise.all(runs) };
    }),
  );
}
