// Runs the sidecar as a child process for one gateway.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { request } from "undici";
import { stringify } from "yaml";
import { ROOT } from "./envoy.ts";
import type { Supervisor } from "./processes.ts";

const START_TIMEOUT_MS = 15_000;
const READY_TIMEOUT_MS = 15_000;
const READY_POLL_MS = 50;

/** What the sidecar watches, and whom it tells. */
export interface SidecarOptions {
  readonly controlSocket: string;
  readonly poolName: string;
  /** Endpoints as the sidecar's `discovery.static.endpoints` takes them: "ip:port" or entries with labels. */
  readonly endpoints: readonly unknown[];
  /** Further fields of the pool: scrape, models, engines, dcgm, scaling, kvEvents. */
  readonly pool?: Readonly<Record<string, unknown>>;
}

/** A running sidecar. */
export interface RunningSidecar {
  /** Base URL of /healthz, /readyz and /metrics. */
  readonly url: string;
  stop(): Promise<void>;
}

/** The sidecar runs but has not brought its state to the gateway. */
export class SidecarNotReadyError extends Error {
  readonly code = "sidecar_not_ready";
  constructor(detail: string) {
    super(`the sidecar is not ready: ${detail}`);
  }
}

/** Starts the sidecar and waits until the gateway has its first snapshot. */
export async function startSidecar(supervisor: Supervisor, options: SidecarOptions): Promise<RunningSidecar> {
  const folder = await mkdtemp(join(tmpdir(), "epp-sidecar-"));
  const config = join(folder, "sidecar.yaml");
  const pool = {
    name: options.poolName,
    discovery: { static: { endpoints: options.endpoints } },
    ...options.pool,
  };
  const document = {
    control: { socket: options.controlSocket },
    http: { listen: "127.0.0.1:0" },
    pools: [pool],
  };
  await writeFile(config, stringify(document), { mode: 0o600 });
  const script = join(ROOT, "build", "sidecar.mjs");
  const child = supervisor.startNode("the sidecar", script, ["--config", config]);
  const stop = async (): Promise<void> => {
    await child.stop();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const port = await child.waitForLine(readHttpPort, START_TIMEOUT_MS);
    const url = `http://127.0.0.1:${port}`;
    await waitUntilReady(url);
    return { url, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

// The sidecar logs JSON lines; the one that says "started" has the port of its HTTP server.
function readHttpPort(line: string): number | undefined {
  if (!line.startsWith("{")) return undefined;
  const { msg, httpPort } = JSON.parse(line) as { msg?: string; httpPort?: number };
  return msg === "started" && httpPort ? httpPort : undefined;
}

async function waitUntilReady(url: string): Promise<void> {
  const deadline = performance.now() + READY_TIMEOUT_MS;
  let detail = "no answer";
  while (performance.now() < deadline) {
    try {
      const { statusCode, body } = await request(`${url}/readyz`);
      detail = await body.text();
      if (statusCode === 200) return;
    } catch (error) {
      detail = String(error);
    }
    await sleep(READY_POLL_MS);
  }
  throw new SidecarNotReadyError(detail);
}
