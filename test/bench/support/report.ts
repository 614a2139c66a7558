// What every benchmark prints: the machine, the command, and each figure's median, spread and target.
import { execFile } from "node:child_process";
import { cpus, release, totalmem } from "node:os";
import { promisify } from "node:util";

/** A bound that a figure is held against; a missed one is told and fails nothing. */
export interface Target {
  readonly atMost?: number;
  readonly atLeast?: number;
}

export interface Figure {
  readonly name: string;
  readonly unit: string;
  /** One value a round. */
  readonly values: readonly number[];
  readonly target?: Target | undefined;
}

/** Median of a sample; the mean of the middle two when their number is even. NaN for none. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** Linear interpolation between the order statistics. NaN for an empty sample. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = Float64Array.from(values).sort();
  const at = (sorted.length - 1) * share;
  const low = sorted[Math.floor(at)] ?? Number.NaN;
  const high = sorted[Math.ceil(at)] ?? Number.NaN;
  return low + (high - low) * (at - Math.floor(at));
}

/** Whether a figure keeps its target, and by how much, as "target ≤ 45: met by 3.1". */
export function verdict(value: number, { atMost, atLeast }: Target): string {
  const isUpper = atMost !== undefined;
  const bound = isUpper ? atMost : atLeast!;
  const margin = isUpper ? bound - value : value - bound;
  const word = margin >= 0 ? "met" : "missed";
  return `target ${isUpper ? "≤" : "≥"} ${bound}: ${word} by ${digits(Math.abs(margin))}`;
}

/** A number as long as it is telling: three significant digits, no exponent. */
export function digits(value: number): string {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const places = Math.max(0, Math.min(4, 2 - Math.floor(Math.log10(Math.abs(value)))));
  return value.toFixed(places).replace(/\B(?=(\d{3})+(?!\d))/g, places === 0 ? "," : "");
}

/** A section's figures as aligned lines: name, median, spread over the rounds, target. */
export function printFigures(title: string, figures: readonly Figure[]): void {
  const rows = figures.map(({ name, unit, values, target }) => [
    name,
    `${digits(median(values))} ${unit}`,
    values.length > 1 ? `${digits(Math.min(...values))}–${digits(Math.max(...values))}` : "one value",
    target === undefined ? "" : verdict(median(values), target),
  ]);
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  process.stdout.write(`\n${title}\n`);
  for (const [name, value, spread, target] of rows) {
    const line = `  ${name!.padEnd(widths[0]!)}  ${value!.padStart(widths[1]!)}  ${spread!.padEnd(widths[2]!)}`;
    process.stdout.write(`${`${line}  ${target}`.trimEnd()}\n`);
  }
}

/** Head of a benchmark's output. */
export async function printHead(title: string, facts: Readonly<Record<string, string>>): Promise<void> {
  const [first] = cpus();
  const lines: Record<string, string> = {
    machine: `${first?.model ?? "unknown CPU"}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB`,
    system: `${process.platform} ${release()}, Node ${process.version}`,
    commit: await commit(),
    ...facts,
  };
  process.stdout.write(`\n── ${title} ──\n`);
  for (const [name, text] of Object.entries(lines)) process.stdout.write(`${name.padEnd(9)} ${text}\n`);
  process.stdout.write("figures   median, then lowest–highest over the rounds\n");
}

async function commit(): Promise<string> {
  const git = async (...args: string[]) => (await promisify(execFile)("git", args)).stdout.trim();
  try {
    const changed = await git("status", "--porcelain", "--untracked-files=no");
    return (await git("rev-parse", "--short=12", "HEAD")) + (changed === "" ? "" : " with local changes");
  } catch {
    return "unknown";
  }
}
