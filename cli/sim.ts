// `npm run sim`: runs policies over a simulated fleet and prints how they compare.
import type { FleetSummary } from "../host-sim/fleet/report/index.ts";
import { WASM_PATH } from "./envoy.ts";
import { Progress } from "./progress.ts";
import { experimentOf } from "./sim/experiments.ts";
import { jobsOf, simCommand, type SimFlags } from "./sim/flags.ts";
import type { SimJob } from "./sim/job.ts";
import { writeOutcome, writeReport } from "./sim/output.ts";
import { nameOf, type OnProgress, serveRuns, SimRunner } from "./sim/runner.ts";

/** What one run adds to the progress shown. */
type Follow = (job: SimJob) => OnProgress;

async function main(): Promise<void> {
  const flags = simCommand().parse().opts<SimFlags>();
  const wasm = flags.wasm ?? WASM_PATH;
  const progress = new Progress(process.stderr);
  const startMs = performance.now();
  let ran = 0;
  const going = new Map<SimJob, string>();
  const follow: Follow = (job) => (_, ended, requests) => {
    going.set(job, `${nameOf(job)}: ${Math.floor((100 * ended) / requests)} %`);
    progress.update([...going.values()].join(", "));
    if (ended < requests) return;
    going.delete(job);
    ran++;
  };
  const report = await carryOut(flags, wasm, follow);
  progress.line(`${ran} runs in ${((performance.now() - startMs) / 1000).toFixed(1)} s`);
  process.stdout.write(report);
}

/** Carries out what the options ask for and writes its files. @returns what goes to standard output */
async function carryOut(flags: SimFlags, wasm: string, follow: Follow): Promise<string> {
  const experiment = experimentOf(flags);
  const jobs = experiment === undefined ? jobsOf(flags, wasm) : [];
  const threads = experiment === undefined ? Math.min(flags.threads, jobs.length) : flags.threads;
  const runner = new SimRunner(new URL(import.meta.url), threads);
  try {
    if (experiment === undefined) {
      const results = await runner.run(jobs, (index, ...rest) => follow(jobs[index]!)(index, ...rest));
      return await writeReport(
        flags,
        results.map((result, i) => ({ rate: jobs[i]!.rate, ...result })),
      );
    }
    const run = async (job: SimJob): Promise<FleetSummary> => {
      const [result] = await runner.run([job], follow(job));
      return result!.summary;
    };
    return await writeOutcome(flags, await experiment(flags, wasm, run));
  } finally {
    await runner.close();
  }
}

if (!serveRuns()) {
  main().catch((error: unknown) => {
    process.stderr.write(`sim: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  });
}
