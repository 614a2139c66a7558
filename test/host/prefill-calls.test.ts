// The table of prefill calls on simulated time: more calls than fit, replies that never come, and late ones for streams
// whose numbers are another's.
import { beforeAll, describe, expect, it } from "vitest";
import { RequestRecorder, type Stream } from "../../host-sim/host/index.ts";
import type { HttpCall } from "../../host-sim/host/http-call.ts";
import { buildWasm } from "../../scripts/build.mjs";
import { DECODE, disaggregation, type DisaggregationOptions, PREFILL } from "../envoy/disagg.ts";
import { POOL, startPoolGateway } from "./pool-gateway.ts";

beforeAll(async () => void (await buildWasm()), 240_000);

const CALLS_MAX = 1024;
const PARAMS = '{"do_remote_prefill":true}';
const REPLY = `{"kv_transfer_params":${PARAMS}}`;
const [DECODER, PREFILLER, OTHER] = ["10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"];

interface Open {
  readonly stream: Stream;
  readonly upstream: RequestRecorder;
}

/** The filter with one decoder and `prefillers`; calls wait until a test answers them. */
async function start(
  prefillers: readonly string[] = [PREFILLER!],
  options: DisaggregationOptions = {},
  wordsBytes = 0,
) {
  const calls: HttpCall[] = [];
  const endpoints = [
    { address: DECODER!, models: [], ...DECODE },
    ...prefillers.map((address) => ({ address, models: [], ...PREFILL })),
  ];
  const { host, clock, worker, counters } = await startPoolGateway(
    disaggregation({ parameters: { mode: "inline" }, ...options }),
    endpoints,
    { [POOL]: (call) => void calls.push(call) },
  );
  let sent = 0;
  const open = (): Open => {
    const upstream = new RequestRecorder();
    const words = `prompt ${++sent} `.repeat(1 + wordsBytes / 10);
    const body = Buffer.from(`{"model":"m","messages":[{"role":"user","content":"${words}"}]}`);
    const stream = worker.openStream("picker", {
      clusterName: POOL,
      routeMetadata: { epp: { pool: POOL } },
      upstream,
      headers: {
        ":method": "POST",
        ":path": "/v1/chat/completions",
        ":authority": "gateway",
        "content-length": String(body.length),
      },
    });
    stream.requestBody(body, true);
    clock.flush();
    return { stream, upstream };
  };
  return { host, clock, calls, open, counters };
}

const isSpliced = ({ upstream }: Open): boolean =>
  upstream.body().toString().startsWith(`{"kv_transfer_params":${PARAMS},`);
const wentOn = ({ upstream }: Open): boolean => upstream.ended;

describe("the table of prefill calls", () => {
  it("takes so many; a further prompt is computed where it is decoded, and counted", async () => {
    const { calls, open, counters, clock, host } = await start();
    const streams = Array.from({ length: CALLS_MAX }, open);
    expect(streams.some(wentOn)).toBe(false);
    const over = open();
    expect([wentOn(over), isSpliced(over)]).toEqual([true, false]);
    expect(counters()).toMatchObject({ prefillCalls: CALLS_MAX, disaggregationsUnfit: 1 });
    // Answered in another order than they were made.
    for (const call of calls.toReversed()) call.respond(200, {}, REPLY);
    clock.flush();
    expect(streams.every(isSpliced)).toBe(true);
    const last = open();
    expect(wentOn(last)).toBe(false);
    calls.at(-1)!.respond(200, {}, REPLY);
    clock.flush();
    expect(isSpliced(last)).toBe(true);
    expect(counters()).toMatchObject({ prefillCalls: 0, prefillFailures: 0 });
    host.close();
  });

  it("lets no client wait for a reply that never comes", async () => {
    const { host, clock, open, counters } = await start();
    host.faults.nextReply({ kind: "drop" });
    const stream = open();
    clock.advanceTo(29_000);
    expect(wentOn(stream)).toBe(false);
    // The host's own timeout answers; with that lost too the tick goes on by itself.
    clock.advanceTo(40_000);
    clock.flush();
    expect([wentOn(stream), isSpliced(stream)]).toEqual([true, false]);
    expect(counters()).toMatchObject({ prefillCalls: 0, prefillFailures: 1, prefillFallbacks: 1 });
    host.close();
  });

  it("throws away late replies, whatever stream has come in the place of theirs", async () => {
    const { host, clock, calls, open, counters } = await start();
    const gone = open();
    gone.stream.reset();
    clock.flush();
    expect(counters()).toMatchObject({ prefillCalls: 1, inflightRequests: 1 });
    // The next stream takes the same place in the table of streams.
    const next = open();
    calls[0]!.respond(200, {}, '{"kv_transfer_params":{"of":"another"}}');
    clock.flush();
    expect(wentOn(next)).toBe(false);
    calls[1]!.respond(200, {}, REPLY);
    clock.flush();
    expect(isSpliced(next)).toBe(true);
    expect(counters()).toMatchObject({ prefillCalls: 0, prefillOrphans: 1 });
    host.close();
  });

  it("asks one other endpoint after a failure, and none after that", async () => {
    const { host, clock, calls, open, counters } = await start([PREFILLER!, OTHER!]);
    const stream = open();
    calls[0]!.reset();
    clock.flush();
    expect([calls.length, wentOn(stream)]).toEqual([2, false]);
    const asked = calls.map((call) => call.headers.get("x-gateway-destination-endpoint"));
    expect(asked.toSorted()).toEqual([PREFILLER, OTHER]);
    calls[1]!.respond(500, {}, "{}");
    clock.flush();
    expect([calls.length, wentOn(stream), isSpliced(stream)]).toEqual([2, true, false]);
    expect(counters()).toMatchObject({ prefillFailures: 2, prefillFallbacks: 1, prefillCalls: 0 });
    host.close();
  });
});

describe("the price of a prefill elsewhere", () => {
  it("sends prompts where they are computed soonest, once both endpoints' speed is known", async () => {
    const PREFILL_MS = 100;
    const { host, clock, calls, open, counters } = await start([PREFILLER!], { decider: 200 }, 8_000);
    // As long as nothing was measured the threshold alone decides.
    let stays = open();
    for (let i = 0; i < 12 && !wentOn(stays); i++) {
      clock.advance(PREFILL_MS);
      calls[i]!.respond(200, {}, REPLY);
      clock.flush();
      expect(isSpliced(stays)).toBe(true);
      stays.stream.reset();
      clock.advance(PREFILL_MS);
      stays = open();
    }
    // Then both are idle, and a transfer is all that the other endpoint would add.
    expect(calls.length).toBeGreaterThanOrEqual(4);
    expect([wentOn(stays), isSpliced(stays)]).toEqual([true, false]);
    expect(counters()["disaggregationsCostlier"]).toBe(1);
    // The decode endpoint computes that prompt, the other one is idle.
    const goes = open();
    expect(wentOn(goes)).toBe(false);
    // The more wait at the prefill endpoint, the sooner the decode endpoint has the next one computed: neither gets all.
    const stayed = Array.from({ length: 12 }, () => wentOn(open())).filter(Boolean).length;
    expect(stayed).toBeGreaterThan(2);
    expect(stayed).toBeLessThan(10);
    expect(counters()["disaggregationsCostlier"]).toBe(1 + stayed);
    host.close();
  });
});
