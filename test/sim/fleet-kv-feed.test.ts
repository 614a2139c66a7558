// The exact index in the fleet simulator: every replica is exact in all workers, and every prompt is rendered.
import { describe, expect, it } from "vitest";
import { promptModels, SimulatedKvFeed } from "../../cli/sim/kv-feed.ts";
import type { RunRecord, Workload } from "../../host-sim/fleet/types.ts";
import { type FilterStatus, watchedEpp } from "./support/epp.ts";
import { fleetOf, randomWorkload, run, timeless } from "./support/fleet.ts";

const REPLICAS = 4;

interface KvStatus {
  readonly kvIndex: {
    readonly exactEndpoints: number;
    readonly entries: number;
    readonly wantedEndpoints: number;
    readonly workers: number;
  };
}

async function followed(workload: Workload): Promise<{ record: RunRecord; statuses: FilterStatus[] }> {
  const replicas = fleetOf(REPLICAS, { blockCount: 200 });
  const blockTokens = replicas.map(({ engine }) => engine.blockSize);
  const makeKvFeed = (): SimulatedKvFeed => new SimulatedKvFeed(blockTokens, promptModels(workload));
  const { policy, statuses } = watchedEpp([2_000, 4_000, 6_000], { makeKvFeed, workers: 3 });
  return { record: await run({ replicas, policy, workload }), statuses };
}

describe("SimulatedKvFeed", () => {
  it("makes all replicas exact in all workers, also after one has died and come back, and repeats itself", async () => {
    const events = [
      { atMs: 3_000, kind: "fail", replica: 1 },
      { atMs: 3_200, kind: "join", replica: 1 },
    ] as const;
    const workload = { ...randomWorkload(1, 320, 20), events };
    const { record, statuses } = await followed(workload);
    expect(statuses).toHaveLength(3);
    for (const { pools } of statuses) {
      const { kvIndex } = pools[0]! as unknown as KvStatus;
      expect(kvIndex).toMatchObject({ exactEndpoints: REPLICAS, wantedEndpoints: 0, workers: 3 });
      expect(kvIndex.entries).toBeGreaterThan(50);
    }
    const { promptsRendered, promptsNotRendered } = statuses.at(-1)!.counters;
    expect(promptsRendered).toBeGreaterThan(100);
    expect(promptsNotRendered).toBe(0);
    expect(timeless((await followed(workload)).record)).toEqual(timeless(record));
  });
});
