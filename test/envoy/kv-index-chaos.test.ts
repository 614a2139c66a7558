// The exact index while engines publish badly: an engine is exact only where the predictions are right, else degraded.
import { describe, expect, it } from "vitest";
import type { KvEventsFaults } from "../../host-sim/model-server/kv-events/config.ts";
import type { SimulatedReplica } from "../../host-sim/model-server/server.ts";
import { realModel } from "../sim/support/real-models.ts";
import { seedOf } from "../sidecar/seeds.ts";
import { until } from "./harness.ts";
import { type KvFleetOptions, kvStates, reset, step, withKvFleet } from "./kv-fleet.ts";
import { type Judgement, verdictOf } from "./kv-judge.ts";
import { chats, type KvSetting, library, repeats } from "./kv-scenarios.ts";

// A share of few requests says something of the index only where they are the same every time.
const SEED = seedOf(2);
const SHARE_MIN = 0.99;
const BLOCK_TOKENS = 32;
const FAULTS: readonly (keyof KvEventsFaults)[] = [
  "kvEventsDrop",
  "kvEventsDuplicate",
  "kvEventsGarbage",
  "kvEventsReorder",
];
const OPTIONS: KvFleetOptions = {
  textModel: realModel("qwen2_5"),
  engine: { blockSize: BLOCK_TOKENS, blockCount: 200 },
  seed: SEED,
};

describe(`engines that publish badly (seed ${SEED})`, () => {
  it("and tell again what was missed are exact again, and rightly so", async () => {
    await withKvFleet(OPTIONS, async (fleet) => {
      const { random, replicas } = fleet;
      const texts = library(fleet, 6);
      const judgements: Judgement[] = [];
      for (let round = 0; round < 24; round++) {
        const replica = random.pick(replicas);
        if (round % 8 === 7) await replica.restart();
        else if (round % 4 === 3) await replica.kvEvents!.reconnect();
        else replica.inject({ [random.pick(FAULTS)]: random.integer(1, 2) });
        judgements.push(...(await repeats(fleet, 3, texts)));
      }
      const { share, warm, wrong } = verdictOf(judgements, BLOCK_TOKENS);
      expect(warm).toBeGreaterThan(20);
      expect(share, `seed ${SEED}:\n${wrong.join("\n")}`).toBeGreaterThanOrEqual(SHARE_MIN);
      const counts = [...fleet.sidecar.pools[0]!.kvEvents!.engines].map((engine) => engine.counts);
      const total = (name: "gaps" | "duplicates" | "bad" | "restarts"): number =>
        counts.reduce((sum, count) => sum + count[name], 0);
      for (const name of ["duplicates", "restarts"] as const) expect(total(name), name).toBeGreaterThan(0);
    });
  });

  it.each(["kvEventsDrop", "kvEventsGarbage"] as const)(
    "and cannot tell again are degraded after %s, alone, until they hold nothing",
    async (fault) => {
      await withKvFleet({ ...OPTIONS, replay: false }, async (fleet) => {
        const [broken, sound] = fleet.replicas as [SimulatedReplica, SimulatedReplica];
        // Without a replay only an engine's first batch tells that there was nothing before.
        const engines = [...fleet.sidecar.pools[0]!.kvEvents!.engines];
        await until("both were followed", () =>
          engines.every(({ state }) => state.degraded === "history-lost"),
        );
        for (const replica of fleet.replicas)
          await step(replica, "The first batch of an engine. ".repeat(20));
        await fleet.settled();
        broken.inject({ [fault]: 1 });
        const wary: KvSetting = { ...fleet, settled: () => fleet.settledOf([sound]) };
        // A batch that never came is missed when the next one does.
        await until("the gateway knew that one engine is degraded", async () => {
          await chats(wary, 2, ["german", "emoji", "thai"]);
          return (await kvStates(fleet.gateway)).get(broken.address) === "degraded";
        });
        const after = await chats(wary, 3);
        expect((await kvStates(fleet.gateway)).get(sound.address)).toBe("exact");
        const of = (replica: SimulatedReplica): Judgement[] =>
          after.filter(({ endpoint }) => endpoint === replica.address);
        expect(of(broken).length).toBeGreaterThan(0);
        expect(new Set(of(broken).map(({ index }) => index))).toEqual(new Set(["approximate"]));
        const { share, wrong } = verdictOf(of(sound), BLOCK_TOKENS);
        expect(share, `seed ${SEED}:\n${wrong.join("\n")}`).toBeGreaterThanOrEqual(SHARE_MIN);
        await reset(broken);
        await fleet.settled();
        const { share: again, wrong: left } = verdictOf(await chats(fleet, 3), BLOCK_TOKENS);
        expect(again, `seed ${SEED}:\n${left.join("\n")}`).toBeGreaterThanOrEqual(SHARE_MIN);
      });
    },
  );
});
