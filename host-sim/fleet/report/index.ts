// What the fleet simulator reports.
export { FLEET_REPORT_VERSION, type FleetReport, fleetDocument } from "./document.ts";
export { type Figure, FIGURES, headed, PD_FIGURES, timesBetter, timesText } from "./figures.ts";
export { type PlotFile, plotFiles, type RecordedRun } from "./plots.ts";
export { bestSplitTable, namedByFleet, splitsReport } from "./splits.ts";
export { runsReport } from "./runs-report.ts";
export {
  type Disaggregation,
  type Distribution,
  type FleetSummary,
  type RatedRun,
  type Slo,
  sloText,
  summarizeRun,
} from "./summary.ts";
export { markdownRows, markdownTable, rateTable, ratioTable } from "./table.ts";
