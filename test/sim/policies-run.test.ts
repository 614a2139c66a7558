// All policies over the same fleets: what must hold of any, and in which order they come out.
import { describe, expect, it } from "vitest";
import { POLICIES } from "../../host-sim/fleet/policies/index.ts";
import { runFleet } from "../../host-sim/fleet/run.ts";
import { generate } from "../../host-sim/fleet/sources/index.ts";
import type { Policy, RunOptions, RunRecord, Workload } from "../../host-sim/fleet/types.ts";
import { timeless } from "./support/fleet.ts";

const REPLICAS = 4;

/** Chats, and agents whose every turn repeats all that came before. */
const WORKLOADS = {
  chats: generate("chats", { replicas: REPLICAS, requests: 400, rateFactor: 1.2 }),
  agents: generate("agents", { replicas: REPLICAS, requests: 400 }),
};
type Name = keyof typeof WORKLOADS;

function play(policy: Policy, name: Name, more: Partial<RunOptions> = {}): Promise<RunRecord> {
  const { workload, replicas } = WORKLOADS[name];
  const options = { replicas, workload, policy, seed: 3, gateways: 2, scrapeMs: 50, sampleMs: 10_000 };
  return runFleet({ ...options, ...more });
}

const RECORDS = new Map<string, RunRecord>();
async function recordOf(policy: string, name: Name): Promise<RunRecord> {
  const known = RECORDS.get(`${policy}/${name}`);
  if (known !== undefined) return known;
  const record = await play(
    POLICIES.find((one) => one.name === policy)!,
    name,
  );
  RECORDS.set(`${policy}/${name}`, record);
  return record;
}

async function meanTtftMs(policy: string, name: Name): Promise<number> {
  const { requests } = await recordOf(policy, name);
  const sumMs = requests.reduce((sum, { firstTokenMs, arrivalMs }) => sum + firstTokenMs - arrivalMs, 0);
  return sumMs / requests.length;
}

async function cachedShare(policy: string, name: Name): Promise<number> {
  const { requests } = await recordOf(policy, name);
  const prompts = requests.reduce((sum, { promptTokens }) => sum + promptTokens, 0);
  return requests.reduce((sum, { cachedTokens }) => sum + cachedTokens, 0) / prompts;
}

describe.each(POLICIES.map((policy) => [policy.name, policy] as const))("%s", (name, policy) => {
  it("answers every request, uses every replica, and does so again", async () => {
    const record = await recordOf(name, "chats");
    expect(record.requests.filter(({ failure }) => failure !== "")).toEqual([]);
    expect(new Set(record.requests.map(({ endpoint }) => endpoint)).size).toBe(REPLICAS);
    expect(timeless(await play(policy, "chats"))).toEqual(timeless(record));
  });

  it("loses with a replica what that serves, and with one try what comes before the next scrape", async () => {
    const { workload } = WORKLOADS.chats;
    const { requests } = workload;
    const failMs = requests[200]!.arrivalMs + 1;
    const joinMs = requests[300]!.arrivalMs + 1;
    const events: Workload["events"] = [
      { atMs: failMs, kind: "fail", replica: 1 },
      { atMs: joinMs, kind: "join", replica: 1 },
    ];
    const record = await play(policy, "chats", { workload: { ...workload, events }, scrapeMs: 1_000 });
    const failed = record.requests.filter(({ failure }) => failure !== "");
    for (const { failure, endpoint, arrivalMs } of failed) {
      expect(endpoint).toBe(1);
      if (failure === "died") continue;
      expect([name, failure]).toEqual(["llm-d", "connect"]);
      expect(arrivalMs).toBeGreaterThanOrEqual(failMs);
      expect(arrivalMs).toBeLessThan(failMs + 1_000);
    }
    const late = record.requests.filter(({ arrivalMs }) => arrivalMs > joinMs + 1_000);
    expect(late.some(({ endpoint }) => endpoint === 1)).toBe(true);
  });
});

describe("policies compared", () => {
  const prefixAware = [
    "chwbl",
    "sglang",
    "llm-d",
    "lmetric",
    "dynamo",
    "preble",
    "mooncake",
    "dynamo-events",
    "oracle",
  ];

  it.each(prefixAware)(
    "%s finds a tenth more of agents' prompts cached than round robin, and is faster",
    async (name) => {
      expect(await cachedShare(name, "agents")).toBeGreaterThan(
        1.1 * (await cachedShare("round-robin", "agents")),
      );
      expect(await meanTtftMs(name, "agents")).toBeLessThan(await meanTtftMs("round-robin", "agents"));
    },
  );

  it("on chats the oracle is faster than any that does not know the truth", async () => {
    const oracleMs = await meanTtftMs("oracle", "chats");
    for (const { name } of POLICIES) {
      if (name !== "oracle") expect(oracleMs, name).toBeLessThan(await meanTtftMs(name, "chats"));
    }
  });
});
