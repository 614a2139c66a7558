// The Markdown report of the targets of prefill and decode apart: verdicts first, then the figures they rest on.
import { FIGURES, headed, markdownRows, markdownTable } from "../report/index.ts";
import { rateText } from "./find-rate.ts";
import {
  meanOf,
  type PdContender,
  type PdTargetPlan,
  type PdTargetResults,
  pdVerdicts,
} from "./targets-pd.ts";

const OVER_RATES = [FIGURES.inSlo, FIGURES.ttftMean, FIGURES.tpotP99];

/**
 * The whole report, ends with a newline.
 * @param setup lines on what all runs share: fleet, trace, seed, SLOs, versions
 */
export function pdTargetsReport(
  results: PdTargetResults,
  plan: PdTargetPlan,
  setup: readonly string[],
): string {
  const verdicts = pdVerdicts(results, plan);
  const met = verdicts.filter((verdict) => verdict.met).length;
  const rows = verdicts.map(({ target, measured, met: isMet }) => [
    target,
    measured,
    isMet ? "met" : "**missed**",
  ]);
  const contenders = [results.roundRobin, results.aggregated, results.elastic, ...results.splits];
  const parts = [
    "# Targets of prefill and decode apart",
    setup.map((line) => `- ${line}`).join("\n"),
    `**${met} of ${verdicts.length} met.**`,
    markdownRows(["target", "measured", "verdict"], rows, 3),
    "## Highest rate with 90 % in both SLOs",
    highestTable(contenders),
    ...OVER_RATES.map((figure) => {
      const cells = contenders.map(({ name, runs }) => [
        name,
        ...runs.map((seeds) => figure.text(meanOf(figure, seeds))),
      ]);
      return markdownRows([headed(figure), ...plan.rates.map((rate) => `× ${rate}`)], cells);
    }),
    `## ${plan.short}`,
    markdownTable([results.short.aggregated, results.short.elastic]),
  ];
  return `${parts.join("\n\n")}\n`;
}

function highestTable(contenders: readonly PdContender[]): string {
  const figures = [FIGURES.inSlo, FIGURES.ttftMean, FIGURES.tpotP99];
  const rows = contenders.map(({ name, highest }) => [
    name,
    rateText(highest),
    highest.summary.offeredRps.toFixed(2),
    ...figures.map(({ text, value }) => text(value(highest.summary))),
    String(highest.runs),
  ]);
  return markdownRows(["fleet", "rate, ×", "requests/s", ...figures.map(headed), "runs"], rows);
}
