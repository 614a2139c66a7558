// The control port of a replica process: faults, kills and restarts over HTTP, and what the replicas did.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { DisaggregationStatus } from "./disaggregation/leg.ts";
import { readBody } from "./exchange.ts";
import type { EventSource } from "./kv-events/config.ts";
import { type Faults, noFaults } from "./replica-types.ts";
import type { SimulatedReplica } from "./server.ts";

/** What a replica has done since its start; `GET /replicas`. */
export interface ReplicaStatus {
  readonly name: string;
  readonly address: string;
  /** Calls by the model that they named. */
  readonly callsByModel: Readonly<Record<string, number>>;
  readonly running: number;
  readonly waiting: number;
  readonly kvUsage: number;
  /** Time that its engines spent computing, ms. */
  readonly busyMs: number;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly generatedTokens: number;
  readonly preemptions: number;
  /** What it shared with other replicas; null = it has no connector. */
  readonly disaggregation: DisaggregationStatus | null;
  /** Where each of its engines publishes KV events; empty = it does not. */
  readonly kvEvents: readonly EventSource[];
}

/** The control request names no replica, no known action, or no known fault. */
export class ControlError extends Error {
  readonly code = "bad_control_request";
}

/**
 * Serves on 127.0.0.1:
 * `GET /replicas`; `POST /replicas/{name|all}/{start|stop|kill|kill-engine|restart|refuse|kv-events-reconnect}`;
 * `POST /replicas/{name|all}/faults` with some fields of `Faults` as JSON.
 */
export async function serveAdmin(replicas: readonly SimulatedReplica[], port: number): Promise<Server> {
  const server = createServer((request, response) => {
    void answer(replicas, request, response);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
  return server;
}

/** "host:port" of a listening server. */
export function addressOf(server: Server): string {
  const { address, port } = server.address() as AddressInfo;
  return `${address}:${port}`;
}

async function answer(
  replicas: readonly SimulatedReplica[],
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  let status = 200;
  let body: unknown;
  try {
    body = await control(replicas, request);
  } catch (error) {
    status = error instanceof ControlError ? 400 : 500;
    body = { error: String(error) };
  }
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

async function control(replicas: readonly SimulatedReplica[], request: IncomingMessage): Promise<unknown> {
  const [, root, name, action] = (request.url ?? "/").split("/");
  if (root !== "replicas") throw new ControlError(`no such path: ${request.url}`);
  if (request.method === "GET") return replicas.map(statusOf);
  const chosen = name === "all" ? replicas : replicas.filter((replica) => replica.config.name === name);
  if (chosen.length === 0) throw new ControlError(`no replica is called ${name}`);
  const text = await readBody(request);
  for (const replica of chosen) await act(replica, action ?? "", text);
  return chosen.map(statusOf);
}

async function act(replica: SimulatedReplica, action: string, text: string): Promise<void> {
  switch (action) {
    case "start":
      return replica.start();
    case "stop":
      return replica.stop();
    case "kill":
      return replica.kill();
    case "restart":
      return replica.restart();
    case "kill-engine":
      return replica.killEngine();
    case "refuse":
      return replica.refuseConnections();
    case "kv-events-reconnect":
      return replica.kvEvents?.reconnect();
    case "faults":
      return replica.inject(readFaults(text));
    default:
      throw new ControlError(`no such action: ${action}`);
  }
}

function readFaults(text: string): Partial<Faults> {
  const known: Readonly<Record<string, unknown>> = { ...noFaults() };
  const faults = JSON.parse(text) as Record<string, unknown>;
  for (const [name, value] of Object.entries(faults)) {
    if (typeof value !== typeof known[name])
      throw new ControlError(`fault ${name}: ${String(value)} does not fit`);
  }
  return faults as Partial<Faults>;
}

function statusOf(replica: SimulatedReplica): ReplicaStatus {
  const engines = replica.generation.engines.map(({ engine }) => engine);
  const sum = (of: (engine: (typeof engines)[number]) => number): number => {
    return engines.reduce((total, engine) => total + of(engine), 0);
  };
  return {
    name: replica.config.name,
    address: replica.address,
    callsByModel: Object.fromEntries(replica.callsByModel),
    running: sum((engine) => engine.runningCount),
    waiting: sum((engine) => engine.waitingCount),
    kvUsage: sum((engine) => engine.cache.usage) / engines.length,
    busyMs: sum((engine) => engine.counters.busyMs),
    promptTokens: sum((engine) => engine.counters.prefixCacheQueryTokens),
    cachedTokens: sum((engine) => engine.counters.prefixCacheHitTokens),
    generatedTokens: sum((engine) => engine.counters.generatedTokens),
    preemptions: sum((engine) => engine.counters.preemptions),
    disaggregation: replica.disaggregation,
    kvEvents: replica.kvEvents?.sources ?? [],
  };
}
