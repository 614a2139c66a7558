// The engine: batching, chunked prefill, prefix caching, preemption, adapters, abort. Times are worked out by
// hand.
import { describe, expect, it } from "vitest";
import { SequenceTooLongError, SubmissionError } from "../../host-sim/model-server/engine-types.ts";
import { drain, recordedEngine, submission } from "./support/engine.ts";

describe("batching", () => {
  it("starts an idle engine at once and gives the first token at the end of the prefill", () => {
    const { engine, log } = recordedEngine();
    engine.submit(submission("a", "AB", 3), 100);
    expect(engine.nextEventMs()).toBe(113);
    drain(engine);
    expect(log).toEqual(["100 scheduled a", "113 token a", "123 token a", "133 token a", "133 done a"]);
  });

  it("lets a request that comes during a step wait for the next one, beside the decodes", () => {
    const { engine, log, steps } = recordedEngine();
    engine.submit(submission("a", "AB", 3), 0);
    engine.submit(submission("b", "CDE", 1), 1);
    drain(engine);
    expect(log).toEqual([
      "0 scheduled a",
      "13 token a",
      "13 scheduled b",
      "30 token a",
      "30 token b",
      "30 done b",
      "40 token a",
      "40 done a",
    ]);
    expect(steps).toEqual(["8+0", "12+1", "0+1"]);
  });

  it("cuts a prompt that exceeds the step's budget into chunks, and gives decodes their token first", () => {
    const { engine, steps, log } = recordedEngine({ batchedTokensMax: 10 });
    engine.submit(submission("a", "A", 4), 0);
    engine.submit(submission("b", "BCDEFG", 1), 1);
    drain(engine);
    expect(steps).toEqual(["4+0", "9+1", "9+1", "6+1"]);
    expect(log.filter((line) => line.endsWith("token b"))).toHaveLength(1);
  });

  it("runs at most sequencesMax requests and the rest in order of arrival", () => {
    const { engine, log } = recordedEngine({ sequencesMax: 2 });
    for (const id of ["a", "b", "c", "d"]) engine.submit(submission(id, id.toUpperCase(), 2), 0);
    expect([engine.runningCount, engine.waitingCount]).toEqual([1, 3]);
    drain(engine);
    const scheduled = log.filter((line) => line.includes("scheduled")).map((line) => line.at(-1));
    expect(scheduled).toEqual(["a", "b", "c", "d"]);
    expect([engine.runningCount, engine.waitingCount]).toEqual([0, 0]);
  });

  it("ends a request without output with its prefill", () => {
    const { engine, log } = recordedEngine();
    engine.submit(submission("a", "AB", 0), 0);
    drain(engine);
    expect(log).toEqual(["0 scheduled a", "13 done a"]);
    expect(engine.counters.promptTokens).toBe(8);
  });

  it("takes twice as long on a GPU at half speed", () => {
    const { engine } = recordedEngine();
    engine.slowdown = 2;
    engine.submit(submission("a", "AB", 1), 0);
    expect(engine.nextEventMs()).toBe(26);
  });

  it("accepts a request from its own listener without running ahead", () => {
    const { engine, log } = recordedEngine();
    const first = engine.submit(submission("a", "A", 1), 0);
    drain(engine);
    expect(first.state).toBe("finished");
    engine.submit(submission("b", "B", 1), 50);
    drain(engine);
    expect(log.at(-1)).toBe("60 done b");
  });
});

describe("prefix cache", () => {
  const cases = [
    { name: "nothing for a cold prompt", first: "AB", second: "XY", cached: 0 },
    { name: "the shared blocks", first: "ABC", second: "ABX", cached: 8 },
    { name: "nothing behind a first block that differs", first: "ABC", second: "XBC", cached: 0 },
    {
      name: "all but the last block of a prompt that is cached whole",
      first: "ABC",
      second: "ABC",
      cached: 8,
    },
    { name: "all of a cached prompt that goes on", first: "ABC", second: "ABCD", cached: 12 },
  ];
  it.each(cases.map((row) => [row.name, row] as const))("finds %s", (_, { first, second, cached }) => {
    const { engine } = recordedEngine();
    engine.submit(submission("a", first, 1), 0);
    drain(engine);
    const request = engine.submit(submission("b", second, 1), 1000);
    drain(engine);
    expect(request.cachedTokens).toBe(cached);
    expect(engine.counters.prefixCacheHitTokens).toBe(cached);
    expect(engine.counters.prefixCacheQueryTokens).toBe((first.length + second.length) * 4);
  });

  it.each([
    { promptTokens: 11, cached: 8 },
    { promptTokens: 12, cached: 8 },
    { promptTokens: 13, cached: 12 },
  ])("finds $cached of $promptTokens prompt tokens, as measured on vLLM", ({ promptTokens, cached }) => {
    const { engine } = recordedEngine();
    engine.submit(submission("a", "ABCD", 1, { promptTokens: 16 }), 0);
    drain(engine);
    const request = engine.submit(submission("b", "ABCD", 1, { promptTokens }), 1000);
    drain(engine);
    expect(request.cachedTokens).toBe(cached);
  });

  it("serves a prefix that an earlier request is still computing", () => {
    const { engine } = recordedEngine();
    engine.submit(submission("a", "ABCDEFGH", 5), 0);
    const request = engine.submit(submission("b", "ABCDX", 1), 1);
    drain(engine);
    expect(request.cachedTokens).toBe(16);
  });

  it("serves what was generated, as far as whole blocks were computed", () => {
    const { engine } = recordedEngine();
    const first = submission("a", "AB", 8);
    engine.submit(first, 0);
    drain(engine);
    // 16 tokens exist; the last was sampled but never computed, so three of four blocks are cached.
    const next = {
      ...first,
      id: "b",
      promptTokens: 18,
      outputTokens: 1,
      blockHashes: [...(first.blockHashes as number[]), 5],
    };
    const request = engine.submit(next, 1000);
    drain(engine);
    expect(request.cachedTokens).toBe(12);
  });

  it("loses what it evicted for other prompts", () => {
    const { engine } = recordedEngine({ blockCount: 7 });
    engine.submit(submission("a", "ABC", 1), 0);
    drain(engine);
    engine.submit(submission("b", "UVWXY", 1), 1000);
    drain(engine);
    const request = engine.submit(submission("c", "ABCD", 1), 2000);
    drain(engine);
    // Six blocks; b took the three free ones and a's C and B; a's head lived longest.
    expect(request.cachedTokens).toBe(4);
    engine.cache.verify();
  });

  it("finds nothing with prefix caching off", () => {
    const { engine } = recordedEngine({ prefixCaching: false });
    engine.submit(submission("a", "ABC", 1), 0);
    drain(engine);
    const request = engine.submit(submission("b", "ABCD", 1), 1000);
    drain(engine);
    expect(request.cachedTokens).toBe(0);
  });
});

describe("a full cache", () => {
  it("admits a prompt only when all of it fits", () => {
    const { engine, log } = recordedEngine({ blockCount: 7 });
    engine.submit(submission("a", "ABCD", 2), 0);
    engine.submit(submission("b", "UVW", 1), 1);
    drain(engine);
    expect(log.indexOf("31 done a")).toBeGreaterThan(0);
    expect(log).toContain("31 scheduled b");
    expect(engine.counters.preemptions).toBe(0);
  });

  it("preempts the youngest request when a running one needs a block, and finishes both", () => {
    const { engine, log } = recordedEngine({ blockCount: 6 });
    const a = engine.submit(submission("a", "AB", 8), 0);
    const b = engine.submit(submission("b", "UV", 8), 1);
    drain(engine);
    expect(log.filter((line) => line.includes("preempted")).map((line) => line.at(-1))).toContain("b");
    expect([a.generatedTokens, b.generatedTokens]).toEqual([8, 8]);
    expect([a.preemptions, b.preemptions > 0]).toEqual([0, true]);
    expect(engine.counters.generatedTokens).toBe(16);
    expect(engine.cache.usage).toBe(0);
    engine.cache.verify();
  });

  it("does not count a preempted request's lookups twice", () => {
    const { engine } = recordedEngine({ blockCount: 6 });
    engine.submit(submission("a", "AB", 8), 0);
    engine.submit(submission("b", "UV", 8), 1);
    drain(engine);
    expect(engine.counters.preemptions).toBeGreaterThan(0);
    expect(engine.counters.prefixCacheQueryTokens).toBe(16);
    expect(engine.counters.promptTokens).toBe(16);
  });

  it("refuses a sequence that could never fit", () => {
    const { engine } = recordedEngine({ blockCount: 5 });
    expect(() => engine.submit(submission("a", "ABC", 5), 0)).toThrow(SequenceTooLongError);
    expect(() => engine.submit(submission("a", "ABC", 4), 0)).not.toThrow();
  });
});

describe("adapters", () => {
  it("lets a request wait whose adapter has no slot, and others pass it", () => {
    const { engine, log } = recordedEngine({ lorasMax: 1 });
    engine.submit(submission("a", "A", 3, { lora: "x" }), 0);
    engine.submit(submission("b", "B", 1, { lora: "y" }), 1);
    engine.submit(submission("c", "C", 1, { lora: "x" }), 1);
    engine.submit(submission("d", "D", 1), 1);
    engine.advance(10);
    expect([engine.waitingForLoraCount, engine.loraNames("running")]).toEqual([1, ["x"]]);
    expect(engine.loraNames("waiting")).toEqual(["y"]);
    drain(engine);
    const order = log.filter((line) => line.includes("scheduled")).map((line) => line.at(-1));
    expect(order).toEqual(["a", "c", "d", "b"]);
  });
});

describe("abort", () => {
  it("frees a waiting request before it ran", () => {
    const { engine, log } = recordedEngine({ sequencesMax: 1 });
    engine.submit(submission("a", "A", 2), 0);
    const b = engine.submit(submission("b", "B", 2), 1);
    engine.abort(b, 2);
    drain(engine);
    expect(b.state).toBe("finished");
    expect(log.filter((line) => line.endsWith("b"))).toEqual(["2 aborted b"]);
  });

  it("frees a running request's blocks at once and gives no further token", () => {
    const { engine, log } = recordedEngine();
    const a = engine.submit(submission("a", "AB", 50), 0);
    engine.advance(14);
    expect(engine.cache.usage).toBeGreaterThan(0);
    engine.abort(a, 15);
    expect(engine.cache.usage).toBe(0);
    drain(engine);
    expect(log).toEqual(["0 scheduled a", "13 token a", "15 aborted a"]);
  });

  it("leaves the computed prefix in the cache", () => {
    const { engine } = recordedEngine();
    const a = engine.submit(submission("a", "ABC", 50), 0);
    engine.advance(20);
    engine.abort(a, 20);
    const b = engine.submit(submission("b", "ABCD", 1), 1000);
    drain(engine);
    expect(b.cachedTokens).toBe(12);
  });

  it("does nothing to a request that has ended", () => {
    const { engine, log } = recordedEngine();
    const a = engine.submit(submission("a", "A", 1), 0);
    drain(engine);
    engine.abort(a, 100);
    expect(log.at(-1)).toBe("10 done a");
  });
});

describe("submissions that contradict themselves", () => {
  it.each([
    ["no prompt", { promptTokens: 0 }, "promptTokens is 0, expected an integer ≥ 1"],
    ["half a token", { promptTokens: 1.5 }, "promptTokens is 1.5, expected an integer ≥ 1"],
    ["a negative output", { outputTokens: -1 }, "outputTokens is -1, expected an integer ≥ 0"],
    ["too few hashes", { blockHashes: [1] }, "1 block hashes, expected ≥ 2"],
  ])("refuses %s", (_, wrong, message) => {
    const { engine } = recordedEngine();
    const submit = (): unknown => engine.submit({ ...submission("a", "AB", 1), ...wrong }, 0);
    expect(submit).toThrow(SubmissionError);
    expect(submit).toThrow(message);
  });
});
