// The default picker in fleets: slow replicas, popular prefixes, deaths, many gateways with old metrics, nothing known.
import { describe, expect, it } from "vitest";
import { spanBytes } from "../../host-sim/fleet/body.ts";
import { eppPolicy } from "../../host-sim/fleet/epp-gateway.ts";
import { CHWBL } from "../../host-sim/fleet/policies/chwbl.ts";
import { LEAST_REQUEST } from "../../host-sim/fleet/policies/least-request.ts";
import { RANDOM } from "../../host-sim/fleet/policies/random.ts";
import { ROUND_ROBIN } from "../../host-sim/fleet/policies/round-robin.ts";
import { type FleetSummary, summarizeRun } from "../../host-sim/fleet/report/summary.ts";
import type { FleetEvent, FleetRequest, Policy, RunRecord, Workload } from "../../host-sim/fleet/types.ts";
import { Random } from "../../host-sim/workload/random.ts";
import { eppOptions, fastReplicas, type FilterStatus, watchedEpp } from "./support/epp.ts";
import { ROUND_RATES } from "./support/engine.ts";
import { fleetOf, fleetRequest, recordingPolicy, run, span } from "./support/fleet.ts";

const REPLICAS = 4;
/** Two workers, whose ticks come less often than shipped: nothing here depends on them, and they take time. */
const FEW_TICKS = { workers: 2, tickMs: 20 };
const SLO = { ttftMs: 1_000, tpotMs: 50 };

type Make = (index: number, atMs: number, random: Random) => FleetRequest;

/** Requests at random times, `gapMs` apart on average, until `untilMs`. */
function arriving(seed: number, gapMs: number, untilMs: number, make: Make): FleetRequest[] {
  const random = new Random(seed);
  const requests: FleetRequest[] = [];
  for (let atMs = random.exponential(gapMs); atMs < untilMs; atMs += random.exponential(gapMs))
    requests.push(make(requests.length, atMs, random));
  return requests;
}

function summaryOf(record: RunRecord, workload: Workload): FleetSummary {
  expect(record.requests.filter(({ failure }) => failure !== "")).toEqual([]);
  return summarizeRun(record, workload, SLO);
}

function countsOf({ requests, replicas }: RunRecord): number[] {
  const counts = new Array<number>(replicas).fill(0);
  for (const { endpoint } of requests) counts[endpoint]!++;
  return counts;
}

describe("a replica that is slow for a while", () => {
  const SLOW_MS = 20_000;
  const RECOVERED_MS = 45_000;
  const END_MS = 125_000;
  const FACTOR = 3;
  /** Time in which the filter notices that it is slow; */
  const NOTICED_MS = 4_000;
  /** and that it is not any more: it is seldom asked by then. */
  const FORGIVEN_MS = 60_000;
  const events: FleetEvent[] = [
    { atMs: SLOW_MS, kind: "slow", replica: 0, factor: FACTOR },
    { atMs: RECOVERED_MS, kind: "slow", replica: 0, factor: 1 },
  ];
  const workloadOf = (seed: number): Workload => ({
    name: "slow",
    requests: arriving(seed, 110, END_MS, (index, atMs, random) =>
      fleetRequest(index, atMs, random.integer(1_000, 5_000), random.integer(4, 12)),
    ),
    events,
  });

  /** Shares of the prompt tokens that it got before, meanwhile and after. */
  const sharesOf = ({ requests }: RunRecord): number[] =>
    [
      [NOTICED_MS, SLOW_MS],
      [SLOW_MS + NOTICED_MS, RECOVERED_MS],
      [RECOVERED_MS + FORGIVEN_MS, END_MS],
    ].map(([fromMs, toMs]) => {
      let own = 0;
      let all = 0;
      for (const { arrivalMs, endpoint, promptTokens } of requests) {
        if (arrivalMs < fromMs! || arrivalMs >= toMs!) continue;
        all += promptTokens;
        if (endpoint === 0) own += promptTokens;
      }
      return own / all;
    });

  const relativeRate = ({ pools }: FilterStatus): number => {
    const [own, ...others] = pools[0]!.endpoints.map((endpoint) => endpoint.prefillTokensPerSecond!);
    return own! / (others.reduce((sum, rate) => sum + rate, 0) / others.length);
  };

  it.each([11, 12, 13])(
    "gets little work, then its share again; its rate is known (seed %i)",
    async (seed) => {
      const { policy, statuses } = watchedEpp([SLOW_MS, RECOVERED_MS, END_MS - 1_000], FEW_TICKS);
      const record = await run({ replicas: fastReplicas(REPLICAS), policy, workload: workloadOf(seed) });
      const [before, meanwhile, after] = sharesOf(record);
      expect(before).toBeGreaterThan(0.18);
      expect(meanwhile).toBeLessThan(0.6 * before!);
      expect(after).toBeGreaterThan(0.18);
      const relative = statuses.map(relativeRate);
      expect(relative).toHaveLength(3);
      expect(Math.abs(relative[0]! - 1)).toBeLessThan(0.15);
      // How slow it is shows in few prompts, beside which the others' speed still counts.
      expect(relative[1]).toBeLessThan(0.75);
      expect(Math.abs(relative[2]! - 1)).toBeLessThan(0.15);
    },
  );
});

describe("a prefix that many prompts begin with", () => {
  const viral = (gapMs: number, untilMs: number): Workload => ({
    name: "viral",
    requests: arriving(5, gapMs, untilMs, (index, atMs, random) =>
      fleetRequest(index, atMs, 0, random.integer(20, 60), {
        spans: [span(1, 8_000), span(100 + index, random.integer(500, 1_500))],
      }),
    ),
  });
  const runOf = (policy: Policy, workload: Workload): Promise<RunRecord> =>
    run({ replicas: fastReplicas(REPLICAS), policy, workload });
  const epp = eppPolicy(eppOptions(FEW_TICKS));

  it("is held by one replica while that can serve all of them", async () => {
    // A prompt keeps it busy for 80 ms.
    const record = await runOf(epp, viral(500, 30_000));
    expect(countsOf(record).filter((count) => count > 0)).toHaveLength(1);
  });

  it("is held by several as soon as one cannot, and prompts wait far less than there", async () => {
    const workload = viral(50, 12_000);
    const ours = await runOf(epp, workload);
    const single = await runOf(recordingPolicy(() => ({ endpoint: 0 })).policy, workload);
    for (const count of countsOf(ours)) expect(count).toBeGreaterThan(workload.requests.length / 8);
    const [spread, alone] = [ours, single].map((record) => summaryOf(record, workload).ttftMs.mean);
    expect(spread).toBeLessThan(alone! / 5);
  });
});

describe("a conversation whose replica dies", () => {
  const TURN_MS = 4_000;
  const FAIL_MS = 22_000;
  const turns = Array.from({ length: 14 }, (_, i) =>
    fleetRequest(i, TURN_MS * i, 0, 20, { spans: Array.from({ length: i + 1 }, (_, k) => span(k, 1_000)) }),
  );
  const play = (events: FleetEvent[]): Promise<RunRecord> =>
    run({
      replicas: fastReplicas(REPLICAS),
      policy: eppPolicy(eppOptions(FEW_TICKS)),
      workload: { name: "turns", requests: turns, events },
      // Longer than the run: only requests tell that it is gone.
      scrapeMs: 60_000,
    });

  it("goes on elsewhere at once, before any scrape, and stays there when the replica is back", async () => {
    const owner = (await play([])).requests[0]!.endpoint;
    const { requests } = await play([
      { atMs: FAIL_MS, kind: "fail", replica: owner },
      { atMs: FAIL_MS + 2 * TURN_MS, kind: "join", replica: owner },
    ]);
    expect(requests.filter(({ failure }) => failure !== "")).toEqual([]);
    const before = requests.filter(({ arrivalMs }) => arrivalMs < FAIL_MS);
    const [first, ...rest] = requests.slice(before.length);
    expect(new Set(before.map(({ endpoint }) => endpoint))).toEqual(new Set([owner]));
    expect(first!.endpoint).not.toBe(owner);
    expect(first!.cachedTokens).toBe(0);
    for (const { endpoint, cachedTokens, promptTokens } of rest) {
      expect(endpoint).toBe(first!.endpoint);
      expect(cachedTokens).toBeGreaterThan(promptTokens - 1_100);
    }
  });
});

describe("four gateways of 16 workers, with metrics that are 200 ms old", () => {
  /** Busy time of the busiest replica over the mean. Placed at random or in turn, these prompts exceed it. */
  const BUSIEST_MAX = 1.08;

  it.each([1, 2])(
    "give no replica much more than its share of the work (seed %i)",
    async (seed) => {
      const requests = arriving(seed, 20, 20_000, (index, atMs, random) =>
        fleetRequest(index, atMs, Math.round(random.logNormal(1_000, 1, 50, 20_000)), random.integer(1, 3)),
      );
      const workload: Workload = { name: "herd", requests };
      const play = async (policy: Policy): Promise<FleetSummary> => {
        const options = { replicas: fastReplicas(8), policy, workload, gateways: 4, scrapeMs: 200 };
        return summaryOf(await run(options), workload);
      };
      const ours = await play(eppPolicy(eppOptions({ workers: 16, tickMs: 50 })));
      expect(ours.busyImbalance).toBeLessThan(BUSIEST_MAX);
      for (const policy of [RANDOM, ROUND_ROBIN]) {
        const other = await play(policy);
        expect(other.busyImbalance, policy.name).toBeGreaterThan(BUSIEST_MAX);
        expect(ours.loadVariation / other.loadVariation, policy.name).toBeLessThan(0.75);
        expect(ours.ttftMs.mean / other.ttftMs.mean, policy.name).toBeLessThan(0.75);
      }
    },
    120_000,
  );
});

describe("before anything is learnt", () => {
  /** Engines that give no first token while requests arrive. */
  const silent = fleetOf(REPLICAS, {
    blockCount: 200_001,
    batchedTokensMax: 1_000_000,
    sequencesMax: 1_000,
    rates: { ...ROUND_RATES, overheadMs: 10_000 },
  });
  /** Bytes of a token while no usage was seen, tokens of a block, ms a token; equals, in ms and of the prefill. */
  const [PER_TOKEN, LAST_BLOCK, TOKEN_MS, TIE_MS, TIE_SHARE] = [4, 16, 0.1, 2, 0.1];
  /** A match is known to within 64 bytes there. */
  const KEY_TOKENS = 16;

  /** How many tokens more, for each request there, the choices cost than any that counts as equal to the cheapest. */
  const excessOf = ({ requests: records }: RunRecord, requests: readonly FleetRequest[]): number[] => {
    const held = Array.from({ length: REPLICAS }, () => new Set<number>());
    const inFlight = new Array<number>(REPLICAS).fill(0);
    return records.map(({ index, endpoint }) => {
      const [shared, own] = requests[index]!.spans;
      const uncached = held.map(
        (ids) => (spanBytes(own!) + (ids.has(shared!.id) ? 0 : spanBytes(shared!))) / PER_TOKEN,
      );
      const costs = uncached.map((tokens, at) => (tokens + LAST_BLOCK) * (inFlight[at]! + 1) * TOKEN_MS);
      const least = Math.min(...costs);
      const tieMs = TIE_MS + TIE_SHARE * TOKEN_MS * uncached[costs.indexOf(least)]!;
      const excessMs = costs[endpoint]! - least - tieMs;
      held[endpoint]!.add(shared!.id);
      inFlight[endpoint]!++;
      return excessMs / TOKEN_MS / inFlight[endpoint]!;
    });
  };

  it.each([1, 2, 3])("choices are LMetric's: uncached tokens × (requests + 1) (seed %i)", async (seed) => {
    const requests = arriving(seed, 50, 6_000, (index, atMs, random) =>
      fleetRequest(index, atMs, 0, 1, {
        spans: [span(random.zipf(8), 400), span(100 + index, random.integer(100, 1_000))],
      }),
    );
    const workload: Workload = { name: "silent", requests };
    const play = async (policy: Policy): Promise<number> =>
      Math.max(...excessOf(await run({ replicas: silent, policy, workload }), requests));
    expect(await play(eppPolicy(eppOptions({ workers: 2, tickMs: 1_000 })))).toBeLessThan(KEY_TOKENS);
    for (const policy of [LEAST_REQUEST, CHWBL]) expect(await play(policy), policy.name).toBeGreaterThan(100);
  });
});
