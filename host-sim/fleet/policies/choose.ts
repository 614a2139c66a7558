// Orders of replicas: the cheapest first, and random ones.
import type { Random } from "../../workload/random.ts";
import { RETRIES_MAX } from "./gateway.ts";

/**
 * The cheapest replicas, cheapest first; equal costs in random order.
 * @param replicas at least one @param costOf no NaN @param count how many to return at most, ≥ 1
 */
export function cheapest(
  replicas: readonly number[],
  costOf: (replica: number) => number,
  random: Random,
  count = 1 + RETRIES_MAX,
): number[] {
  const left = replicas.map((replica) => ({ replica, cost: costOf(replica) }));
  const chosen: number[] = [];
  while (chosen.length < count && left.length > 0) {
    let best = 0;
    let ties = 1;
    for (let i = 1; i < left.length; i++) {
      if (left[i]!.cost > left[best]!.cost) continue;
      if (left[i]!.cost < left[best]!.cost) ties = 0;
      ties++;
      if (random.integer(1, ties) === 1) best = i;
    }
    chosen.push(left.splice(best, 1)[0]!.replica);
  }
  return chosen;
}

/** Different replicas in random order, at most `count`, ≥ 1. */
export function shuffled(replicas: readonly number[], random: Random, count = 1 + RETRIES_MAX): number[] {
  const left = [...replicas];
  const chosen: number[] = [];
  while (chosen.length < count && left.length > 0) {
    chosen.push(left.splice(random.integer(0, left.length - 1), 1)[0]!);
  }
  return chosen;
}
