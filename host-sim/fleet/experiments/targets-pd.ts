// The targets of prefill and decode apart: which runs they take, and whether what came out meets them.
import { RunOptionError } from "../errors.ts";
import { type Figure, FIGURES, type FleetSummary, timesBetter, timesText } from "../report/index.ts";
import { ALL_BOTH, replicasOf, type Split, splitText } from "../roles.ts";
import { type FoundRate, findRate, rateText } from "./find-rate.ts";
import { remembered, type RunFleetAt, type Setting } from "./point.ts";
import { OURS, PROMISED_SHARE, ROUND_ROBIN } from "./targets.ts";

/** Times round robin's highest rate that an elastic fleet keeps at least. */
const ROUND_ROBIN_TIMES = 2.3;
/** Shares that differ by less count as equal. */
const TIE = 0.005;
/** How much worse short prompts may fare than without disaggregation. */
const SHORT_LOSS_MAX = 0.05;

/** What is run. */
export interface PdTargetPlan {
  /** Name of the recorded workload. */
  readonly trace: string;
  /** Name of a workload of short prompts. */
  readonly short: string;
  /** The policy that disaggregates. */
  readonly policy: string;
  /** Static splits, each of as many replicas. */
  readonly splits: readonly Split[];
  /** Multiples of the trace's rate at which all are compared. */
  readonly rates: readonly number[];
  /** Seeds whose mean is compared at each rate, ≥ 1: the order of what arrives within a second moves shares by a point. */
  readonly seeds: number;
  readonly setting: Setting;
}

/** A fleet under a policy, over the rates. */
export interface PdContender {
  readonly name: string;
  /** Highest rate with PROMISED_SHARE in both SLOs. */
  readonly highest: FoundRate;
  /** At each of the plan's rates, with each seed. */
  readonly runs: readonly (readonly FleetSummary[])[];
}

/** All that came out. */
export interface PdTargetResults {
  readonly roundRobin: PdContender;
  readonly aggregated: PdContender;
  readonly elastic: PdContender;
  readonly splits: readonly PdContender[];
  readonly short: { readonly aggregated: FleetSummary; readonly elastic: FleetSummary };
}

/** A target, and what was measured. */
export interface PdVerdict {
  readonly target: string;
  readonly measured: string;
  readonly met: boolean;
}

/**
 * Carries out the plan; every point is run once.
 * @throws RunOptionError for a plan that cannot be compared; whatever a run throws
 */
export async function runPdTargets(plan: PdTargetPlan, runOnce: RunFleetAt): Promise<PdTargetResults> {
  const replicas = checkedSize(plan);
  const run = remembered(runOnce);
  const contender = async (name: string, policy: string, split: Split): Promise<PdContender> => {
    const at = (rate: number, seedStep = 0): Promise<FleetSummary> =>
      run({ policy, workload: plan.trace, rate, seedStep, split, drawnFor: replicas, ...plan.setting });
    const steps = Array.from({ length: plan.seeds }, (_, step) => step);
    const [highest, runs] = await Promise.all([
      findRate((rate) => at(rate), PROMISED_SHARE, FIGURES.inSlo),
      Promise.all(plan.rates.map((rate) => Promise.all(steps.map((step) => at(rate, step))))),
    ]);
    return { name, highest, runs };
  };
  const onShort = (policy: string): Promise<FleetSummary> =>
    run({ policy, workload: plan.short, rate: 1, split: ALL_BOTH, drawnFor: replicas, ...plan.setting });
  const [roundRobin, aggregated, elastic, shortAggregated, shortElastic, ...splits] = await Promise.all([
    contender(`${ROUND_ROBIN}, aggregated`, ROUND_ROBIN, ALL_BOTH),
    contender(`${OURS}, aggregated`, OURS, ALL_BOTH),
    contender(`${plan.policy}, elastic`, plan.policy, ALL_BOTH),
    onShort(OURS),
    onShort(plan.policy),
    ...plan.splits.map((split) => contender(`${plan.policy}, ${splitText(split)}`, plan.policy, split)),
  ]);
  return {
    roundRobin,
    aggregated,
    elastic,
    splits,
    short: { aggregated: shortAggregated, elastic: shortElastic },
  };
}

function checkedSize({ splits, rates, seeds }: PdTargetPlan): number {
  const sizes = new Set(splits.map(replicasOf));
  const text = splits.map(splitText).join(",");
  if (sizes.size !== 1 || sizes.has(0))
    throw new RunOptionError("splits", text, "splits of one number of replicas");
  if (!(seeds >= 1)) throw new RunOptionError("seeds", seeds, "at least 1");
  if (rates.length === 0) throw new RunOptionError("rates", "empty", "at least one rate");
  return [...sizes][0]!;
}

/** Judges the results. */
export function pdVerdicts(results: PdTargetResults, plan: PdTargetPlan): PdVerdict[] {
  return [
    ...plan.rates.map((rate, index) => atRate(results, rate, index)),
    highestRates(results),
    againstRoundRobin(results),
    ...wrongSplits(results, plan),
    ...shortPrompts(results),
  ];
}

/** A figure's mean over the seeds of one rate. */
export function meanOf({ value }: Figure, runs: readonly FleetSummary[]): number {
  return runs.reduce((sum, run) => sum + value(run), 0) / runs.length;
}

function shareAt({ runs }: PdContender, index: number): number {
  return meanOf(FIGURES.inSlo, runs[index]!);
}

function atRate({ aggregated, elastic, splits }: PdTargetResults, rate: number, index: number): PdVerdict {
  const others = [aggregated, ...splits];
  const best = others.reduce((a, b) => (shareAt(b, index) > shareAt(a, index) ? b : a));
  const { text } = FIGURES.inSlo;
  const [ours, theirs] = [shareAt(elastic, index), shareAt(best, index)];
  return {
    target: `× ${rate}: elastic in both SLOs no less than aggregated and the best split`,
    measured: `${text(ours)} against ${text(theirs)} (${best.name})`,
    met: ours >= theirs - TIE,
  };
}

function highestRates({ aggregated, elastic, splits }: PdTargetResults): PdVerdict {
  const best = [aggregated, ...splits].reduce((a, b) => (b.highest.rate > a.highest.rate ? b : a));
  return {
    target: "elastic's highest rate no lower than aggregated's and the best split's",
    measured: `× ${rateText(elastic.highest)} against × ${rateText(best.highest)} (${best.name})`,
    met: elastic.highest.rate >= best.highest.rate,
  };
}

function againstRoundRobin({ roundRobin, elastic }: PdTargetResults): PdVerdict {
  const times = elastic.highest.rate / roundRobin.highest.rate;
  return {
    target: `elastic's highest rate ≥ ${timesText(ROUND_ROBIN_TIMES)} round robin's`,
    measured: `${timesText(times)} (× ${rateText(elastic.highest)} against × ${rateText(roundRobin.highest)})`,
    met: times >= ROUND_ROBIN_TIMES,
  };
}

// Too few prefill replicas must not be worse than none: the decoders compute what these cannot.
function wrongSplits({ roundRobin, splits }: PdTargetResults, { rates }: PdTargetPlan): PdVerdict[] {
  const fewest = splits.reduce((a, b) => (prefillOf(b) < prefillOf(a) ? b : a));
  const { text } = FIGURES.inSlo;
  return rates.map((rate, index) => {
    const [ours, theirs] = [shareAt(fewest, index), shareAt(roundRobin, index)];
    return {
      target: `× ${rate}: the split with the fewest prefill replicas in both SLOs no less than round robin`,
      measured: `${text(ours)} (${fewest.name}) against ${text(theirs)}`,
      met: ours >= theirs - TIE,
    };
  });
}

function prefillOf({ runs }: PdContender): number {
  return Number.parseInt(runs[0]![0]!.fleet ?? "", 10);
}

function shortPrompts({ short }: PdTargetResults): PdVerdict[] {
  const figures = [FIGURES.ttftMean, FIGURES.ttftP90, FIGURES.inSlo];
  const compared = figures.map((figure): PdVerdict => {
    const times = timesBetter(figure, short.elastic, short.aggregated);
    return {
      target: `short prompts: ${figure.title} at most ${SHORT_LOSS_MAX * 100} % worse than aggregated`,
      measured: timesText(times),
      met: times >= 1 - SHORT_LOSS_MAX,
    };
  });
  const share = short.elastic.disaggregation?.share ?? 0;
  return [
    ...compared,
    {
      target: "short prompts: none computed elsewhere",
      measured: FIGURES.inSlo.text(share),
      met: share === 0,
    },
  ];
}
