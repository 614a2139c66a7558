// Adds metrics that are filled at the moment of a scrape from the parts' own numbers.
import { Counter, Gauge, type Registry } from "prom-client";

/** One sample. */
export type Row = readonly [labels: Record<string, string>, value: number];

/** Adds a metric; `rows` gives its samples when it is asked for. */
export type Add = (
  kind: "gauge" | "counter",
  name: string,
  help: string,
  labels: string[],
  rows: () => Row[],
) => void;

/**
 * Adds to a registry. The parts count in plain numbers, because a labelled increment a scrape would cost more than the
 * scrape's parsing; each metric is filled when it is asked for. Counters only ever get the parts' own ascending numbers.
 */
export function adderOf(registry: Registry): Add {
  return (kind, name, help, labelNames, rows) => {
    const Metric = kind === "gauge" ? Gauge : Counter;
    new Metric({
      name,
      help,
      labelNames,
      registers: [registry],
      collect(this: Gauge | Counter): void {
        this.reset();
        for (const [labels, value] of rows()) this.inc(labels, value);
      },
    });
  };
}
