// `npm run sim`: runs policies over a simulated fleet and prints how they compare.
import { WASM_PATH } from "./envoy.ts";
import { Progress } from "./progress.ts";
import { jobsOf, simCommand, type SimFlags } from "./sim/flags.ts";
import { nameOf, serveRuns, SimRunner } from "./sim/runner.ts";
import { writeReport } from "./sim/output.ts";

async function main(): Promise<void> {
  const flags = simCommand().parse().opts<SimFlags>();
  const jobs = jobsOf(flags, flags.wasm ?? WASM_PATH);
  const progress = new Progress(process.stderr);
  const startMs = performance.now();
  const runner = new SimRunner(new URL(import.meta.url), Math.min(flags.threads, jobs.length));
  try {
    const done = new Map<number, string>();
    const results = await runner.run(jobs, (index, ended, requests) => {
      done.set(index, `${nameOf(jobs[index]!)}: ${Math.floor((100 * ended) / requests)} %`);
      progress.update([...done.values()].join(", "));
      if (ended === requests) done.delete(index);
    });
    progress.line(`${jobs.length} runs in ${((performance.now() - startMs) / 1000).toFixed(1)} s`);
    const runs = results.map((result, i) => ({ rate: jobs[i]!.rate, ...result }));
    process.stdout.write(await writeReport(flags, runs));
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
