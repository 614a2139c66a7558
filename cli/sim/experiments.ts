// The experiments of `npm run sim`: runs that follow from one another, searches for a rate and the targets.
import {
  autoscaleReport,
  pdTargetsReport,
  runPdTargets,
  type FoundRate,
  findRate,
  highestTable,
  remembered,
  type RunFleetAt,
  runAutoscale,
  type RunPoint,
  runTargets,
  type Setting,
  TARGET_SETTINGS,
  targetsReport,
} from "../../host-sim/fleet/experiments/index.ts";
import { FIGURES, type FleetSummary, type RatedRun } from "../../host-sim/fleet/report/index.ts";
import { ALL_BOTH, parseSplit, replicasOf } from "../../host-sim/fleet/roles.ts";
import { jobCommon, POLICIES_DEFAULT, RATES_DEFAULT, type SimFlags, sourcesOf } from "./flags.ts";
import { SimFlagError } from "./errors.ts";
import { type SimJob, type SimSource, workloadNames } from "./job.ts";

/** A run of an experiment with what it was run at. */
export type ExperimentRun = RatedRun & Setting & { readonly seed: number };

/** What an experiment gave. */
export interface Outcome {
  /** Markdown, ends with a newline. */
  readonly text: string;
  /** Every run that it took, in the order in which they ended. */
  readonly runs: readonly ExperimentRun[];
}

/** Carries out one run; bounds by itself how many go on at once. */
export type RunJob = (job: SimJob) => Promise<FleetSummary>;

/** A kind of experiment. */
export type Experiment = (flags: SimFlags, wasm: string, runJob: RunJob) => Promise<Outcome>;

/** The experiment that options ask for; undefined: none, but single runs. */
export function experimentOf({
  findRate: share,
  targets,
  targetsPd,
  autoscale,
}: SimFlags): Experiment | undefined {
  if (targets !== undefined) return judgeTargets;
  if (targetsPd === true) return judgePdTargets;
  if (autoscale !== undefined) return autoscaleFleets;
  return share === undefined ? undefined : findRates;
}

/** Finds the highest rate of each policy on each workload that keeps the share of `--find-rate`. */
async function findRates(flags: SimFlags, wasm: string, runJob: RunJob): Promise<Outcome> {
  const { findRate: share = 0, shareOf, policy: policies, gateways, scrapeMs } = flags;
  const figure = shareOf === "ttft" ? FIGURES.ttftInSlo : FIGURES.inSlo;
  const { run, runs } = recording(flags, wasm, runJob);
  const parts = sourcesOf(flags).map(async (source) => {
    const workload = labelOf(source);
    const found = policies.map(async (policy): Promise<[string, FoundRate]> => {
      const at = (rate: number): Promise<FleetSummary> => run({ policy, workload, rate, gateways, scrapeMs });
      return [policy, await findRate(at, share, figure)];
    });
    const kept = `${FIGURES.inSlo.text(share)} ${figure.title}`;
    return `### ${workload}: highest rate with ${kept}\n\n${highestTable(await Promise.all(found))}\n`;
  });
  return { text: (await Promise.all(parts)).join("\n"), runs };
}

/**
 * Carries out the experiment of `--targets` on the trace and on the built-in workloads.
 * @throws SimFlagError without a trace
 */
async function judgeTargets(flags: SimFlags, wasm: string, runJob: RunJob): Promise<Outcome> {
  const { trace, targets, policy: policies, workload: builtIns = workloadNames() } = flags;
  if (trace === undefined) throw new SimFlagError("--trace", trace, "a file, for --targets");
  const settings = Array.isArray(targets) ? targets : TARGET_SETTINGS;
  const { run, runs } = recording(flags, wasm, runJob);
  const results = await runTargets({ trace, policies, builtIns, settings }, run);
  return { text: targetsReport(results, setupLines(flags)), runs };
}

/**
 * Carries out the experiment of `--autoscale` for every policy, on every workload.
 * @throws SimFlagError without a split of the largest fleet
 */
async function autoscaleFleets(flags: SimFlags, wasm: string, runJob: RunJob): Promise<Outcome> {
  const { autoscale: least, split: most, policy: policies, rate: rates, startupS } = flags;
  if (most === undefined) throw new SimFlagError("--split", most, "the replicas at most, for --autoscale");
  const { run, runs } = recording(flags, wasm, runJob);
  const setup = [
    ...setupLines(flags),
    `an autoscaler a role, as envoy/scaling/hpa has it; a new replica takes ${startupS} s to start`,
  ];
  const parts: string[] = [];
  for (const workload of sourcesOf(flags).map(labelOf))
    for (const rate of rates)
      for (const policy of policies) {
        const { gateways, scrapeMs } = flags;
        const plan = { point: { policy, workload, rate, gateways, scrapeMs }, most, least: least! };
        parts.push(autoscaleReport(await runAutoscale(plan, run), plan, setup));
      }
  return { text: parts.join("\n"), runs };
}

/** Static splits, and rates, that `--targets-pd` compares unless told otherwise. */
const PD_SPLITS = ["2:14", "4:12", "6:10", "8:8", "10:6", "12:4", "13:3"];
const PD_RATES = [1, 1.5, 2, 2.5, 3, 3.5];
const PD_POLICY = "epp-inline";
const SHORT_WORKLOAD = "short";

/**
 * Carries out the experiment of `--targets-pd`.
 * @throws SimFlagError without a trace, or with several policies
 */
async function judgePdTargets(flags: SimFlags, wasm: string, runJob: RunJob): Promise<Outcome> {
  const { trace, splits = PD_SPLITS.map((text) => parseSplit(text)!), gateways, scrapeMs } = flags;
  if (trace === undefined) throw new SimFlagError("--trace", trace, "a file, for --targets-pd");
  const given = flags.policy === POLICIES_DEFAULT ? [PD_POLICY] : flags.policy;
  if (given.length !== 1) throw new SimFlagError("--policy", given.join(","), "one policy, for --targets-pd");
  const told = { ...flags, tellSlo: true };
  const { run, runs } = recording(told, wasm, runJob);
  const rates = flags.rate === RATES_DEFAULT ? PD_RATES : flags.rate;
  const plan = {
    trace,
    short: SHORT_WORKLOAD,
    policy: given[0]!,
    splits,
    rates,
    seeds: flags.seeds,
    setting: { gateways, scrapeMs },
  };
  const results = await runPdTargets(plan, run);
  const setup = [
    ...setupLines({ ...told, splits }),
    `at each rate the means of ${flags.seeds} seeds; half a point counts as equal`,
  ];
  return { text: pdTargetsReport(results, plan, setup), runs };
}

function replicasText({ replicas, split, splits }: SimFlags): string {
  if (replicas !== undefined) return `${replicas} replicas`;
  const size = replicasOf(split ?? splits?.[0] ?? ALL_BOTH);
  return size > 0 ? `${size} replicas` : "16 replicas, or the built-in workload's own,";
}

function setupLines(flags: SimFlags): string[] {
  const { trace, requests, engine, workers, seed, sloTtftMs, sloTpotMs, tellSlo = false } = flags;
  return [
    `${trace === undefined ? "" : `trace ${trace}, `}${requests === undefined ? "all" : `the first ${requests}`} requests`,
    `${replicasText(flags)} of ${engine}`,
    `${workers} workers a gateway`,
    `SLO: TTFT ${sloTtftMs} ms, mean time between tokens ${sloTpotMs} ms, unless a request brings its own${tellSlo ? "; the filter is told it" : ""}`,
    `seed ${seed}`,
  ];
}

function recording(
  flags: SimFlags,
  wasm: string,
  runJob: RunJob,
): { readonly run: RunFleetAt; readonly runs: ExperimentRun[] } {
  const common = jobCommon(flags, wasm);
  const runs: ExperimentRun[] = [];
  const run = async ({ workload, policy, seedStep = 0, ...at }: RunPoint): Promise<FleetSummary> => {
    const source: SimSource =
      workload === flags.trace ? { kind: "trace", path: workload } : { kind: "generator", name: workload };
    const seed = common.seed + seedStep;
    const summary = await runJob({ ...common, ...at, seed, source, policy });
    const { rate, gateways, scrapeMs } = at;
    runs.push({ rate, gateways, scrapeMs, seed, summary });
    return summary;
  };
  return { run: remembered(run), runs };
}

function labelOf(source: SimSource): string {
  return source.kind === "trace" ? source.path : source.name;
}
