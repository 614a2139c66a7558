// Which plots a set of runs gives, each under the name of its file.
import type { RunRecord } from "../types.ts";
import type { RatedRun, Slo } from "./summary.ts";

/** A run with what was recorded of it. */
export interface RecordedRun extends RatedRun {
  readonly record: RunRecord;
}

/** A plot as it is to be written. */
export interface PlotFile {
  /** File name, letters, digits, ".", "-" and "_" only. */
  readonly name: string;
  readonly svg: string;
}

/**
 * The plots of runs behind equal gateways: for each workload and rate the distribution
 * of the time to first token and the load of each replica over time; for each workload that was run at several
 * rates also goodput, share in SLO and mean TTFT against the rate.
 * @param setting what the runs share, for the titles, e.g. "1 gateway, 50 ms scrapes"
 * @param slo its TTFT is marked in the distributions
 */
export async function plotFiles(
  runs: readonly RecordedRun[],
  setting: string,
  slo: Slo,
): Promise<PlotFile[]> {
  // The chart library takes longer to load than many a run: only who wants plots waits for it.
  const [{ ttftCdfSvg }, { loadMapSvg }, { rateLinesSvg }] = await Promise.all([
    import("./plots/ttft-cdf.ts"),
    import("./plots/load-map.ts"),
    import("./plots/rate-lines.ts"),
  ]);
  const files: PlotFile[] = [];
  for (const [workload, ofWorkload] of groupBy(runs, ({ summary }) => summary.workload)) {
    const rates = groupBy(ofWorkload, ({ rate }) => rate);
    for (const [rate, atRate] of rates) {
      const title = `${workload} × ${rate}, ${atRate[0]!.summary.replicas} replicas, ${setting}`;
      const records = atRate.map(({ record }) => record);
      const suffix = `${fileName(workload)}-${rate}.svg`;
      files.push({ name: `ttft-${suffix}`, svg: ttftCdfSvg(records, title, slo.ttftMs) });
      files.push({ name: `load-${suffix}`, svg: loadMapSvg(records, title) });
    }
    if (rates.size < 2) continue;
    const name = `rates-${fileName(workload)}.svg`;
    files.push({
      name,
      svg: rateLinesSvg(
        ofWorkload,
        `${workload}, ${ofWorkload[0]!.summary.replicas} replicas, ${setting}`,
        slo,
      ),
    });
  }
  return files;
}

function groupBy<K, V>(values: readonly V[], key: (value: V) => K): Map<K, V[]> {
  const groups = new Map<K, V[]>();
  for (const value of values) {
    const group = groups.get(key(value));
    if (group === undefined) groups.set(key(value), [value]);
    else group.push(value);
  }
  return groups;
}

function fileName(workload: string): string {
  return workload.replace(/[^A-Za-z0-9._-]+/g, "-");
}
