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
  private readonly all = new Set<Worker>();
  private readonly waiting: ((worker: Worker) => void)[] = [];
  /** End of the runs that the calling thread was asked for so far. */
  private here: Promise<unknown> = Promise.resolve();

  /**
   * @param script the bundled program, which calls `serveRuns` first of all
   * @param threads 1 to THREADS_MAX; with 1, runs are carried out on the calling thread
   */
  constructor(
    private readonly script: URL,
    threads: number,
  ) {
    if (threads === 1) return;
    for (let i = 0; i < threads; i++) this.idle.push(this.startThread());
  }

  /** Carries out all jobs; results are in their order. @throws SimRunError, the first there is */
  run(jobs: readonly SimJob[], onProgress: OnProgress = () => {}): Promise<SimResult[]> {
    if (this.all.size > 0)
      return Promise.all(jobs.map((job, i) => this.runOn(job, (ended, n) => onProgress(i, ended, n))));
    const results = this.here.then(() => this.runHere(jobs, onProgress));
    this.here = results.catch(() => undefined);
    return results;
  }

  async close(): Promise<void> {
    await Promise.all([...this.all].map((worker) => worker.terminate()));
  }

  private startThread(): Worker {
    const worker = new Worker(this.script, { env: process.env });
    this.all.add(worker);
    return worker;
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
    let worker = this.idle.pop() ?? (await new Promise<Worker>((settle) => this.waiting.push(settle)));
    try {
      const answer = await answerOf(worker, job, onProgress);
      if ("result" in answer) return answer.result;
      throw new SimRunError(nameOf(job), answer.error);
    } catch (error) {
      if (error instanceof SimRunError) throw error;
      // The thread itself has ended, for want of memory perhaps: the next run gets another one.
      this.all.delete(worker);
      worker = this.startThread();
      throw new SimRunError(nameOf(job), String(error));
    } finally {
      const next = this.waiting.shift();
      if (next === undefined) this.idle.push(worker);
      else next(worker);
    }
  }
}

/** Has a thread carry out a run. Rejects when the thread ends instead. */
function answerOf(
  worker: Worker,
  job: SimJob,
  onProgress: (ended: number, requests: number) => void,
): Promise<Exclude<Message, { progress: Progress }>> {
  return new Promise((settle, fail) => {
    worker.once("error", fail);
    worker.on("message", (message: Message) => {
      if ("progress" in message) {
        onProgress(message.progress.ended, message.progress.requests);
        return;
      }
      worker.removeAllListeners("message");
      worker.off("error", fail);
      settle(message);
    });
    worker.postMessage(job);
  });
}

/** A run in words. */
export function nameOf({ policy, source, rate }: SimJob): string {
  return `${policy} on ${source.kind === "trace" ? source.path : source.name} × ${rate}`;
}
