// The Envoys that a benchmark compares: the same binary and configuration, with the filter and without.
import { Client } from "undici";
import { findEnvoy, ROOT, type RunningEnvoy, startEnvoy } from "../../../cli/envoy.ts";
import { encodeSnapshot, type TestEndpoint } from "../../envoy/snapshot.ts";
import { MODEL } from "./bodies.ts";
import { cpuMicros, pin, type Placement, residentMib } from "./cpu.ts";

export const POOL = "pool";
/** Snapshots a second: the fastest that a sidecar sends. */
const PUSH_HZ = 20;

/** The benchmark needs a real Envoy. */
export class BenchEnvoyError extends Error {
  readonly code = "ERR_BENCH_ENVOY";
  constructor(reasons: readonly string[]) {
    super(`no usable Envoy: set ENVOY_PATH, or let \`npm start\` install one\n${reasons.join("\n")}`);
    this.name = "BenchEnvoyError";
  }
}

/** The control listener did not take a snapshot. */
export class BenchSnapshotError extends Error {
  readonly code = "ERR_BENCH_SNAPSHOT";
  constructor(status: number, text: string) {
    super(`the control listener answered ${status} to a snapshot: ${text}`);
    this.name = "BenchSnapshotError";
  }
}

/** Path and version of the Envoy to measure. @throws BenchEnvoyError */
export async function benchEnvoy(): Promise<{ path: string; version: string }> {
  const found = await findEnvoy(ROOT, process.env);
  if (found.path === undefined) throw new BenchEnvoyError(found.skipped);
  return { path: found.path, version: found.version };
}

/** One proxy under test. */
export interface Gateway {
  readonly name: string;
  readonly envoy: RunningEnvoy;
  /** CPU time used so far, µs. */
  cpu(): Promise<number>;
  residentMib(): Promise<number>;
  /** Pushes snapshots at PUSH_HZ while `work` runs; a proxy without the filter has none to push to. */
  during<T>(work: () => Promise<T>): Promise<T>;
  /** GET /status of the control listener. */
  status(): Promise<unknown>;
  stop(): Promise<void>;
}

export interface GatewayOptions {
  readonly name: string;
  readonly envoyPath: string;
  readonly endpoints: readonly string[];
  readonly workers: number;
  readonly placement: Placement;
  /** The filter's module; without one Envoy balances by round_robin alone. */
  readonly wasmPath?: string;
  readonly pluginConfig?: string;
  /** What the snapshot says of an endpoint beside its changing load. */
  readonly fields?: (index: number) => Partial<TestEndpoint>;
}

/** Starts one Envoy on its cores; with the filter, its first snapshot is in place. */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const { name, envoyPath, endpoints, workers, placement, wasmPath, pluginConfig, fields } = options;
  const envoy = await startEnvoy({
    envoyPath,
    endpoints,
    poolName: POOL,
    concurrency: workers,
    policy: wasmPath === undefined ? "round_robin" : "epp",
    ...(wasmPath === undefined ? {} : { wasmPath }),
    ...(pluginConfig === undefined ? {} : { pluginConfig }),
  });
  try {
    await pin(envoy.pid, placement.proxy);
    const pusher = wasmPath === undefined ? undefined : new Pusher(envoy.controlSocket, endpoints, fields);
    await pusher?.push();
    return {
      name,
      envoy,
      cpu: () => cpuMicros(envoy.pid),
      residentMib: () => residentMib(envoy.pid),
      during: (work) => (pusher === undefined ? work() : pusher.during(work)),
      status: async () => pusher?.status(),
      stop: async () => {
        await pusher?.close();
        await envoy.stop();
      },
    };
  } catch (error) {
    await envoy.stop();
    throw error;
  }
}

/** Sends snapshots of endpoints whose load keeps changing, as a sidecar would. */
class Pusher {
  private readonly client: Client;
  private id = 0;

  constructor(
    socketPath: string,
    private readonly endpoints: readonly string[],
    private readonly fields: (index: number) => Partial<TestEndpoint> = () => ({}),
  ) {
    this.client = new Client("http://control", { connect: { socketPath } });
  }

  /** @throws BenchSnapshotError */
  async push(): Promise<void> {
    const id = ++this.id;
    const rows = this.endpoints.map((address, index) => ({
      address,
      name: `replica-${index}`,
      models: [MODEL],
      running: (id * 7 + index * 3) % 16,
      waiting: (id + index) % 3,
      kvUsage: ((id * 5 + index * 11) % 90) / 100,
      ...this.fields(index),
    }));
    const body = encodeSnapshot(rows, id);
    const reply = await this.client.request({ method: "POST", path: `/v1/pools/${POOL}/snapshot`, body });
    const text = await reply.body.text();
    if (reply.statusCode >= 300) throw new BenchSnapshotError(reply.statusCode, text);
  }

  async during<T>(work: () => Promise<T>): Promise<T> {
    let failure: unknown;
    await this.push();
    const timer = setInterval(() => this.push().catch((error: unknown) => (failure = error)), 1000 / PUSH_HZ);
    const result = await work().finally(() => clearInterval(timer));
    if (failure !== undefined) throw failure;
    return result;
  }

  async status(): Promise<unknown> {
    const reply = await this.client.request({ method: "GET", path: "/status" });
    return reply.body.json();
  }

  close(): Promise<void> {
    return this.client.destroy();
  }
}
