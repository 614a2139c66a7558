// The simulated replicas of a demonstration, in a process of their own.
import { join } from "node:path";
import { request } from "undici";
import type { ReplicaStatus } from "../host-sim/model-server/admin.ts";
import { ROOT } from "./envoy.ts";
import type { Supervisor } from "./processes.ts";

const START_TIMEOUT_MS = 20_000;
const CONTROL_TIMEOUT_MS = 10_000;

/** Running replicas. */
export interface ReplicaFleet {
  /** "127.0.0.1:port" each. */
  readonly addresses: readonly string[];
  /** Base URL of the control port. */
  readonly adminUrl: string;
  /** Starts every replica anew: empty caches, counters at 0, same ports. */
  restart(): Promise<void>;
  status(): Promise<ReplicaStatus[]>;
}

/** The control port answered with an error. */
export class ReplicaControlError extends Error {
  readonly code = "replica_control";
  constructor(path: string, status: number, body: string) {
    super(`${path} answered ${status}: ${body}`);
  }
}

/**
 * Starts `count` replicas on free ports.
 * @param options further options of build/model-server.mjs
 * @throws ChildEndedError, ChildSilentError
 */
export async function startReplicas(
  supervisor: Supervisor,
  count: number,
  options: readonly string[] = [],
): Promise<ReplicaFleet> {
  const script = join(ROOT, "build", "model-server.mjs");
  const args = ["--replicas", String(count), ...options];
  const child = supervisor.startNode("the simulated replicas", script, args);
  const { addresses, admin } = await child.waitForLine(readAddresses, START_TIMEOUT_MS);
  const adminUrl = `http://${admin}`;
  return {
    addresses,
    adminUrl,
    restart: async () => void (await control(adminUrl, "POST", "/replicas/all/restart")),
    status: () => control(adminUrl, "GET", "/replicas"),
  };
}

function readAddresses(line: string): { addresses: string[]; admin: string } | undefined {
  return line.startsWith("{") ? (JSON.parse(line) as { addresses: string[]; admin: string }) : undefined;
}

async function control(adminUrl: string, method: "GET" | "POST", path: string): Promise<ReplicaStatus[]> {
  const response = await request(adminUrl + path, {
    method,
    headersTimeout: CONTROL_TIMEOUT_MS,
    bodyTimeout: CONTROL_TIMEOUT_MS,
  });
  const text = await response.body.text();
  if (response.statusCode !== 200) throw new ReplicaControlError(path, response.statusCode, text);
  return JSON.parse(text) as ReplicaStatus[];
}
