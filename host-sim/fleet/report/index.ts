// What the fleet simulator reports.
export { FLEET_REPORT_VERSION, type FleetReport, fleetDocument } from "./document.ts";
export { type Figure, FIGURES, headed, timesBetter, timesText } from "./figures.ts";
export { type PlotFile, plotFiles, type RecordedRun } from "./plots.ts";
export { runsReport } from "./runs-report.ts";
export { type Distribution, type FleetSummary, type RatedRun, type Slo, summarizeRun } from "./summary.ts";
export { markdownRows, markdownTable, rateTable, ratioTable } from "./table.ts";
