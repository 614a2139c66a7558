// What the fleet simulator reports.
export { type Distribution, type FleetSummary, type Slo, summarizeRun } from "./summary.ts";
export { markdownTable } from "./table.ts";
