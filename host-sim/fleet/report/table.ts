// Runs as a Markdown table, the best value of each column in bold.
import type { FleetSummary } from "./summary.ts";

interface Column {
  readonly title: string;
  readonly value: (run: FleetSummary) => number;
  readonly text: (value: number) => string;
  readonly better: "low" | "high";
}

/** What is printed where nothing was measured. */
export const NOT_MEASURED = "–";

const printed = (text: (value: number) => string) => (value: number) =>
  Number.isFinite(value) ? text(value) : NOT_MEASURED;
/** Milliseconds as seconds with two decimals. */
export const seconds = printed((ms) => (ms / 1000).toFixed(2));
/** A share as a percentage with one decimal. */
export const percent = printed((share) => `${(share * 100).toFixed(1)} %`);
const ms = printed((value) => value.toFixed(1));
const two = printed((value) => value.toFixed(2));
const whole = printed((value) => value.toFixed(0));

const COLUMNS: readonly Column[] = [
  { title: "TTFT mean s", value: (run) => run.ttftMs.mean, text: seconds, better: "low" },
  { title: "p50", value: (run) => run.ttftMs.p50, text: seconds, better: "low" },
  { title: "p90", value: (run) => run.ttftMs.p90, text: seconds, better: "low" },
  { title: "p99", value: (run) => run.ttftMs.p99, text: seconds, better: "low" },
  { title: "TPOT mean ms", value: (run) => run.tpotMs.mean, text: ms, better: "low" },
  { title: "p50", value: (run) => run.tpotMs.p50, text: ms, better: "low" },
  { title: "p99", value: (run) => run.tpotMs.p99, text: ms, better: "low" },
  { title: "E2E p50 s", value: (run) => run.e2eMs.p50, text: seconds, better: "low" },
  { title: "p90", value: (run) => run.e2eMs.p90, text: seconds, better: "low" },
  { title: "p99", value: (run) => run.e2eMs.p99, text: seconds, better: "low" },
  { title: "in TTFT SLO", value: (run) => run.ttftInSlo, text: percent, better: "high" },
  { title: "in TPOT SLO", value: (run) => run.tpotInSlo, text: percent, better: "high" },
  { title: "in both", value: (run) => run.inSlo, text: percent, better: "high" },
  { title: "goodput/s", value: (run) => run.goodputRps, text: two, better: "high" },
  { title: "output tokens/s", value: (run) => run.outputTokensPerSecond, text: whole, better: "high" },
  { title: "all tokens/s", value: (run) => run.totalTokensPerSecond, text: whole, better: "high" },
  { title: "cache hits", value: (run) => run.hitRatio, text: percent, better: "high" },
  { title: "requests max/mean", value: (run) => run.requestImbalance, text: two, better: "low" },
  { title: "busy max/mean", value: (run) => run.busyImbalance, text: two, better: "low" },
  { title: "load CV", value: (run) => run.loadVariation, text: two, better: "low" },
  { title: "preemptions", value: (run) => run.preemptions, text: whole, better: "low" },
];

/**
 * Runs of one workload as a Markdown table, one row a run in the given order. The best printed value of a
 * column is bold, wherever it occurs, unless all runs share it. "–" = not measured.
 */
export function markdownTable(runs: readonly FleetSummary[]): string {
  const columns = COLUMNS.map((column) => cells(column, runs));
  const rows = runs.map((run, row) => [run.policy, ...columns.map((column) => column[row]!), failures(run)]);
  return markdownRows(["policy", ...COLUMNS.map(({ title }) => title), "failures"], rows);
}

/** A Markdown table: the first column left-aligned, the others right-aligned. */
export function markdownRows(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (texts: readonly string[]): string => `| ${texts.join(" | ")} |`;
  const rule = titles.map((_, i) => (i === 0 ? "---" : "---:"));
  return [line(titles), line(rule), ...rows.map(line)].join("\n");
}

function cells(column: Column, runs: readonly FleetSummary[]): string[] {
  const values = runs.map(column.value);
  return markBest(values.map(column.text), values, column.better);
}

/** The texts with those that read as the best value does in bold, unless all read the same. */
export function markBest(
  texts: readonly string[],
  values: readonly number[],
  better: "low" | "high",
): string[] {
  const measured = values.filter((value) => Number.isFinite(value));
  const best = better === "low" ? Math.min(...measured) : Math.max(...measured);
  const bestText = texts[values.indexOf(best)];
  if (texts.every((text) => text === bestText)) return [...texts];
  return texts.map((text) => (text === bestText ? `**${text}**` : text));
}

function failures(run: FleetSummary): string {
  const kinds = Object.entries(run.failureKinds).map(([kind, count]) => `${count} × ${kind}`);
  return kinds.length === 0 ? "0" : `${run.failures} (${kinds.join(", ")})`;
}
