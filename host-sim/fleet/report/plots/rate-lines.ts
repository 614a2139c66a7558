// Plot: goodput, share in SLO and mean TTFT against the request rate, a line a policy.
import { type FleetSummary, type RatedRun, type Slo, sloText } from "../summary.ts";
import { axisOf, FONT, INK, legendOf, lineStyles, markLineOf, titleOf } from "./style.ts";
import { renderSvg } from "./svg.ts";

interface Panel {
  readonly title: string;
  readonly unit: string;
  readonly value: (run: FleetSummary) => number;
  readonly log?: boolean;
  readonly max?: number;
  readonly mark?: { readonly at: number; readonly label: string };
}

const WIDTH = 1440;
const HEIGHT = 520;
const LEGEND_WIDTH = 180;
const MARGIN = 74;
/** The share in SLO that operators promise. */
const SHARE_PROMISED = 0.9;

const PANELS: readonly Panel[] = [
  { title: "Goodput", unit: "requests/s in both SLOs", value: (run) => run.goodputRps },
  {
    title: "Share of requests in both SLOs",
    unit: "%",
    value: (run) => run.inSlo * 100,
    max: 100,
    mark: { at: SHARE_PROMISED * 100, label: `${SHARE_PROMISED * 100} %` },
  },
  { title: "Mean TTFT", unit: "s (log)", value: (run) => run.ttftMs.mean / 1000, log: true },
];

/**
 * Three panels side by side over the rates that were run, each point a run.
 * @param runs one workload at several rates, of one policy or more
 * @param slo of requests that bring none
 */
export function rateLinesSvg(runs: readonly RatedRun[], title: string, slo: Slo): string {
  const policies = [...new Set(runs.map(({ summary }) => summary.policy))];
  const styles = lineStyles(policies);
  const width = (WIDTH - LEGEND_WIDTH) / PANELS.length;
  const option = {
    title: [
      titleOf(
        title,
        `By request rate, as a multiple of the workload's own. SLOs: ${sloText(slo)}; a request's own comes first`,
      ),
      ...PANELS.map((panel, index) => ({
        text: panel.title,
        left: index * width + MARGIN,
        top: 72,
        textStyle: { fontSize: 14, fontFamily: FONT, color: INK },
      })),
    ],
    legend: legendOf(policies, 100),
    grid: PANELS.map((_, index) => ({
      left: index * width + MARGIN,
      width: width - MARGIN - 16,
      top: 106,
      bottom: 64,
    })),
    xAxis: PANELS.map((_, gridIndex) => ({
      ...axisOf("rate, ×", 34),
      type: "value" as const,
      gridIndex,
      scale: true,
    })),
    yAxis: PANELS.map(({ unit, log, max }, gridIndex) => ({
      ...axisOf(unit, 48),
      type: log ? ("log" as const) : ("value" as const),
      gridIndex,
      ...(max === undefined ? {} : { min: 0, max }),
    })),
    series: PANELS.flatMap((panel, index) =>
      policies.map((policy, line) => ({
        name: policy,
        type: "line" as const,
        xAxisIndex: index,
        yAxisIndex: index,
        symbol: "circle",
        symbolSize: 6,
        data: pointsOf(runs, policy, panel),
        lineStyle: styles.get(policy)!,
        itemStyle: { color: styles.get(policy)!.color },
        z: styles.get(policy)!.width,
        ...(line === 0 && panel.mark
          ? { markLine: markLineOf("yAxis", panel.mark.at, panel.mark.label) }
          : {}),
      })),
    ),
  };
  return renderSvg(option, WIDTH, HEIGHT);
}

function pointsOf(runs: readonly RatedRun[], policy: string, panel: Panel): [number, number][] {
  return runs
    .filter(({ summary }) => summary.policy === policy)
    .map(({ rate, summary }): [number, number] => [rate, panel.value(summary)])
    .filter(([, value]) => Number.isFinite(value) && !(panel.log === true && value <= 0))
    .sort(([a], [b]) => a - b);
}
