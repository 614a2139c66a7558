// The filter over prefill and decode replicas, as the simulator drives it.
import { describe, expect, it } from "vitest";
import { WASM_PATH } from "../../cli/envoy.ts";
import { eppPolicy } from "../../host-sim/fleet/epp-gateway.ts";
import { pdConfig, type PdMode } from "../../host-sim/fleet/epp-pd-config.ts";
import type { FleetEvent, FleetRequest, Policy, ReplicaRole, RunRecord } from "../../host-sim/fleet/types.ts";
import { defaultEngineConfig } from "../../host-sim/model-server/engine.ts";
import { SnapshotEncoder } from "../../sidecar/snapshot-encoder.ts";
import { fleetRequest, run, span, timeless } from "./support/fleet.ts";

const ENGINE = defaultEngineConfig();

function policyOf(mode: PdMode, workers = 1): Policy {
  const encoder = new SnapshotEncoder();
  return eppPolicy({
    module: WASM_PATH,
    encode: (endpoints, id) => encoder.encode(endpoints, id),
    config: pdConfig(mode, ENGINE),
    workers,
  });
}

function runOver(
  mode: PdMode,
  roles: string,
  requests: readonly FleetRequest[],
  options: { events?: readonly FleetEvent[]; gateways?: number; workers?: number } = {},
): Promise<RunRecord> {
  const { events = [], gateways = 1, workers = 1 } = options;
  const replicas = roles.split(",").map((role) => ({ engine: ENGINE, role: role as ReplicaRole }));
  const workload = { name: "hand-made", requests, events };
  return run({ replicas, policy: policyOf(mode, workers), workload, gateways, scrapeMs: 50, sampleMs: 1000 });
}

const cold = (index: number, atMs: number, tokens = 6000): FleetRequest =>
  fleetRequest(index, atMs, tokens, 20);

describe("the filter in mode headers", () => {
  it("names a prefill replica for a long cold prompt, none for a short or a cached one", async () => {
    const record = await runOver("headers", "decode,prefill", [
      fleetRequest(0, 0, 0, 20, { spans: [span(1, 6000)] }),
      cold(1, 5000, 200),
      fleetRequest(2, 10_000, 0, 20, { spans: [span(1, 6000), span(2, 300)] }),
    ]);
    expect(record.requests.map(({ endpoint, prefill, failure }) => [endpoint, prefill, failure])).toEqual([
      [0, 1, ""],
      [0, -1, ""],
      [0, -1, ""],
    ]);
    // The decode replica has the prompt by the transfer.
    expect(record.requests[2]!.cachedTokens).toBeGreaterThan(5900);
  });

  it("passes a prefill replica by that has too much to do", async () => {
    // Steady traffic teaches the filter how fast prefill is; then 26 s of it come at once.
    const warm = Array.from({ length: 40 }, (_, i) => cold(i, i * 200, 1500));
    const burst = Array.from({ length: 40 }, (_, i) => cold(40 + i, 8000 + i * 5, 8000));
    const requests = [...warm, ...burst];
    const record = await runOver("headers", "prefill,decode,decode,decode", requests);
    const elsewhere = record.requests.slice(warm.length).filter(({ prefill }) => prefill >= 0).length;
    expect(elsewhere).toBeGreaterThan(0);
    expect(elsewhere).toBeLessThan(burst.length);
    expect(record.requests.every(({ failure }) => failure === "")).toBe(true);
  });

  it("goes on without prefill replicas, and refuses without decode replicas", async () => {
    const gone: FleetEvent[] = [{ atMs: 10, kind: "drain", replica: 1 }];
    const record = await runOver("headers", "decode,prefill", [cold(0, 500)], { events: gone });
    expect(record.requests[0]).toMatchObject({ endpoint: 0, prefill: -1, failure: "" });
    const none: FleetEvent[] = [{ atMs: 10, kind: "drain", replica: 0 }];
    const refused = await runOver("headers", "decode,prefill", [cold(0, 500)], { events: none });
    expect(refused.requests[0]).toMatchObject({ endpoint: -1, failure: "refused" });
  });

  it("decides alike in equal runs, behind several gateways and workers too", async () => {
    const requests = Array.from({ length: 60 }, (_, i) => cold(i, i * 40, 1500 + (i % 7) * 900));
    const once = (): Promise<RunRecord> =>
      runOver("headers", "prefill,prefill,decode,both", requests, { gateways: 2, workers: 2 });
    const first = await once();
    expect(timeless(await once())).toEqual(timeless(first));
    expect(first.requests.every(({ failure }) => failure === "")).toBe(true);
    expect(first.requests.filter(({ prefill }) => prefill >= 0).length).toBeGreaterThan(10);
  });
});
