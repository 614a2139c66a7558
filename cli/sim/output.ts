// What `npm run sim` leaves behind: a table or a document on standard output, and files where they are asked for.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { OURS } from "../../host-sim/fleet/experiments/index.ts";
import {
  fleetDocument,
  namedByFleet,
  type PlotFile,
  plotFiles,
  sloText,
  type RatedRun,
  type RecordedRun,
  runsReport,
  splitsReport,
} from "../../host-sim/fleet/report/index.ts";
import { ROOT } from "../envoy.ts";
import type { Outcome } from "./experiments.ts";
import type { SimFlags } from "./flags.ts";

/** Writes the files of `--out`, if it was given. @returns what goes to standard output */
export async function writeReport(flags: SimFlags, runs: readonly RecordedRun[]): Promise<string> {
  const rated = runs.map(({ rate, summary }) => ({ rate, summary }));
  const slo = { ttftMs: flags.sloTtftMs, tpotMs: flags.sloTpotMs };
  const setting = `${settingOf(flags)}, seed ${flags.seed}, SLOs: ${sloText(slo)}`;
  if (flags.splits === undefined) {
    const plots = (): Promise<PlotFile[]> => plotFiles(runs, settingOf(flags), slo);
    return write(flags, runsReport(rated, setting, OURS), rated, plots);
  }
  const named = namedByFleet(runs);
  const plots = (): Promise<PlotFile[]> => plotFiles(named, settingOf(flags), slo);
  return write(flags, splitsReport(rated, setting), rated, plots);
}

/** The same for an experiment, which has no plots. */
export function writeOutcome(flags: SimFlags, { text, runs }: Outcome): Promise<string> {
  return write(flags, text, runs, () => Promise.resolve([]));
}

async function write(
  flags: SimFlags,
  text: string,
  runs: readonly RatedRun[],
  plots: () => Promise<PlotFile[]>,
): Promise<string> {
  const document = await documentOf(flags, runs);
  const { out } = flags;
  if (out !== undefined) {
    await mkdir(out, { recursive: true });
    await writeFile(join(out, "report.json"), document);
    await writeFile(join(out, "report.md"), text);
    for (const { name, svg } of await plots()) await writeFile(join(out, name), svg);
  }
  return flags.json === true ? document : text;
}

async function documentOf(flags: SimFlags, runs: readonly RatedRun[]): Promise<string> {
  const { version } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8")) as { version: string };
  const { seed, sloTtftMs, sloTpotMs } = flags;
  return fleetDocument({
    versions: { node: process.version, "epp-wasm": version },
    seed,
    slo: { ttftMs: sloTtftMs, tpotMs: sloTpotMs },
    options: { ...flags },
    runs,
  });
}

function settingOf({ gateways, workers, scrapeMs }: SimFlags): string {
  const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? "" : "s"}`;
  return `${count(gateways, "gateway")} of ${count(workers, "worker")}, ${scrapeMs} ms scrapes`;
}
