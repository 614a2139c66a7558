// Child processes that never outlive this one: started, watched, ended in order, and killed by a guard if we
// die.
import { type ChildProcess, spawn } from "node:child_process";

/** Time that a child has to end after SIGTERM. */
const STOP_GRACE_MS = 3000;
/** Time that a child's last words have to arrive once it is gone: what it started may hold its output open. */
const OUTPUT_GRACE_MS = 1000;
/** Output of a child that is kept to explain its end. */
const OUTPUT_CHARS_MAX = 65_536;
const ERROR_OUTPUT_CHARS = 4000;

// Reads "+pid" and "-pid" lines. When the pipe closes, the process that wrote them is gone, whatever happened
// to it: the guard then ends every pid that is left. It ignores the signals that a terminal sends to the
// whole group.
const GUARD_SCRIPT = `
trap "" INT TERM HUP
live=""
while read -r line; do
  pid=\${line#?}
  case $line in
    +*) live="$live $pid" ;;
    -*) rest=""; for each in $live; do [ "$each" = "$pid" ] || rest="$rest $each"; done; live=$rest ;;
  esac
done
[ -z "$live" ] && exit 0
kill $live 2>/dev/null
sleep 2
kill -9 $live 2>/dev/null
`;

/** A child ended although it should run on. */
export class ChildEndedError extends Error {
  readonly code = "child_ended";
  constructor(name: string, exitCode: number | null, output: string) {
    super(`${name} ended with ${exitCode === null ? "a signal" : `code ${exitCode}`}:\n${output}`);
  }
}

/** A child did not say what was waited for in time. */
export class ChildSilentError extends Error {
  readonly code = "child_silent";
  constructor(name: string, timeoutMs: number, output: string) {
    super(`${name} did not become ready within ${timeoutMs} ms:\n${output}`);
  }
}

/** A running child. */
export interface Child {
  readonly name: string;
  readonly pid: number;
  /** Settles when it ends, for whatever reason. */
  readonly ended: Promise<number | null>;
  /**
   * The first line of its standard output for which `read` gives a value. @throws ChildEndedError,
   * ChildSilentError
   */
  waitForLine<T>(read: (line: string) => T | undefined, timeoutMs: number): Promise<T>;
  /** The last of what it wrote, standard output and error together. */
  output(): string;
  /** SIGTERM, then SIGKILL. */
  stop(): Promise<void>;
}

/** All children of this process; one instance a program. */
export class Supervisor {
  private readonly children: RunningChild[] = [];
  private guard: ChildProcess | undefined;

  /** Starts `node script args…`. @param name for messages. */
  startNode(name: string, script: string, args: readonly string[]): Child {
    const child = new RunningChild(
      name,
      [process.execPath, "--enable-source-maps", script, ...args],
      (pid) => {
        this.tellGuard(`-${pid}`);
      },
    );
    this.children.push(child);
    this.tellGuard(`+${child.pid}`);
    return child;
  }

  /** Ends the children, the last started first, then the guard. */
  async stopAll(): Promise<void> {
    for (const child of this.children.splice(0).reverse()) await child.stop();
    this.guard?.stdin?.end();
    this.guard = undefined;
  }

  private tellGuard(line: string): void {
    if (this.guard === undefined) {
      this.guard = spawn("/bin/sh", ["-c", GUARD_SCRIPT], {
        stdio: ["pipe", "ignore", "ignore"],
        detached: true,
      });
      this.guard.stdin!.on("error", () => undefined);
      this.guard.on("error", () => undefined);
      this.guard.unref();
    }
    this.guard.stdin!.write(`${line}\n`);
  }
}

class RunningChild implements Child {
  readonly name: string;
  readonly pid: number;
  readonly ended: Promise<number | null>;
  /** Settles when all that it wrote is read, or OUTPUT_GRACE_MS after its end. */
  private readonly heard: Promise<void>;
  private readonly child: ChildProcess;
  private readonly watchers = new Set<(line: string) => void>();
  private text = "";
  private pending = "";
  private exited = false;

  constructor(name: string, command: readonly string[], onEnd: (pid: number) => void) {
    this.name = name;
    this.child = spawn(command[0]!, command.slice(1), { stdio: ["ignore", "pipe", "pipe"], detached: true });
    this.pid = this.child.pid ?? -1;
    this.ended = new Promise((resolve) => {
      const end = (code: number | null): void => {
        if (this.exited) return;
        this.exited = true;
        onEnd(this.pid);
        resolve(code);
      };
      this.child.once("exit", end);
      this.child.once("error", (error) => {
        this.keep(`${error.message}\n`);
        end(null);
      });
    });
    this.heard = new Promise((resolve) => {
      this.child.once("close", () => resolve());
      void this.ended.then(() => setTimeout(resolve, OUTPUT_GRACE_MS).unref());
    });
    this.child.stderr!.setEncoding("utf8").on("data", (text: string) => this.keep(text));
    this.child.stdout!.setEncoding("utf8").on("data", (text: string) => this.takeOutput(text));
  }

  output(): string {
    return this.text.slice(-ERROR_OUTPUT_CHARS);
  }

  waitForLine<T>(read: (line: string) => T | undefined, timeoutMs: number): Promise<T> {
    return new Promise((resolve, reject) => {
      const finish = (): void => {
        clearTimeout(timer);
        this.watchers.delete(watch);
      };
      const watch = (line: string): void => {
        const value = read(line);
        if (value === undefined) return;
        finish();
        resolve(value);
      };
      const timer = setTimeout(() => {
        finish();
        reject(new ChildSilentError(this.name, timeoutMs, this.output()));
      }, timeoutMs);
      this.watchers.add(watch);
      void this.ended.then(async (code) => {
        finish();
        await this.heard;
        reject(new ChildEndedError(this.name, code, this.output()));
      });
    });
  }

  async stop(): Promise<void> {
    if (this.exited) return;
    this.child.kill("SIGTERM");
    const timer = setTimeout(() => this.child.kill("SIGKILL"), STOP_GRACE_MS);
    await this.ended;
    clearTimeout(timer);
  }

  private takeOutput(text: string): void {
    this.keep(text);
    const lines = (this.pending + text).split("\n");
    this.pending = lines.pop()!.slice(-OUTPUT_CHARS_MAX);
    for (const line of lines) for (const watch of this.watchers) watch(line);
  }

  private keep(text: string): void {
    this.text = (this.text + text).slice(-OUTPUT_CHARS_MAX);
  }
}
