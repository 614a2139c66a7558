// Seeded random numbers with the distributions that arrivals and lengths need.
import { randomFrom } from "../model-server/answer.ts";

/** A stream of random numbers: equal seeds give equal streams on every machine. */
export class Random {
  private readonly next: () => number;

  constructor(seed: number) {
    this.next = randomFrom(seed);
  }

  /** Uniform in [0, 1). */
  uniform(): number {
    return this.next();
  }

  /** Uniform integer in [from, to]. */
  integer(from: number, to: number): number {
    return from + Math.floor(this.next() * (to - from + 1));
  }

  /** Exponential with the given mean: the gaps of a Poisson process. */
  exponential(mean: number): number {
    return -mean * Math.log(1 - this.next());
  }

  /** Log-normal integer with the given median, bounded to [min, max]. */
  logNormal(median: number, sigma: number, min: number, max: number): number {
    const normal = Math.sqrt(-2 * Math.log(1 - this.next())) * Math.cos(2 * Math.PI * this.next());
    return Math.min(max, Math.max(min, Math.round(median * Math.exp(sigma * normal))));
  }

  pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.next() * items.length)]!;
  }

  /** Index below `count` by Zipf's law with exponent 1: item k is drawn in proportion to 1 / (k + 1). */
  zipf(count: number): number {
    let total = 0;
    for (let k = 1; k <= count; k++) total += 1 / k;
    let left = this.next() * total;
    for (let k = 1; k < count; k++) {
      left -= 1 / k;
      if (left < 0) return k - 1;
    }
    return count - 1;
  }

  /** A generator of its own, independent of how much this one is used from here on. */
  fork(): Random {
    return new Random(Math.floor(this.next() * 4294967296));
  }
}
