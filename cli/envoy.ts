// Starts one Envoy as a child process, waits until it serves, and ends it with everything it left on disk.
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";
import { request } from "undici";
import { renderEnvoyConfig, type EnvoyConfigOptions } from "./envoy-config.ts";

export { EnvoyUnusableError, envoyVersion, findEnvoy, type FoundEnvoy } from "../scripts/find-envoy.mjs";

/** The repository: one level above this file, and above build/ once bundled. */
export const ROOT = fileURLToPath(new URL("..", import.meta.url));
export const PLAIN_CONFIG_PATH = join(ROOT, "envoy", "plain", "envoy.yaml");
export const WASM_PATH = join(ROOT, "build", "epp.wasm");

const READY_TIMEOUT_MS = 30_000;
const READY_POLL_MS = 20;
const STOP_GRACE_MS = 3_000;
/** Log text kept in memory; older text is dropped. */
const LOG_CHARS_MAX = 262_144;
const ERROR_LOG_CHARS = 4_000;

export interface StartEnvoyOptions extends EnvoyConfigOptions {
  /** The Envoy binary; see findEnvoy. */
  readonly envoyPath: string;
  /** Worker threads; 1 unless given. */
  readonly concurrency?: number;
  /** Envoy's own log level; "warning" unless given. */
  readonly logLevel?: string;
  /** Called with each piece of Envoy's log as it comes. */
  readonly onLog?: (text: string) => void;
  /** Further environment for the Envoy process. */
  readonly env?: Readonly<Record<string, string>>;
  readonly readyTimeoutMs?: number;
  /** Seconds until the streams of a listener that was replaced are cut; 1 unless given. */
  readonly drainSeconds?: number;
}

export interface RunningEnvoy {
  /** Base URL of the inference listener, without a trailing slash. */
  readonly url: string;
  readonly port: number;
  /** Base URL of the admin listener. */
  readonly adminUrl: string;
  /** Path of the control listener's unix socket; nothing listens there under a policy other than "epp". */
  readonly controlSocket: string;
  readonly pid: number;
  /** Settles with the exit code (null after a signal) when the process ends for whatever reason. */
  readonly exited: Promise<number | null>;
  /** The last LOG_CHARS_MAX characters that Envoy logged. */
  log(): string;
  /** Ends Envoy (SIGTERM, after STOP_GRACE_MS SIGKILL) and removes its files. May be called more than once. */
  stop(): Promise<void>;
}

/** Envoy ended before it served; its last log lines say why. */
export class EnvoyExitedError extends Error {
  readonly code = "ERR_ENVOY_EXITED";
  constructor(
    readonly exitCode: number | null,
    readonly log: string,
  ) {
    super(`Envoy ended with code ${exitCode} before it was ready:\n${log}`);
    this.name = "EnvoyExitedError";
  }
}

/** Envoy runs but did not become ready in time. */
export class EnvoyNotReadyError extends Error {
  readonly code = "ERR_ENVOY_NOT_READY";
  constructor(
    readonly timeoutMs: number,
    readonly log: string,
  ) {
    super(`Envoy was not ready after ${timeoutMs} ms:\n${log}`);
    this.name = "EnvoyNotReadyError";
  }
}

/**
 * Starts Envoy on envoy/plain/envoy.yaml as changed by the options: loopback, kernel-chosen ports and a control
 * socket in a folder of its own unless given. Ends with this process at the latest.
 * @throws EnvoyExitedError, EnvoyNotReadyError, and what renderEnvoyConfig throws
 */
export async function startEnvoy(options: StartEnvoyOptions): Promise<RunningEnvoy> {
  const folder = await mkdtemp(join(tmpdir(), "epp-envoy-"));
  const controlSocket = options.controlSocket ?? join(folder, "control.sock");
  const adminPath = join(folder, "admin");
  try {
    const config = await writeConfig(folder, { ...options, controlSocket });
    const child = spawn(options.envoyPath, envoyArguments(options, config, adminPath), {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...options.env },
    });
    const envoy = new EnvoyProcess(child, folder, options.onLog);
    try {
      const adminUrl = await envoy.waitUntilReady(adminPath, options.readyTimeoutMs ?? READY_TIMEOUT_MS);
      const port = await inferencePort(adminUrl);
      return {
        url: `http://127.0.0.1:${port}`,
        port,
        adminUrl,
        controlSocket,
        pid: child.pid!,
        exited: envoy.exited,
        log: () => envoy.log,
        stop: () => envoy.stop(),
      };
    } catch (error) {
      await envoy.stop();
      throw error;
    }
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

async function writeConfig(folder: string, options: StartEnvoyOptions): Promise<string> {
  const template = await readFile(PLAIN_CONFIG_PATH, "utf8");
  const text = renderEnvoyConfig(template, {
    ...options,
    host: options.host ?? "127.0.0.1",
    port: options.port ?? 0,
    adminPort: options.adminPort ?? 0,
    wasmPath: resolve(options.wasmPath ?? WASM_PATH),
    accessLogPath: options.accessLogPath ?? null,
  });
  const path = join(folder, "envoy.yaml");
  await writeFile(path, text, { mode: 0o600 });
  return path;
}

function envoyArguments(options: StartEnvoyOptions, config: string, adminPath: string): string[] {
  return [
    ...["--config-path", config, "--admin-address-path", adminPath],
    ...["--concurrency", String(options.concurrency ?? 1), "--log-level", options.logLevel ?? "warning"],
    // Hot restart would take a shared-memory segment by number, one Envoy a machine.
    "--disable-hot-restart",
    ...["--drain-time-s", String(options.drainSeconds ?? 1)],
  ];
}

/** Port that the kernel gave to the inference listener. */
async function inferencePort(adminUrl: string): Promise<number> {
  const response = await request(`${adminUrl}/listeners?format=json`);
  const { listener_statuses: statuses } = (await response.body.json()) as {
    listener_statuses: { name: string; local_address: { socket_address?: { port_value: number } } }[];
  };
  return statuses.find(({ name }) => name === "inference")!.local_address.socket_address!.port_value;
}

/**
 * Ends Envoy and removes its folder when this process is gone, however it went (SIGKILL included): then the pipe that
 * the guard reads from closes. It has a process group of its own, so that Ctrl-C does not end it first.
 */
function startGuard(pid: number, folder: string): ChildProcess {
  const script = 'read -r _; kill -9 "$1"; rm -rf "$2"';
  const guard = spawn("/bin/sh", ["-c", script, "guard", String(pid), folder], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  guard.unref();
  (guard.stdin as Socket).unref();
  return guard;
}

class EnvoyProcess {
  log = "";
  readonly exited: Promise<number | null>;
  private ended = false;
  private stopping: Promise<void> | undefined;

  constructor(
    private readonly child: ChildProcess,
    private readonly folder: string,
    onLog?: (text: string) => void,
  ) {
    const guard = child.pid === undefined ? undefined : startGuard(child.pid, folder);
    this.exited = new Promise((settle) => {
      const end = (code: number | null): void => {
        this.ended = true;
        guard?.kill("SIGKILL");
        settle(code);
      };
      child.once("exit", end);
      child.once("error", (error) => {
        this.log += `${error.message}\n`;
        end(null);
      });
    });
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        this.log = (this.log + text).slice(-LOG_CHARS_MAX);
        onLog?.(text);
      });
    }
  }

  /** @returns base URL of the admin listener */
  async waitUntilReady(adminPath: string, timeoutMs: number): Promise<string> {
    const deadline = performance.now() + timeoutMs;
    while (performance.now() < deadline) {
      if (this.ended) throw new EnvoyExitedError(this.child.exitCode, this.log.slice(-ERROR_LOG_CHARS));
      const address = await readFile(adminPath, "utf8").catch(() => "");
      if (address !== "" && (await isReady(`http://${address}`))) return `http://${address}`;
      await sleep(READY_POLL_MS);
    }
    throw new EnvoyNotReadyError(timeoutMs, this.log.slice(-ERROR_LOG_CHARS));
  }

  stop(): Promise<void> {
    this.stopping ??= this.end();
    return this.stopping;
  }

  private async end(): Promise<void> {
    if (!this.ended) {
      this.child.kill("SIGTERM");
      const timer = setTimeout(() => this.child.kill("SIGKILL"), STOP_GRACE_MS);
      await this.exited;
      clearTimeout(timer);
    }
    await rm(this.folder, { recursive: true, force: true });
  }
}

async function isReady(adminUrl: string): Promise<boolean> {
  try {
    const { statusCode, body } = await request(`${adminUrl}/ready`);
    await body.dump();
    return statusCode === 200;
  } catch {
    return false;
  }
}
