// The targets' Markdown report: verdicts first, then every figure they rest on.
import { FIGURES, headed, markdownRows, markdownTable, ratioTable } from "../report/index.ts";
import { type FoundRate, rateText } from "./find-rate.ts";
import type { Setting } from "./point.ts";
import { OURS, type SettingResults } from "./targets.ts";
import { PLACE_TITLES, type Verdict, verdictsOf } from "./verdicts.ts";

/**
 * The whole report, ends with a newline.
 * @param setup lines on what all runs share: fleet, trace, seed, SLOs, versions
 */
export function targetsReport(results: readonly SettingResults[], setup: readonly string[]): string {
  const verdicts = verdictsOf(results);
  const met = verdicts.filter((verdict) => verdict.met).length;
  const parts = [
    "# Targets of the picker",
    setup.map((line) => `- ${line}`).join("\n"),
    `**${met} of ${verdicts.length} met.**`,
    verdictTable(verdicts),
    ...results.flatMap(settingParts),
  ];
  return `${parts.join("\n\n")}\n`;
}

function verdictTable(verdicts: readonly Verdict[]): string {
  const rows = verdicts.map(({ setting, at, target, measured, met }) => [
    settingText(setting),
    at,
    target,
    measured,
    met ? "met" : "**missed**",
  ]);
  const titles = ["setting", "at", "target", "measured", "verdict"];
  return markdownRows(titles, rows, titles.length);
}

function settingParts({ setting, places, highest, builtIns }: SettingResults): string[] {
  return [
    `## ${settingText(setting)}`,
    "### Highest rate with 90 % in the TTFT SLO",
    highestTable([...highest]),
    ...places.flatMap(({ name, rate, runs }) => [
      `### × ${rate}: ${PLACE_TITLES[name]}`,
      markdownTable(runs),
      ratioTable(runs, OURS),
    ]),
    ...builtIns.flatMap(({ workload, runs }) => [`### Built-in workload: ${workload}`, markdownTable(runs)]),
  ];
}

/** What searches for a rate found, a row a policy: the rate, and the figures of the run there. */
export function highestTable(found: readonly (readonly [policy: string, found: FoundRate])[]): string {
  const figures = [FIGURES.ttftInSlo, FIGURES.inSlo, FIGURES.ttftMean, FIGURES.ttftP90, FIGURES.goodput];
  const rows = found.map(([policy, each]) => [
    policy,
    rateText(each),
    each.summary.offeredRps.toFixed(2),
    ...figures.map(({ text, value }) => text(value(each.summary))),
    String(each.runs),
  ]);
  return markdownRows(["policy", "rate, ×", "requests/s", ...figures.map(headed), "runs"], rows);
}

function settingText({ gateways, scrapeMs }: Setting): string {
  return `${gateways} ${gateways === 1 ? "gateway" : "gateways"}, ${scrapeMs} ms scrapes`;
}
