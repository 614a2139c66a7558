// Prefill on one replica, decode on another: times, caches, what gateways hear, and legs that fail.
import { describe, expect, it } from "vitest";
import type { Choice, FleetEvent, FleetRequest, Gateway, RunRecord } from "../../host-sim/fleet/types.ts";
import type { Engine } from "../../host-sim/model-server/engine.ts";
import {
  type Call,
  type ChooseAgain,
  fleetOfRoles,
  fleetRequest,
  randomWorkload,
  recordingPolicy,
  run,
  span,
  timeless,
} from "./support/fleet.ts";

// 32 prompt tokens take 5 + 32 ms and 8 blocks; a pull of them 2 + 8 × 4 ms; each further token 10 ms.
const REQUEST = fleetRequest(0, 100, 32, 3);
/** By a sidecar of the decoder, as llm-d does it. */
const BY_DECODER: Choice = { endpoint: 1, prefill: 0 };
const BY_GATEWAY: Choice = { endpoint: 1, prefill: 0, prefillBy: "gateway" };
/** Takes the blocks of a success; after a failure the decoder computes the prompt. */
const DECODE_ONLY_AFTER_FAILURE: ChooseAgain = ({ failure }) =>
  failure === "" ? BY_GATEWAY : { endpoint: 1 };

interface Played {
  readonly record: RunRecord;
  readonly calls: readonly Call[];
}

async function play(
  choice: Choice | ((request: FleetRequest) => Choice),
  options: {
    roles?: string;
    requests?: readonly FleetRequest[];
    events?: readonly FleetEvent[];
    again?: ChooseAgain;
    extra?: Partial<Gateway>;
  } = {},
): Promise<Played> {
  const { roles = "prefill,decode,decode", requests = [REQUEST], events = [], again, extra } = options;
  const choose = typeof choice === "function" ? choice : () => choice;
  const { policy, calls } = recordingPolicy(choose, extra, again ?? DECODE_ONLY_AFTER_FAILURE);
  const workload = { name: "hand-made", requests, events };
  const record = await run({ replicas: fleetOfRoles(roles), policy, workload, scrapeMs: 1000 });
  return { record, calls: calls.filter(({ name }) => name !== "scraped") };
}

const namesOf = (calls: readonly Call[]): string[] => calls.map(({ name, nowMs }) => `${nowMs} ${name}`);

describe("a prompt that another replica computes", () => {
  it.each([
    ["decoder", BY_DECODER],
    ["gateway", BY_GATEWAY],
  ])("is computed, pulled and decoded in turn (leg by the %s)", async (_, choice) => {
    const { record } = await play(choice);
    expect(record.requests).toEqual([
      {
        index: 0,
        arrivalMs: 100,
        endpoint: 1,
        prefill: 0,
        firstTokenMs: 181,
        endMs: 201,
        promptTokens: 32,
        outputTokens: 3,
        cachedTokens: 0,
        failure: "",
        handover: { prefilledMs: 137, pulledMs: 171, pulledTokens: 32 },
      },
    ]);
    // The prefill leg makes one token, which nobody gets.
    expect(
      record.totals.map(({ prefillTokens, generatedTokens }) => [prefillTokens, generatedTokens]),
    ).toEqual([
      [32, 1],
      [0, 3],
      [0, 0],
    ]);
  });

  it("is no gateway's business where the decoder's sidecar sees to it", async () => {
    const { calls } = await play(BY_DECODER);
    expect(namesOf(calls)).toEqual(["100 route", "137 connected", "181 firstToken", "201 finished"]);
    // Pulled tokens are not in the answering replica's usage.
    expect(calls.at(-1)!.ending).toEqual({ status: 200, promptTokens: 32, outputTokens: 3, cachedTokens: 0 });
  });

  it("is told of to the gateway that sent the leg", async () => {
    const { calls } = await play(BY_GATEWAY);
    expect(namesOf(calls)).toEqual([
      "100 route",
      "137 prefillEnded",
      "137 connected",
      "181 firstToken",
      "201 finished",
    ]);
    expect(calls[1]).toMatchObject({
      endpoint: 0,
      outcome: { failure: "", promptTokens: 32, cachedTokens: 0 },
    });
  });

  it("is found in both replicas' caches by the next prompt", async () => {
    const requests = [
      fleetRequest(0, 0, 0, 1, { spans: [span(1, 32)] }),
      fleetRequest(1, 1000, 0, 1, { spans: [span(1, 32), span(2, 16)] }),
      fleetRequest(2, 2000, 0, 1, { spans: [span(1, 32), span(3, 16)] }),
    ];
    const { record } = await play(({ index }) => (index === 2 ? { endpoint: 1 } : BY_GATEWAY), { requests });
    const [, second, third] = record.requests;
    // The second computes 16 tokens on the prefiller and pulls 4 blocks: 21 + 18 + 10 ms.
    expect(second).toMatchObject({ cachedTokens: 32, handover: { pulledTokens: 16 }, firstTokenMs: 1049 });
    expect(third).toMatchObject({ cachedTokens: 32, prefill: -1, firstTokenMs: 2021 });
  });

  it("counts as cached what the prefill replica had where a sidecar tells, what the decoder had where vLLM does", async () => {
    const requests = [
      fleetRequest(0, 0, 0, 1, { spans: [span(1, 32)] }),
      fleetRequest(1, 1000, 0, 1, { spans: [span(1, 32), span(2, 16)] }),
    ];
    for (const [choice, cachedTokens] of [
      [{ endpoint: 2, prefill: 0 }, 32],
      [{ endpoint: 2, prefill: 0, prefillBy: "gateway" }, 0],
    ] as const) {
      // The second goes to another decoder, which has nothing.
      const choose = ({ index }: FleetRequest): Choice => (index === 0 ? BY_GATEWAY : choice);
      const again: ChooseAgain = (_, __, request) => choose(request);
      const { record, calls } = await play(choose, { requests, again });
      expect(calls.at(-1)!.ending!.cachedTokens).toBe(cachedTokens);
      expect(record.requests[1]).toMatchObject({ cachedTokens: 32, handover: { pulledTokens: 48 } });
    }
  });

  it("leaves no block in use, on either side", async () => {
    const engines: (Engine | undefined)[] = [];
    const requests = [fleetRequest(0, 0, 30, 4), fleetRequest(1, 5, 50, 4), fleetRequest(2, 6, 33, 1)];
    const { policy } = recordingPolicy(
      (_, { truth }) => {
        for (const replica of [0, 1]) engines[replica] = truth(replica);
        return BY_GATEWAY;
      },
      {},
      () => BY_GATEWAY,
    );
    await run({ replicas: fleetOfRoles("prefill,decode"), policy, workload: { name: "three", requests } });
    for (const engine of engines) {
      expect([engine!.runningCount, engine!.waitingCount, engine!.cache.usage]).toEqual([0, 0, 0]);
      engine!.cache.verify();
    }
  });

  it("is held for a decoder without room, by leases", async () => {
    // At least 92 of 100 blocks are the first request's for 0.7 s; a hold ends after 300 ms unless it is extended.
    const requests = [fleetRequest(0, 0, 368, 30), fleetRequest(1, 50, 40, 1)];
    const { record } = await play(({ index }) => (index === 0 ? { endpoint: 1 } : BY_GATEWAY), { requests });
    const [first, second] = record.requests;
    expect(first!.failure).toBe("");
    expect(second!.failure).toBe("");
    expect(second!.handover!.pulledMs - second!.handover!.prefilledMs).toBeGreaterThan(500);
  });

  const seed = (Date.now() ^ process.pid) >>> 0;
  it(`is never lost among many (seed ${seed})`, async () => {
    const workload = randomWorkload(seed, 300, 12);
    const choose = ({ index }: FleetRequest): Choice => {
      const prefillBy = index % 2 === 0 ? "gateway" : "decoder";
      if (index % 5 === 0) return { endpoint: 2 + (index % 3) };
      return { endpoint: 2 + (index % 3), prefill: index % 2, prefillBy };
    };
    const once = async (): Promise<RunRecord> => {
      const { policy } = recordingPolicy(choose, {}, (_, __, request) => choose(request));
      const replicas = fleetOfRoles("prefill,both,decode,both,decode");
      return run({ replicas, policy, workload, gateways: 2 });
    };
    const record = await once();
    for (const [i, one] of record.requests.entries()) {
      expect(one.failure).toBe("");
      expect(one.outputTokens).toBe(workload.requests[i]!.outputTokens);
      expect(one.prefill).toBe(i % 5 === 0 ? -1 : i % 2);
      if (one.handover === undefined) continue;
      expect(one.arrivalMs).toBeLessThan(one.handover.prefilledMs);
      expect(one.handover.prefilledMs).toBeLessThan(one.handover.pulledMs);
      expect(one.handover.pulledMs).toBeLessThan(one.firstTokenMs);
    }
    expect(timeless(await once())).toEqual(timeless(record));
  });
});

describe("a prefill leg that fails", () => {
  const died: FleetEvent = { atMs: 120, kind: "fail", replica: 0 };
  const absent: FleetEvent = { atMs: 10, kind: "fail", replica: 0 };

  it("is the client's failure where the decoder's sidecar sent it", async () => {
    for (const [event, endMs] of [
      [died, 120],
      [absent, 100],
    ] as const) {
      const { record, calls } = await play(BY_DECODER, { events: [event] });
      expect(record.requests[0]).toMatchObject({ failure: "prefill", endpoint: 1, endMs, failedPrefills: 1 });
      expect(calls.at(-1)).toMatchObject({ name: "finished", ending: { status: 503 } });
    }
  });

  it("leaves the prompt to the decoder where the gateway says so", async () => {
    const { record, calls } = await play(BY_GATEWAY, { events: [died] });
    // The decoder starts over at 120 ms: 37 ms of prefill.
    expect(record.requests[0]).toMatchObject({
      failure: "",
      prefill: -1,
      firstTokenMs: 157,
      failedPrefills: 1,
    });
    expect(record.requests[0]).not.toHaveProperty("handover");
    expect(calls[1]).toMatchObject({ name: "prefillEnded", nowMs: 120, outcome: { failure: "died" } });
  });

  it("goes to another prefill replica where the gateway says so", async () => {
    const again: ChooseAgain = ({ failure }, replica) => ({
      ...BY_GATEWAY,
      prefill: failure === "" ? replica : 2,
    });
    const options = { roles: "prefill,decode,prefill", again };
    for (const [event, firstTokenMs] of [
      [died, 201],
      [absent, 181],
    ] as const) {
      const { record } = await play(BY_GATEWAY, { ...options, events: [event] });
      expect(record.requests[0]).toMatchObject({ failure: "", prefill: 2, firstTokenMs, failedPrefills: 1 });
    }
  });

  it("may be refused by the gateway", async () => {
    const { record } = await play(BY_GATEWAY, { events: [died], again: () => ({ endpoint: -1 }) });
    expect(record.requests[0]).toMatchObject({ failure: "refused", endMs: 120 });
  });

  it("is too long for the prefill replica as for any", async () => {
    const long = fleetRequest(0, 0, 401, 1);
    const { record, calls } = await play(BY_DECODER, { requests: [long] });
    expect(record.requests[0]).toMatchObject({ failure: "too-long", endMs: 0 });
    expect(calls.at(-1)!.ending!.status).toBe(400);
    const asked = await play(BY_GATEWAY, { requests: [long] });
    expect(asked.calls[1]!.outcome!.failure).toBe("too-long");
    expect(asked.record.requests[0]!.failure).toBe("too-long");
  });

  it("ends after so many legs", async () => {
    const again: ChooseAgain = () => BY_GATEWAY;
    await expect(play(BY_GATEWAY, { events: [absent], again })).rejects.toThrow(
      "prefill is 0, expected none after 8 prefill legs",
    );
  });

  it("is aborted when the gateway gives it up", async () => {
    let giveUp: (nowMs: number) => void = () => {};
    const { policy } = recordingPolicy(
      (request, { giveUpPrefill }) => {
        giveUp = (nowMs) => giveUpPrefill!(request, { endpoint: 1 }, nowMs);
        return BY_GATEWAY;
      },
      { nextTimerMs: () => (fired ? Number.POSITIVE_INFINITY : 130), advance: (nowMs) => fire(nowMs) },
      DECODE_ONLY_AFTER_FAILURE,
    );
    let fired = false;
    const fire = (nowMs: number): void => {
      fired = true;
      giveUp(nowMs);
    };
    const workload = { name: "one", requests: [REQUEST] };
    const record = await run({ replicas: fleetOfRoles("prefill,decode"), policy, workload, scrapeMs: 1000 });
    expect(record.requests[0]).toMatchObject({ prefill: -1, firstTokenMs: 167, failedPrefills: 1 });
    expect(record.totals[0]!.generatedTokens).toBe(0);
  });
});

describe("a decode leg that fails", () => {
  it("goes to the next replica of the list, which pulls the blocks", async () => {
    const choice: Choice = { ...BY_GATEWAY, fallbacks: [2] };
    const events: FleetEvent[] = [{ atMs: 120, kind: "fail", replica: 1 }];
    const { record, calls } = await play(choice, { events, again: () => choice });
    expect(record.requests[0]).toMatchObject({ failure: "", endpoint: 2, prefill: 0, firstTokenMs: 181 });
    expect(namesOf(calls)).toEqual([
      "100 route",
      "137 prefillEnded",
      "137 connectFailed",
      "137 connected",
      "181 firstToken",
      "201 finished",
    ]);
  });

  it("is connected before the prompt is computed where its sidecar sends the leg", async () => {
    const events: FleetEvent[] = [{ atMs: 10, kind: "fail", replica: 1 }];
    const { record, calls } = await play({ ...BY_DECODER, fallbacks: [2] }, { events });
    expect(record.requests[0]).toMatchObject({ failure: "", endpoint: 2, prefill: 0 });
    expect(namesOf(calls).slice(0, 3)).toEqual(["100 route", "100 connectFailed", "137 connected"]);
    const refused = await play(BY_DECODER, { events });
    expect(refused.record.requests[0]).toMatchObject({ failure: "connect", endMs: 100 });
    expect(refused.record.totals[0]!.prefillTokens).toBe(0);
  });

  it("ends the prefill leg that its sidecar waits for", async () => {
    const events: FleetEvent[] = [{ atMs: 120, kind: "fail", replica: 1 }];
    const { record } = await play(BY_DECODER, { events });
    expect(record.requests[0]).toMatchObject({ failure: "died", endMs: 120 });
    expect(record.totals[0]!.generatedTokens).toBe(0);
  });

  it("finds the prompt in its own cache where the list leads to the prefill replica", async () => {
    const events: FleetEvent[] = [{ atMs: 10, kind: "fail", replica: 1 }];
    const options = { roles: "both,decode", events };
    const choice: Choice = { ...BY_GATEWAY, fallbacks: [0] };
    const { record } = await play(choice, { ...options, again: () => choice });
    // The last of 32 tokens is computed again, with its block: 10 ms after the leg's end.
    expect(record.requests[0]).toMatchObject({ failure: "", endpoint: 0, firstTokenMs: 147 });
    const byDecoder = await play({ ...BY_DECODER, fallbacks: [0] }, options);
    expect(byDecoder.record.requests[0]).toMatchObject({ endpoint: 0, prefill: -1, firstTokenMs: 137 });
  });

  it.each([
    ["before the pull", 137.5, 1],
    ["during the pull", 150, 0],
  ])("fails when the blocks are gone, prefill replica dead %s", async (_, atMs, busy) => {
    // A request before it keeps the decoder busy past the death, so that nothing is allocated at 137 ms.
    const blocker = busy === 1 ? [fleetRequest(0, 90, 60, 1)] : [];
    const requests = [...blocker, { ...REQUEST, index: blocker.length }];
    const choose = ({ index }: FleetRequest): Choice =>
      index < blocker.length ? { endpoint: 1 } : BY_GATEWAY;
    const events: FleetEvent[] = [{ atMs, kind: "fail", replica: 0 }];
    const { record, calls } = await play(choose, { requests, events });
    const last = record.requests.at(-1)!;
    expect(last).toMatchObject({ failure: "transfer", endpoint: 1, prefill: 0, firstTokenMs: Number.NaN });
    expect(last.endMs).toBe(busy === 1 ? 155 : 150);
    expect(calls.filter(({ name }) => name === "finished").at(-1)!.ending!.status).toBe(500);
  });

  it("leaves the blocks of a dead decoder held until they expire", async () => {
    const late = fleetRequest(1, 1000, 5, 1);
    const events: FleetEvent[] = [{ atMs: 150, kind: "fail", replica: 1 }];
    const usage: number[] = [];
    const extra: Partial<Gateway> = { scraped: (scrapes) => void usage.push(scrapes[0]!.kvUsage) };
    const { policy } = recordingPolicy(
      ({ index }) => (index === 0 ? BY_GATEWAY : { endpoint: 2 }),
      extra,
      DECODE_ONLY_AFTER_FAILURE,
    );
    const workload = { name: "two", requests: [REQUEST, late], events };
    const replicas = fleetOfRoles("prefill,decode,decode");
    const record = await run({ replicas, policy, workload, scrapeMs: 50 });
    expect(record.requests[0]).toMatchObject({ failure: "died", endMs: 150 });
    // 8 of 100 blocks, from 137 to 437 ms, after the first scrapes at 0 and at a phase.
    expect(usage.filter((share) => share > 0.07).length).toBeGreaterThanOrEqual(5);
    expect(usage.at(-1)).toBe(0);
  });
});

describe("draining", () => {
  it("waits for blocks that are held, and for a prompt that is expected", async () => {
    for (const replica of [0, 1]) {
      const events: FleetEvent[] = [{ atMs: replica === 0 ? 140 : 120, kind: "drain", replica }];
      const { record } = await play(BY_DECODER, { events });
      expect(record.requests[0]).toMatchObject({ failure: "", firstTokenMs: 181 });
      expect(record.totals[replica]!.upMs).toBe(replica === 0 ? 171 : 201);
    }
  });
});

describe("runFleet refuses", () => {
  it.each([
    [{ endpoint: 0 }, "endpoint is 0, expected none of role prefill"],
    [{ endpoint: 1, fallbacks: [0] }, "fallbacks[0] is 0, expected none of role prefill"],
    [{ endpoint: 1, prefill: 2 }, "prefill is 2, expected none of role decode"],
    [{ endpoint: 1, prefill: 3 }, "prefill is 3, expected a whole number from 0 to 2"],
    [{ endpoint: -1, prefill: 0 }, "endpoint is -1, expected a replica, whose sidecar sends the prefill leg"],
  ] as const)("%j", async (choice, message) => {
    await expect(play(choice)).rejects.toThrow(`policy recording, request 0: ${message}`);
  });

  it("a prefill replica that is the answering one, and a gateway that cannot be asked again", async () => {
    await expect(play({ endpoint: 1, prefill: 1 }, { roles: "both,both" })).rejects.toThrow(
      "prefill is 1, expected another replica than the answering one",
    );
    const { policy } = recordingPolicy(() => BY_GATEWAY);
    const workload = { name: "one", requests: [REQUEST] };
    await expect(run({ replicas: fleetOfRoles("prefill,decode"), policy, workload })).rejects.toThrow(
      'prefillBy is gateway, expected "decoder", as the gateway has no prefillEnded',
    );
  });
});
