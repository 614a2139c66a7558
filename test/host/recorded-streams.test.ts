// host-sim does in every recorded scenario what a real Envoy did: callbacks, return codes, bytes on both sides.
import { describe, expect, it } from "vitest";
import { SimulatedProxy } from "./play.ts";
import { readRecorded, SCENARIOS } from "./recorded.ts";

const recorded = await readRecorded();

describe("streams recorded on a real Envoy", () => {
  it("covers every scenario, and nothing else", () => {
    expect(Object.keys(recorded).sort()).toEqual(SCENARIOS.map(({ name }) => name).sort());
  });

  for (const scenario of SCENARIOS) {
    it(scenario.name, async () => {
      const proxy = await SimulatedProxy.start();
      expect(proxy.play(scenario)).toEqual(recorded[scenario.name]);
    });
  }

  it("notices a host that differs", async () => {
    const scenario = SCENARIOS.find(({ name }) => name.startsWith("early release"));
    const proxy = await SimulatedProxy.start();
    const outcome = proxy.play({ ...scenario!, listener: "plain" });
    expect(outcome).not.toEqual(recorded[scenario!.name]);
  });
});
