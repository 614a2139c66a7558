// Writes metric families in the Prometheus text format, with numbers as Python's client library prints them.
import type { Histogram } from "./metrics.ts";

/** Label names and values; written in alphabetical order, as the Python client does. */
export type Labels = Readonly<Record<string, string>>;

/** Collects the lines of one metrics page. */
export class Exposition {
  private readonly lines: string[] = [];
  private readonly createdSeconds: number;

  /** @param createdSeconds Unix time of the `_created` samples: when the counters started. */
  constructor(createdSeconds: number) {
    this.createdSeconds = createdSeconds;
  }

  gauge(name: string, help: string, samples: readonly (readonly [Labels, number])[]): void {
    this.head(name, help, "gauge");
    for (const [labels, value] of samples) this.sample(name, labels, value);
  }

  /** A counter; `name` without `_total`. Counters of the process itself carry no `_created` family. */
  counter(name: string, help: string, samples: readonly (readonly [Labels, number])[], created = true): void {
    this.head(`${name}_total`, help, "counter");
    for (const [labels, value] of samples) this.sample(`${name}_total`, labels, value);
    if (created)
      this.created(
        name,
        help,
        samples.map(([labels]) => labels),
      );
  }

  histogram(name: string, help: string, samples: readonly (readonly [Labels, Histogram])[]): void {
    this.head(name, help, "histogram");
    for (const [labels, histogram] of samples) {
      const cumulative = histogram.cumulative();
      histogram.bounds.forEach((bound, i) => {
        this.sample(`${name}_bucket`, { ...labels, le: pythonFloat(bound) }, cumulative[i]!);
      });
      this.sample(`${name}_bucket`, { ...labels, le: "+Inf" }, histogram.count);
      this.sample(`${name}_count`, labels, histogram.count);
      this.sample(`${name}_sum`, labels, histogram.sum);
    }
    this.created(
      name,
      help,
      samples.map(([labels]) => labels),
    );
  }

  /** A summary without quantiles: count and sum. */
  summary(name: string, help: string, samples: readonly (readonly [Labels, Histogram])[]): void {
    this.head(name, help, "summary");
    for (const [labels, histogram] of samples) {
      this.sample(`${name}_count`, labels, histogram.count);
      this.sample(`${name}_sum`, labels, histogram.sum);
    }
    this.created(
      name,
      help,
      samples.map(([labels]) => labels),
    );
  }

  text(): string {
    return `${this.lines.join("\n")}\n`;
  }

  private created(name: string, help: string, labels: readonly Labels[]): void {
    this.head(`${name}_created`, help, "gauge");
    for (const each of labels) this.sample(`${name}_created`, each, this.createdSeconds);
  }

  private head(name: string, help: string, type: string): void {
    this.lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
  }

  private sample(name: string, labels: Labels, value: number): void {
    const pairs = Object.keys(labels)
      .sort()
      .map((key) => `${key}="${escapeLabel(labels[key]!)}"`);
    this.lines.push(`${name}${pairs.length > 0 ? `{${pairs.join(",")}}` : ""} ${pythonFloat(value)}`);
  }
}

/** A number as prometheus_client prints it: always a point, and an exponent from 10^6 on (`4.68e+09`). */
export function pythonFloat(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "-Inf";
  const plain = Number.isInteger(value) ? `${value}.0` : String(value);
  const point = plain.indexOf(".");
  if (value <= 0 || point <= 6) return plain;
  const digits = `${plain[0]}.${plain.slice(1, point)}${plain.slice(point + 1)}`.replace(/[0.]+$/, "");
  return `${digits}e+0${point - 1}`;
}

function escapeLabel(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
