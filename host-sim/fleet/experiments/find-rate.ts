// Finds the highest request rate at which enough requests keep their SLO.
import { RunOptionError } from "../errors.ts";
import { type Figure, FIGURES, type FleetSummary } from "../report/index.ts";

/** Rates are powers of this, so that searches for different shares meet the same runs. */
const RATE_STEP = 1.02;
/** RATE_STEP to this power is 2.00. */
const STEPS_PER_DOUBLING = 35;
/** Rates are looked for up to 32 times the workload's own, and down to a 32nd. */
const DOUBLINGS_MAX = 5;
const STEPS_MAX = DOUBLINGS_MAX * STEPS_PER_DOUBLING;

/** Runs that one search takes at most: the first, the doublings, and the bisection between two of them. */
export const FIND_RATE_RUNS_MAX = 1 + DOUBLINGS_MAX + Math.ceil(Math.log2(STEPS_PER_DOUBLING));

/** What a search found. */
export interface FoundRate {
  /**
   * Highest multiple of the workload's own rate, to 2 %, at which the share was kept; with `bound` "above" the
   * highest and with "below" the lowest that was looked at.
   */
  readonly rate: number;
  /** "below": not even the lowest rate keeps the share. "above": even the highest rate does. */
  readonly bound: "" | "below" | "above";
  /** The run at `rate`. */
  readonly summary: FleetSummary;
  readonly runs: number;
}

/**
 * Searches by doubling and bisection, 2 % apart at the end, in at most FIND_RATE_RUNS_MAX runs. Where the share
 * does not fall steadily with the rate, the result is one of the rates at which it is crossed.
 * @param run carries out a run at a multiple of the workload's own rate
 * @param share of the requests that must be within the SLO, 0 < share ≤ 1
 * @param figure which share: of the requests within both SLOs unless given
 * @throws RunOptionError for an impossible share
 */
export async function findRate(
  run: (rate: number) => Promise<FleetSummary>,
  share: number,
  figure: Figure = FIGURES.inSlo,
): Promise<FoundRate> {
  if (!(share > 0 && share <= 1)) throw new RunOptionError("share", share, "a number above 0, at most 1");
  let runs = 0;
  const tried = new Map<number, FleetSummary>();
  const keeps = async (step: number): Promise<boolean> => {
    runs++;
    const summary = await run(rateOf(step));
    tried.set(step, summary);
    return figure.value(summary) >= share;
  };
  const found = (step: number, bound: FoundRate["bound"]): FoundRate => {
    return { rate: rateOf(step), bound, summary: tried.get(step)!, runs };
  };

  const up = await keeps(0);
  const direction = up ? STEPS_PER_DOUBLING : -STEPS_PER_DOUBLING;
  let step = 0;
  do {
    if (Math.abs(step) === STEPS_MAX) return found(step, up ? "above" : "below");
    step += direction;
  } while ((await keeps(step)) === up);

  let kept = up ? step - direction : step;
  let missed = up ? step : step - direction;
  while (missed - kept > 1) {
    const middle = Math.floor((kept + missed) / 2);
    if (await keeps(middle)) kept = middle;
    else missed = middle;
  }
  return found(kept, "");
}

/** Four digits, so that a rate can be given on a command line as it is printed. */
function rateOf(step: number): number {
  return Number((RATE_STEP ** step).toPrecision(4));
}

/** The rate as it is printed: "1.83", "< 0.03125", "≥ 32". */
export function rateText({ rate, bound }: FoundRate): string {
  const text = String(rate);
  return bound === "" ? text : `${bound === "below" ? "<" : "≥"} ${text}`;
}
