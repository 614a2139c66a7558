// The default rates reproduce the published measurement that they were taken from.
import { describe, expect, it } from "vitest";
import { defaultEngineConfig } from "../../host-sim/model-server/engine.ts";
import { LLAMA_3_3_70B_FP8_2XH100, stepDurationMs } from "../../host-sim/model-server/rates.ts";
import { runClosedLoop } from "./support/closed-loop.ts";

// NVIDIA NIM for LLMs benchmarking guide 1.0.0, "Performance": Llama-3.3-70B-Instruct, NIM 1.8.0, 2 × H100,
// fp8 TP2.
const PUBLISHED = [
  {
    concurrency: 1,
    promptTokens: 5000,
    outputTokens: 500,
    ttftMs: 406.77,
    itlMs: 18.58,
    tokensPerSecond: 51.67,
  },
  {
    concurrency: 5,
    promptTokens: 5000,
    outputTokens: 500,
    ttftMs: 546.7,
    itlMs: 21.83,
    tokensPerSecond: 218.48,
  },
  {
    concurrency: 25,
    promptTokens: 5000,
    outputTokens: 500,
    ttftMs: 688.69,
    itlMs: 38.75,
    tokensPerSecond: 623.4,
  },
  {
    concurrency: 50,
    promptTokens: 5000,
    outputTokens: 500,
    ttftMs: 834.51,
    itlMs: 59.73,
    tokensPerSecond: 814.37,
  },
  {
    concurrency: 100,
    promptTokens: 5000,
    outputTokens: 500,
    ttftMs: 7996.25,
    itlMs: 92.91,
    tokensPerSecond: 917.26,
  },
  {
    concurrency: 150,
    promptTokens: 5000,
    outputTokens: 500,
    ttftMs: 34794.22,
    itlMs: 92.86,
    tokensPerSecond: 920.9,
  },
  {
    concurrency: 1,
    promptTokens: 500,
    outputTokens: 2000,
    ttftMs: 47.77,
    itlMs: 18.91,
    tokensPerSecond: 52.85,
  },
];

/** Closed loops depend on how the load tester starts them; a TTFT under load differs most. */
const TTFT_TOLERANCE = 0.25;
const ITL_TOLERANCE = 0.03;
const THROUGHPUT_TOLERANCE = 0.1;

describe("default rates", () => {
  it.each(PUBLISHED)(
    "give the published latencies at concurrency $concurrency, $promptTokens in, $outputTokens out",
    ({ concurrency, promptTokens, outputTokens, ttftMs, itlMs, tokensPerSecond }) => {
      const loop = { concurrency, promptTokens, outputTokens, requests: concurrency * 6 + 3 };
      const result = runClosedLoop(defaultEngineConfig(), loop);
      expect(Math.abs(result.interTokenMs / itlMs - 1)).toBeLessThan(ITL_TOLERANCE);
      expect(Math.abs(result.timeToFirstTokenMs / ttftMs - 1)).toBeLessThan(TTFT_TOLERANCE);
      expect(Math.abs(result.outputTokensPerSecond / tokensPerSecond - 1)).toBeLessThan(THROUGHPUT_TOLERANCE);
    },
  );
});

describe("stepDurationMs", () => {
  const rates = LLAMA_3_3_70B_FP8_2XH100;
  it.each([
    [
      "an empty step costs overhead and weights",
      { prefillTokens: 0, decodeSequences: 0, contextTokens: 0 },
      18.5,
    ],
    [
      "a short prefill hides in the weight read",
      { prefillTokens: 100, decodeSequences: 0, contextTokens: 0 },
      18.5,
    ],
    [
      "a long prefill hides the weight read",
      { prefillTokens: 1000, decodeSequences: 0, contextTokens: 0 },
      87.7,
    ],
    ["decodes add a share each", { prefillTokens: 0, decodeSequences: 10, contextTokens: 0 }, 18.72],
    ["context adds its read", { prefillTokens: 0, decodeSequences: 0, contextTokens: 100_000 }, 19.5],
  ])("%s", (_, work, expected) => {
    expect(stepDurationMs(rates, work)).toBeCloseTo(expected, 6);
  });
});
