// The experiment that asks what scaling prefill and decode apart is worth: against fixed fleets of as many GPU hours.
import { RunOptionError } from "../errors.ts";
import { FIGURES, type FleetSummary, markdownRows, headed } from "../report/index.ts";
import { replicasOf, type Split, splitText } from "../roles.ts";
import { remembered, type RunFleetAt, type RunPoint } from "./point.ts";

/** What is run. */
export interface AutoscalePlan {
  /** Policy, workload, rate and setting of all runs. */
  readonly point: RunPoint;
  /** Replicas of each role at most; those at the start are in `least`. */
  readonly most: Split;
  readonly least: Split;
}

/** What came out. */
export interface AutoscaleResult {
  readonly autoscaled: FleetSummary;
  /** Every split of the fixed fleet, the one with the most prefill replicas last. */
  readonly fixed: readonly FleetSummary[];
}

/**
 * Runs the autoscaled fleet, then each split of a fixed fleet of as many replicas as it had on average, rounded up, so
 * that the fixed fleet has no fewer GPU hours.
 * @throws RunOptionError for a plan without both roles; whatever a run throws
 */
export async function runAutoscale(
  { point, most, least }: AutoscalePlan,
  runOnce: RunFleetAt,
): Promise<AutoscaleResult> {
  for (const [field, { prefill, decode, both }] of Object.entries({ most, least })) {
    const expected = "prefill and decode replicas, and none that do both";
    if (prefill < 1 || decode < 1 || both > 0)
      throw new RunOptionError(field, `${prefill}:${decode}:${both}`, expected);
  }
  const drawnFor = replicasOf(most);
  const run = remembered((at) => runOnce({ ...at, drawnFor }));
  const autoscaled = await run({ ...point, split: most, autoscaledFrom: least });
  const replicas = Math.max(2, Math.ceil(meanReplicas(autoscaled)));
  const splits = Array.from({ length: replicas - 1 }, (_, i): Split => ({
    prefill: i + 1,
    decode: replicas - 1 - i,
    both: 0,
  }));
  return { autoscaled, fixed: await Promise.all(splits.map((split) => run({ ...point, split }))) };
}

/** Replicas with GPUs, on average over the run. */
export function meanReplicas({ replicaHours, durationMs }: FleetSummary): number {
  return replicaHours / (durationMs / 3_600_000);
}

const SHOWN = [
  FIGURES.inSlo,
  FIGURES.ttftInSlo,
  FIGURES.tpotInSlo,
  FIGURES.ttftMean,
  FIGURES.ttftP99,
  FIGURES.tpotP99,
];

/** The report in Markdown, ends with a newline. @param setup lines on what all runs share */
export function autoscaleReport(
  { autoscaled, fixed }: AutoscaleResult,
  { most, least }: AutoscalePlan,
  setup: readonly string[],
): string {
  const best = [...fixed].sort((a, b) => b.inSlo - a.inSlo)[0]!;
  const row = (fleet: string, run: FleetSummary): string[] => [
    fleet,
    run.replicaHours.toFixed(2),
    meanReplicas(run).toFixed(2),
    ...SHOWN.map(({ text, value }) => text(value(run))),
    String(run.failures),
  ];
  const name = `${splitText(least)} to ${splitText(most)}, by their load`;
  const table = markdownRows(
    ["fleet", "GPU hours (replicas)", "mean replicas", ...SHOWN.map(headed), "failures"],
    [row(name, autoscaled), ...fixed.map((run) => row(`${run.fleet ?? ""} fixed`, run))],
  );
  const gain = FIGURES.inSlo.text(autoscaled.inSlo);
  const parts = [
    `# Prefill and decode scaled apart: ${autoscaled.policy} on ${autoscaled.workload}`,
    setup.map((line) => `- ${line}`).join("\n"),
    `In both SLOs: **${gain}** scaled, ${FIGURES.inSlo.text(best.inSlo)} with the best fixed split` +
      ` (${best.fleet ?? ""}) of as many GPU hours.`,
    table,
  ];
  return `${parts.join("\n\n")}\n`;
}
