// Policies that choose by load and by a hash alone, and what all gateways do alike.
import { describe, expect, it } from "vitest";
import {
  CHWBL,
  LOAD_FACTOR,
  loadAllowed,
  POINTS_PER_REPLICA,
  PREFIX_TOKENS,
  prefixKey,
} from "../../host-sim/fleet/policies/chwbl.ts";
import { RETRIES_MAX } from "../../host-sim/fleet/policies/gateway.ts";
import { POLICIES } from "../../host-sim/fleet/policies/index.ts";
import { LEAST_REQUEST } from "../../host-sim/fleet/policies/least-request.ts";
import { POWER_OF_TWO } from "../../host-sim/fleet/policies/power-of-two.ts";
import { RANDOM } from "../../host-sim/fleet/policies/random.ts";
import { ROUND_ROBIN } from "../../host-sim/fleet/policies/round-robin.ts";
import type { Span } from "../../host-sim/fleet/types.ts";
import { fleetRequest } from "./support/fleet-records.ts";
import { PolicyRig, prompt } from "./support/policy-gateway.ts";

/** How often each of `replicas` is chosen for `count` requests that end at once. */
function shares(rig: PolicyRig, count: number, replicas: number): number[] {
  const chosen = new Array<number>(replicas).fill(0);
  for (let i = 0; i < count; i++) chosen[rig.serve(fleetRequest(i))]!++;
  return chosen;
}

describe("POLICIES", () => {
  it("have names of their own and say where they come from", () => {
    const names = POLICIES.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(names).not.toContain("epp");
    for (const { name, source } of POLICIES) {
      expect(name).toMatch(/^[a-z0-9-]+$/);
      expect(source.length, name).toBeGreaterThan(40);
    }
  });
});

describe.each(POLICIES.map((policy) => [policy.name, policy] as const))("%s", (name, policy) => {
  it("refuses while no replica is ready", async () => {
    const rig = await PolicyRig.of(policy, 2);
    rig.scrape({ 0: { ready: false }, 1: { ready: false } });
    expect(rig.route(fleetRequest(0))).toBe(-1);
  });

  it("sends nothing to a replica that is not ready", async () => {
    const rig = await PolicyRig.of(policy, 4);
    rig.scrape({ 0: { ready: false }, 2: { ready: false } });
    for (let i = 0; i < 40; i++) {
      const { endpoint, fallbacks = [] } = rig.choose(prompt(i, [[i % 3, 2_000]]));
      for (const replica of [endpoint, ...fallbacks]) expect([1, 3]).toContain(replica);
    }
  });

  it("names different replicas to fall back on, and at most as many as it may", async () => {
    const rig = await PolicyRig.of(policy, 8);
    for (let i = 0; i < 20; i++) {
      const { endpoint, fallbacks = [] } = rig.choose(prompt(i, [[i % 3, 2_000]]));
      expect(new Set([endpoint, ...fallbacks]).size).toBe(1 + fallbacks.length);
      expect(fallbacks.length).toBe(name === "llm-d" ? 0 : RETRIES_MAX);
    }
  });

  it("chooses alike for one seed, and gateways choose apart", async () => {
    const choices = async (gateway: number): Promise<string> => {
      const rig = await PolicyRig.of(policy, 16, { seed: 7, gateway });
      return Array.from({ length: 30 }, (_, i) => rig.route(prompt(i, [[i, 1_000]]))).join();
    };
    expect(await choices(0)).toBe(await choices(0));
    // These two draw nothing by chance: a hash and the first of the least loaded.
    if (name !== "chwbl" && name !== "sglang") expect(await choices(1)).not.toBe(await choices(0));
  });

  it("survives what comes for a request that it does not know or that has ended", async () => {
    const rig = await PolicyRig.of(policy, 2);
    rig.firstToken(fleetRequest(1), 0);
    rig.finish(fleetRequest(1), 0);
    rig.gateway.connectFailed?.(fleetRequest(1), 0, 0);
    const endpoint = rig.serve(fleetRequest(2));
    rig.finish(fleetRequest(2), endpoint);
    expect([0, 1]).toContain(rig.route(fleetRequest(3)));
  });
});

describe("random", () => {
  it("chooses all replicas equally often", async () => {
    const chosen = shares(await PolicyRig.of(RANDOM, 4), 4_000, 4);
    // 1,000 each, standard deviation 27.
    for (const count of chosen) expect(Math.abs(count - 1_000)).toBeLessThan(135);
  });
});

describe("round-robin", () => {
  it("takes the replicas in turn, and those that are left when one goes", async () => {
    const rig = await PolicyRig.of(ROUND_ROBIN, 3);
    const first = rig.route(fleetRequest(0));
    const next = [1, 2, 3, 4, 5].map((i) => rig.route(fleetRequest(i)));
    expect(next).toEqual([1, 2, 3, 4, 5].map((i) => (first + i) % 3));
    rig.scrape({ 1: { ready: false } });
    const left = [6, 7, 8, 9].map((i) => rig.route(fleetRequest(i)));
    expect(left.filter((replica) => replica === 0)).toHaveLength(2);
    expect(left.filter((replica) => replica === 2)).toHaveLength(2);
  });
});

describe("least-request", () => {
  it("fills the replicas evenly and goes where requests have ended", async () => {
    const rig = await PolicyRig.of(LEAST_REQUEST, 3);
    const endpoints = [0, 1, 2, 3, 4, 5].map((i) => rig.route(fleetRequest(i)));
    for (const replica of [0, 1, 2]) expect(endpoints.filter((one) => one === replica)).toHaveLength(2);
    rig.finish(fleetRequest(4), endpoints[4]!);
    expect(rig.route(fleetRequest(6))).toBe(endpoints[4]);
  });

  it("counts a request where it was answered after a refused connection", async () => {
    const rig = await PolicyRig.of(LEAST_REQUEST, 2);
    const { endpoint, fallbacks } = rig.choose(fleetRequest(0));
    rig.gateway.connectFailed!(fleetRequest(0), endpoint, 0);
    expect(fallbacks).toEqual([1 - endpoint]);
    expect(rig.route(fleetRequest(1))).toBe(endpoint);
  });

  it("counts nothing when all connections were refused", async () => {
    const rig = await PolicyRig.of(LEAST_REQUEST, 2);
    const { endpoint, fallbacks } = rig.choose(fleetRequest(0));
    rig.gateway.connectFailed!(fleetRequest(0), endpoint, 0);
    rig.gateway.connectFailed!(fleetRequest(0), fallbacks![0]!, 0);
    rig.finish(fleetRequest(0), fallbacks![0]!);
    const next = [1, 2, 3, 4].map((i) => rig.route(fleetRequest(i)));
    expect(next.filter((replica) => replica === 0)).toHaveLength(2);
  });
});

describe("power-of-two", () => {
  it("never takes the most loaded of all, and the idle one about every second time of three", async () => {
    const rig = await PolicyRig.of(POWER_OF_TWO, 3);
    let index = 0;
    const loads = [0, 0, 0];
    while (loads[0]! < 2 || loads[1]! < 1) {
      const request = fleetRequest(index++);
      const endpoint = rig.route(request);
      if (loads[endpoint]! < [2, 1, 0][endpoint]!) loads[endpoint]!++;
      else rig.finish(request, endpoint);
    }
    const chosen = shares(rig, 900, 3);
    expect(chosen[0]).toBe(0);
    // Two of the three pairs have the idle one: 600, standard deviation 14.
    expect(Math.abs(chosen[2]! - 600)).toBeLessThan(75);
  });
});

describe("chwbl", () => {
  const user = (id: number, tokens: number): Span => ({ id, tokens, role: "user" });
  const system: Span = { id: 9, tokens: 500, role: "system" };

  it.each([
    ["the same start of the first user message", [system, user(1, 500)], [user(1, 25), user(2, 70)], true],
    ["another start", [user(1, 500)], [user(2, 500)], false],
    ["a start that differs after 100 characters", [user(1, 25), user(2, 9)], [user(1, 25), user(3, 9)], true],
    ["a start that differs before", [user(1, 24), user(2, 9)], [user(1, 24), user(3, 9)], false],
    ["another system prompt only", [system, user(1, 500)], [{ ...system, id: 8 }, user(1, 500)], true],
    ["no user message on either side", [system], [{ ...system, id: 8 }], true],
  ] as const)("hashes prompts with %s", (_, left, right, equal) => {
    expect(PREFIX_TOKENS).toBe(25);
    expect(prefixKey({ spans: left }) === prefixKey({ spans: right })).toBe(equal);
  });

  it("hashes the adapter too", () => {
    expect(prefixKey({ spans: [user(1, 50)], lora: "a" })).not.toBe(prefixKey({ spans: [user(1, 50)] }));
  });

  it.each([
    [0, 0, 4, true],
    [5, 0, 4, true],
    [0, 3, 4, true],
    [1, 3, 4, false],
    [4, 15, 4, true],
    [5, 15, 4, false],
    [9, 31, 4, true],
    [10, 31, 4, false],
  ])("with %i of %i requests on %i replicas one more is allowed: %s", (own, total, replicas, allowed) => {
    expect(LOAD_FACTOR).toBe(1.25);
    expect(loadAllowed(own, total, replicas)).toBe(allowed);
  });

  it("keeps a prefix on one replica until that is 25 % over the mean", async () => {
    const rig = await PolicyRig.of(CHWBL, 4);
    const home = rig.serve(prompt(0, [[1, 400]]));
    for (let i = 1; i < 10; i++) expect(rig.serve(prompt(i, [[1, 400 + i]]))).toBe(home);
    const chosen = Array.from({ length: 40 }, (_, i) => rig.route(prompt(100 + i, [[1, 400]])));
    expect(chosen[0]).toBe(home);
    expect(chosen.filter((replica) => replica === home).length).toBeLessThanOrEqual(13);
    expect(new Set(chosen).size).toBe(4);
  });

  it("spreads prefixes over all replicas and moves few when one goes", async () => {
    expect(POINTS_PER_REPLICA).toBe(256);
    const rig = await PolicyRig.of(CHWBL, 8);
    const before = Array.from({ length: 2_000 }, (_, i) => rig.serve(prompt(i, [[i, 400]])));
    for (let replica = 0; replica < 8; replica++) {
      const count = before.filter((one) => one === replica).length;
      expect(count, `replica ${replica}`).toBeGreaterThan(150);
      expect(count, `replica ${replica}`).toBeLessThan(350);
    }
    rig.scrape({ 3: { ready: false } });
    const after = Array.from({ length: 2_000 }, (_, i) => rig.serve(prompt(i, [[i, 400]])));
    expect(after.every((replica, i) => replica === before[i] || before[i] === 3)).toBe(true);
  });
});
