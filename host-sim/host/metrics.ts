// Process-wide values of filter-defined metrics and their Prometheus text, as Envoy's admin prints them.
import { MetricType } from "./abi.ts";

/** A bootstrap `stats_tags` rule: group 1 is cut from the name, group 2 (else group 1) is the tag's value. */
export interface StatsTag {
  readonly tagName: string;
  readonly regex: RegExp;
}

/** One metric of the process; VMs refer to it through their own ids. */
export interface Metric {
  readonly name: string;
  readonly kind: number;
  /** Counter or gauge value, an unsigned 64-bit number. */
  value: bigint;
  /** Histogram samples in order of arrival, kept as counts per bucket plus sum. */
  readonly histogram: HistogramState | null;
}

interface HistogramState {
  readonly bounds: readonly number[];
  readonly counts: number[];
  count: number;
  sum: number;
}

/** Envoy's default histogram buckets (source/common/stats/histogram_impl.cc); the unit is the filter's. */
export const DEFAULT_BUCKETS: readonly number[] = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000,
  1_800_000, 3_600_000,
];

/** Rule that picks other buckets for histograms whose `wasmcustom.` name it matches. */
export interface HistogramBuckets {
  readonly match: RegExp;
  readonly buckets: readonly number[];
}

/** The process's metrics. The same name and kind defined by many VMs is one value. */
export class MetricStore {
  private readonly metrics = new Map<string, Metric>();

  constructor(
    private readonly statsTags: readonly StatsTag[] = [],
    private readonly histogramBuckets: readonly HistogramBuckets[] = [],
  ) {}

  /** Finds or creates a metric; `name` is the filter's, without the `wasmcustom.` prefix. */
  define(kind: number, name: string): Metric {
    const key = `${kind}:${name}`;
    const known = this.metrics.get(key);
    if (known !== undefined) return known;
    const rule = this.histogramBuckets.find((one) => one.match.test(`wasmcustom.${name}`));
    const bounds = rule?.buckets ?? DEFAULT_BUCKETS;
    const histogram =
      kind === MetricType.HISTOGRAM ? { bounds, counts: bounds.map(() => 0), count: 0, sum: 0 } : null;
    const metric: Metric = { name, kind, value: 0n, histogram };
    this.metrics.set(key, metric);
    return metric;
  }

  /** The value of a counter or gauge by its full name, undefined when never defined. For tests and drivers. */
  value(name: string): bigint | undefined {
    return (this.metrics.get(`0:${name}`) ?? this.metrics.get(`1:${name}`))?.value;
  }

  /** Records a histogram sample. */
  static record(histogram: HistogramState, sample: number): void {
    histogram.count++;
    histogram.sum += sample;
    const bucket = histogram.bounds.findIndex((bound) => sample <= bound);
    if (bucket >= 0) histogram.counts[bucket] = (histogram.counts[bucket] as number) + 1;
  }

  /** Prometheus exposition text: the prefix `wasmcustom` is dropped, no `envoy_` is added, tags become labels. */
  prometheus(): string {
    const families = new Map<string, { kind: number; lines: string[] }>();
    for (const metric of this.metrics.values()) {
      const { name, labels } = this.extractTags(metric.name);
      const family = families.get(name) ?? { kind: metric.kind, lines: [] };
      families.set(name, family);
      family.lines.push(...sampleLines(name, labels, metric));
    }
    let text = "";
    for (const [name, family] of [...families].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const type = ["counter", "gauge", "histogram"][family.kind] as string;
      text += `# TYPE ${name} ${type}\n${family.lines.join("\n")}\n`;
    }
    return text;
  }

  private extractTags(full: string): { name: string; labels: [string, string][] } {
    let name = `wasmcustom.${full}`;
    const labels: [string, string][] = [];
    for (const { tagName, regex } of this.statsTags) {
      const match = regex.exec(name);
      const cut = match?.[1];
      if (cut === undefined) continue;
      labels.push([sanitize(tagName), match?.[2] ?? cut]);
      name = name.replace(cut, "");
    }
    return { name: sanitize(name.slice("wasmcustom.".length)), labels };
  }
}

function sanitize(name: string): string {
  return name.replace(/[^A-Za-z0-9_]/g, "_");
}

function labelText(labels: readonly [string, string][]): string {
  if (labels.length === 0) return "{}";
  const quoted = (value: string): string =>
    value.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n");
  return `{${labels.map(([name, value]) => `${name}="${quoted(value)}"`).join(",")}}`;
}

function sampleLines(name: string, labels: [string, string][], metric: Metric): string[] {
  if (metric.histogram === null) return [`${name}${labelText(labels)} ${metric.value}`];
  const { bounds, counts, count, sum } = metric.histogram;
  const lines: string[] = [];
  let cumulative = 0;
  for (let index = 0; index < bounds.length; index++) {
    cumulative += counts[index] as number;
    lines.push(`${name}_bucket${labelText([...labels, ["le", String(bounds[index])]])} ${cumulative}`);
  }
  lines.push(`${name}_bucket${labelText([...labels, ["le", "+Inf"]])} ${count}`);
  lines.push(`${name}_sum${labelText(labels)} ${sum}`, `${name}_count${labelText(labels)} ${count}`);
  return lines;
}
