// What `npm run sim` leaves behind: a table or a document on standard output, and files where they are asked for.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  fleetDocument,
  markdownTable,
  plotFiles,
  type RecordedRun,
} from "../../host-sim/fleet/report/index.ts";
import { ROOT } from "../envoy.ts";
import type { SimFlags } from "./flags.ts";

/** Writes the files of `--out`, if it was given. @returns what goes to standard output */
export async function writeReport(flags: SimFlags, runs: readonly RecordedRun[]): Promise<string> {
  const document = await documentOf(flags, runs);
  const tables = `${tablesOf(flags, runs)}\n`;
  const { out, sloTtftMs } = flags;
  if (out !== undefined) {
    await mkdir(out, { recursive: true });
    await writeFile(join(out, "report.json"), document);
    await writeFile(join(out, "report.md"), tables);
    for (const { name, svg } of await plotFiles(runs, settingOf(flags, runs), sloTtftMs))
      await writeFile(join(out, name), svg);
  }
  return flags.json === true ? document : tables;
}

async function documentOf(flags: SimFlags, runs: readonly RecordedRun[]): Promise<string> {
  const { version } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8")) as { version: string };
  const { seed, sloTtftMs, sloTpotMs } = flags;
  return fleetDocument({
    versions: { node: process.version, "epp-wasm": version },
    seed,
    slo: { ttftMs: sloTtftMs, tpotMs: sloTpotMs },
    options: { ...flags },
    runs: runs.map(({ rate, summary }) => ({ rate, summary })),
  });
}

/** One table for each workload and rate. */
function tablesOf(flags: SimFlags, runs: readonly RecordedRun[]): string {
  const groups = new Map<string, RecordedRun[]>();
  for (const run of runs) {
    const { workload, requests, offeredRps } = run.summary;
    const title = `${workload} × ${run.rate}: ${requests} requests, ${offeredRps.toFixed(2)} a second`;
    groups.set(title, [...(groups.get(title) ?? []), run]);
  }
  return [...groups]
    .map(([title, group]) => {
      const heading = `### ${title}; ${settingOf(flags, group)}, seed ${flags.seed}`;
      return `${heading}\n\n${markdownTable(group.map(({ summary }) => summary))}\n`;
    })
    .join("\n");
}

function settingOf({ gateways, workers, scrapeMs }: SimFlags, runs: readonly RecordedRun[]): string {
  const replicas = runs[0]?.summary.replicas ?? 0;
  const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? "" : "s"}`;
  return `${count(replicas, "replica")}, ${count(gateways, "gateway")} of ${count(workers, "worker")}, ${scrapeMs} ms scrapes`;
}
