// The filter with its control listener on the simulated host, and one pool that a snapshot was pushed for.
import { WASM_PATH } from "../../cli/envoy.ts";
import { createHost, type HostOptions, type Stream, VirtualClock } from "../../host-sim/host/index.ts";
import { encodeSnapshot, type TestEndpoint } from "../envoy/snapshot.ts";

/** The pool that the snapshot is of. */
export const POOL = "pool";

/** Starts one worker with that EndpointPickerConfig, before these endpoints. */
export async function startPoolGateway(
  configuration: string,
  endpoints: readonly TestEndpoint[],
  clusters: HostOptions["clusters"] = {},
) {
  const clock = new VirtualClock();
  const common = { vmId: "epp", allowOnHeadersStopIteration: true } as const;
  const host = await createHost({
    module: WASM_PATH,
    clock,
    plugins: [
      { ...common, name: "picker", rootId: "picker", configuration },
      { ...common, name: "ingest", rootId: "ingest" },
    ],
    clusters,
  });
  const worker = host.worker(0);
  const control = (method: string, path: string, body?: Buffer): Stream => {
    const headers = { ":method": method, ":path": path, ":authority": "sidecar" };
    const stream = worker.openStream("ingest", { headers, end: body === undefined });
    if (body !== undefined) stream.requestBody(body, true);
    clock.flush();
    return stream;
  };
  const counters = (): Record<string, number> => {
    const { downstream } = control("GET", "/status");
    return JSON.parse(downstream!.body().toString()).counters;
  };
  control("POST", `/v1/pools/${POOL}/snapshot`, encodeSnapshot(endpoints));
  return { host, clock, worker, control, counters };
}
