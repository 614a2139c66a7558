// The figures that policies are compared by: where each is found, how it reads, and which way is better.
import type { Disaggregation, FleetSummary } from "./summary.ts";

/** A figure of a run. */
export interface Figure {
  readonly title: string;
  /** As in "mean TTFT, s"; "" where the text or the title says it. */
  readonly unit: string;
  readonly value: (run: FleetSummary) => number;
  readonly text: (value: number) => string;
  readonly better: "low" | "high";
}

/** What is printed where nothing was measured. */
export const NOT_MEASURED = "–";

const printed = (text: (value: number) => string) => (value: number) =>
  Number.isFinite(value) ? text(value) : NOT_MEASURED;
/** Below this, a hundredth of a second is too coarse. */
const FINE_MS = 100;
const seconds = printed((ms) => (ms / 1000).toFixed(ms < FINE_MS ? 3 : 2));
const milliseconds = printed((ms) => ms.toFixed(1));
const percent = printed((share) => `${(share * 100).toFixed(1)} %`);
const two = printed((value) => value.toFixed(2));
const whole = printed((value) => value.toFixed(0));

type Of = (run: FleetSummary) => number;
const time = (title: string, value: Of): Figure => ({
  title,
  unit: "s",
  value,
  text: seconds,
  better: "low",
});
const tpot = (title: string, value: Of): Figure => ({
  title,
  unit: "ms",
  value,
  text: milliseconds,
  better: "low",
});
const share = (title: string, value: Of): Figure => ({
  title,
  unit: "",
  value,
  text: percent,
  better: "high",
});
const speed = (title: string, value: Of): Figure => ({ title, unit: "", value, text: two, better: "high" });
const tokens = (title: string, value: Of): Figure => ({
  title,
  unit: "",
  value,
  text: whole,
  better: "high",
});
const uneven = (title: string, value: Of): Figure => ({ title, unit: "", value, text: two, better: "low" });

/** All figures by name, in the order of the report's columns. */
export const FIGURES = {
  ttftMean: time("mean TTFT", (run) => run.ttftMs.mean),
  ttftP50: time("TTFT p50", (run) => run.ttftMs.p50),
  ttftP90: time("TTFT p90", (run) => run.ttftMs.p90),
  ttftP99: time("TTFT p99", (run) => run.ttftMs.p99),
  tpotMean: tpot("mean TPOT", (run) => run.tpotMs.mean),
  tpotP50: tpot("TPOT p50", (run) => run.tpotMs.p50),
  tpotP99: tpot("TPOT p99", (run) => run.tpotMs.p99),
  e2eMean: time("mean E2E", (run) => run.e2eMs.mean),
  e2eP50: time("E2E p50", (run) => run.e2eMs.p50),
  e2eP90: time("E2E p90", (run) => run.e2eMs.p90),
  e2eP99: time("E2E p99", (run) => run.e2eMs.p99),
  ttftInSlo: share("in TTFT SLO", (run) => run.ttftInSlo),
  tpotInSlo: share("in TPOT SLO", (run) => run.tpotInSlo),
  inSlo: share("in both SLOs", (run) => run.inSlo),
  ttftGoodput: speed("requests/s in TTFT SLO", (run) => run.ttftGoodputRps),
  goodput: speed("requests/s in both SLOs", (run) => run.goodputRps),
  outputTokens: tokens("output tokens/s", (run) => run.outputTokensPerSecond),
  totalTokens: tokens("all tokens/s", (run) => run.totalTokensPerSecond),
  hitRatio: share("cache hits", (run) => run.hitRatio),
  requestImbalance: uneven("requests max/mean", (run) => run.requestImbalance),
  busyImbalance: uneven("busy max/mean", (run) => run.busyImbalance),
  loadVariation: uneven("load CV", (run) => run.loadVariation),
  preemptions: {
    title: "preemptions",
    unit: "",
    value: (run: FleetSummary) => run.preemptions,
    text: whole,
    better: "low",
  },
} satisfies Readonly<Record<string, Figure>>;

const handedOver = (value: (of: Disaggregation) => number): Of => {
  return ({ disaggregation }) => (disaggregation === undefined ? Number.NaN : value(disaggregation));
};

/** Figures of runs in which one replica computed prompts for another, in the order of the report's columns. */
export const PD_FIGURES = {
  disaggregated: share(
    "prompts computed elsewhere",
    handedOver((of) => of.share),
  ),
  handover: time(
    "mean handover",
    handedOver((of) => of.handoverMs),
  ),
  pulled: {
    ...share(
      "their tokens pulled",
      handedOver((of) => of.pulledShare),
    ),
    better: "low",
  },
  failedPrefills: {
    title: "failed prefill legs",
    unit: "",
    value: handedOver((of) => of.failedPrefills),
    text: whole,
    better: "low",
  },
} satisfies Readonly<Record<string, Figure>>;

/** Title and unit, as a column is headed. */
export function headed({ title, unit }: Figure): string {
  return unit === "" ? title : `${title}, ${unit}`;
}

/** How many times better `ours` is than `other`: above 1 is better whichever way the figure counts. */
export function timesBetter(figure: Figure, ours: FleetSummary, other: FleetSummary): number {
  const [a, b] = [figure.value(ours), figure.value(other)];
  if (a === b) return 1;
  return figure.better === "low" ? b / a : a / b;
}

/** A ratio as it is printed: "3.20×", "–" where one side was not measured. */
export function timesText(ratio: number): string {
  if (Number.isNaN(ratio)) return NOT_MEASURED;
  return Number.isFinite(ratio) ? `${ratio.toFixed(ratio < 10 ? 2 : 1)}×` : "∞";
}
