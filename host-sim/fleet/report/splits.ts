// Which split of a fleet into prefill and decode replicas is best at which rate, as a Markdown table.
import { FIGURES, headed, NOT_MEASURED } from "./figures.ts";
import { runsReport } from "./runs-report.ts";
import type { FleetSummary, RatedRun } from "./summary.ts";
import { markdownRows } from "./table.ts";

const SHOWN = [FIGURES.inSlo, FIGURES.ttftMean, FIGURES.tpotP99, FIGURES.goodput];

/** Runs whose policy is named with its fleet, so that tables and plots tell the fleets apart. */
export function namedByFleet<T extends RatedRun>(runs: readonly T[]): T[] {
  return runs.map((run) => {
    const { fleet, policy } = run.summary;
    return fleet === undefined ? run : { ...run, summary: { ...run.summary, policy: `${policy} ${fleet}` } };
  });
}

/**
 * The report of runs with several splits, ends with a newline: which split is best at each rate, then every figure.
 * @param setting what all runs share, e.g. "1 gateway, 50 ms scrapes, seed 1"
 */
export function splitsReport(runs: readonly RatedRun[], setting: string): string {
  const parts = [...new Set(runs.map(({ summary }) => summary.workload))].flatMap((workload) => {
    const ofWorkload = runs.filter(({ summary }) => summary.workload === workload);
    return [`### ${workload}: best split of each rate; ${setting}`, bestSplitTable(ofWorkload)];
  });
  return `${parts.join("\n\n")}\n\n${runsReport(namedByFleet(runs), setting, "")}`;
}

/**
 * The split with the most requests in both SLOs (of equal ones that with the lower mean TTFT), for each policy and
 * rate of one workload, with its figures and the share that the worst split keeps.
 */
export function bestSplitTable(runs: readonly RatedRun[]): string {
  const rates = [...new Set(runs.map(({ rate }) => rate))].sort((a, b) => a - b);
  const policies = [...new Set(runs.map(({ summary }) => summary.policy))];
  const rows = policies.flatMap((policy) =>
    rates.flatMap((rate) => {
      const fleets = runs.filter((run) => run.rate === rate && run.summary.policy === policy);
      return fleets.length === 0
        ? []
        : [rowOf(policy, rate, fleets.map(({ summary }) => summary).sort(byShare))];
    }),
  );
  const titles = [
    "policy",
    "rate, ×",
    "best split",
    ...SHOWN.map(headed),
    "worst split",
    headed(FIGURES.inSlo),
  ];
  return markdownRows(titles, rows);
}

function rowOf(policy: string, rate: number, bestFirst: readonly FleetSummary[]): string[] {
  const [best, worst] = [bestFirst[0]!, bestFirst.at(-1)!];
  const figures = SHOWN.map(({ text, value }) => text(value(best)));
  return [policy, `× ${rate}`, fleetOf(best), ...figures, fleetOf(worst), FIGURES.inSlo.text(worst.inSlo)];
}

function byShare(a: FleetSummary, b: FleetSummary): number {
  return b.inSlo - a.inSlo || a.ttftMs.mean - b.ttftMs.mean;
}

function fleetOf({ fleet }: FleetSummary): string {
  return fleet ?? NOT_MEASURED;
}
