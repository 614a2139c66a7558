// The filter over prefill and decode replicas, as the simulator drives it.
import { describe, expect, it } from "vitest";
import { WASM_PATH } from "../../cli/envoy.ts";
import { type EppOptions, eppPolicy } from "../../host-sim/fleet/epp-gateway.ts";
import { pdConfig, type PdMode } from "../../host-sim/fleet/epp-pd-config.ts";
import { PrefillCall } from "../../host-sim/fleet/epp-prefill-call.ts";
import type {
  FleetEvent,
  FleetRequest,
  Policy,
  PrefillOutcome,
  ReplicaRole,
  RunRecord,
} from "../../host-sim/fleet/types.ts";
import { HeaderMap } from "../../host-sim/host/header-map.ts";
import type { HttpCall } from "../../host-sim/host/http-call.ts";
import { defaultEngineConfig } from "../../host-sim/model-server/engine.ts";
import { SnapshotEncoder } from "../../sidecar/snapshot-encoder.ts";
import { fleetRequest, run, span, timeless } from "./support/fleet.ts";

const ENGINE = defaultEngineConfig();

interface Changes extends Partial<EppOptions> {
  /** Parameters of epp-wasm-disaggregation. */
  readonly parameters?: object;
}

function policyOf(mode: PdMode, { parameters, ...options }: Changes = {}): Policy {
  const encoder = new SnapshotEncoder();
  const config = JSON.parse(pdConfig(mode, ENGINE)) as { plugins: { type: string; parameters: object }[] };
  const plugin = config.plugins.find(({ type }) => type === "epp-wasm-disaggregation")!;
  plugin.parameters = { ...plugin.parameters, ...parameters };
  return eppPolicy({
    module: WASM_PATH,
    encode: (endpoints, id) => encoder.encode(endpoints, id),
    config: JSON.stringify(config),
    ...options,
  });
}

function runOver(
  mode: PdMode,
  roles: string,
  requests: readonly FleetRequest[],
  options: Changes & { events?: readonly FleetEvent[]; gateways?: number } = {},
): Promise<RunRecord> {
  const { events = [], gateways = 1, ...changes } = options;
  const replicas = roles.split(",").map((role) => ({ engine: ENGINE, role: role as ReplicaRole }));
  const workload = { name: "hand-made", requests, events };
  return run({ replicas, policy: policyOf(mode, changes), workload, gateways, scrapeMs: 50, sampleMs: 1000 });
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

describe("the filter in mode inline", () => {
  it("has a prompt computed by a call of its own, and sends its parameters on to the decoder", async () => {
    const requests = [
      fleetRequest(0, 0, 0, 20, { spans: [span(1, 6000)] }),
      cold(1, 5000, 200),
      fleetRequest(2, 10_000, 0, 20, { spans: [span(1, 6000), span(2, 300)] }),
    ];
    for (const maxTokens of [true, false]) {
      const record = await runOver("inline", "decode,prefill", requests, { maxTokens });
      expect(record.requests.map(({ endpoint, prefill, failure }) => [endpoint, prefill, failure])).toEqual([
        [0, 1, ""],
        [0, -1, ""],
        [0, -1, ""],
      ]);
      expect(record.requests[0]!.handover!.pulledTokens).toBe(6000);
      expect(record.requests[0]).not.toHaveProperty("failedPrefills");
      expect(record.requests[2]!.cachedTokens).toBeGreaterThan(5900);
    }
  });

  it("asks one other prefill replica when the first one is gone, then leaves the prompt to the decoder", async () => {
    const died = (replica: number): FleetEvent => ({ atMs: 100, kind: "fail", replica });
    const requests = [cold(0, 60)];
    const both = await runOver("inline", "decode,prefill,prefill", requests, {
      events: [died(1), died(2)],
    });
    // The first leg dies with its replica, the second finds nobody.
    expect(both.requests[0]).toMatchObject({ failure: "", endpoint: 0, prefill: -1, failedPrefills: 2 });
    const prefills: number[] = [];
    for (const replica of [1, 2]) {
      const { requests: [one] } = await runOver("inline", "decode,prefill,prefill", requests, { events: [died(replica)] }); // prettier-ignore
      expect(one!.failure).toBe("");
      prefills.push(one!.prefill);
      if (one!.failedPrefills !== undefined) expect(one!.prefill).toBe(3 - replica);
    }
    // Whichever was chosen, the other one computed it when that died.
    expect(new Set(prefills).size).toBeLessThanOrEqual(2);
    expect(prefills).not.toContain(-1);
  });

  it("gives a leg up that takes too long, and the replica drops it", async () => {
    const slow: FleetEvent[] = [{ atMs: 10, kind: "slow", replica: 1, factor: 50 }];
    const record = await runOver("inline", "decode,prefill", [cold(0, 100)], {
      events: slow,
      parameters: { prefillTimeoutMs: 800 },
    });
    expect(record.requests[0]).toMatchObject({ failure: "", endpoint: 0, prefill: -1, failedPrefills: 1 });
    expect(record.totals[1]!.generatedTokens).toBe(0);
    // Its own prefill of half a second begins when the time is up.
    expect(record.requests[0]!.firstTokenMs).toBeGreaterThan(900 + 400);
    expect(record.requests[0]!.firstTokenMs).toBeLessThan(900 + 700);
  });

  it("passes on what a decoder says whose blocks are gone", async () => {
    // Computed by 5,097 ms, and pulled from the decoder's next step on for 15 ms, in which the prefill replica dies.
    const requests = [cold(0, 0), fleetRequest(1, 5000, 1000, 20), cold(2, 5001, 1100)];
    const died: FleetEvent[] = [{ atMs: 5112, kind: "fail", replica: 1 }];
    const record = await runOver("inline", "decode,prefill", requests, { events: died });
    expect(record.requests[2]).toMatchObject({ failure: "transfer", endpoint: 0, prefill: 1 });
  });

  it("decides alike in equal runs, behind several gateways and workers too", async () => {
    const requests = Array.from({ length: 60 }, (_, i) => cold(i, i * 40, 1500 + (i % 7) * 900));
    const events: FleetEvent[] = [{ atMs: 1000, kind: "fail", replica: 0 }];
    const once = (): Promise<RunRecord> =>
      runOver("inline", "prefill,prefill,decode,both", requests, { gateways: 2, workers: 2, events });
    const first = await once();
    expect(timeless(await once())).toEqual(timeless(first));
    expect(first.requests.filter(({ prefill }) => prefill >= 0).length).toBeGreaterThan(10);
    // What had its blocks on the dead replica fails; what was being computed there does not.
    for (const { failure } of first.requests) expect(["", "transfer"]).toContain(failure);
  });
});

describe("a prefill leg of the filter's", () => {
  const OUTCOME: PrefillOutcome = { failure: "", promptTokens: 7, cachedTokens: 3 };
  const GOOD = { model: "m", messages: [], max_tokens: 1, stream: false };
  const PARAMS = { kv_transfer_params: { do_remote_decode: true } };

  function callOf(body: object, address = "10.0.0.1:8000"): { call: HttpCall; replies: unknown[] } {
    const replies: unknown[] = [];
    const note =
      (what: string) =>
      (...args: unknown[]): void =>
        void replies.push([what, ...args]);
    const call: HttpCall = {
      cluster: "pool",
      headers: HeaderMap.from({ "x-gateway-destination-endpoint": address }),
      body: Buffer.from(JSON.stringify(body)),
      trailers: new HeaderMap(),
      timeoutMs: 0,
      worker: 0,
      respond: note("respond"),
      refuse: note("refuse"),
      reset: note("reset"),
    };
    return { call, replies };
  }

  it("is answered as a prefill replica, or Envoy in its place, would", () => {
    const ends = (["", "connect", "died", "too-long"] as const).map((failure) => {
      const { call, replies } = callOf({ ...GOOD, ...PARAMS });
      const prefill = new PrefillCall(call, 12, 1, 4);
      expect(prefill.replica).toBe(1);
      prefill.end({ ...OUTCOME, failure }, 5000);
      return { replies, params: prefill.params };
    });
    const [, status, , body] = ends[0]!.replies[0] as [string, number, unknown, string];
    expect(status).toBe(200);
    expect(body).toContain(`"kv_transfer_params":${ends[0]!.params}`);
    expect(ends[0]!.params).toContain('"remote_block_ids":[[9223372036854775807,12]]');
    expect(JSON.parse(body)).toMatchObject({
      usage: { prompt_tokens: 7, prompt_tokens_details: { cached_tokens: 3 } },
      kv_transfer_params: { do_remote_prefill: true, remote_request_id: "12/1", remote_host: "10.0.0.1" },
    });
    expect(ends.slice(1).map(({ replies }) => (replies[0] as unknown[]).slice(0, 2))).toEqual([
      ["refuse"],
      ["reset"],
      ["respond", 400],
    ]);
    expect(ends.slice(1).map(({ params }) => params)).toEqual(["", "", ""]);
  });

  it.each([
    [
      GOOD,
      undefined,
      "sent undefined as kv_transfer_params.do_remote_decode in the prefill leg of request 12",
    ],
    [{ ...GOOD, ...PARAMS, max_tokens: 5 }, undefined, "sent 5 as max_tokens"],
    [{ ...GOOD, ...PARAMS, stream: true }, undefined, "sent true as stream"],
    [{ ...GOOD, ...PARAMS, stream_options: {} }, undefined, "sent {} as stream_options"],
    [{ ...GOOD, ...PARAMS }, "10.0.0.9:8000", 'sent a prefill leg to "10.0.0.9:8000", which is no replica'],
  ])("is refused when a replica would answer it wrongly (%#)", (body, address, message) => {
    expect(() => new PrefillCall(callOf(body, address).call, 12, 0, 4)).toThrow(`the filter ${message}`);
  });
});
