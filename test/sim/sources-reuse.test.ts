// Reuse that one cache could give: by hand, for a fixture, and for the published trace where it is at hand.
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { defaultEngineConfig } from "../../host-sim/model-server/engine.ts";
import type { FleetRequest, Span, Workload } from "../../host-sim/fleet/types.ts";
import { estimateLoad, readMooncake, reuseCeiling, reuseOf } from "../../host-sim/fleet/sources/index.ts";

const FIXTURE = fileURLToPath(new URL("fixtures/mooncake-format.jsonl", import.meta.url));
/** Path of Mooncake's conversation_trace.jsonl (FAST'25), which is not part of this repository. */
const TRACE = process.env["EPP_MOONCAKE_TRACE"];

/** Spans as [id, tokens]. */
function workload(
  prompts: readonly (readonly [number, number][])[],
  more: Partial<FleetRequest> = {},
): Workload {
  const requests = prompts.map((prompt, index): FleetRequest => {
    const spans = prompt.map(([id, tokens]): Span => ({ id, tokens, role: "user" }));
    const promptTokens = spans.reduce((sum, { tokens }) => sum + tokens, 0);
    return {
      index,
      arrivalMs: index,
      session: "s",
      spans,
      promptTokens,
      outputTokens: 10,
      model: "m",
      ...more,
    };
  });
  return { name: "by hand", requests };
}

describe("reuseOf", () => {
  it("counts leading spans that came in this order before", () => {
    const { requests } = workload([
      [
        [1, 100],
        [2, 50],
      ],
      [
        [1, 100],
        [3, 30],
      ],
      [
        [2, 50],
        [1, 100],
      ],
      [
        [1, 100],
        [2, 50],
        [4, 5],
      ],
    ]);
    expect(reuseOf({ name: "", requests })).toEqual({
      promptTokens: 585,
      reusedTokens: 250,
      spans: 9,
      reusedSpans: 3,
    });
    expect(reuseCeiling({ name: "", requests })).toBeCloseTo(250 / 585, 12);
  });

  it("tells spans of one id and different lengths apart, and roots of models and adapters", () => {
    expect(reuseCeiling(workload([[[1, 100]], [[1, 99]]]))).toBe(0);
    const base = workload([[[1, 100]]]).requests[0]!;
    const requests = [base, { ...base, lora: "a" }, { ...base, model: "n" }, { ...base, lora: "a" }];
    expect(reuseOf({ name: "", requests }).reusedTokens).toBe(100);
  });

  it("finds an answer in the prompt that repeats it, where it was computed", () => {
    const [first] = workload([[[1, 100]]], { answerSpan: 7 }).requests;
    const second = workload([
      [
        [1, 100],
        [7, 10],
        [8, 3],
      ],
    ]).requests[0]!;
    expect(reuseOf({ name: "", requests: [first!, second] }).reusedTokens).toBe(110);
  });

  it("forgets the least recently used spans, the end of a prompt first", () => {
    const pair: [number, number][] = [
      [1, 100],
      [2, 100],
    ];
    const prompts = [pair, [[3, 100]] as [number, number][], pair];
    expect(reuseOf(workload(prompts), 300).reusedTokens).toBe(200);
    expect(reuseOf(workload(prompts), 299).reusedTokens).toBe(100);
    expect(reuseOf(workload(prompts), 199).reusedTokens).toBe(0);
  });

  it("is 0 for a workload without requests", () => {
    expect(reuseCeiling({ name: "", requests: [] })).toBe(0);
  });

  it("knows the fixture, whatever the seed", async () => {
    for (const seed of [1, 2, 3]) {
      expect(reuseOf(await readMooncake(FIXTURE, { seed }))).toEqual({
        promptTokens: 13_790,
        reusedTokens: 8704,
        spans: 31,
        reusedSpans: 17,
      });
    }
  });
});

describe("estimateLoad", () => {
  it("is the prefill time of what is not reused, plus what decoding adds to steps", () => {
    const engine = defaultEngineConfig();
    const requests = workload([[[1, 10_000]], [[1, 10_000]]]).requests.map((request, i) => {
      return { ...request, arrivalMs: i * 1000 };
    });
    const { load, reuse } = estimateLoad({ name: "", requests }, [{ engine, role: "both" }]);
    const { prefillMsPerToken, decodeMsPerSequence, contextMsPerToken } = engine.rates;
    const decodeMs = 2 * 10 * (decodeMsPerSequence + 10_005 * contextMsPerToken);
    expect(reuse).toBe(0.5);
    expect(load).toBeCloseTo((10_000 * prefillMsPerToken + decodeMs) / 1000, 9);
    const replicas = [engine, engine].map((config) => ({ engine: config, role: "both" as const }));
    expect(estimateLoad({ name: "", requests }, replicas).load).toBeCloseTo(load / 2, 9);
  });
});

const onTrace = TRACE === undefined ? () => undefined : describe;
onTrace("Mooncake's conversation trace", () => {
  it("has the shape and the reuse that are published for it", async () => {
    const trace = await readMooncake(TRACE!);
    expect(trace.requests).toHaveLength(12_031);
    expect(new Set(trace.requests.map(({ session }) => session)).size).toBe(7373);
    const { promptTokens, reusedTokens, spans, reusedSpans } = reuseOf(trace);
    expect(spans).toBe(288_500);
    expect(reusedTokens / promptTokens).toBeCloseTo(0.374, 3);
    expect(reusedSpans / spans).toBeCloseTo(0.366, 3);
  });

  it("has less of it in bounded memory", async () => {
    const trace = await readMooncake(TRACE!);
    const published = { 1: 0.053, 5: 0.206, 10: 0.285, 20: 0.351, 40: 0.361 };
    for (const [million, share] of Object.entries(published)) {
      const { spans, reusedSpans } = reuseOf(trace, Number(million) * 1e6);
      // Times are spread within 3 s, which moves reuse a little.
      expect(Math.abs(reusedSpans / spans - share), million).toBeLessThan(0.006);
    }
  });
});
