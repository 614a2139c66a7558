// A real prefiller and a real decoder that share KV blocks over NIXL: what the filter's two legs do to real engines.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { disaggregation } from "../envoy/disagg.ts";
import { until } from "../envoy/harness.ts";
import { askServer, type Fields, metricOf, prose, textOf, tokensOf, withFleet } from "./fleet.ts";
import { BLOCK_TOKENS, freePort, MODEL, startVllms, type Vllm, type VllmOptions } from "./server.ts";

const CHAT = "/v1/chat/completions";
const INLINE = disaggregation({ parameters: { mode: "inline" } });
const LABELS = [{ "llm-d.ai/role": "prefill" }, { "llm-d.ai/role": "decode" }];

/** A server whose blocks others may pull, or that pulls others', through UCX over loopback. */
async function nixl(role: "kv_producer" | "kv_consumer"): Promise<VllmOptions> {
  const connector = { kv_connector: "NixlConnector", kv_role: role, kv_buffer_device: "cpu" };
  return {
    args: ["--kv-transfer-config", JSON.stringify(connector)],
    env: {
      UCX_TLS: "tcp",
      UCX_NET_DEVICES: "lo",
      VLLM_NIXL_SIDE_CHANNEL_HOST: "127.0.0.1",
      VLLM_NIXL_SIDE_CHANNEL_PORT: String(await freePort()),
    },
  };
}

let servers: Vllm[] = [];
beforeAll(async () => {
  servers = await startVllms([await nixl("kv_producer"), await nixl("kv_consumer")]);
});
afterAll(() => Promise.all(servers.map((server) => server.stop())));

const chat = (seed: number, fields: Fields = {}): Fields => ({
  model: MODEL,
  messages: [{ role: "user", content: prose(seed, 200) }],
  max_tokens: 24,
  temperature: 0,
  ignore_eos: true,
  ...fields,
});

describe("a prompt that one engine computes and another answers", () => {
  it("has the text that one engine gives, from blocks that were pulled and let go of", async () => {
    const [prefiller, decoder] = servers as [Vllm, Vllm];
    await withFleet(servers, { pluginConfig: INLINE, labels: LABELS }, async ({ ask, counters }) => {
      for (const [seed, fields] of [
        [2_000, {}],
        [2_001, { stream: true, stream_options: { include_usage: true } }],
      ] as const) {
        const computed = await metricOf(prefiller, "vllm:prompt_tokens_total");
        const pulled = await metricOf(decoder, "vllm:external_prefix_cache_hits_total");
        const reply = await ask(CHAT, chat(seed, fields));
        expect(reply.status, reply.text).toBe(200);
        const { prompt } = tokensOf(reply);
        expect((await metricOf(prefiller, "vllm:prompt_tokens_total")) - computed).toBe(prompt);
        // All but the last token, which the decoder computes to have its successor.
        const hits = (await metricOf(decoder, "vllm:external_prefix_cache_hits_total")) - pulled;
        expect(hits).toBeGreaterThanOrEqual(prompt - BLOCK_TOKENS);
        // The prefiller keeps no block for a puller that has come.
        await until("the prefiller's blocks were free", async () => {
          return (await metricOf(prefiller, "vllm:kv_cache_usage_perc")) === 0;
        });
        expect(textOf(reply)).toBe(textOf(await askServer(prefiller, CHAT, chat(seed))));
        expect(textOf(reply).length).toBeGreaterThan(10);
      }
      await counters();
    });
  });

  it("is handed over in Anthropic's API too", async () => {
    const [prefiller, decoder] = servers as [Vllm, Vllm];
    const path = "/v1/messages";
    const message = (seed: number): Fields => ({
      model: MODEL,
      messages: [{ role: "user", content: prose(seed, 200) }],
      max_tokens: 24,
      temperature: 0,
    });
    await withFleet(servers, { pluginConfig: INLINE, labels: LABELS }, async ({ ask, counters }) => {
      const pulled = await metricOf(decoder, "vllm:external_prefix_cache_hits_total");
      const reply = await ask(path, message(2_050));
      expect(reply.status, reply.text).toBe(200);
      const hits = (await metricOf(decoder, "vllm:external_prefix_cache_hits_total")) - pulled;
      expect(hits).toBeGreaterThan(100);
      const { content, kv_transfer_params: shown } = JSON.parse(reply.text);
      expect(content).toEqual(JSON.parse((await askServer(prefiller, path, message(2_050))).text).content);
      expect(shown).toBeUndefined();
      const { promptsDisaggregated, prefillFailures, prefillsWithoutParameters } = await counters();
      expect([promptsDisaggregated, prefillFailures, prefillsWithoutParameters]).toEqual([1, 0, 0]);
    });
  });

  it("is computed by the decoder when the prefiller dies, and the client never sees it", async () => {
    const [prefiller, decoder] = servers as [Vllm, Vllm];
    await withFleet(servers, { pluginConfig: INLINE, labels: LABELS }, async ({ ask, counters, monitor }) => {
      expect((await ask(CHAT, chat(2_100))).status).toBe(200);
      await prefiller.kill();
      const computed = await metricOf(decoder, "vllm:prompt_tokens_total");
      let prompts = 0;
      for (let seed = 2_101; seed < 2_105; seed++) {
        const reply = await ask(CHAT, chat(seed));
        expect(reply.status, reply.text).toBe(200);
        expect(textOf(reply)).toBe(textOf(await askServer(decoder, CHAT, chat(seed))));
        prompts += 2 * tokensOf(reply).prompt;
      }
      expect((await metricOf(decoder, "vllm:prompt_tokens_total")) - computed).toBe(prompts);
      await counters();
      await until("the sidecar saw that it is gone", () => !monitor(prefiller).usable);
      expect((await ask(CHAT, chat(2_110))).status).toBe(200);
    });
  });
});
