// The filter on simulated time with several workers, told by a source what engines hold.
import { WASM_PATH } from "../../cli/envoy.ts";
import { createHost, RequestRecorder, VirtualClock } from "../../host-sim/host/index.ts";
import { KV_BATCH_BYTES_MAX } from "../../assembly/wire/kv-deltas.ts";
import { encodeSnapshot, type TestEndpoint } from "../envoy/snapshot.ts";

export const POOL = "pool";
const VM = "epp";

export interface KvStatus {
  readonly counters: Readonly<Record<string, number>>;
  readonly workers: number;
  readonly pools: readonly {
    readonly name: string;
    readonly kvIndex: Readonly<Record<string, number>>;
    readonly endpoints: readonly { readonly kv: string; readonly kvEntries: number | null }[];
  }[];
}

export interface Answer {
  readonly status: number;
  readonly text: string;
}

/** `workers` workers, with a pool of `endpoints` replicas; a worker follows the index from its first request on. */
export async function startKvGateway(workers: number, endpoints = 2) {
  const clock = new VirtualClock();
  clock.advance(10_000);
  const common = { vmId: VM, allowOnHeadersStopIteration: true, failurePolicy: "reload" } as const;
  const host = await createHost({
    module: WASM_PATH,
    clock,
    workers,
    plugins: [
      { ...common, name: "picker", rootId: "picker", configuration: "{}" },
      { ...common, name: "ingest", rootId: "ingest" },
    ],
  });
  const control = (method: string, path: string, body?: Buffer, worker = 0): Answer => {
    const headers = { ":method": method, ":path": path, ":authority": "sidecar" };
    const stream = host.worker(worker).openStream("ingest", {
      headers,
      end: body === undefined,
      bufferLimitBytes: 2 * KV_BATCH_BYTES_MAX,
    });
    if (body !== undefined) stream.requestBody(body, true);
    clock.flush();
    return { status: stream.downstream!.status!, text: stream.downstream!.body().toString() };
  };
  const pushPool = (fields: Partial<TestEndpoint> = {}, pool = POOL): Answer =>
    control(
      "POST",
      `/v1/pools/${pool}/snapshot`,
      encodeSnapshot(
        Array.from({ length: endpoints }, (_, i) => ({
          address: `10.0.0.${i + 1}:8000`,
          models: [],
          ...fields,
        })),
      ),
    );
  pushPool();
  return {
    host,
    clock,
    control,
    pushPool,
    /** A request at the worker, open until the test resets it. */
    open(worker: number) {
      const body = Buffer.from('{"model":"m","prompt":"a request"}');
      const stream = host.worker(worker).openStream("picker", {
        clusterName: POOL,
        routeMetadata: { epp: { pool: POOL } },
        upstream: new RequestRecorder(),
        headers: {
          ":method": "POST",
          ":path": "/v1/completions",
          ":authority": "gateway",
          "content-length": String(body.length),
        },
      });
      stream.requestBody(body, true);
      clock.flush();
      return stream;
    },
    push: (batch: Buffer, pool = POOL): Answer => control("POST", `/v1/pools/${pool}/kv`, batch),
    /** What the worker says; of the others only what their positions tell. */
    status: (worker = 0): KvStatus => JSON.parse(control("GET", "/status", undefined, worker).text),
    shared: (key: string): Buffer | undefined => host.sharedData.get(VM, key)?.value,
    setShared: (key: string, value: Buffer) => host.sharedData.set(VM, key, value, 0),
  };
}
