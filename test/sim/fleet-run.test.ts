// A run of the fleet simulator: repeatable, nothing lost, what gateways hear and how old it is, what is refused.
import { describe, expect, it } from "vitest";
import type { Choice, FleetRequest, RunRecord, Scrape, Workload } from "../../host-sim/fleet/types.ts";
import type { Engine } from "../../host-sim/model-server/engine.ts";
import {
  fleetOf,
  fleetRequest,
  inTurn,
  randomWorkload,
  recordingPolicy,
  run,
  span,
  timeless,
} from "./support/fleet.ts";

const REPLICAS = 3;

function workloadOf(requests: readonly FleetRequest[], rest: Partial<Workload> = {}): Workload {
  return { name: "hand-made", requests, ...rest };
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** What holds of every record, whatever the policy. */
function checkRecord(record: RunRecord, workload: Workload): void {
  expect(record.requests.map(({ index }) => index)).toEqual(workload.requests.map(({ index }) => index));
  for (const [i, one] of record.requests.entries()) {
    const request = workload.requests[i]!;
    expect(one.arrivalMs).toBe(request.arrivalMs);
    expect(one.promptTokens).toBe(request.promptTokens);
    if (one.failure !== "") continue;
    expect(one.outputTokens).toBe(request.outputTokens);
    expect(one.firstTokenMs).toBeGreaterThan(one.arrivalMs);
    expect(one.endMs).toBeGreaterThanOrEqual(one.firstTokenMs);
    expect(one.cachedTokens).toBeGreaterThanOrEqual(0);
    expect(one.cachedTokens).toBeLessThan(one.promptTokens);
  }
  expect(sum(record.totals.map(({ generatedTokens }) => generatedTokens))).toBe(
    sum(record.requests.map(({ outputTokens }) => outputTokens)),
  );
  expect(record.endMs).toBe(Math.max(...record.requests.map(({ endMs }) => endMs)));
}

describe("runFleet", () => {
  it("plays one request: prefill, tokens, end, and what the gateway hears of it", async () => {
    const { policy, calls } = recordingPolicy(() => ({ endpoint: 1 }));
    const workload = workloadOf([fleetRequest(0, 100, 30, 3)]);
    const record = await run({ replicas: fleetOf(2), policy, workload });
    // 30 prefill tokens take 5 + 30 ms, the two further tokens 10 ms each.
    expect(record.requests).toEqual([
      {
        index: 0,
        arrivalMs: 100,
        endpoint: 1,
        prefill: -1,
        firstTokenMs: 135,
        endMs: 155,
        promptTokens: 30,
        outputTokens: 3,
        cachedTokens: 0,
        failure: "",
      },
    ]);
    const ending = { status: 200, promptTokens: 30, outputTokens: 3, cachedTokens: 0 };
    expect(calls.filter(({ name }) => name !== "scraped")).toEqual([
      { name: "route", nowMs: 100, gateway: 0, request: 0 },
      { name: "connected", nowMs: 100, gateway: 0, request: 0, endpoint: 1 },
      { name: "firstToken", nowMs: 135, gateway: 0, request: 0, endpoint: 1 },
      { name: "finished", nowMs: 155, gateway: 0, request: 0, endpoint: 1, ending },
    ]);
    expect(record.totals[1]).toEqual({
      steps: 3,
      generatedTokens: 3,
      prefillTokens: 30,
      preemptions: 0,
      busyMs: 55,
      upMs: 155,
    });
    expect(record.totals[0]).toMatchObject({ steps: 0, busyMs: 0 });
    expect(record).toMatchObject({ policy: "recording", workload: "hand-made", replicas: 2, endMs: 155 });
  });

  it("finds prompts and answers again that an earlier request left in the cache", async () => {
    const answer = { id: 9, tokens: 8, role: "assistant" } as const;
    const requests = [
      fleetRequest(0, 0, 0, 8, { spans: [span(1, 16)], answerSpan: 9 }),
      fleetRequest(1, 1000, 0, 1, { spans: [span(1, 16), answer, span(2, 8)] }),
    ];
    const { policy } = recordingPolicy(() => ({ endpoint: 0 }));
    const record = await run({ replicas: fleetOf(1), policy, workload: workloadOf(requests) });
    // The last generated token's KV is never computed: 23 of 24 tokens are there, five blocks of 4.
    expect(record.requests.map(({ cachedTokens }) => cachedTokens)).toEqual([0, 20]);
  });

  const seed = (Date.now() ^ process.pid) >>> 0;
  it(`loses and invents nothing, and leaves engines empty (seed ${seed})`, async () => {
    const workload = randomWorkload(seed, 300, 12);
    const engines: (Engine | undefined)[] = [];
    const { policy } = recordingPolicy(({ index }, { truth }) => {
      for (let i = 0; i < REPLICAS; i++) engines[i] = truth(i);
      return { endpoint: index % REPLICAS };
    });
    const record = await run({ replicas: fleetOf(REPLICAS), policy, workload, gateways: 2 });
    checkRecord(record, workload);
    expect(record.requests.every(({ failure }) => failure === "")).toBe(true);
    expect(sum(record.requests.map(({ cachedTokens }) => cachedTokens))).toBeGreaterThan(0);
    for (const engine of engines) {
      expect([engine!.runningCount, engine!.waitingCount, engine!.cache.usage]).toEqual([0, 0, 0]);
      engine!.cache.verify();
    }
  });

  it(`gives equal records for equal seeds, and draws other gateways for another (seed ${seed})`, async () => {
    const workload = randomWorkload(seed, 120, 12);
    const gatewaysOf = async (runSeed: number): Promise<[Omit<RunRecord, "wallMs">, number[]]> => {
      const { policy, calls } = recordingPolicy(({ index }) => ({ endpoint: index % REPLICAS }));
      const record = await run({ replicas: fleetOf(REPLICAS), policy, workload, gateways: 4, seed: runSeed });
      return [timeless(record), calls.filter(({ name }) => name === "route").map(({ gateway }) => gateway)];
    };
    const [first, again, other] = [await gatewaysOf(5), await gatewaysOf(5), await gatewaysOf(6)];
    expect(again).toEqual(first);
    expect(other[1]).not.toEqual(first[1]);
    expect(new Set(first[1]).size).toBe(4);
  });

  it("scrapes for each gateway at a phase of its own; between two scrapes its view is old", async () => {
    const truths: number[] = [];
    const seen: number[] = [];
    let scrapes: readonly Scrape[] = [];
    const { policy, calls } = recordingPolicy((_, { truth }) => {
      scrapes = calls.filter(({ name, gateway }) => name === "scraped" && gateway === 0).at(-1)!.scrapes!;
      seen.push(scrapes[0]!.running + scrapes[0]!.waiting);
      truths.push(truth(0)!.runningCount + truth(0)!.waitingCount);
      return { endpoint: 0 };
    });
    const requests = Array.from({ length: 8 }, (_, i) => fleetRequest(i, 500 + i, 12, 4));
    await run({ replicas: fleetOf(1), policy, workload: workloadOf(requests), gateways: 2, scrapeMs: 70 });
    const times = [0, 1].map((gateway) =>
      calls.filter((call) => call.name === "scraped" && call.gateway === gateway).map(({ nowMs }) => nowMs),
    );
    for (const [first, second, ...rest] of times) {
      expect(first).toBe(0);
      expect(second).toBeLessThan(70);
      for (const [i, nowMs] of rest.entries()) expect(nowMs).toBeCloseTo(second! + 70 * (i + 1), 6);
    }
    expect(times[0]![1]).not.toBe(times[1]![1]);
    expect(truths).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    // All eight arrive within one period: at most one scrape tells of some of them.
    expect(new Set(seen).size).toBeLessThanOrEqual(2);
    expect(seen[7]).toBeLessThan(7);
  });

  it("shows in a scrape what /metrics would", async () => {
    const { policy, calls } = recordingPolicy(() => ({ endpoint: 0 }));
    const requests = [
      fleetRequest(0, 0, 16, 40, { lora: "x" }),
      fleetRequest(1, 0, 16, 40, { lora: "y" }),
      fleetRequest(2, 0, 16, 40, { lora: "z" }),
    ];
    await run({ replicas: fleetOf(1), policy, workload: workloadOf(requests), scrapeMs: 1 });
    const busy = calls.flatMap(({ scrapes = [] }) => scrapes).find((one) => one.generationTokens === 11);
    expect(busy).toEqual({
      ready: true,
      waiting: 1,
      running: 2,
      kvUsage: 0.12,
      kvCapacityTokens: 400,
      blockTokens: 4,
      promptTokens: 32,
      generationTokens: 11,
      preemptions: 0,
      generation: 1,
      loras: ["x", "y"],
      lorasWaiting: ["z"],
      loraMax: 2,
      role: "both",
    });
  });

  it("samples the load of each replica at the period asked for", async () => {
    const { policy } = recordingPolicy(() => ({ endpoint: 0 }));
    const workload = workloadOf([fleetRequest(0, 100, 30, 8)]);
    const { samples } = await run({ replicas: fleetOf(2), policy, workload, sampleMs: 50 });
    expect(samples.map(({ atMs, replica, running }) => [atMs, replica, running])).toEqual(
      [0, 50, 100, 150, 200].flatMap((atMs) => [
        [atMs, 0, atMs === 150 || atMs === 200 ? 1 : 0],
        [atMs, 1, 0],
      ]),
    );
  });

  it("tells of every n-th token where a gateway asks for it", async () => {
    const { policy, calls } = recordingPolicy(() => ({ endpoint: 0 }), { tokensEvery: 3 });
    await run({ replicas: fleetOf(1), policy, workload: workloadOf([fleetRequest(0, 0, 5, 10)]) });
    // The first token comes at 10 ms, the third, sixth and ninth 20, 50 and 80 ms later.
    expect(calls.filter(({ name }) => name === "tokens").map(({ nowMs }) => nowMs)).toEqual([30, 60, 90]);
  });

  it("calls a gateway when its timer is due", async () => {
    const fired: number[] = [];
    const timers = {
      nextTimerMs: () => (fired.length < 3 ? 7 * (fired.length + 1) : Number.POSITIVE_INFINITY),
      advance: (nowMs: number) => void fired.push(nowMs),
    };
    const { policy } = recordingPolicy(() => ({ endpoint: 0 }), timers);
    await run({ replicas: fleetOf(1), policy, workload: workloadOf([fleetRequest(0, 50, 5, 1)]) });
    expect(fired).toEqual([7, 14, 21]);
  });

  it("records a request that no replica can hold as too long, and a refused one as refused", async () => {
    const { policy, calls } = recordingPolicy(({ index }) => ({ endpoint: index === 0 ? 0 : -1 }));
    const requests = [fleetRequest(0, 0, 401, 1), fleetRequest(1, 5, 10, 1), fleetRequest(2, 6, 10, 1)];
    const record = await run({ replicas: fleetOf(1), policy, workload: workloadOf(requests) });
    expect(record.requests.map(({ failure, endpoint, endMs }) => [failure, endpoint, endMs])).toEqual([
      ["too-long", 0, 0],
      ["refused", -1, 5],
      ["refused", -1, 6],
    ]);
    expect(calls.map(({ name }) => name)).not.toContain("connected");
    const ended = calls.filter(({ name }) => name === "finished");
    expect(ended.map(({ ending }) => ending!.status)).toEqual([400]);
  });

  it("tells of progress up to the last request", async () => {
    const heard: number[] = [];
    const workload = randomWorkload(1, 40, 12);
    const onProgress = (ended: number, requests: number): void => void heard.push(ended / requests);
    await run({ replicas: fleetOf(REPLICAS), policy: inTurn(REPLICAS), workload, onProgress });
    expect(heard.at(-1)).toBe(1);
  });
});

const good = fleetRequest(0, 5, 10, 1);
const endpoint = (choice: Choice) => recordingPolicy(() => choice).policy;

describe("runFleet refuses", () => {
  it.each([
    ["a fleet of nothing", { replicas: [] }, "replicas is 0, expected a whole number from 1 to 256"],
    ["257 replicas", { replicas: fleetOf(257) }, "replicas is 257"],
    ["no gateway", { gateways: 0 }, "gateways is 0, expected a whole number from 1 to 64"],
    ["65 gateways", { gateways: 65 }, "gateways is 65"],
    ["half a gateway", { gateways: 1.5 }, "gateways is 1.5"],
    ["scrapes without pause", { scrapeMs: 0 }, "scrapeMs is 0, expected a number of ms, at least 1"],
    ["scrapes that never come", { scrapeMs: Number.NaN }, "scrapeMs is NaN"],
    ["samples without pause", { sampleMs: -1 }, "sampleMs is -1"],
    ["a negative seed", { seed: -1 }, "seed is -1"],
    [
      "a fleet in which nobody answers",
      { replicas: [{ ...fleetOf(1)[0]!, role: "prefill" as const }] },
      'replicas is all of role prefill, expected at least one of role "decode" or "both"',
    ],
    [
      "an empty workload",
      { workload: workloadOf([]) },
      "workload hand-made: requests.length is 0, expected 1 to",
    ],
    [
      "an index out of order",
      { workload: workloadOf([{ ...good, index: 3 }]) },
      "requests[0].index is 3, expected 0",
    ],
    [
      "an arrival before the one before",
      { workload: workloadOf([good, fleetRequest(1, 4, 10, 1)]) },
      "requests[1].arrivalMs is 4, expected at least 5",
    ],
    [
      "an answer of no token",
      { workload: workloadOf([{ ...good, outputTokens: 0 }]) },
      "requests[0].outputTokens is 0",
    ],
    [
      "a sum that is none",
      { workload: workloadOf([{ ...good, promptTokens: 11 }]) },
      "requests[0].promptTokens is 11",
    ],
    [
      "an empty span",
      { workload: workloadOf([{ ...good, spans: [span(1, 0)] }]) },
      "requests[0].spans.tokens is 0",
    ],
    [
      "a negative span id",
      { workload: workloadOf([{ ...good, spans: [span(-1, 10)] }]) },
      "requests[0].spans.id is -1",
    ],
    [
      "an event at no replica",
      { workload: workloadOf([good], { events: [{ atMs: 1, kind: "fail" as const, replica: 1 }] }) },
      "events[0].replica is 1, expected 0 to 0",
    ],
    [
      "a factor of 0",
      {
        workload: workloadOf([good], { events: [{ atMs: 1, kind: "slow" as const, replica: 0, factor: 0 }] }),
      },
      "events[0].factor is 0, expected a number above 0",
    ],
    [
      "events out of order",
      {
        workload: workloadOf([good], {
          events: [
            { atMs: 9, kind: "drain" as const, replica: 0 },
            { atMs: 8, kind: "join" as const, replica: 0 },
          ],
        }),
      },
      "events[1].atMs is 8, expected at least 9",
    ],
    [
      "an endpoint that there is not",
      { policy: endpoint({ endpoint: 1 }) },
      "policy recording, request 0: endpoint is 1, expected a whole number from -1 to 0",
    ],
    ["half an endpoint", { policy: endpoint({ endpoint: 0.5 }) }, "endpoint is 0.5"],
    [
      "a fallback that there is not",
      { policy: endpoint({ endpoint: 0, fallbacks: [0, -1] }) },
      "fallbacks[1] is -1",
    ],
  ])("%s", async (_, change, message) => {
    const options = {
      replicas: fleetOf(1),
      policy: endpoint({ endpoint: 0 }),
      workload: workloadOf([good]),
      ...change,
    };
    await expect(run(options)).rejects.toThrow(message);
  });
});
