// The Markdown report of single runs: what was run, every figure, ours against the others, and over the rates.
import { type Figure, FIGURES } from "./figures.ts";
import type { RatedRun } from "./summary.ts";
import { markdownTable, rateTable, ratioTable } from "./table.ts";

/** What is tabled over the rates, where a workload was run at several. */
const OVER_RATES: readonly Figure[] = [
  FIGURES.ttftMean,
  FIGURES.ttftInSlo,
  FIGURES.inSlo,
  FIGURES.goodput,
  FIGURES.totalTokens,
];

/**
 * The whole report, ends with a newline: for each workload and rate one table of all figures, and one of ratios
 * where `ours` was run beside others; for each workload that was run at several rates one table a figure.
 * @param setting what all runs share, e.g. "1 gateway, 50 ms scrapes, seed 1"
 * @param ours the policy that ratios are of
 */
export function runsReport(runs: readonly RatedRun[], setting: string, ours: string): string {
  const parts: string[] = [];
  for (const workload of new Set(runs.map(({ summary }) => summary.workload))) {
    const ofWorkload = runs.filter(({ summary }) => summary.workload === workload);
    const rates = new Set(ofWorkload.map(({ rate }) => rate));
    for (const rate of rates) {
      const atRate = ofWorkload.filter((run) => run.rate === rate);
      parts.push(...rateParts(workload, atRate, setting, ours));
    }
    if (rates.size < 2) continue;
    parts.push(`### ${workload} over its rates; ${setting}`);
    parts.push(...OVER_RATES.map((figure) => rateTable(ofWorkload, figure)));
  }
  return `${parts.join("\n\n")}\n`;
}

function rateParts(workload: string, runs: readonly RatedRun[], setting: string, ours: string): string[] {
  const summaries = runs.map(({ summary }) => summary);
  const { requests, offeredRps, replicas, reuseCeiling } = summaries[0]!;
  const ceiling = Number.isNaN(reuseCeiling)
    ? ""
    : `; one cache for all would hit ${FIGURES.hitRatio.text(reuseCeiling)}`;
  const title =
    `### ${workload} × ${runs[0]!.rate}: ${requests} requests, ${offeredRps.toFixed(2)} a second, ` +
    `${replicas} replica${replicas === 1 ? "" : "s"}; ${setting}${ceiling}`;
  const compared = summaries.length > 1 && summaries.some(({ policy }) => policy === ours);
  return [title, markdownTable(summaries), ...(compared ? [ratioTable(summaries, ours)] : [])];
}
