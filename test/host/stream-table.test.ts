// A full table of streams: requests are picked by load alone, but none whose body ought to be looked through.
import { beforeAll, describe, expect, it } from "vitest";
import { RequestRecorder, type Stream } from "../../host-sim/host/index.ts";
import { buildWasm } from "../../scripts/build.mjs";
import { CONTROL_STREAMS_MAX, STREAMS_MAX } from "../../assembly/wire/limits.ts";
import { DECODE, disaggregation, PREFILL } from "../envoy/disagg.ts";
import { encodeSnapshot } from "../envoy/snapshot.ts";
import { POOL, startPoolGateway } from "./pool-gateway.ts";

beforeAll(async () => void (await buildWasm()), 240_000);

const BODY = Buffer.from('{"model":"m","kv_transfer_params":{},"messages":[{"role":"user","content":"a"}]}');

/** The filter whose table is full of requests that wait for their bodies. */
async function startFull(configuration: string) {
  const endpoints = [
    { address: "10.0.0.1:8000", models: [], ...DECODE },
    { address: "10.0.0.2:8000", models: [], ...PREFILL },
  ];
  const gateway = await startPoolGateway(configuration, endpoints);
  const { clock, worker } = gateway;
  const open = (method: string, path: string, end: boolean) => {
    const upstream = new RequestRecorder();
    const stream = worker.openStream("picker", {
      clusterName: POOL,
      routeMetadata: { epp: { pool: POOL } },
      upstream,
      headers: { ":method": method, ":path": path, ":authority": "gateway" },
      end,
    });
    return { stream, upstream };
  };
  const held = Array.from({ length: STREAMS_MAX }, () => open("POST", "/v1/chat/completions", false));
  // The watchdog waits for no body any more once one was seen.
  held[0]!.stream.requestBody(Buffer.from('{"model":'), false);
  const counters = (): Record<string, number> => {
    for (const { stream } of held.splice(0, 2)) stream.reset();
    clock.flush();
    return gateway.counters();
  };
  return { ...gateway, open, counters };
}

const statusOf = (stream: Stream): number | undefined => stream.downstream?.status;

describe("a full table of streams", () => {
  it("lets no body through that names another engine's memory", async () => {
    const { host, clock, open, counters } = await startFull(disaggregation());
    for (const path of ["/v1/chat/completions", "/invocations"]) {
      const { stream, upstream } = open("POST", path, false);
      clock.flush();
      expect(upstream.ended).toBe(false);
      expect(statusOf(stream)).toBe(429);
    }
    const empty = open("GET", "/v1/models", true);
    clock.flush();
    expect(empty.upstream.ended).toBe(true);
    expect(counters()).toMatchObject({ streamTableOverflows: 3 });
    host.close();
  });

  it("lets bodies through where no prompt is computed elsewhere", async () => {
    const { host, clock, open } = await startFull(disaggregation({ decider: "none" }));
    const { stream, upstream } = open("POST", "/v1/chat/completions", false);
    stream.requestBody(BODY, true);
    clock.flush();
    expect(upstream.ended).toBe(true);
    host.close();
  });

  it("takes what the sidecar pushes all the same, as many at once as it promises", async () => {
    const { host, clock, worker, control } = await startFull(disaggregation());
    const path = `/v1/pools/${POOL}/snapshot`;
    const snapshot = encodeSnapshot([{ address: "10.0.0.3:8000", models: [] }], 2);
    const begin = (): Stream =>
      worker.openStream("ingest", {
        headers: { ":method": "POST", ":path": path, ":authority": "sidecar" },
        end: false,
      });
    const begun = Array.from({ length: CONTROL_STREAMS_MAX }, begin);
    expect(statusOf(control("POST", path, snapshot))).toBe(503);
    for (const stream of begun) {
      stream.requestBody(snapshot, true);
      clock.flush();
      expect(statusOf(stream)).toBe(204);
    }
    expect(statusOf(control("POST", path, snapshot))).toBe(204);
    host.close();
  });
});
