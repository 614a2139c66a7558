// Runs as Markdown tables: all figures of each, one against the others, one figure over the rates.
import { type Figure, FIGURES, headed, PD_FIGURES, timesBetter, timesText } from "./figures.ts";
import type { FleetSummary, RatedRun } from "./summary.ts";

const COLUMNS: readonly Figure[] = Object.values(FIGURES);
/** Columns of tables in which a run disaggregated. */
const PD_COLUMNS: readonly Figure[] = Object.values(PD_FIGURES);
const COMPARED: readonly Figure[] = [
  FIGURES.ttftMean,
  FIGURES.ttftP90,
  FIGURES.ttftP99,
  FIGURES.e2eMean,
  FIGURES.ttftGoodput,
  FIGURES.goodput,
  FIGURES.totalTokens,
];

/**
 * Runs of one workload as a Markdown table, one row a run in the given order. The best printed value of a
 * column is bold, wherever it occurs, unless all runs share it. "–" = not measured.
 */
export function markdownTable(runs: readonly FleetSummary[]): string {
  const disaggregated = runs.some(({ disaggregation }) => disaggregation !== undefined);
  const figures = disaggregated ? [...COLUMNS, ...PD_COLUMNS] : COLUMNS;
  const columns = figures.map((figure) => cells(figure, runs.map(figure.value)));
  const rows = runs.map((run, row) => [run.policy, ...columns.map((column) => column[row]!), failures(run)]);
  return markdownRows(["policy", ...figures.map(headed), "failures"], rows);
}

/**
 * How many times better the policy `ours` is than each other one of the runs of one workload at one rate, as a
 * Markdown table, a row a policy. @throws RangeError when no run is of `ours`
 */
export function ratioTable(runs: readonly FleetSummary[], ours: string): string {
  const own = runs.find(({ policy }) => policy === ours);
  if (own === undefined) {
    throw new RangeError(`ours is "${ours}", expected one of ${runs.map(({ policy }) => policy).join(", ")}`);
  }
  const rows = runs
    .filter((run) => run !== own)
    .map((run) => [run.policy, ...COMPARED.map((figure) => timesText(timesBetter(figure, own, run)))]);
  return markdownRows([`${ours} against`, ...COMPARED.map(({ title }) => title)], rows);
}

/**
 * One figure of one workload over its rates as a Markdown table, a row a policy, a column a rate, the best of
 * each column bold. "–" = not measured or not run.
 */
export function rateTable(runs: readonly RatedRun[], figure: Figure): string {
  const policies = [...new Set(runs.map(({ summary }) => summary.policy))];
  const rates = [...new Set(runs.map(({ rate }) => rate))].sort((a, b) => a - b);
  const columns = rates.map((rate) => {
    const values = policies.map((policy) => {
      const run = runs.find((each) => each.rate === rate && each.summary.policy === policy);
      return run === undefined ? Number.NaN : figure.value(run.summary);
    });
    return cells(figure, values);
  });
  const rows = policies.map((policy, row) => [policy, ...columns.map((column) => column[row]!)]);
  return markdownRows([headed(figure), ...rates.map((rate) => `× ${rate}`)], rows);
}

/** A Markdown table. @param textColumns so many are left-aligned, the others, which hold numbers, right-aligned */
export function markdownRows(
  titles: readonly string[],
  rows: readonly (readonly string[])[],
  textColumns = 1,
): string {
  const line = (texts: readonly string[]): string => `| ${texts.join(" | ")} |`;
  const rule = titles.map((_, i) => (i < textColumns ? "---" : "---:"));
  return [line(titles), line(rule), ...rows.map(line)].join("\n");
}

// The values as text, those that read as the best one does in bold, unless all read the same.
function cells(figure: Figure, values: readonly number[]): string[] {
  const texts = values.map(figure.text);
  const measured = values.filter((value) => Number.isFinite(value));
  const best = figure.better === "low" ? Math.min(...measured) : Math.max(...measured);
  const bestText = texts[values.indexOf(best)];
  if (texts.every((text) => text === bestText)) return texts;
  return texts.map((text) => (text === bestText ? `**${text}**` : text));
}

function failures(run: FleetSummary): string {
  const kinds = Object.entries(run.failureKinds).map(([kind, count]) => `${count} × ${kind}`);
  return kinds.length === 0 ? "0" : `${run.failures} (${kinds.join(", ")})`;
}
