// The engines that a fleet may be made of: each does what its description says.
import { describe, expect, it } from "vitest";
import { ENGINE_PRESETS } from "../../host-sim/fleet/engine-presets.ts";
import type { EngineConfig } from "../../host-sim/model-server/engine-types.ts";
import { fleetRequest, recordingPolicy, run } from "./support/fleet.ts";

/** Time to the first token of a prompt that nothing is known of, on an idle engine, ms. */
async function prefillMs(engine: EngineConfig, promptTokens: number): Promise<number> {
  const { policy } = recordingPolicy(() => ({ endpoint: 0 }));
  const workload = { name: "one", requests: [fleetRequest(0, 0, promptTokens, 1)] };
  const record = await run({ replicas: [{ engine, role: "both" }], policy, workload });
  return record.requests[0]!.firstTokenMs;
}

function preset(name: string): EngineConfig {
  return ENGINE_PRESETS.find((one) => one.name === name)!.config;
}

describe("engine presets", () => {
  it("have names of their own, and say what they are", () => {
    const names = ENGINE_PRESETS.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    for (const { description } of ENGINE_PRESETS) expect(description).toMatch(/prefill tokens\/s/);
  });

  it("chunked-10k computes 10,000 prompt tokens a second in steps of 2,048, and keeps 500,000", async () => {
    const engine = preset("chunked-10k");
    expect(await prefillMs(engine, 2048)).toBeCloseTo(204.8, 6);
    expect(await prefillMs(engine, 20_480)).toBeCloseTo(2048, 6);
    const kvTokens = (engine.blockCount - 1) * engine.blockSize;
    expect(kvTokens).toBeGreaterThanOrEqual(500_000);
    expect(kvTokens).toBeLessThan(500_000 + engine.blockSize);
  });

  it("llama-70b-fp8-2xh100 computes about 12,400 prompt tokens a second in steps of 8,192", async () => {
    const engine = preset("llama-70b-fp8-2xh100");
    const perSecond = 81_920 / ((await prefillMs(engine, 81_920)) / 1000);
    expect(perSecond).toBeGreaterThan(12_300);
    expect(perSecond).toBeLessThan(12_500);
    expect((engine.blockCount - 1) * engine.blockSize).toBeGreaterThan(459_000);
  });
});
