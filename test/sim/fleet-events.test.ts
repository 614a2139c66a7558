// What happens to replicas during a run: they slow down, die, join and drain, and requests go where they can.
import { describe, expect, it } from "vitest";
import type { FleetEvent, FleetRequest, RunRecord, Scrape, Workload } from "../../host-sim/fleet/types.ts";
import { Random } from "../../host-sim/workload/random.ts";
import {
  type Call,
  fleetOf,
  fleetRequest,
  inTurn,
  randomWorkload,
  recordingPolicy,
  run,
  span,
} from "./support/fleet.ts";

function workloadOf(requests: readonly FleetRequest[], events: readonly FleetEvent[]): Workload {
  return { name: "events", requests, events };
}

/** Runs over two replicas, everything sent to the first with the second as fallback. */
async function toFirst(workload: Workload, fallbacks = [1]): Promise<{ record: RunRecord; calls: Call[] }> {
  const { policy, calls } = recordingPolicy(() => ({ endpoint: 0, fallbacks }));
  return { record: await run({ replicas: fleetOf(2), policy, workload }), calls };
}

function scrapesAt(calls: readonly Call[], fromMs: number, toMs: number): (readonly Scrape[])[] {
  return calls
    .filter(({ name, nowMs }) => name === "scraped" && nowMs >= fromMs && nowMs < toMs)
    .map(({ scrapes }) => scrapes!);
}

describe("events of a run", () => {
  it("slow: steps that begin later take that many times as long, also after a restart, until it is said otherwise", async () => {
    const requests = [0, 1000, 2000, 3000].map((atMs, i) => fleetRequest(i, atMs, 15, 1));
    const events: FleetEvent[] = [
      { atMs: 500, kind: "slow", replica: 0, factor: 3 },
      { atMs: 1500, kind: "fail", replica: 0 },
      { atMs: 1600, kind: "join", replica: 0 },
      { atMs: 2500, kind: "slow", replica: 0, factor: 1 },
    ];
    const { record } = await toFirst(workloadOf(requests, events));
    expect(record.requests.map(({ endMs, arrivalMs }) => endMs - arrivalMs)).toEqual([20, 60, 60, 20]);
  });

  it("fail: what it served has died, connects go to the fallback, and join starts an empty one", async () => {
    const shared = { spans: [span(1, 40)] };
    const requests = [
      fleetRequest(0, 0, 0, 1, shared),
      fleetRequest(1, 100, 40, 20),
      fleetRequest(2, 150, 300, 20),
      fleetRequest(3, 200, 10, 1),
      fleetRequest(4, 400, 0, 1, shared),
    ];
    const events: FleetEvent[] = [
      { atMs: 180, kind: "fail", replica: 0 },
      { atMs: 300, kind: "join", replica: 0 },
    ];
    const { record, calls } = await toFirst(workloadOf(requests, events));
    expect(record.requests.map(({ failure, endpoint, endMs }) => [failure, endpoint, endMs])).toEqual([
      ["", 0, 45],
      ["died", 0, 180],
      ["died", 0, 180],
      ["", 1, 215],
      ["", 0, 445],
    ]);
    expect(record.requests[1]!.firstTokenMs).toBe(145);
    expect(record.requests[2]!.firstTokenMs).toBeNaN();
    expect(record.requests[2]!.outputTokens).toBe(0);
    expect(record.requests[4]!.cachedTokens).toBe(0);
    const heard = calls.filter(({ name, request }) => name !== "scraped" && request !== undefined);
    expect(
      heard.filter(({ request }) => request === 3).map(({ name, endpoint }) => [name, endpoint]),
    ).toEqual([
      ["route", undefined],
      ["connectFailed", 0],
      ["connected", 1],
      ["firstToken", 1],
      ["finished", 1],
    ]);
    const died = heard.filter(({ name, nowMs }) => name === "finished" && nowMs === 180);
    expect(died.map(({ request, ending }) => [request, ending!.status])).toEqual([
      [1, 503],
      [2, 503],
    ]);
    expect(scrapesAt(calls, 181, 299).map(([first]) => first!.ready)).not.toContain(true);
    expect(scrapesAt(calls, 0, 180).map(([first]) => first!.generation)).not.toContain(2);
    for (const [first] of scrapesAt(calls, 301, 445))
      expect(first).toMatchObject({ ready: true, generation: 2 });
  });

  it("connect: a request that every replica of the list refuses has failed", async () => {
    const events: FleetEvent[] = [{ atMs: 10, kind: "fail", replica: 0 }];
    const { record, calls } = await toFirst(workloadOf([fleetRequest(0, 20, 10, 1)], events), []);
    expect(record.requests[0]).toMatchObject({ failure: "connect", endpoint: 0, endMs: 20, outputTokens: 0 });
    expect(calls.filter(({ name }) => name !== "scraped").map(({ name }) => name)).toEqual([
      "route",
      "connectFailed",
      "finished",
    ]);
  });

  it("join: a replica whose first event this is was absent before", async () => {
    const events: FleetEvent[] = [{ atMs: 100, kind: "join", replica: 0 }];
    const requests = [fleetRequest(0, 50, 10, 1), fleetRequest(1, 150, 10, 1)];
    const { record, calls } = await toFirst(workloadOf(requests, events));
    expect(record.requests.map(({ endpoint }) => endpoint)).toEqual([1, 0]);
    expect(scrapesAt(calls, 0, 1)[0]!.map(({ ready }) => ready)).toEqual([false, true]);
    expect(record.samples.filter(({ replica, atMs }) => replica === 0 && atMs < 100)).toEqual([]);
  });

  it("drain: it ends what it has and takes nothing new; a join waits for the end and starts empty", async () => {
    const shared = { spans: [span(1, 40)] };
    const requests = [
      fleetRequest(0, 0, 0, 30, shared),
      fleetRequest(1, 100, 10, 1),
      fleetRequest(2, 200, 10, 1),
      fleetRequest(3, 400, 0, 1, shared),
    ];
    const events: FleetEvent[] = [
      { atMs: 50, kind: "drain", replica: 0 },
      { atMs: 150, kind: "join", replica: 0 },
    ];
    const { record, calls } = await toFirst(workloadOf(requests, events));
    // The first ends at 45 + 29 × 10 ms; until then connects are refused, though the next process is asked for.
    expect(record.requests.map(({ failure, endpoint, endMs }) => [failure, endpoint, endMs])).toEqual([
      ["", 0, 335],
      ["", 1, 115],
      ["", 1, 215],
      ["", 0, 445],
    ]);
    expect(record.requests[3]!.cachedTokens).toBe(0);
    expect(scrapesAt(calls, 51, 335).every(([first]) => !first!.ready && first!.running === 1)).toBe(true);
    expect(scrapesAt(calls, 336, 445).every(([first]) => first!.ready && first!.generation === 2)).toBe(true);
    expect(record.totals[0]).toMatchObject({ generatedTokens: 31, prefillTokens: 80 });
  });

  it("ends when nobody is left: what waits for a replica that never comes fails at once", async () => {
    const events: FleetEvent[] = [
      { atMs: 10, kind: "drain", replica: 0 },
      { atMs: 11, kind: "fail", replica: 1 },
    ];
    const { record } = await toFirst(workloadOf([fleetRequest(0, 20, 10, 1)], events));
    expect(record.requests[0]).toMatchObject({ failure: "connect", endpoint: 1 });
  });

  const seed = (Date.now() ^ process.pid) >>> 0;
  it(`accounts for every request while replicas come and go (seed ${seed})`, async () => {
    const random = new Random(seed);
    const kinds = ["slow", "fail", "join", "drain"] as const;
    for (let round = 0; round < 8; round++) {
      const drawn = randomWorkload(seed + round, 150, 10);
      let atMs = 0;
      const events = Array.from({ length: 30 }, (): FleetEvent => {
        atMs += random.exponential(50);
        const kind = random.pick(kinds);
        const replica = random.integer(0, 3);
        return kind === "slow"
          ? { atMs, kind, replica, factor: random.integer(1, 3) }
          : { atMs, kind, replica };
      });
      const workload = { ...drawn, events };
      const record = await run({ replicas: fleetOf(4), policy: inTurn(4), workload, gateways: 2 });
      expect(record.requests).toHaveLength(150);
      const generated = record.requests.reduce((sum, { outputTokens }) => sum + outputTokens, 0);
      expect(record.totals.reduce((sum, { generatedTokens }) => sum + generatedTokens, 0)).toBe(generated);
      for (const [i, { failure, outputTokens, endMs, arrivalMs }] of record.requests.entries()) {
        expect(["", "died", "connect"]).toContain(failure);
        expect(endMs).toBeGreaterThanOrEqual(arrivalMs);
        if (failure === "") expect(outputTokens).toBe(drawn.requests[i]!.outputTokens);
      }
    }
  });
});
