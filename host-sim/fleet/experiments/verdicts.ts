// The picker's targets, and whether results meet them.
import { type Figure, FIGURES, type FleetSummary, timesBetter, timesText } from "../report/index.ts";
import { rateText } from "./find-rate.ts";
import type { Setting } from "./point.ts";
import {
  LLM_D,
  LMETRIC,
  ORACLE,
  OURS,
  type Place,
  type PlaceName,
  ROUND_ROBIN,
  type SettingResults,
} from "./targets.ts";

/** Figures that differ by less than this share count as equal. */
const TIE = 0.005;
/** How much worse than the best simple policy a built-in workload may come out. */
const SIMPLE_LOSS_MAX = 0.05;

/** A target in one setting. */
export interface Verdict {
  readonly setting: Setting;
  /** Where: a place on the scale of rates, or a workload. */
  readonly at: string;
  readonly target: string;
  readonly measured: string;
  readonly met: boolean;
}

type Check = Omit<Verdict, "setting" | "at">;

/** How many times better than another policy ours must be at a place. */
interface RatioTarget {
  readonly place: PlaceName;
  readonly figure: Figure;
  readonly against: string;
  readonly times: number;
}

const RATIO_TARGETS: readonly RatioTarget[] = [
  { place: "round-robin-half", figure: FIGURES.ttftMean, against: ROUND_ROBIN, times: 3 },
  { place: "round-robin-half", figure: FIGURES.ttftMean, against: LLM_D, times: 1.5 },
  { place: "round-robin-half", figure: FIGURES.ttftGoodput, against: ROUND_ROBIN, times: 1.3 },
  { place: "llm-d-three-quarters", figure: FIGURES.ttftMean, against: LLM_D, times: 1.8 },
  { place: "llm-d-three-quarters", figure: FIGURES.ttftMean, against: LMETRIC, times: 1.2 },
  { place: "llm-d-three-quarters", figure: FIGURES.ttftMean, against: ORACLE, times: 1 },
];
const SHARE_TARGET = { place: "llm-d-three-quarters", share: 0.92 };
const RATE_TARGETS = [
  { against: ROUND_ROBIN, times: 2.5 },
  { against: LLM_D, times: 1.5 },
];
/** Never worse than any policy that does not see true caches, at every place. */
const BEST_OF_ALL: readonly Figure[] = [FIGURES.ttftMean, FIGURES.ttftP90];
/** Never worse than any policy at all beyond capacity. */
const BEST_BEYOND_CAPACITY: readonly Figure[] = [FIGURES.outputTokens, FIGURES.totalTokens];
const BEST_OF_SIMPLE: readonly Figure[] = [FIGURES.ttftMean, FIGURES.ttftP90, FIGURES.goodput];

/** How a place reads. */
export const PLACE_TITLES: Readonly<Record<PlaceName, string>> = {
  "round-robin-half": "where round robin misses its TTFT SLO for half of the requests",
  "llm-d-three-quarters": "where llm-d's default keeps the TTFT SLO for 75 %",
  "our-highest": "our own highest rate with 90 % in the TTFT SLO",
  "beyond-capacity": "beyond capacity",
};

/** Judges every target in every setting, in the order of the results. */
export function verdictsOf(results: readonly SettingResults[]): Verdict[] {
  return results.flatMap((result) => {
    const verdict = (at: string, check: Check): Verdict => ({ setting: result.setting, at, ...check });
    return [
      ...result.places.flatMap((place) =>
        placeChecks(place).map((check) => verdict(PLACE_TITLES[place.name], check)),
      ),
      ...rateChecks(result).map((check) => verdict("highest rate with 90 % in the TTFT SLO", check)),
      ...result.builtIns.flatMap(({ workload, runs }) =>
        BEST_OF_SIMPLE.map((figure) => verdict(workload, notWorse(runs, figure, SIMPLE_LOSS_MAX, []))),
      ),
    ];
  });
}

function placeChecks({ name, runs }: Place): Check[] {
  const checks: Check[] = [];
  for (const { place, figure, against, times } of RATIO_TARGETS) {
    if (place !== name) continue;
    const ratio = timesBetter(figure, runOf(runs, OURS), runOf(runs, against));
    const target = `${figure.title} ≥ ${timesText(times)} better than ${against}`;
    checks.push({ target, measured: timesText(ratio), met: ratio >= times * (1 - TIE) });
  }
  if (name === SHARE_TARGET.place) checks.push(shareCheck(runOf(runs, OURS)));
  checks.push(...BEST_OF_ALL.map((figure) => notWorse(runs, figure, TIE, [ORACLE])));
  if (name === "beyond-capacity") {
    checks.push(...BEST_BEYOND_CAPACITY.map((figure) => notWorse(runs, figure, TIE, [])));
  }
  return checks;
}

function shareCheck(ours: FleetSummary): Check {
  const { title, text, value } = FIGURES.ttftInSlo;
  const measured = value(ours);
  return {
    target: `${title} ≥ ${text(SHARE_TARGET.share)}`,
    measured: text(measured),
    met: measured >= SHARE_TARGET.share,
  };
}

function rateChecks({ highest }: SettingResults): Check[] {
  const ours = highest.get(OURS)!;
  return RATE_TARGETS.map(({ against, times }) => {
    const other = highest.get(against)!;
    const ratio = ours.rate / other.rate;
    return {
      target: `rate ≥ ${timesText(times)} that of ${against}`,
      measured: `${timesText(ratio)} (× ${rateText(ours)} against × ${rateText(other)})`,
      met: ours.bound !== "below" && other.bound !== "above" && ratio >= times * (1 - TIE),
    };
  });
}

// Against whichever other policy comes out best; a policy that was not measured is no match.
function notWorse(
  runs: readonly FleetSummary[],
  figure: Figure,
  lossMax: number,
  except: readonly string[],
): Check {
  const ours = runOf(runs, OURS);
  const others = runs.filter((run) => run !== ours && !except.includes(run.policy));
  const ratios = others.map((run) => ({ policy: run.policy, ratio: timesBetter(figure, ours, run) }));
  const closest = ratios
    .filter(({ ratio }) => !Number.isNaN(ratio))
    .reduce((least, each) => (each.ratio < least.ratio ? each : least), { policy: "", ratio: Infinity });
  const allowance = lossMax === TIE ? "no worse" : `at most ${FIGURES.inSlo.text(lossMax)} worse`;
  return {
    target: `${figure.title} ${allowance} than any${except.length > 0 ? ` but ${except.join(", ")}` : ""}`,
    measured: closest.policy === "" ? "–" : `${timesText(closest.ratio)} against ${closest.policy}`,
    met: Number.isFinite(figure.value(ours)) && closest.ratio >= 1 - lossMax,
  };
}

function runOf(runs: readonly FleetSummary[], policy: string): FleetSummary {
  return runs.find((run) => run.policy === policy)!;
}
