// What is read from the pages of each engine.
import { describe, expect, it } from "vitest";
import { engineSettings } from "../../sidecar/config/engine-specs.ts";
import { BUILT_IN_ENGINES, parseMetricSpec } from "../../sidecar/scrape/engines.ts";
import { PageExtractor, PageResult } from "../../sidecar/scrape/page-extractor.ts";
import type { Reading } from "../../sidecar/scrape/reading.ts";
import * as pages from "./pages.ts";

/** A clock far enough along that slow facts are read with each page. */
const LATER_MS = 10_000;

function readingOf(page: Buffer, engineName = ""): Reading {
  const extractor = new PageExtractor(BUILT_IN_ENGINES, engineName);
  expect(extractor.read(page, 0)).toBe(PageResult.Changed);
  return extractor.reading;
}

describe("engines", () => {
  it("reads a real vLLM page", () => {
    expect(readingOf(pages.VLLM_032)).toMatchObject({
      engine: "vllm",
      waiting: 4,
      running: 2,
      kvUsage: 0.2222222222222222,
      blockTokens: 32,
      kvCapacityTokens: 136 * 32,
      preemptions: 0,
      promptTokens: 2_099,
      generationTokens: 1_146,
      startTimeSeconds: 1_795_248_735.37,
      hasLora: false,
      asleep: false,
      gpuUtilization: Number.NaN,
    });
  });

  it("adds queues and capacities of data-parallel engines and takes the mean of their KV usage", () => {
    expect(readingOf(pages.VLLM_TWO_ENGINES)).toMatchObject({
      running: 8,
      waiting: 8,
      kvUsage: 0.5,
      preemptions: 3,
      promptTokens: 300,
      generationTokens: 30,
      blockTokens: 16,
      kvCapacityTokens: 24_000,
    });
  });

  it("reads the KV usage under its old vLLM name", () => {
    expect(readingOf(pages.VLLM_OLD)).toMatchObject({ engine: "vllm", running: 2, waiting: 0, kvUsage: 0.4 });
  });

  it("takes the newest LoRA label set, wherever it stands", () => {
    expect(readingOf(pages.VLLM_LORA)).toMatchObject({
      hasLora: true,
      loraMax: 4,
      loraActive: ["a", "c"],
      loraWaiting: ["b"],
    });
  });

  it("sees that a vLLM sleeps", () => {
    expect(readingOf(pages.VLLM_ASLEEP).asleep).toBe(true);
  });

  it("counts a scheduler of SGLang once however many ranks show it", () => {
    expect(readingOf(pages.SGLANG)).toMatchObject({
      engine: "sglang",
      running: 10,
      waiting: 3,
      kvUsage: 0.4,
      blockTokens: 64,
      kvCapacityTokens: 192_000,
      promptTokens: 8_128_902,
    });
    expect(readingOf(pages.SGLANG_GAUGES)).toMatchObject({ blockTokens: 1, kvCapacityTokens: 200_000 });
  });

  it("reads trtllm-serve, Triton with TensorRT-LLM, and plain Triton", () => {
    expect(readingOf(pages.TRTLLM_SERVE)).toMatchObject({
      engine: "trtllm-serve",
      waiting: 3,
      running: 8,
      kvUsage: 0.31,
      blockTokens: 32,
      kvCapacityTokens: 19_958 * 32,
    });
    expect(readingOf(pages.TRITON_TRTLLM)).toMatchObject({
      engine: "triton-tensorrt-llm",
      waiting: 2,
      running: 5,
      kvUsage: 0.125,
      blockTokens: 64,
      kvCapacityTokens: 6_239 * 64,
      gpuUtilization: 0.7,
      gpuMemory: 0.5,
    });
    expect(readingOf(pages.TRITON)).toMatchObject({ engine: "triton", waiting: 7, running: 0, kvUsage: 0 });
  });

  it("takes the engine that a label names, though the page also has another's metrics", () => {
    expect(readingOf(pages.TRITON_TRTLLM, "triton")).toMatchObject({ engine: "triton", waiting: 99 });
    expect(readingOf(pages.TRITON_TRTLLM, "no-such-engine")).toMatchObject({ engine: "triton-tensorrt-llm" });
  });

  it.each(["", "<html>502 Bad Gateway</html>", "# TYPE vllm:num_requests_running gauge\n", "up 1\n"])(
    "knows that %j is no engine's page",
    (page) => {
      expect(new PageExtractor(BUILT_IN_ENGINES).read(Buffer.from(page), 0)).toBe(PageResult.Unknown);
    },
  );

  it("keeps figures within their ranges", () => {
    const page = Buffer.from(
      "vllm:num_requests_running -1\nvllm:num_requests_waiting NaN\nvllm:kv_cache_usage_perc 1.2\n",
    );
    expect(readingOf(page)).toMatchObject({ running: 0, waiting: 0, kvUsage: 1 });
  });
});

describe("change from page to page", () => {
  it("tells a changed figure from an unchanged page", () => {
    const extractor = new PageExtractor(BUILT_IN_ENGINES);
    extractor.read(pages.VLLM_032, 0);
    expect(extractor.read(pages.VLLM_032, 50)).toBe(PageResult.Same);
    const longer = pages.withValue(pages.VLLM_032, "vllm:num_requests_waiting", 123_456);
    expect(extractor.read(longer, 100)).toBe(PageResult.Changed);
    expect(extractor.reading.waiting).toBe(123_456);
  });

  it.each([
    ["a token counter that fell", pages.VLLM_032, "vllm:generation_tokens_total", 3],
    ["a later start of the process", pages.VLLM_032, "process_start_time_seconds", 1_795_249_999],
    ["fewer successes at trtllm-serve", pages.TRTLLM_SERVE, "trtllm_request_success_total", 1],
    ["fewer successes at Triton", pages.TRITON, "nv_inference_request_success", 0],
  ])("takes %s as a restart, once", (_, page, metric, value) => {
    const extractor = new PageExtractor(BUILT_IN_ENGINES);
    extractor.read(page, 0);
    const restarted = pages.withValue(page, metric, value);
    expect(extractor.read(restarted, LATER_MS)).toBe(PageResult.Restarted);
    expect(extractor.read(restarted, 2 * LATER_MS)).toBe(PageResult.Same);
  });

  it("sees the restart of one of several engines though the sum rose", () => {
    const extractor = new PageExtractor(BUILT_IN_ENGINES);
    extractor.read(pages.VLLM_TWO_ENGINES, 0);
    const text = pages.VLLM_TWO_ENGINES.toString();
    const one = text
      .replace(
        'prompt_tokens_total{engine="0",model_name="m"} 100.0',
        'prompt_tokens_total{engine="0",model_name="m"} 7.0',
      )
      .replace(
        'prompt_tokens_total{engine="1",model_name="m"} 200.0',
        'prompt_tokens_total{engine="1",model_name="m"} 999.0',
      );
    expect(extractor.read(Buffer.from(one), LATER_MS)).toBe(PageResult.Restarted);
  });

  it("does not take processes that answer in turn as a restart at each page", () => {
    const extractor = new PageExtractor(BUILT_IN_ENGINES);
    const first = pages.withValue(pages.VLLM_032, "process_start_time_seconds", 1_000);
    const second = pages.withValue(pages.VLLM_032, "process_start_time_seconds", 2_000);
    extractor.read(first, 0);
    const results = [second, first, second, first].map((page, index) =>
      extractor.read(page, (index + 1) * LATER_MS),
    );
    expect(results.filter((result) => result === PageResult.Restarted)).toHaveLength(1);
  });

  it("keeps its memory over a page that is no engine's: what follows is not a restart", () => {
    const extractor = new PageExtractor(BUILT_IN_ENGINES);
    extractor.read(pages.VLLM_032, 0);
    expect(extractor.read(Buffer.from("half a page"), 50)).toBe(PageResult.Unknown);
    expect(extractor.read(pages.VLLM_032, 100)).toBe(PageResult.Same);
    extractor.read(Buffer.from("half a page"), 150);
    const restarted = pages.withValue(pages.VLLM_032, "vllm:prompt_tokens_total", 1);
    expect(extractor.read(restarted, 200)).toBe(PageResult.Restarted);
  });

  it("takes another engine at the same address as a restart", () => {
    const extractor = new PageExtractor(BUILT_IN_ENGINES);
    extractor.read(pages.VLLM_032, 0);
    expect(extractor.read(pages.SGLANG, 50)).toBe(PageResult.Restarted);
    expect(extractor.reading).toMatchObject({ engine: "sglang", running: 10 });
  });

  it("finds a metric that appears later, and sees a LoRA set change", () => {
    const extractor = new PageExtractor(BUILT_IN_ENGINES);
    const without = Buffer.from(pages.VLLM_LORA.toString().replace(/^vllm:lora.*\n/gm, ""));
    extractor.read(without, 0);
    expect(extractor.reading.hasLora).toBe(false);
    extractor.read(pages.VLLM_LORA, LATER_MS);
    expect(extractor.reading.loraActive).toEqual(["a", "c"]);
    const newer = `${pages.VLLM_LORA.toString()}vllm:lora_requests_info{max_lora="4",running_lora_adapters="d",waiting_lora_adapters=""} 1.9e+09\n`;
    expect(extractor.read(Buffer.from(newer), LATER_MS + 50)).toBe(PageResult.Changed);
    expect(extractor.reading).toMatchObject({ loraActive: ["d"], loraWaiting: [] });
  });
});

describe("configured engines", () => {
  it("reads an engine defined by metric specifications", () => {
    const config = {
      name: "custom",
      queuedRequestsSpec: "q_size{status=waiting}",
      runningRequestsSpec: 'r_size{status="ok"}',
      kvUsageSpec: "cache_use",
      loraSpec: "",
      cacheInfoSpec: "cache_info",
      cacheBlockSizeLabelName: "bs",
      cacheNumBlocksLabelName: "nb",
      cacheBlockSizeSpec: "",
      cacheNumBlocksSpec: "",
      loraLoadedSpec: "",
      loraGPULoadedSpec: "",
      loraGPUSlotsSpec: "",
      customMetrics: [],
    };
    const { specs } = engineSettings({
      engineLabelKey: "",
      defaultEngine: "custom",
      engineConfigs: [config],
    });
    const extractor = new PageExtractor(specs);
    extractor.read(
      Buffer.from(
        'q_size{status="waiting"} 4\nq_size{status="done"} 100\nr_size{status="ok"} 2\ncache_use 0.5\ncache_info{bs="8",nb="10"} 1\n',
      ),
      0,
    );
    expect(extractor.reading).toMatchObject({
      waiting: 4,
      running: 2,
      kvUsage: 0.5,
      blockTokens: 8,
      kvCapacityTokens: 80,
    });
  });

  it.each([
    ["m", { name: "m", labels: {} }],
    ["", null],
    ['a:b{x=1,y="two"}', { name: "a:b", labels: { x: "1", y: "two" } }],
    ["m{ }", { name: "m", labels: {} }],
    ['m{x="a\\"b"}', { name: "m", labels: { x: 'a"b' } }],
  ])("parses the specification %j", (text, expected) => {
    expect(parseMetricSpec(text)).toEqual(expected);
  });

  it.each(["1m", "m{", "m}", "m{x}", "m{x=}", "m{=1}", "m{x=1 y=2}", "rate(m[5m])"])(
    "refuses the specification %j",
    (text) => {
      expect(() => parseMetricSpec(text)).toThrow(JSON.stringify(text));
    },
  );
});
