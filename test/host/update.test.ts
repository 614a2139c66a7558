// host-sim goes through listener updates as recorded on a real Envoy.
import { describe, expect, it } from "vitest";
import { SimulatedProxy } from "./play.ts";
import { readUpdates } from "./recorded.ts";
import { AFTER, BEFORE, LAST, RELUCTANT, STAYING, updatePhase, type UpdatePhase } from "./update-steps.ts";

/** Longer than a drain, ms of virtual time. */
const SETTLE_MS = 2_000;

describe("listener updates recorded on a real Envoy", () => {
  it("start the new root first, let the old one finish, and keep VM and shared data", async () => {
    const proxy = await SimulatedProxy.start([BEFORE, STAYING]);
    const changing: UpdatePhase[] = [];
    for (const next of [AFTER, RELUCTANT, LAST]) {
      const first = proxy.lines.length;
      await proxy.update(next);
      proxy.clock.advance(SETTLE_MS);
      changing.push(updatePhase(proxy.rootOutcome("root:changing", first).log));
    }
    expect({ changing, staying: proxy.rootOutcome("root:staying").log }).toEqual(await readUpdates());
  });
});
