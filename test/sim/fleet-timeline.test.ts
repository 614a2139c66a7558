// The order of the simulator's clocks: the earliest first, of equal ones the lower slot.
import { describe, expect, it } from "vitest";
import { Timeline } from "../../host-sim/fleet/timeline.ts";
import { Random } from "../../host-sim/workload/random.ts";

const ROUNDS = 5_000;

describe("Timeline", () => {
  it("has nothing to come while no slot has a time", () => {
    expect(new Timeline(1).firstMs).toBe(Number.POSITIVE_INFINITY);
    expect(new Timeline(5).firstMs).toBe(Number.POSITIVE_INFINITY);
  });

  it("takes the lower slot of equal times", () => {
    const timeline = new Timeline(6);
    for (const slot of [5, 2, 4]) timeline.set(slot, 7);
    expect(timeline.first).toBe(2);
    timeline.set(2, 8);
    expect(timeline.first).toBe(4);
  });

  const seed = (Date.now() ^ process.pid) >>> 0;
  it.each([1, 2, 3, 8, 37])(`agrees with looking at all %i slots (seed ${seed})`, (count) => {
    const random = new Random(seed);
    const timeline = new Timeline(count);
    const times = new Array<number>(count).fill(Number.POSITIVE_INFINITY);
    for (let round = 0; round < ROUNDS; round++) {
      const slot = random.integer(0, count - 1);
      const time = random.uniform() < 0.1 ? Number.POSITIVE_INFINITY : random.integer(0, 50);
      timeline.set(slot, time);
      times[slot] = time;
      const least = Math.min(...times);
      expect(timeline.firstMs).toBe(least);
      if (least < Number.POSITIVE_INFINITY) expect(timeline.first).toBe(times.indexOf(least));
    }
  });
});
