// Plot: which share of the requests had its first token after so long, a line a policy.
import type { RequestRecord, RunRecord } from "../../types.ts";
import { ttftMs } from "../summary.ts";
import { axisOf, legendOf, lineStyles, markLineOf, titleOf } from "./style.ts";
import { renderSvg } from "./svg.ts";

const WIDTH = 1000;
const HEIGHT = 560;
/** Points of a line: more are not seen. */
const POINTS_MAX = 400;
/** A log axis starts above 0: faster first tokens are drawn here. */
const TTFT_MS_MIN = 1;

/**
 * The cumulative distribution of the time to first token, log x. A request that never got a token keeps its
 * line below 100 %.
 * @param runs one workload at one rate, a run a policy. @param sloTtftMs is marked
 */
export function ttftCdfSvg(runs: readonly RunRecord[], title: string, sloTtftMs: number): string {
  const policies = runs.map(({ policy }) => policy);
  const styles = lineStyles(policies);
  const lines = runs.map(({ requests }) => cdfPoints(requests));
  const seconds = [sloTtftMs / 1000, ...lines.flatMap((points) => points.map(([x]) => x))];
  const option = {
    title: titleOf(title, "Time to first token: share of all requests that had it by then"),
    legend: legendOf(policies, 80),
    grid: { left: 80, right: 190, top: 84, bottom: 64 },
    xAxis: { ...axisOf("time to first token, s (log)", 34), type: "log" as const, ...decadesAround(seconds) },
    yAxis: { ...axisOf("share of requests, %", 48), type: "value" as const, min: 0, max: 100 },
    series: runs.map((run, index) => ({
      name: run.policy,
      type: "line" as const,
      symbol: "none",
      data: lines[index]!,
      lineStyle: styles.get(run.policy)!,
      itemStyle: { color: styles.get(run.policy)!.color },
      z: styles.get(run.policy)!.width,
      ...(index === 0
        ? { markLine: markLineOf("xAxis", sloTtftMs / 1000, `SLO ${sloTtftMs / 1000} s`) }
        : {}),
    })),
  };
  return renderSvg(option, WIDTH, HEIGHT);
}

/** [seconds, percent] at evenly spaced ranks, the first and the last among them. */
export function cdfPoints(requests: readonly RequestRecord[]): [number, number][] {
  const sorted = requests
    .map((request) => Math.max(TTFT_MS_MIN, ttftMs(request)))
    .filter((value) => !Number.isNaN(value))
    .sort((a, b) => a - b);
  const count = Math.min(POINTS_MAX, sorted.length);
  return Array.from({ length: count }, (_, point) => {
    const rank = count === 1 ? 0 : Math.round((point * (sorted.length - 1)) / (count - 1));
    return [sorted[rank]! / 1000, ((rank + 1) / requests.length) * 100];
  });
}

// Whole decades, so that the SLO is in the plot whatever was measured.
function decadesAround(values: readonly number[]): { min: number; max: number } {
  const min = Math.floor(Math.log10(Math.min(...values)));
  const max = Math.ceil(Math.log10(Math.max(...values)));
  return { min: 10 ** min, max: 10 ** Math.max(max, min + 1) };
}
