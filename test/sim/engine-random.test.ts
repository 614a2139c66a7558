// The engine under random load: nothing leaks, nobody starves, and equal seeds give equal histories.
import { describe, expect, it } from "vitest";
import { Random } from "../../host-sim/workload/random.ts";
import type { EngineRequest } from "../../host-sim/model-server/engine-types.ts";
import { drain, recordedEngine, submission } from "./support/engine.ts";

const ROUNDS = 40;
const REQUESTS = 120;

function randomConfig(random: Random): Parameters<typeof recordedEngine>[0] {
  return {
    blockCount: random.integer(14, 60),
    batchedTokensMax: random.integer(4, 80),
    sequencesMax: random.integer(1, 10),
    lorasMax: random.integer(1, 3),
    prefixCaching: random.uniform() < 0.8,
  };
}

/** Runs one random load and checks the invariants; returns the history. */
function runRandom(seed: number): readonly string[] {
  const random = new Random(seed);
  const { engine, log } = recordedEngine(randomConfig(random));
  const requests: EngineRequest[] = [];
  const aborted = new Set<string>();
  let nowMs = 0;
  for (let i = 0; i < REQUESTS; i++) {
    nowMs += random.exponential(20);
    const blocks = Array.from({ length: random.integer(1, 8) }, () => random.pick(["A", "B", "C"])).join("");
    const lora = random.uniform() < 0.4 ? random.pick(["x", "y", "z"]) : undefined;
    const promptTokens = blocks.length * 4 - random.integer(0, 3);
    const request = engine.submit(
      submission(`r${i}`, blocks, random.integer(0, 18), { lora, promptTokens }),
      nowMs,
    );
    requests.push(request);
    if (random.uniform() < 0.2) {
      const victim = random.pick(requests);
      if (victim.state !== "finished") aborted.add(victim.id);
      engine.abort(victim, nowMs);
    }
    engine.cache.verify();
    expect(engine.runningCount).toBeLessThanOrEqual(engine.config.sequencesMax);
    expect(engine.loraNames("running").length).toBeLessThanOrEqual(engine.config.lorasMax);
  }
  drain(engine);
  engine.cache.verify();
  expect(engine.cache.freeCount).toBe(engine.cache.blockCount);
  expect([engine.runningCount, engine.waitingCount]).toEqual([0, 0]);
  for (const request of requests) {
    expect(request.state).toBe("finished");
    expect(request.blocks).toEqual([]);
    if (!aborted.has(request.id)) expect(request.generatedTokens).toBe(request.outputTokens);
  }
  return log;
}

describe("engine under random load", () => {
  const first = (Date.now() ^ process.pid) >>> 0;
  it.each(Array.from({ length: ROUNDS }, (_, i) => (first + i) >>> 0))(
    "frees every block and answers everyone (seed %i)",
    (seed) => {
      expect(runRandom(seed).length).toBeGreaterThan(REQUESTS);
    },
  );

  it("repeats itself for the same seed and not for another", () => {
    expect(runRandom(42)).toEqual(runRandom(42));
    expect(runRandom(42)).not.toEqual(runRandom(43));
  });
});
