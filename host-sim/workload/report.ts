// Turns results into the figures that runs are compared by, and those into tables.
import type { RequestResult } from "./result.ts";

/** Figures of one run. Times are seconds, shares 0–1. NaN where nothing was measured. */
export interface RunSummary {
  readonly policy: string;
  readonly requests: number;
  readonly errors: number;
  /** Failures by kind, only those that occurred. */
  readonly errorKinds: Readonly<Record<string, number>>;
  readonly ttftMeanS: number;
  readonly ttftP50S: number;
  readonly ttftP90S: number;
  readonly ttftP99S: number;
  readonly e2eP50S: number;
  readonly e2eP99S: number;
  /** Median over requests of the mean time between tokens, ms. */
  readonly tpotP50Ms: number;
  /** 99th percentile of the same. */
  readonly tpotP99Ms: number;
  /** Share of all requests within `SLO`; an answer of one token keeps any TPOT. */
  readonly inSlo: number;
  /** Generated tokens over the time from the first request to the last answer. */
  readonly outputTokensPerSecond: number;
  /** Cached prompt tokens over all prompt tokens. */
  readonly prefixHitRatio: number;
  /** Share of the requests that went to the replica with the most. */
  readonly busiestShare: number;
  readonly replicas: number;
  /** Latest sending after its planned time, ms: how far the client itself can be trusted. */
  readonly lateMsMax: number;
}

/** What requests should keep: the limits that the fleet simulator's runs are judged by too. */
export const SLO = { ttftMs: 4000, tpotMs: 50 } as const;

/**
 * Value below which a share `p` of the values lies: the smallest value with at least p × n values at or below
 * it (nearest rank). NaN for no values.
 * @param values any order. @param p 0 < p ≤ 1
 */
export function percentile(values: readonly number[], p: number): number {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(p * sorted.length) - 1)]!;
}

/**
 * Figures of a run. Requests that failed count in `errors` and nowhere else, but for tokens they did bring.
 */
export function summarize(policy: string, results: readonly RequestResult[], replicas: number): RunSummary {
  const good = results.filter((result) => result.failure === null);
  const errorKinds: Record<string, number> = {};
  for (const { failure } of results)
    if (failure !== null) errorKinds[failure] = (errorKinds[failure] ?? 0) + 1;
  const ttft = good.map((result) => result.timeToFirstTokenMs / 1000);
  const e2e = good.map((result) => result.endToEndMs / 1000);
  const tpot = good.map((result) => result.timePerTokenMs).filter((value) => !Number.isNaN(value));
  const total = (of: (result: RequestResult) => number): number => results.reduce((sum, r) => sum + of(r), 0);
  const endMs = Math.max(...good.map((result) => result.sentMs + result.endToEndMs));
  const startMs = Math.min(...results.map((result) => result.sentMs));
  return {
    policy,
    requests: results.length,
    errors: results.length - good.length,
    errorKinds,
    ttftMeanS: ttft.reduce((sum, value) => sum + value, 0) / ttft.length,
    ttftP50S: percentile(ttft, 0.5),
    ttftP90S: percentile(ttft, 0.9),
    ttftP99S: percentile(ttft, 0.99),
    e2eP50S: percentile(e2e, 0.5),
    e2eP99S: percentile(e2e, 0.99),
    tpotP50Ms: percentile(tpot, 0.5),
    tpotP99Ms: percentile(tpot, 0.99),
    inSlo: good.filter(keepsSlo).length / results.length,
    outputTokensPerSecond: (total((r) => r.outputTokens) / (endMs - startMs)) * 1000,
    prefixHitRatio: total((r) => r.cachedTokens) / total((r) => r.promptTokens),
    busiestShare: busiestShare(good),
    replicas,
    lateMsMax: Math.max(...results.map((result) => result.lateMs)),
  };
}

function keepsSlo({ timeToFirstTokenMs, timePerTokenMs }: RequestResult): boolean {
  return timeToFirstTokenMs <= SLO.ttftMs && !(timePerTokenMs > SLO.tpotMs);
}

function busiestShare(results: readonly RequestResult[]): number {
  const counts = new Map<string, number>();
  for (const { servedBy } of results) counts.set(servedBy, (counts.get(servedBy) ?? 0) + 1);
  return Math.max(0, ...counts.values()) / results.length;
}

/** A column of a table of runs. */
export interface Column<Run = RunSummary> {
  readonly title: string;
  readonly text: (run: Run) => string;
}

export const seconds = (value: number): string => (Number.isNaN(value) ? "–" : value.toFixed(2));
export const percent = (value: number): string =>
  Number.isNaN(value) ? "–" : `${(value * 100).toFixed(1)} %`;

const COLUMNS: readonly Column[] = [
  { title: "policy", text: (run) => run.policy },
  { title: "TTFT mean s", text: (run) => seconds(run.ttftMeanS) },
  { title: "p50", text: (run) => seconds(run.ttftP50S) },
  { title: "p90", text: (run) => seconds(run.ttftP90S) },
  { title: "p99", text: (run) => seconds(run.ttftP99S) },
  { title: "E2E p50 s", text: (run) => seconds(run.e2eP50S) },
  { title: "p99", text: (run) => seconds(run.e2eP99S) },
  { title: "tokens/s", text: (run) => run.outputTokensPerSecond.toFixed(0) },
  { title: "prefix hit", text: (run) => percent(run.prefixHitRatio) },
  {
    title: "busiest replica",
    text: (run) => `${percent(run.busiestShare)} (fair ${percent(1 / run.replicas)})`,
  },
  { title: "errors", text: errorsText },
];

/** Failures with their kinds, "0" without any. */
export function errorsText(run: RunSummary): string {
  const kinds = Object.entries(run.errorKinds).map(([kind, count]) => `${count} × ${kind}`);
  return kinds.length === 0 ? "0" : `${run.errors} (${kinds.join(", ")})`;
}

/** The runs as a text table with aligned columns. */
export function textTable(runs: readonly RunSummary[]): string {
  return alignedTable(runs, COLUMNS);
}

/** Runs as a text table of the given columns; the first is aligned to the left. */
export function alignedTable<Run>(runs: readonly Run[], columns: readonly Column<Run>[]): string {
  const rows = [
    columns.map(({ title }) => title),
    ...runs.map((run) => columns.map(({ text }) => text(run))),
  ];
  const widths = columns.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]): string => {
    return row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  ");
  };
  const rule = widths.map((width) => "─".repeat(width)).join("──");
  return [line(rows[0]!), rule, ...rows.slice(1).map(line)].join("\n");
}

/** The runs as a Markdown table. */
export function markdownTable(runs: readonly RunSummary[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const rule = COLUMNS.map((_, i) => (i === 0 ? "---" : "---:"));
  const titles = COLUMNS.map(({ title }) => title);
  return [line(titles), line(rule), ...runs.map((run) => line(COLUMNS.map(({ text }) => text(run))))].join(
    "\n",
  );
}

/** How many times better the first run's mean TTFT is than the other's. */
export function ttftGain(ours: RunSummary, other: RunSummary): number {
  return other.ttftMeanS / ours.ttftMeanS;
}
