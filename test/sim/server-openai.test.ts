// The generating APIs answer field for field as vLLM 0.32.0 was seen to.
import { describe, expect, it } from "vitest";
import { encode } from "../../host-sim/model-server/tokenizer.ts";
import { eventsOf, get, send, startReplica } from "./support/replica.ts";

const CHAT = "/v1/chat/completions";
const HELLO = { messages: [{ role: "user", content: "hello there" }] };

function keysOf(value: unknown): string[] {
  return Object.keys(value as object);
}

describe("chat completions", () => {
  it("answers whole, with the fields of a real answer in their order", async () => {
    const replica = await startReplica();
    const { status, headers, text } = await send(replica, CHAT, { ...HELLO, model: "tiny", max_tokens: 4 });
    const answer = JSON.parse(text);
    expect(status).toBe(200);
    expect(headers.get("server")).toBe("uvicorn");
    expect(headers.get("x-served-by")).toBe("replica-0");
    expect(headers.get("x-request-id")).toBeNull();
    expect(keysOf(answer).join()).toBe(
      "id,object,created,model,choices,service_tier,system_fingerprint,usage,prompt_logprobs," +
        "prompt_token_ids,prompt_text,kv_transfer_params,ec_transfer_params,metrics",
    );
    expect(keysOf(answer.choices[0]).join()).toBe(
      "index,message,logprobs,finish_reason,stop_reason,token_ids,routed_experts",
    );
    expect(answer.system_fingerprint).toMatch(/^vllm-0\.32\.0-[0-9a-f]{8}$/);
    expect(answer.usage).toEqual({
      prompt_tokens: 13,
      total_tokens: 17,
      completion_tokens: 4,
      prompt_tokens_details: { cached_tokens: 0, created_cache_tokens: 0, multimodal_tokens: null },
      completion_tokens_details: null,
    });
    expect(encode(answer.choices[0].message.content)).toHaveLength(4);
  });

  it("tells the tokens of full blocks that it adds to the prefix cache", async () => {
    const replica = await startReplica();
    const usage = async (words: number): Promise<{ full: number; cached: number; created: number }> => {
      const messages = [{ role: "user", content: "word ".repeat(words) }];
      const { text } = await send(replica, CHAT, { messages, max_tokens: 1 });
      const { prompt_tokens, prompt_tokens_details: details } = JSON.parse(text).usage;
      const { cached_tokens: cached, created_cache_tokens: created } = details;
      return { full: Math.floor(prompt_tokens / 16) * 16, cached, created };
    };
    const { full, cached, created } = await usage(60);
    expect([cached, created]).toEqual([0, full]);
    expect(full).toBeGreaterThan(32);
    expect(await usage(60)).toEqual({ full, cached: full, created: 0 });
    const longer = await usage(100);
    expect(longer.cached).toBeGreaterThan(16);
    expect(longer.created).toBe(longer.full - longer.cached);
    expect(longer.created).toBeGreaterThan(16);
  });

  it("streams the role, each token, the usage and [DONE]", async () => {
    const replica = await startReplica();
    const body = { ...HELLO, max_tokens: 3, stream: true, stream_options: { include_usage: true } };
    const { headers, text } = await send(replica, CHAT, body);
    expect(headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
    const events = eventsOf(text);
    expect(events.at(-1)).toBe("[DONE]");
    const chunks = events.slice(0, -1).map((event) => JSON.parse(event));
    expect(chunks).toHaveLength(5);
    expect(chunks[0].choices[0].delta).toEqual({ role: "assistant", content: "" });
    expect(keysOf(chunks[1]).join()).toBe("id,object,created,model,choices");
    expect(chunks.slice(1, 4).map((chunk) => chunk.choices[0].finish_reason)).toEqual([null, null, "length"]);
    expect(chunks[4].choices).toEqual([]);
    expect(chunks[4].usage).toEqual({
      prompt_tokens: 13,
      total_tokens: 16,
      completion_tokens: 3,
      prompt_tokens_details: { cached_tokens: 0, created_cache_tokens: 0 },
    });
    expect(new Set(chunks.map((chunk) => chunk.id)).size).toBe(1);
  });

  it("streams without usage unless asked, and the fingerprint then comes with the last token", async () => {
    const replica = await startReplica();
    const { text } = await send(replica, CHAT, { ...HELLO, max_tokens: 2, stream: true });
    const chunks = eventsOf(text)
      .slice(0, -1)
      .map((event) => JSON.parse(event));
    expect(chunks.map((chunk) => chunk.usage)).toEqual([undefined, undefined, undefined]);
    expect(chunks.map((chunk) => chunk.system_fingerprint !== undefined)).toEqual([false, false, true]);
  });

  it("adds running usage to every chunk with continuous_usage_stats", async () => {
    const replica = await startReplica();
    const options = { include_usage: true, continuous_usage_stats: true };
    const { text } = await send(replica, CHAT, {
      ...HELLO,
      max_tokens: 2,
      stream: true,
      stream_options: options,
    });
    const chunks = eventsOf(text)
      .slice(0, -1)
      .map((event) => JSON.parse(event));
    expect(chunks.map((chunk) => chunk.usage.completion_tokens)).toEqual([0, 1, 2, 2]);
  });

  it("gives the same text streamed and whole, on every replica", async () => {
    const [a, b] = [await startReplica(), await startReplica({ name: "other" })];
    const whole = JSON.parse((await send(a, CHAT, { ...HELLO, max_tokens: 30 })).text);
    const { text } = await send(b, CHAT, { ...HELLO, max_tokens: 30, stream: true });
    const streamed = eventsOf(text)
      .slice(1, -1)
      .map((event) => JSON.parse(event).choices[0].delta.content)
      .join("");
    expect(streamed).toBe(whole.choices[0].message.content);
  });

  it("answers n times, with choices of their own and the prompt counted once", async () => {
    const replica = await startReplica();
    const { choices, usage } = JSON.parse(
      (await send(replica, CHAT, { ...HELLO, max_tokens: 5, n: 3 })).text,
    );
    expect(choices.map((choice: { index: number }) => choice.index)).toEqual([0, 1, 2]);
    expect(
      new Set(choices.map((choice: { message: { content: string } }) => choice.message.content)).size,
    ).toBe(3);
    expect([usage.prompt_tokens, usage.completion_tokens]).toEqual([13, 15]);
  });

  it("ends at a stop text, which is not shown, streamed or whole", async () => {
    const replica = await startReplica();
    const body = { ...HELLO, max_tokens: 30, ignore_eos: true };
    const full = JSON.parse((await send(replica, CHAT, body)).text).choices[0].message.content as string;
    const stop = full.slice(20, 28);
    const { choices } = JSON.parse((await send(replica, CHAT, { ...body, stop: [stop] })).text);
    expect(choices[0].message.content).toBe(full.slice(0, full.indexOf(stop)));
    expect([choices[0].finish_reason, choices[0].stop_reason]).toEqual(["stop", stop]);
    const { text } = await send(replica, CHAT, { ...body, stop, stream: true });
    const parts = eventsOf(text)
      .slice(1, -1)
      .map((event) => JSON.parse(event).choices[0].delta.content);
    expect(parts.join("")).toBe(full.slice(0, full.indexOf(stop)));
  });

  it("stops by itself unless the limit comes first or it is told to go on", async () => {
    const replica = await startReplica();
    const natural = JSON.parse((await send(replica, CHAT, HELLO)).text);
    expect(natural.choices[0].finish_reason).toBe("stop");
    const length = natural.usage.completion_tokens as number;
    const longer = { ...HELLO, max_tokens: length + 5 };
    expect(JSON.parse((await send(replica, CHAT, longer)).text).usage.completion_tokens).toBe(length);
    const forced = JSON.parse((await send(replica, CHAT, { ...longer, ignore_eos: true })).text);
    expect([forced.usage.completion_tokens, forced.choices[0].finish_reason]).toEqual([length + 5, "length"]);
  });

  it("names the answer after the request's id and returns that header only when configured", async () => {
    const replica = await startReplica({ requestIdHeaders: true });
    const { headers, text } = await send(
      replica,
      CHAT,
      { ...HELLO, max_tokens: 1 },
      { "x-request-id": "abc-1" },
    );
    expect(JSON.parse(text).id).toBe("chatcmpl-abc-1");
    expect(headers.get("x-request-id")).toBe("abc-1");
  });

  it("serves a request without a model, and of two models in one body the last", async () => {
    const replica = await startReplica({ loraModules: ["adapter"] });
    expect(JSON.parse((await send(replica, CHAT, { ...HELLO, max_tokens: 1 })).text).model).toBe("tiny");
    const twice =
      '{"model":"tiny","model":"adapter","messages":[{"role":"user","content":"x"}],"max_tokens":1}';
    expect(JSON.parse((await send(replica, CHAT, twice)).text).model).toBe("adapter");
  });

  it("reports the cached tokens of a second turn, and none across adapters and salts", async () => {
    const replica = await startReplica({ loraModules: ["adapter"] });
    const long = "many words about replicas ".repeat(20);
    const messages = [{ role: "user", content: long }];
    const first = JSON.parse((await send(replica, CHAT, { messages, max_tokens: 20 })).text);
    const answer = first.choices[0].message.content as string;
    const turn = [
      ...messages,
      { role: "assistant", content: answer },
      { role: "user", content: "and then?" },
    ];
    const cachedOf = async (more: object): Promise<number> => {
      const { text } = await send(replica, CHAT, { messages: turn, max_tokens: 1, ...more });
      return JSON.parse(text).usage.prompt_tokens_details.cached_tokens;
    };
    const prompt = first.usage.prompt_tokens as number;
    const cached = await cachedOf({});
    expect(cached % 16).toBe(0);
    expect(cached).toBeGreaterThan(prompt - 16);
    expect(await cachedOf({ model: "adapter" })).toBe(0);
    expect(await cachedOf({ cache_salt: "tenant" })).toBe(0);
    expect(await cachedOf({ tools: [{ type: "function", function: { name: "f" } }] })).toBe(0);
  });

  it("sends comments on a silent stream when configured, before the first data", async () => {
    const replica = await startReplica({ keepAliveCommentMs: 20 });
    replica.inject({ slowdown: 60 });
    const { text } = await send(replica, CHAT, { ...HELLO, max_tokens: 1, stream: true });
    expect(text.startsWith(": keep-alive\n\n")).toBe(true);
    expect(eventsOf(text)).toHaveLength(3);
  });
});

describe("completions", () => {
  it("end where the context does, however many tokens are asked for", async () => {
    const prompt = Array.from({ length: 4092 }, (_, id) => 300 + (id % 97));
    const { status, text } = await send(await startReplica(), "/v1/completions", {
      prompt,
      max_tokens: 9,
      ignore_eos: true,
    });
    expect(status, text).toBe(200);
    const { choices, usage } = JSON.parse(text);
    expect(choices[0].finish_reason).toBe("length");
    expect(usage).toMatchObject({ prompt_tokens: 4092, completion_tokens: 4 });
  });

  it.each([
    ["text", "hello there", 1],
    ["texts", ["a b", "c d"], 2],
    ["token ids", [300, 301, 302], 1],
    ["lists of token ids", [[300, 301], [302]], 2],
  ])("takes %s", async (_, prompt, choices) => {
    const replica = await startReplica();
    const answer = JSON.parse((await send(replica, "/v1/completions", { prompt, max_tokens: 2 })).text);
    expect(answer.object).toBe("text_completion");
    expect(answer.choices).toHaveLength(choices);
    expect(answer.usage.prompt_tokens).toBeGreaterThan(1);
    expect(answer.usage.completion_tokens).toBe(2 * choices);
    expect(answer.usage.prompt_tokens_details.created_cache_tokens).toBeNull();
  });

  it("streams without a role chunk", async () => {
    const replica = await startReplica();
    const body = { prompt: "hello", max_tokens: 2, stream: true, stream_options: { include_usage: true } };
    const chunks = eventsOf((await send(replica, "/v1/completions", body)).text).slice(0, -1);
    expect(chunks).toHaveLength(3);
    expect(JSON.parse(chunks[0]!).choices[0].text).not.toBe("");
    expect(JSON.parse(chunks[2]!).usage.prompt_tokens_details).toEqual({ cached_tokens: 0 });
  });
});

describe("messages (Anthropic)", () => {
  const body = {
    model: "tiny",
    max_tokens: 3,
    system: "be brief",
    messages: [{ role: "user", content: "hello" }],
  };

  it("answers whole", async () => {
    const replica = await startReplica();
    const answer = JSON.parse((await send(replica, "/v1/messages", body)).text);
    expect(keysOf(answer).join()).toBe("id,type,role,content,model,stop_reason,usage");
    expect([answer.type, answer.stop_reason, answer.content[0].type]).toEqual([
      "message",
      "max_tokens",
      "text",
    ]);
    expect(keysOf(answer.usage).join()).toBe(
      "input_tokens,output_tokens,cache_creation_input_tokens,cache_read_input_tokens",
    );
  });

  it("streams named events", async () => {
    const replica = await startReplica();
    const { text } = await send(replica, "/v1/messages", { ...body, stream: true });
    const names = [...text.matchAll(/^event: (.*)$/gm)].map(([, name]) => name);
    expect(names).toEqual([
      "message_start",
      "content_block_start",
      ...["content_block_delta", "content_block_delta", "content_block_delta"],
      "content_block_stop",
      "message_delta",
      "message_stop",
    ]);
    expect(text).not.toContain("[DONE]");
  });

  it("takes tokens read from and written to the cache out of input_tokens", async () => {
    const replica = await startReplica();
    const long = { ...body, system: "a long system prompt ".repeat(30) };
    const { usage: cold } = JSON.parse((await send(replica, "/v1/messages", long)).text);
    const { usage: warm } = JSON.parse((await send(replica, "/v1/messages", long)).text);
    expect(cold).toMatchObject({ cache_read_input_tokens: 0 });
    expect(cold.cache_creation_input_tokens).toBeGreaterThan(100);
    expect(cold.cache_creation_input_tokens % 16).toBe(0);
    expect(cold.input_tokens).toBeLessThan(16);
    expect(warm).toMatchObject({
      cache_read_input_tokens: cold.cache_creation_input_tokens,
      cache_creation_input_tokens: 0,
      input_tokens: cold.input_tokens,
    });
  });

  it("counts tokens", async () => {
    const replica = await startReplica();
    const { max_tokens: _, ...rest } = body;
    const count = JSON.parse((await send(replica, "/v1/messages/count_tokens", rest)).text);
    const answer = JSON.parse((await send(replica, "/v1/messages", body)).text);
    const { input_tokens, cache_creation_input_tokens } = answer.usage;
    expect(count.input_tokens).toBe(input_tokens + cache_creation_input_tokens);
  });
});

describe("responses", () => {
  it("answers whole and streamed alike", async () => {
    const replica = await startReplica();
    const body = { model: "tiny", input: "hello", max_output_tokens: 4 };
    const whole = JSON.parse((await send(replica, "/v1/responses", body)).text);
    expect([whole.object, whole.status, whole.incomplete_details.reason]).toEqual([
      "response",
      "incomplete",
      "max_output_tokens",
    ]);
    const { text } = await send(replica, "/v1/responses", { ...body, stream: true });
    const events = eventsOf(text).map((event) => JSON.parse(event));
    expect(events.map((event) => event.sequence_number)).toEqual(events.map((_, i) => i));
    expect(events.at(-1).type).toBe("response.completed");
    expect(events.at(-1).response.output[0].content[0].text).toBe(whole.output[0].content[0].text);
  });
});

describe("other paths", () => {
  it("lists the model and its adapters", async () => {
    const replica = await startReplica({ loraModules: ["adapter"] });
    const { data } = JSON.parse(await get(replica, "/v1/models"));
    expect(data[0].permission).toEqual([
      expect.objectContaining({ id: expect.stringMatching(/^modelperm-[0-9a-f]{16}$/), is_blocking: false }),
    ]);
    const entries = data.map((model: { id: string; parent: string | null; max_model_len: number | null }) => {
      return [model.id, model.parent, model.max_model_len];
    });
    expect(entries).toEqual([
      ["tiny", null, 4096],
      ["adapter", "tiny", null],
    ]);
  });

  it("tokenizes as it counts, and back", async () => {
    const replica = await startReplica();
    const { tokens, count } = JSON.parse((await send(replica, "/tokenize", { prompt: "hello there" })).text);
    expect(count).toBe(tokens.length);
    expect(JSON.parse((await send(replica, "/detokenize", { tokens })).text)).toEqual({
      prompt: "hello there",
    });
    expect(JSON.parse((await send(replica, "/tokenize", HELLO)).text).count).toBe(13);
  });

  it("embeds, scores and ranks by reading prompts alone", async () => {
    const replica = await startReplica();
    const embedding = JSON.parse((await send(replica, "/v1/embeddings", { input: ["a", "b"] })).text);
    expect(embedding.data).toHaveLength(2);
    expect(Math.hypot(...embedding.data[0].embedding)).toBeCloseTo(1, 6);
    const score = JSON.parse((await send(replica, "/score", { text_1: "a", text_2: ["b", "c"] })).text);
    expect(score.data.map((item: { object: string }) => item.object)).toEqual(["score", "score"]);
    const rank = JSON.parse(
      (await send(replica, "/rerank", { query: "q", documents: ["x", "y", "z"], top_n: 2 })).text,
    );
    expect(rank.results).toHaveLength(2);
    expect(rank.results[0].relevance_score).toBeGreaterThanOrEqual(rank.results[1].relevance_score);
    expect(replica.generation.engines[0]!.engine.counters.generatedTokens).toBe(0);
  });

  it("forgets its cache on request", async () => {
    const replica = await startReplica();
    const body = { prompt: "the same long prompt ".repeat(20), max_tokens: 1 };
    await send(replica, "/v1/completions", body);
    expect((await send(replica, "/reset_prefix_cache", "")).text).toBe('{"success":true}');
    const { usage } = JSON.parse((await send(replica, "/v1/completions", body)).text);
    expect(usage.prompt_tokens_details.cached_tokens).toBe(0);
  });
});
