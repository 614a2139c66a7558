// The processes beside a benchmark: bundles made from test/bench/processes, driven over Node's IPC channel.
import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import { ROOT } from "../../../cli/envoy.ts";
import type { LoadResult, LoadTask, ReplicasReady } from "./messages.ts";

/** A process of the benchmark ended while an answer of it was due. */
export class BenchProcessError extends Error {
  readonly code = "ERR_BENCH_PROCESS";
  constructor(name: string, exitCode: number | null) {
    super(`the ${name} process ended with code ${exitCode}`);
    this.name = "BenchProcessError";
  }
}

export class BenchProcess {
  private readonly child: ChildProcess;

  constructor(
    private readonly name: "load" | "replicas",
    args: readonly string[] = [],
  ) {
    this.child = fork(join(ROOT, "build", `bench-process-${name}.mjs`), args, { stdio: "inherit" });
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** The process's next message, after it was sent `task` if one is given. */
  ask<Answer>(task?: object): Promise<Answer> {
    return new Promise((settle, fail) => {
      const ended = (code: number | null): void => fail(new BenchProcessError(this.name, code));
      this.child.once("exit", ended);
      this.child.once("message", (answer) => {
        this.child.off("exit", ended);
        settle(answer as Answer);
      });
      if (task !== undefined) this.child.send(task);
    });
  }

  stop(): void {
    this.child.kill();
  }
}

export interface Replicas {
  readonly pid: number;
  /** "127.0.0.1:port" of each. */
  readonly addresses: readonly string[];
  stop(): void;
}

/** Starts `count` near-instant replicas in one process. */
export async function startReplicas(count: number): Promise<Replicas> {
  const child = new BenchProcess("replicas", [String(count)]);
  const { ports } = await child.ask<ReplicasReady>();
  return { pid: child.pid, addresses: ports.map((port) => `127.0.0.1:${port}`), stop: () => child.stop() };
}

export interface Load {
  readonly pid: number;
  run(task: LoadTask): Promise<LoadResult>;
  stop(): void;
}

export function startLoad(): Load {
  const child = new BenchProcess("load");
  return { pid: child.pid, run: (task) => child.ask<LoadResult>(task), stop: () => child.stop() };
}
