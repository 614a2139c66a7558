// When requests arrive: a Poisson process whose intensity may vary.
import type { Random } from "../../workload/random.ts";

/** A stretch of time in which requests arrive evenly. */
export interface Stretch {
  /** Length and intensity, in any unit: only ratios count. */
  readonly length: number;
  readonly intensity: number;
}

/** The same intensity all the time. */
export const STEADY: readonly Stretch[] = [{ length: 1, intensity: 1 }];

/**
 * Traffic moved over in steps to a fleet that starts with empty caches. Full traffic at once would find most
 * workloads needing several times the fleet's prefill in the first seconds, and runs would be about that.
 */
export const RAMPED: readonly Stretch[] = [
  { length: 0.05, intensity: 0.25 },
  { length: 0.05, intensity: 0.5 },
  { length: 0.05, intensity: 0.75 },
  { length: 0.85, intensity: 1 },
];

/**
 * Times of `count` arrivals in [0, count / ratePerSecond) in ms, in order: a Poisson process with the given
 * profile of intensities, under the condition that it has this number of arrivals. So the mean rate is what
 * was asked for, whatever the seed.
 */
export function arrivalTimes(
  random: Random,
  count: number,
  ratePerSecond: number,
  profile: readonly Stretch[] = STEADY,
): Float64Array {
  const length = profile.reduce((sum, stretch) => sum + stretch.length, 0);
  const weight = profile.reduce((sum, stretch) => sum + stretch.length * stretch.intensity, 0);
  const durationMs = (count / ratePerSecond) * 1000;
  const times = Float64Array.from({ length: count }, () => random.uniform() * weight).sort();
  let stretch = 0;
  let lengthBefore = 0;
  let weightBefore = 0;
  for (let i = 0; i < count; i++) {
    let { length: own, intensity } = profile[stretch]!;
    while (stretch < profile.length - 1 && times[i]! >= weightBefore + own * intensity) {
      lengthBefore += own;
      weightBefore += own * intensity;
      ({ length: own, intensity } = profile[++stretch]!);
    }
    times[i] = ((lengthBefore + (times[i]! - weightBefore) / intensity) / length) * durationMs;
  }
  return times;
}
