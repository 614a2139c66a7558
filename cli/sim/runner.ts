// Carries runs out side by side: threads of this very program, each with one run at a time.
import { availableParallelism } from "node:os";
import { isMainThread, parentPort, Worker } from "node:worker_threads";
import { SimRunError } from "./errors.ts";
import { runJob, type SimJob, type SimResult } from "./job.ts";

/** Hears of a run's progress: its index among the jobs, and how many of its requests have ended. */
export type OnProgress = (job: number, ended: number, requests: number) => void;

interface Progress {
  readonly ended: number;
  readonly requests: number;
}

type Message = { readonly progress: Progress } | { readonly result: SimResult } | { readonly error: string };

/** Threads at most: as many as the machine has cores. */
export const THREADS_MAX = availableParallelism();

/** Serves runs to the main thread; does nothing there. @returns whether this is such a thread */
export function serveRuns(): boolean {
  if (isMainThread || parentPort === null) return false;
  const port = parentPort;
  const send = (message: Message): void => port.postMessage(message);
  port.on("message", (job: SimJob) => {
    runJob(job, (ended, requests) => send({ progress: { ended, requests } })).then(
      (result) => send({ result }),
      (error: unknown) => send({ error: error instanceof Error ? error.message : String(error) }),
    );
  });
  return true;
}

/** Threads that carry out runs; made once, used for any number of runs. */
export class SimRunner {
  private readonly idle: Worker[] = [];
  private readonly all: Worker[] = [];
  private readonly waiting: ((worker: Worker) => void)[] = [];
  /** End of the runs that the calling thread was asked for so far. */
  private here: Promise<unknown> = Promise.resolve();

  /**
   * @param script the bundled program, which calls `serveRuns` first of all
   * @param threads 1 to THREADS_MAX; with 1, runs are carried out on the calling thread
   */
  constructor(script: URL, threads: number) {
    if (threads === 1) return;
    for (let i = 0; i < threads; i++) this.all.push(new Worker(script, { env: process.env }));
    this.idle.push(...this.all);
  }

  /** Carries out all jobs; results are in their order. @throws SimRunError, the first there is */
  run(jobs: readonly SimJob[], onProgress: OnProgress = () => {}): Promise<SimResult[]> {
    if (this.all.length > 0)
      return Promise.all(jobs.map((job, i) => this.runOn(job, (ended, n) => onProgress(i, ended, n))));
    const results = this.here.then(() => this.runHere(jobs, onProgress));
    this.here = results.catch(() => undefined);
    return results;
  }

  async close(): Promise<void> {
    await Promise.all(this.all.map((worker) => worker.terminate()));
  }

  private async runHere(jobs: readonly SimJob[], onProgress: OnProgress): Promise<SimResult[]> {
    const results: SimResult[] = [];
    for (const [i, job] of jobs.entries()) {
      try {
        results.push(await runJob(job, (ended, requests) => onProgress(i, ended, requests)));
      } catch (error) {
        throw new SimRunError(nameOf(job), error instanceof Error ? error.message : String(error));
      }
    }
    return results;
  }

  private async runOn(
    job: SimJob,
    onProgress: (ended: number, requests: number) => void,
  ): Promise<SimResult> {
    const worker = this.idle.pop() ?? (await new Promise<Worker>((settle) => this.waiting.push(settle)));
    try {
      return await new Promise<SimResult>((settle, fail) => {
        const failed = (reason: string): void => fail(new SimRunError(nameOf(job), reason));
        const died = (error: unknown): void => failed(String(error));
        worker.once("error", died);
        worker.on("message", (message: Message) => {
          if ("progress" in message) {
            onProgress(message.progress.ended, message.progress.requests);
            return;
          }
          worker.removeAllListeners("message");
          worker.off("error", died);
          if ("result" in message) settle(message.result);
          else failed(message.error);
        });
        worker.postMessage(job);
      });
    } finally {
      const next = this.waiting.shift();
      if (next === undefined) this.idle.push(worker);
      else next(worker);
    }
  }
}

/** A run in words. */
export function nameOf({ policy, source, rate }: SimJob): string {
  return `${policy} on ${source.kind === "trace" ? source.path : source.name} × ${rate}`;
}
