// One metric over all its lines: sums and means over data-parallel ranks, and counters that must not fall.
import { SERIES_MAX } from "../limits.ts";
import type { MetricSpec } from "./engines.ts";
import { labelsHash, labelValue, MetricLocator, type MetricLine } from "./page.ts";

/** A gauge of one server. After `read`, `total`, `mean` and `max` describe the page. */
export class Gauge {
  readonly locator: MetricLocator;
  /** Lines that counted on the last page: ranks when there is a rank label. */
  count = 0;
  private sum = 0;
  private largest = 0;
  private readonly labels: readonly (readonly [string, string])[];
  private readonly ranks = new Map<string, number>();

  /**
   * @param rankLabel lines with the same value of it show the same scheduler, and the largest counts;
   *   null = every line counts
   */
  constructor(
    spec: MetricSpec,
    private readonly rankLabel: string | null = null,
  ) {
    this.locator = new MetricLocator(spec.name);
    this.labels = Object.entries(spec.labels);
  }

  /** @returns whether the page has the metric */
  read(page: Buffer): boolean {
    this.count = 0;
    this.sum = 0;
    this.largest = Number.NEGATIVE_INFINITY;
    if (this.rankLabel !== null) this.ranks.clear();
    this.locator.read(page, this.take);
    if (this.rankLabel !== null) this.addRanks();
    return this.count > 0;
  }

  get total(): number {
    return this.sum;
  }

  get mean(): number {
    return this.count === 0 ? 0 : this.sum / this.count;
  }

  get max(): number {
    return this.count === 0 ? 0 : this.largest;
  }

  private readonly take = (line: MetricLine, page: Buffer): void => {
    if (!hasLabels(page, line, this.labels)) return;
    if (this.rankLabel !== null) {
      const rank = labelValue(page, line, this.rankLabel) ?? "";
      const known = this.ranks.get(rank);
      if (known === undefined || line.value > known) this.ranks.set(rank, line.value);
      return;
    }
    this.add(line.value);
  };

  private add(value: number): void {
    this.sum += value;
    this.count += 1;
    if (value > this.largest) this.largest = value;
  }

  private addRanks(): void {
    for (const value of this.ranks.values()) this.add(value);
  }
}

/**
 * A counter of one server: its total, and whether any line fell since the page before (the engine restarted).
 */
export class Counter {
  readonly locator: MetricLocator;
  total = 0;
  fell = false;
  private readonly labels: readonly (readonly [string, string])[];
  private readonly previous = new Map<number, number>();

  constructor(spec: MetricSpec) {
    this.locator = new MetricLocator(spec.name);
    this.labels = Object.entries(spec.labels);
  }

  /** @returns whether the page has the metric */
  read(page: Buffer): boolean {
    this.total = 0;
    this.fell = false;
    const lines = this.locator.read(page, this.take);
    if (this.fell && this.previous.size > lines) this.forgetOthers(page);
    return lines > 0;
  }

  private readonly take = (line: MetricLine, page: Buffer): void => {
    if (!hasLabels(page, line, this.labels)) return;
    const series = labelsHash(page, line);
    const before = this.previous.get(series);
    if (before !== undefined && line.value < before) this.fell = true;
    if (before !== undefined || this.previous.size < SERIES_MAX) this.previous.set(series, line.value);
    this.total += line.value;
  };

  /**
   * A restarted engine starts its label sets afresh: what it no longer publishes must not be compared later.
   */
  private forgetOthers(page: Buffer): void {
    this.previous.clear();
    this.locator.read(page, (line, bytes) => {
      this.previous.set(labelsHash(bytes, line), line.value);
    });
  }
}

/** Whether a line carries all the labels asked for. */
export function hasLabels(
  page: Buffer,
  line: MetricLine,
  labels: readonly (readonly [string, string])[],
): boolean {
  for (let index = 0; index < labels.length; index++) {
    const [name, value] = labels[index]!;
    if (labelValue(page, line, name) !== value) return false;
  }
  return true;
}
