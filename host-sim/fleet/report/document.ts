// Runs as a JSON document that says all that is needed to run them again.
import type { RatedRun, Slo } from "./summary.ts";

/** Changes whenever a reader of the older document would misread the newer one. */
export const FLEET_REPORT_VERSION = 1;

/** What was run and what came out. */
export interface FleetReport {
  /** Names and versions of what took part, e.g. { node: "v20.11.0", "epp-wasm": "0.1.0" }. */
  readonly versions: Readonly<Record<string, string>>;
  readonly seed: number;
  readonly slo: Slo;
  /** Every option as it took effect, defaults included; values that JSON can hold. */
  readonly options: Readonly<Record<string, unknown>>;
  readonly runs: readonly RatedRun[];
}

/**
 * The document's text, ends with a newline:
 * `{ "format": "epp-wasm/fleet-report", "version", "versions", "seed", "slo", "options", "runs": [{ "rate",
 * "summary" }] }`. Units are those of FleetSummary; null = not measured.
 */
export function fleetDocument(report: FleetReport): string {
  const { versions, seed, slo, options, runs } = report;
  const head = { format: "epp-wasm/fleet-report", version: FLEET_REPORT_VERSION };
  return `${JSON.stringify({ ...head, versions, seed, slo, options, runs }, null, 2)}\n`;
}
