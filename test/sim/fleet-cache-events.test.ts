// What gateways hear of the replicas' caches: at each request exactly what the caches hold.
import { describe, expect, it } from "vitest";
import type { CacheChange, FleetEvent, GatewayContext } from "../../host-sim/fleet/types.ts";
import { Random } from "../../host-sim/workload/random.ts";
import { fleetOf, randomWorkload, recordingPolicy, run } from "./support/fleet.ts";

/** Copies of each content in one cache, as its events tell. */
class HeardCache {
  private readonly copies = new Map<number, number>();

  apply(change: CacheChange): void {
    if (change.kind === "emptied") this.copies.clear();
    else if (change.kind === "evicted") this.add(change.hash, -1);
    else for (let i = change.from; i < change.to; i++) this.add(change.hashes[i]!, 1);
  }

  sorted(): number[] {
    return [...this.copies].flatMap(([hash, copies]) => new Array<number>(copies).fill(hash)).sort();
  }

  private add(hash: number, copies: number): void {
    const left = (this.copies.get(hash) ?? 0) + copies;
    if (left < 0) throw new Error(`block ${hash} was evicted more often than stored`);
    if (left === 0) this.copies.delete(hash);
    else this.copies.set(hash, left);
  }
}

function truth(context: GatewayContext, replica: number): number[] {
  const held: number[] = [];
  context.truth(replica)?.cache.forEachCached((hash) => void held.push(hash));
  return held.sort();
}

describe("cache events", () => {
  it.each([1, 2, 3])("tell what is stored and evicted, over restarts too (seed %i)", async (seed) => {
    const random = new Random(seed);
    const heard = [new HeardCache(), new HeardCache()];
    let blocks = 0;
    const { policy } = recordingPolicy(
      (_, context) => {
        for (const replica of [0, 1]) {
          if (context.truth(replica) === undefined) continue;
          const held = truth(context, replica);
          blocks += held.length;
          expect(heard[replica]!.sorted()).toEqual(held);
        }
        const endpoint = random.integer(0, 1);
        return { endpoint, fallbacks: [1 - endpoint] };
      },
      { cacheChanged: (replica, change) => heard[replica]!.apply(change) },
    );
    const events: FleetEvent[] = [
      { atMs: 2_000, kind: "fail", replica: 0 },
      { atMs: 2_500, kind: "join", replica: 0 },
    ];
    const workload = { ...randomWorkload(seed, 200, 25), events };
    await run({ replicas: fleetOf(2, { blockCount: 60 }), policy, workload });
    expect(blocks).toBeGreaterThan(1_000);
  });
});
