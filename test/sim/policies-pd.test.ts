// Policies over prefill and decode replicas: who computes a prompt, who answers, and what follows a failed leg.
import { describe, expect, it } from "vitest";
import { POLICIES } from "../../host-sim/fleet/policies/index.ts";
import { LLM_D_PD, NON_CACHED_TOKENS } from "../../host-sim/fleet/policies/llm-d-pd.ts";
import { DISAGGREGATED_TOKENS_MIN, PRICED_PD } from "../../host-sim/fleet/policies/priced-pd.ts";
import { runFleet } from "../../host-sim/fleet/run.ts";
import { generate } from "../../host-sim/fleet/sources/index.ts";
import type { Policy, PrefillOutcome, ReplicaRole, Scrape } from "../../host-sim/fleet/types.ts";
import { defaultEngineConfig } from "../../host-sim/model-server/engine.ts";
import { PolicyRig, prompt } from "./support/policy-gateway.ts";

/** A gateway over replicas of "P", "D" or "B". */
async function rigOf(policy: Policy, roles: string, more: Readonly<Record<number, Partial<Scrape>>> = {}) {
  const names: Readonly<Record<string, ReplicaRole>> = { P: "prefill", D: "decode", B: "both" };
  const list = [...roles].map((role) => names[role]!);
  const engine = defaultEngineConfig();
  const rig = await PolicyRig.of(policy, list.length, { replicas: list.map((role) => ({ engine, role })) });
  rig.scrape(Object.fromEntries(list.map((role, replica) => [replica, { role, ...more[replica] }])));
  return rig;
}

const DONE: PrefillOutcome = { failure: "", promptTokens: 4000, cachedTokens: 0 };
const DIED: PrefillOutcome = { ...DONE, failure: "died" };

describe("policies that know no roles", () => {
  it.each(POLICIES.map((policy) => [policy.name, policy] as const))(
    "%s sends requests to replicas that answer alone",
    async (_, policy) => {
      const rig = await rigOf(policy, "PPDB");
      const seen = new Set<number>();
      for (let i = 0; i < 40; i++) {
        const { endpoint, fallbacks = [], prefill } = rig.choose(prompt(i, [[i, 2000]]), i);
        expect(prefill).toBeUndefined();
        for (const one of [endpoint, ...fallbacks]) seen.add(one);
      }
      expect([...seen].sort()).toEqual([2, 3]);
      const none = await rigOf(policy, "PP");
      expect(none.route(prompt(0, [[1, 100]]))).toBe(-1);
    },
  );
});

describe("llm-d-pd", () => {
  it("disaggregates from nonCachedTokens uncached tokens on", async () => {
    for (const [tokens, prefill] of [
      [NON_CACHED_TOKENS - 1, undefined],
      [NON_CACHED_TOKENS, 0],
    ] as const) {
      const rig = await rigOf(LLM_D_PD, "PD");
      const choice = rig.choose(prompt(0, [[1, tokens]]));
      expect(choice.endpoint).toBe(1);
      expect(choice.prefill).toBe(prefill);
      expect(choice.prefillBy).toBe(prefill === undefined ? undefined : "decoder");
    }
  });

  it("counts what the decode pick has of the prompt, by its own history", async () => {
    const rig = await rigOf(LLM_D_PD, "PD");
    expect(rig.choose(prompt(0, [[1, 4096]])).prefill).toBe(0);
    const longer = (index: number, tokens: number) => prompt(index, [[1, 4096], [index + 10, tokens]]); // prettier-ignore
    expect(rig.choose(longer(1, 1000)).prefill).toBeUndefined();
    expect(rig.choose(longer(2, 1024)).prefill).toBe(0);
  });

  it("chooses both replicas by its scorers, among those of the role", async () => {
    const busy = { 0: { waiting: 9 }, 3: { waiting: 9 } };
    const rig = await rigOf(LLM_D_PD, "PPDD", busy);
    expect(rig.choose(prompt(0, [[1, 4096]]))).toMatchObject({ endpoint: 2, prefill: 1 });
    // The prefill replica that has the prompt wins over one without a queue: 3 points against 2.
    rig.scrape({ 1: { role: "prefill", waiting: 9 }, 0: { role: "prefill" } });
    const again = rig.choose(prompt(1, [[1, 4096], [2, 8192]])); // prettier-ignore
    expect(again.prefill).toBe(0);
    const same = prompt(2, [[1, 4096], [2, 8192], [3, 1100]]); // prettier-ignore
    rig.scrape({ 2: { role: "decode", waiting: 99 }, 3: { role: "decode" } });
    expect(rig.choose(same)).toMatchObject({ prefill: 0 });
  });

  it("does without a prefill replica, and never takes the answering one for it", async () => {
    expect((await rigOf(LLM_D_PD, "DD")).choose(prompt(0, [[1, 9000]])).prefill).toBeUndefined();
    expect((await rigOf(LLM_D_PD, "B")).choose(prompt(0, [[1, 9000]])).prefill).toBeUndefined();
    const gone = await rigOf(LLM_D_PD, "PD", { 0: { ready: false } });
    expect(gone.choose(prompt(0, [[1, 9000]])).prefill).toBeUndefined();
    const { endpoint, prefill } = (await rigOf(LLM_D_PD, "BB")).choose(prompt(0, [[1, 9000]]));
    expect([endpoint, prefill].sort()).toEqual([0, 1]);
  });
});

describe("priced-pd", () => {
  it("computes where it answers what is short or cached", async () => {
    const rig = await rigOf(PRICED_PD, "PD");
    const short = prompt(0, [[1, DISAGGREGATED_TOKENS_MIN - 1]]);
    expect(rig.choose(short).prefill).toBeUndefined();
    rig.finish(short, 1);
    const choice = rig.choose(prompt(1, [[2, 20_000]]));
    // An idle decoder computes as fast and transfers nothing.
    expect(choice).toMatchObject({ endpoint: 1 });
    expect(choice.prefill).toBeUndefined();
  });

  it("computes elsewhere what would wait, or delay answers, longer than a transfer takes", async () => {
    const rig = await rigOf(PRICED_PD, "PD");
    // Eight answers: a second of prefill beside them is worth 0.8 s more; 20,000 tokens cross over in 0.17 s.
    for (let i = 0; i < 8; i++) {
      const short = prompt(i, [[i, 100]]);
      rig.choose(short);
      rig.firstToken(short, 1);
    }
    expect(rig.choose(prompt(8, [[100, 20_000]]))).toMatchObject({
      endpoint: 1,
      prefill: 0,
      prefillBy: "gateway",
    });
    // A busy prefill replica is passed by.
    for (let i = 9; i < 13; i++) rig.choose(prompt(i, [[100 + i, 60_000]]));
    expect(rig.choose(prompt(13, [[200, 2000]])).prefill).toBeUndefined();
  });

  it("gathers answers on few replicas of an elastic fleet, up to their TPOT", async () => {
    const rig = await rigOf(PRICED_PD, "BBBB");
    const byReplica = [0, 0, 0, 0];
    for (let i = 0; i < 40; i++) {
      const request = prompt(i, [[i, 3000]]);
      const { endpoint, prefill } = rig.choose(request, i);
      if (prefill !== undefined) rig.gateway.prefillEnded!(request, prefill, DONE, i);
      rig.firstToken(request, endpoint, i);
      byReplica[endpoint]!++;
    }
    expect(byReplica.filter((count) => count > 0).length).toBe(1);
    // Answers whose contexts slow a step beyond the limit go elsewhere.
    for (let i = 40; i < 60; i++) {
      const request = prompt(i, [[i, 100_000]]);
      const { endpoint, prefill } = rig.choose(request, i);
      if (prefill !== undefined) rig.gateway.prefillEnded!(request, prefill, DONE, i);
      rig.firstToken(request, endpoint, i);
      byReplica[endpoint]!++;
    }
    expect(byReplica.filter((count) => count > 0).length).toBeGreaterThan(1);
  });

  it("tries one other prefill replica after a failed leg, then leaves the prompt to the decoder", async () => {
    const rig = await rigOf(PRICED_PD, "PPD");
    for (let i = 0; i < 8; i++) rig.firstToken(prompt(i, [[i, 100]]), rig.route(prompt(i, [[i, 100]])));
    const request = prompt(8, [[100, 20_000]]);
    const first = rig.choose(request).prefill!;
    const second = rig.gateway.prefillEnded!(request, first, DIED, 1);
    expect(second).toMatchObject({ endpoint: 2, prefill: 1 - first, prefillBy: "gateway" });
    const third = rig.gateway.prefillEnded!(request, 1 - first, DIED, 2);
    expect(third.endpoint).toBe(2);
    expect(third.prefill).toBeUndefined();
    rig.firstToken(request, 2, 3);
    rig.finish(request, 2, 4);
  });

  it("keeps to a prompt that was computed when the answering replica refuses the connection", async () => {
    const rig = await rigOf(PRICED_PD, "PDD");
    for (let i = 0; i < 16; i++) rig.firstToken(prompt(i, [[i, 100]]), rig.route(prompt(i, [[i, 100]])));
    const request = prompt(16, [[100, 20_000]]);
    const { endpoint, prefill } = rig.choose(request);
    expect(prefill).toBe(0);
    const next = rig.gateway.prefillEnded!(request, 0, DONE, 1);
    expect(next).toMatchObject({ endpoint, prefill: 0, fallbacks: [endpoint === 1 ? 2 : 1] });
    rig.gateway.connectFailed!(request, endpoint, 1);
    rig.finish(request, endpoint === 1 ? 2 : 1, 2);
    expect(() => rig.finish(request, 1, 3)).not.toThrow();
  });
});

describe("over a run", () => {
  it.each([
    ["llm-d-pd", LLM_D_PD, "failures"],
    ["priced-pd", PRICED_PD, "failures"],
  ] as const)("%s loses nothing but what a dead replica had", async (_, policy, name) => {
    const { workload, replicas } = generate(name, { requests: 600, replicas: 8 });
    const roles: ReplicaRole[] = ["prefill", "decode", "both", "prefill", "decode", "both", "decode", "both"];
    const fleet = replicas.map(({ engine }, i) => ({ engine, role: roles[i]! }));
    const options = { replicas: fleet, policy, workload, seed: 1, gateways: 2, scrapeMs: 50, sampleMs: 1000 };
    const { requests } = await runFleet(options);
    expect(requests).toHaveLength(600);
    expect(requests.filter(({ prefill }) => prefill >= 0).length).toBeGreaterThan(50);
    for (const { failure, prefill, endpoint } of requests) {
      if (failure === "") expect(prefill).not.toBe(endpoint);
    }
    expect(requests.filter(({ failure }) => failure !== "").length).toBeLessThan(60);
  });
});
