// The /metrics page has the names, types and labels of a real vLLM's.
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { pythonFloat } from "../../host-sim/model-server/exposition.ts";
import { pageShape, sampleValue } from "./support/metrics-page.ts";
import { get, send, startReplica, until } from "./support/replica.ts";

/** Shape of the page of vLLM 0.32.0 (`vllm serve` with a context of 4,096 tokens, after some requests). */
const REAL_SHAPE = fileURLToPath(new URL("fixtures/vllm-0.32.0-metrics.txt", import.meta.url));
/** A real page, where one is at hand: the fixture is made from it (`npx vitest run -u`). */
const REAL_PAGE = fileURLToPath(new URL("../../../shared/vllm-cpu/metrics-sample.txt", import.meta.url));

describe("metrics page", () => {
  it.runIf(existsSync(REAL_PAGE))("is compared with the shape of a real page", async () => {
    const shape = pageShape(readFileSync(REAL_PAGE, "utf8"));
    await expect(`${shape.join("\n")}\n`).toMatchFileSnapshot(REAL_SHAPE);
  });

  it("has every family of a real page, but for Python's own", async () => {
    const replica = await startReplica();
    await send(replica, "/v1/completions", { prompt: "one two three", max_tokens: 3 });
    const expected = readFileSync(REAL_SHAPE, "utf8").trim().split("\n");
    expect(expected.length).toBeGreaterThan(80);
    const shape = pageShape(await get(replica, "/metrics"));
    expect(shape).toEqual(expected.filter((family) => !family.startsWith("python_")));
  });

  it("lists adapters with the time of each label set, the newest last", async () => {
    const replica = await startReplica({ loraModules: ["x", "y"] }, { lorasMax: 1 });
    replica.inject({ slowdown: 1_000 });
    const slow = send(replica, "/v1/completions", {
      model: "x",
      prompt: "a",
      max_tokens: 400,
      ignore_eos: true,
    });
    await until(() => replica.generation.engines[0]!.engine.runningCount === 1);
    const waiting = send(replica, "/v1/completions", { model: "y", prompt: "a", max_tokens: 1 });
    await until(() => replica.generation.inFlight === 2);
    const page = await get(replica, "/metrics");
    expect(page).toMatch(
      /lora_requests_info\{max_lora="1",running_lora_adapters="x",waiting_lora_adapters="y"\} 1\.\d+e\+09/,
    );
    replica.inject({ slowdown: 1 });
    await Promise.all([slow, waiting]);
  });

  it("counts what was sent", async () => {
    const replica = await startReplica();
    const prompt = Array.from({ length: 40 }, (_, i) => 300 + i);
    for (let i = 0; i < 2; i++)
      await send(replica, "/v1/completions", { prompt, max_tokens: 3, ignore_eos: true });
    await send(replica, "/v1/completions", { prompt: "" });
    const page = await get(replica, "/metrics");
    const engine = '{engine="0",model_name="tiny"}';
    expect(sampleValue(page, `vllm:prompt_tokens_total${engine}`)).toBe(80);
    expect(sampleValue(page, `vllm:generation_tokens_total${engine}`)).toBe(6);
    expect(sampleValue(page, `vllm:prefix_cache_queries_total${engine}`)).toBe(80);
    expect(sampleValue(page, `vllm:prefix_cache_hits_total${engine}`)).toBe(32);
    expect(sampleValue(page, `vllm:kv_cache_usage_perc${engine}`)).toBe(0);
    expect(sampleValue(page, `vllm:time_to_first_token_seconds_count${engine}`)).toBe(2);
    expect(sampleValue(page, `vllm:inter_token_latency_seconds_count${engine}`)).toBe(4);
    const success = 'vllm:request_success_total{engine="0",finished_reason="length",model_name="tiny"}';
    expect(sampleValue(page, success)).toBe(2);
    const failed = 'http_requests_total{handler="/v1/completions",method="POST",status="4xx"}';
    expect(sampleValue(page, failed)).toBe(1);
  });

  it("shows requests that run and wait", async () => {
    const replica = await startReplica({}, { sequencesMax: 1 });
    replica.inject({ slowdown: 1_000 });
    const sent = [1, 2, 3].map(() =>
      send(replica, "/v1/completions", { prompt: "a", max_tokens: 40, ignore_eos: true }),
    );
    let page = "";
    do page = await get(replica, "/metrics");
    while (sampleValue(page, 'vllm:num_requests_waiting{engine="0",model_name="tiny"}') < 2);
    expect(sampleValue(page, 'vllm:num_requests_running{engine="0",model_name="tiny"}')).toBe(1);
    expect(sampleValue(page, 'vllm:kv_cache_usage_perc{engine="0",model_name="tiny"}')).toBeGreaterThan(0);
    replica.inject({ slowdown: 1 });
    await Promise.all(sent);
  });

  it("has one line an engine", async () => {
    const replica = await startReplica({ dataParallelSize: 2 });
    await send(replica, "/v1/completions", { prompt: "a", max_tokens: 2 }, { "x-data-parallel-rank": "1" });
    const page = await get(replica, "/metrics");
    expect(sampleValue(page, 'vllm:generation_tokens_total{engine="0",model_name="tiny"}')).toBe(0);
    expect(sampleValue(page, 'vllm:generation_tokens_total{engine="1",model_name="tiny"}')).toBe(2);
  });
});

describe("pythonFloat", () => {
  it.each([
    [0, "0.0"],
    [3, "3.0"],
    [0.2222222222222222, "0.2222222222222222"],
    [123456, "123456.0"],
    [4682776576, "4.682776576e+09"],
    [1795248769.1285293, "1.7952487691285293e+09"],
    [20000, "20000.0"],
    [-5, "-5.0"],
    [Number.POSITIVE_INFINITY, "+Inf"],
    [Number.NaN, "NaN"],
  ])("prints %d as Python's client does", (value, text) => {
    expect(pythonFloat(value)).toBe(text);
  });
});
