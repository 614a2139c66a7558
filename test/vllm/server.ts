// One real vLLM server on the CPU: started, waited for, and ended with all of its processes, however the test ends.
import { type ChildProcess, spawn } from "node:child_process";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { request } from "undici";
import { vllmHome } from "../../scripts/vllm/setup.mjs";

/** The model's name, and those of its adapters where they are loaded. */
export const MODEL = "tiny";
export const ADAPTERS = ["adapter-a", "adapter-b"] as const;
/** Tokens of a KV block: the CPU's attention takes multiples of 32. */
export const BLOCK_TOKENS = 32;
export const BLOCKS = 1_024;
export const CONTEXT_TOKENS = 4_096;

const START_TIMEOUT_MS = 240_000;
const START_POLL_MS = 250;
const STOP_GRACE_MS = 10_000;
const LOG_CHARS_MAX = 262_144;
const ERROR_LOG_CHARS = 4_000;

export interface VllmOptions {
  /** Further arguments of `vllm serve`. */
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Both adapters are loaded. */
  readonly adapters?: boolean;
  /** A free one unless given. */
  readonly port?: number;
}

/** The server did not come to answer. */
export class VllmStartError extends Error {
  readonly code = "ERR_VLLM_START";
  constructor(reason: string, log: string) {
    super(
      `vLLM ${reason}; is it set up (npm run test:vllm does that)? It logged:\n${log.slice(-ERROR_LOG_CHARS)}`,
    );
    this.name = "VllmStartError";
  }
}

/** A running server. */
export interface Vllm {
  /** ip:port */
  readonly address: string;
  readonly url: string;
  readonly port: number;
  /** The last that it logged. */
  log(): string;
  /** SIGKILL for all of its processes: connections are reset in the middle of what they carry. */
  kill(): Promise<void>;
  /** SIGTERM, then SIGKILL. May be called more than once. */
  stop(): Promise<void>;
}

/** Starts a server and waits until it is healthy. @throws VllmStartError */
export async function startVllm(options: VllmOptions = {}): Promise<Vllm> {
  const server = new VllmProcess(options.port ?? (await freePort()), options);
  try {
    await server.healthy();
  } catch (error) {
    await server.stop();
    throw error;
  }
  return server;
}

/** Starts servers side by side; when one fails, none is left. */
export async function startVllms(all: readonly VllmOptions[]): Promise<Vllm[]> {
  const starts = await Promise.allSettled(all.map((options) => startVllm(options)));
  const failure = starts.find((start) => start.status === "rejected");
  const servers = starts.flatMap((start) => (start.status === "fulfilled" ? [start.value] : []));
  if (failure === undefined) return servers;
  await Promise.all(servers.map((server) => server.stop()));
  throw failure.reason;
}

class VllmProcess implements Vllm {
  readonly address: string;
  readonly url: string;
  private readonly child: ChildProcess;
  private readonly guard: ChildProcess;
  private readonly ended: Promise<void>;
  private hasEnded = false;
  private text = "";

  constructor(
    readonly port: number,
    { args = [], env = {}, adapters = false }: VllmOptions,
  ) {
    this.address = `127.0.0.1:${port}`;
    this.url = `http://${this.address}`;
    const home = vllmHome();
    const adapterArgs = adapters
      ? [
          "--enable-lora",
          "--max-loras",
          "2",
          "--lora-modules",
          ...ADAPTERS.map((name) => `${name}=${join(home, "tests", name)}`),
        ]
      : [];
    this.child = spawn(
      join(home, "venv", "bin", "vllm"),
      [...serveArgs(home, port), ...adapterArgs, ...args],
      {
        env: { ...process.env, ...environment(home), ...env },
        stdio: ["ignore", "pipe", "pipe"],
        // Its own process group, which is ended as a whole.
        detached: true,
      },
    );
    const keep = (text: string): void => {
      this.text = (this.text + text).slice(-LOG_CHARS_MAX);
    };
    this.child.stdout!.setEncoding("utf8").on("data", keep);
    this.child.stderr!.setEncoding("utf8").on("data", keep);
    this.ended = new Promise((settle) => {
      const end = (): void => {
        this.hasEnded = true;
        settle();
      };
      this.child.once("exit", end);
      this.child.once("error", (error) => {
        keep(`${error.message}\n`);
        end();
      });
    });
    this.guard = guardOf(this.child.pid);
  }

  log(): string {
    return this.text;
  }

  async healthy(): Promise<void> {
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (performance.now() < deadline) {
      if (this.hasEnded) throw new VllmStartError("ended before it was healthy", this.text);
      const status = await request(`${this.url}/health`).then(
        async ({ statusCode, body }) => {
          await body.dump();
          return statusCode;
        },
        () => 0,
      );
      if (status === 200) return;
      await sleep(START_POLL_MS);
    }
    throw new VllmStartError(`was not healthy within ${START_TIMEOUT_MS / 1_000} s`, this.text);
  }

  async kill(): Promise<void> {
    this.signal("SIGKILL");
    await this.ended;
  }

  async stop(): Promise<void> {
    if (!this.hasEnded) this.signal("SIGTERM");
    const timer = setTimeout(() => this.signal("SIGKILL"), STOP_GRACE_MS);
    await this.ended;
    clearTimeout(timer);
    // What its processes left running when they ended in disorder.
    this.signal("SIGKILL");
    this.guard.kill("SIGKILL");
  }

  private signal(name: NodeJS.Signals): void {
    const { pid } = this.child;
    if (pid === undefined) return;
    try {
      process.kill(-pid, name);
    } catch {
      // The group is gone.
    }
  }
}

function serveArgs(home: string, port: number): string[] {
  return [
    ...["serve", join(home, "tests", "model"), "--served-model-name", MODEL, "--load-format", "dummy"],
    ...["--host", "127.0.0.1", "--port", String(port), "--dtype", "bfloat16", "--enforce-eager"],
    ...[
      "--max-model-len",
      String(CONTEXT_TOKENS),
      "--max-num-seqs",
      "8",
      "--block-size",
      String(BLOCK_TOKENS),
    ],
    ...[
      "--num-gpu-blocks-override",
      String(BLOCKS),
      "--enable-prefix-caching",
      "--enable-prompt-tokens-details",
    ],
  ];
}

/** The processes of a server on a small machine, without network: it is told to look for nothing there. */
function environment(home: string): Record<string, string> {
  return {
    PYTHONPATH: join(home, "tests", "site"),
    PYTHONHASHSEED: "0",
    HF_HUB_OFFLINE: "1",
    TRANSFORMERS_OFFLINE: "1",
    VLLM_NO_USAGE_STATS: "1",
    DO_NOT_TRACK: "1",
    VLLM_HOST_IP: "127.0.0.1",
    VLLM_CPU_KVCACHE_SPACE: "1",
    VLLM_CPU_OMP_THREADS_BIND: "nobind",
    OMP_NUM_THREADS: "1",
    // The engine in the server's own process: measured 27 s to start instead of 89.
    VLLM_ENABLE_V1_MULTIPROCESSING: "0",
    VLLM_WORKER_MULTIPROC_METHOD: "fork",
  };
}

/** Ends the group when this process is gone, whatever happened to it: then the pipe closes. */
function guardOf(pid: number | undefined): ChildProcess {
  const guard = spawn(
    "/bin/sh",
    ["-c", 'read -r _; [ -n "$1" ] && kill -9 -- "-$1"', "guard", String(pid ?? "")],
    {
      stdio: ["pipe", "ignore", "ignore"],
      detached: true,
    },
  );
  guard.on("error", () => undefined);
  guard.unref();
  (guard.stdin as unknown as { unref(): void }).unref();
  return guard;
}

/** A port that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((settle) => server.listen(0, "127.0.0.1", settle));
  const { port } = server.address() as { port: number };
  await new Promise((settle) => server.close(settle));
  return port;
}
