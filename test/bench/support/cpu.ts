// CPU time and memory of other processes, and which cores they may use. Linux only: read from /proc.
import { execFile } from "node:child_process";
import { readFile, readdir } from "node:fs/promises";
import { cpus } from "node:os";
import { promisify } from "node:util";

/** CPU time that all threads of a process have used, µs; from the scheduler's nanosecond clock. */
export async function cpuMicros(pid: number): Promise<number> {
  let nanoseconds = 0n;
  for (const task of await readdir(`/proc/${pid}/task`)) {
    // "<ns on a CPU> <ns waiting> <timeslices>"; a thread may end between the two calls.
    const text = await readFile(`/proc/${pid}/task/${task}/schedstat`, "utf8").catch(() => "0");
    nanoseconds += BigInt(text.split(" ")[0]!.trim());
  }
  return Number(nanoseconds / 1000n);
}

/** Resident memory of a process, MiB. */
export async function residentMib(pid: number): Promise<number> {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(await readFile(`/proc/${pid}/status`, "utf8"));
  return Number(match![1]) / 1024;
}

/** Who runs where: the proxy on cores of its own, everything else on the others. */
export interface Placement {
  /** Core lists as taskset takes them. */
  readonly proxy: string;
  readonly rest: string;
  readonly text: string;
}

/** The proxy's `workers` on the first cores; the rest on the others, or `isShared` with it. */
export function place(workers: number, isShared = false): Placement {
  const cores = cpus().length;
  const proxy = range(0, Math.min(workers, cores) - 1);
  if (isShared || cores <= workers) {
    return { proxy, rest: proxy, text: `proxy, load and replicas share core ${proxy}` };
  }
  const rest = range(workers, cores - 1);
  return { proxy, rest, text: `proxy on core ${proxy}, load and replicas on core ${rest}` };
}

/** Moves all threads of a process, and those it will start, to these cores. */
export async function pin(pid: number, cores: string): Promise<void> {
  await promisify(execFile)("taskset", ["-a", "-c", "-p", cores, String(pid)]);
}

function range(first: number, last: number): string {
  return first === last ? String(first) : `${first}-${last}`;
}
