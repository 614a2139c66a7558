// Token usage of responses: bodies and event streams, cut anywhere; and when the first token came.
import { beforeAll, describe, expect, it } from "vitest";
import { PromptReader } from "./support/prompt-reader.ts";

let reader: PromptReader;
beforeAll(async () => {
  reader = await PromptReader.start();
});

/** Reads an event stream in every chunking and checks that all give the same. */
function stream(body: string): ReturnType<PromptReader["usage"]> {
  const bytes = Buffer.from(body);
  const whole = reader.usage(bytes, true);
  for (let chunk = Math.min(bytes.length, 80); chunk > 0; chunk--) {
    expect(reader.usage(bytes, true, chunk), `chunks of ${chunk}`).toEqual(whole);
  }
  return whole;
}

const event = (value: unknown) => `data: ${JSON.stringify(value)}\n\n`;
const TOKEN = event({ choices: [{ index: 0, delta: { content: 'usage\n"prompt_tokens":9' } }], usage: null });
const FINAL = { choices: [], usage: { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 } };

describe("event streams", () => {
  it("find the last chunk's usage", () => {
    const { usage } = stream(`${TOKEN}${TOKEN}${event(FINAL)}data: [DONE]\n\n`);
    expect(usage).toEqual({ prompt: 7, completion: 3, cached: undefined });
  });

  it("do without a space behind data:, with CR LF, with CR, and without a last line break", () => {
    const lines = `${TOKEN}${event(FINAL)}`;
    const expected = { prompt: 7, completion: 3, cached: undefined };
    expect(stream(lines.replaceAll("data: ", "data:")).usage).toEqual(expected);
    expect(stream(lines.replaceAll("\n", "\r\n")).usage).toEqual(expected);
    expect(stream(lines.replaceAll("\n", "\r")).usage).toEqual(expected);
    expect(stream(lines.trimEnd()).usage).toEqual(expected);
  });

  it("pass over comments, other fields and lines that are no JSON", () => {
    const noise = `: keep-alive\n\nevent: x\nid: 1\nretry: 5\ndata\ndatax: {"usage":{"prompt_tokens":1}}\ndat\ndata: {"us\n`;
    expect(stream(`${noise}${event(FINAL)}${noise}`).usage).toEqual({
      prompt: 7,
      completion: 3,
      cached: undefined,
    });
    expect(stream(`: data: ${JSON.stringify(FINAL)}\n`).usage).toBeNull();
    expect(stream(` data: ${JSON.stringify(FINAL)}\n`).usage).toBeNull();
  });

  it("take the newest of continuous usage", () => {
    const counts = (completion: number) =>
      event({ usage: { prompt_tokens: 7, completion_tokens: completion } });
    expect(stream(counts(1) + counts(2) + counts(3)).usage).toMatchObject({ completion: 3 });
  });

  it("join Anthropic's start and delta, whatever comes between", () => {
    const start = {
      type: "message_start",
      message: { usage: { input_tokens: 20, cache_read_input_tokens: 80 } },
    };
    const delta = { type: "content_block_delta", delta: { type: "text_delta", text: "x" } };
    const end = { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 9 } };
    expect(stream(event(start) + event(delta) + event(end)).usage).toEqual({
      prompt: 100,
      completion: 9,
      cached: 80,
    });
  });

  it("take vLLM's messages, which start with all input tokens and end with those outside the cache", () => {
    const start = (usage: object) => event({ type: "message_start", message: { usage } });
    const delta = (usage: object) => event({ type: "message_delta", delta: {}, usage });
    const all = start({ input_tokens: 153, output_tokens: 0 });
    const cold = delta({ input_tokens: 25, output_tokens: 4, cache_creation_input_tokens: 128 });
    expect(stream(all + cold).usage).toEqual({ prompt: 153, completion: 4, cached: undefined });
    const warm = {
      input_tokens: 9,
      output_tokens: 4,
      cache_read_input_tokens: 128,
      cache_creation_input_tokens: 16,
    };
    expect(stream(all + delta(warm)).usage).toEqual({ prompt: 153, completion: 4, cached: 128 });
    // An end that repeats some counts only: each keeps its newest value.
    expect(stream(start(warm) + delta({ input_tokens: 9, output_tokens: 5 })).usage).toEqual({
      prompt: 153,
      completion: 5,
      cached: 128,
    });
  });

  it("take the Responses API's usage from the final event only, wherever its type stands", () => {
    const usage = { input_tokens: 5, output_tokens: 6, input_tokens_details: { cached_tokens: 4 } };
    const expected = { prompt: 5, completion: 6, cached: 4 };
    expect(stream(event({ type: "response.completed", response: { usage } })).usage).toEqual(expected);
    expect(stream(event({ response: { usage }, type: "response.completed" })).usage).toEqual(expected);
    expect(stream(event({ response: { usage }, type: "response.incomplete" })).usage).toEqual(expected);
    expect(stream(event({ response: { usage }, type: "response.in_progress" })).usage).toBeNull();
    expect(stream(event({ response: { usage: null }, type: "response.completed" })).usage).toBeNull();
  });

  it("take SGLang's meta_info from the event with a finish reason", () => {
    const meta = (finish: unknown) =>
      event({ text: "x", meta_info: { prompt_tokens: 10, completion_tokens: 5, finish_reason: finish } });
    expect(stream(meta(null)).usage).toBeNull();
    expect(stream(meta(null) + meta({ type: "stop" })).usage).toMatchObject({ prompt: 10, completion: 5 });
    expect(stream(meta("length")).usage).toMatchObject({ prompt: 10, completion: 5 });
  });

  it("do not take counts from other places", () => {
    const usage = { prompt_tokens: 1, completion_tokens: 2 };
    for (const value of [
      { choices: [{ usage }] },
      { choices: [{ delta: { content: JSON.stringify({ usage }) } }] },
      { a: { usage } },
      { usage: [usage] },
      { usage: { other: usage } },
      { usage: "7" },
      [{ usage }],
      { error: { usage } },
    ]) {
      expect(stream(event(value)).usage, JSON.stringify(value)).toBeNull();
    }
  });
});

describe("the first token", () => {
  const NO_TOKEN: readonly [string, string][] = [
    ["a keep-alive comment", ": keep-alive\n\n"],
    ["an event line", "event: message_start\n"],
    ["an empty stream", ""],
    ["half a field name", "dat\n"],
    ["the end", "data: [DONE]\n\n"],
    ["an error", event({ error: { message: "m", code: 500 } })],
    ["Anthropic's error", event({ type: "error", error: { type: "overloaded_error" } })],
    ["Anthropic's ping", event({ type: "ping" })],
    ["response.created", event({ response: { id: "r", usage: null }, type: "response.created" })],
    ["response.in_progress", event({ type: "response.in_progress", response: {} })],
  ];
  for (const [name, body] of NO_TOKEN) {
    it(`is not ${name}`, () => {
      expect(stream(body).sawData).toBe(false);
      expect(stream(body + TOKEN).sawData).toBe(true);
    });
  }

  it("is any other data, as soon as its line is complete", () => {
    expect(stream(TOKEN).sawData).toBe(true);
    expect(stream(event({ type: "message_start", message: {} })).sawData).toBe(true);
    expect(stream(event({ error: null, choices: [] })).sawData).toBe(true);
    expect(stream("data: plain text\n").sawData).toBe(true);
  });
});

describe("JSON bodies", () => {
  const body = (value: unknown) => {
    const bytes = Buffer.from(JSON.stringify(value));
    const whole = reader.usage(bytes, false);
    for (let chunk = bytes.length; chunk > 0; chunk--)
      expect(reader.usage(bytes, false, chunk)).toEqual(whole);
    return whole.usage;
  };

  it("tell cached tokens apart from none given", () => {
    const usage = { prompt_tokens: 8, completion_tokens: 1 };
    expect(body({ usage })).toEqual({ prompt: 8, completion: 1, cached: undefined });
    expect(body({ usage: { ...usage, prompt_tokens_details: null } })).toMatchObject({ cached: undefined });
    expect(body({ usage: { ...usage, prompt_tokens_details: { cached_tokens: 0 } } })).toMatchObject({
      cached: 0,
    });
    expect(
      body({ usage: { ...usage, prompt_tokens_details: { audio_tokens: 3, cached_tokens: 5 } } }),
    ).toMatchObject({
      cached: 5,
    });
  });

  it("add Anthropic's cached and newly cached tokens to the input tokens, which leave them out", () => {
    const usage = { input_tokens: 5, output_tokens: 2 };
    const [read, created] = [{ cache_read_input_tokens: 32 }, { cache_creation_input_tokens: 64 }];
    for (const [given, prompt, cached] of [
      [usage, 5, undefined],
      [{ ...usage, ...read }, 37, 32],
      [{ ...read, ...usage, ...created }, 101, 32],
      [{ ...created, ...usage }, 69, undefined],
      [{ ...usage, cache_read_input_tokens: 0, ...created }, 69, 0],
      [{ ...usage, cache_read_input_tokens: null, cache_creation_input_tokens: null }, 5, undefined],
      [{ ...usage, cache_read_input_tokens: -1, cache_creation_input_tokens: "7" }, 12, undefined],
      [{ ...usage, ...read, cache_creation_input_tokens: 2 ** 31 - 1 }, 2 ** 31 - 1, 32],
      [{ input_tokens: 1e12, cache_read_input_tokens: 1e12 }, 2 ** 31 - 1, 2 ** 31 - 1],
    ] as const) {
      expect(body({ type: "message", usage: given }), JSON.stringify(given)).toMatchObject({
        prompt,
        cached,
      });
    }
  });

  it("add nothing to counts that have the cached tokens in them", () => {
    const anthropic = { cache_read_input_tokens: 32, cache_creation_input_tokens: 64 };
    // Gateways that speak OpenAI's API for Anthropic's models give both.
    const both = { prompt_tokens: 101, completion_tokens: 2, ...anthropic };
    expect(body({ usage: both })).toEqual({ prompt: 101, completion: 2, cached: 32 });
    const details = { prompt_tokens_details: { cached_tokens: 16 } };
    expect(body({ usage: { ...both, ...details } })).toMatchObject({ prompt: 101, cached: 16 });
    const responses = { input_tokens: 40, output_tokens: 2, input_tokens_details: { cached_tokens: 32 } };
    expect(body({ usage: responses })).toEqual({ prompt: 40, completion: 2, cached: 32 });
    expect(body({ usage: anthropic })).toBeNull();
  });

  it("take an embedding's prompt tokens, and counts written as strings", () => {
    expect(body({ data: [], usage: { prompt_tokens: 4, total_tokens: 4 } })).toMatchObject({
      prompt: 4,
      completion: 0,
    });
    expect(body({ usage: { prompt_tokens: "12", completion_tokens: "3" } })).toMatchObject({
      prompt: 12,
      completion: 3,
    });
  });

  it("pass over counts that are none", () => {
    for (const count of [-1, null, true, "", "x", [], {}]) {
      expect(body({ usage: { prompt_tokens: count, completion_tokens: count } })).toBeNull();
    }
    expect(body({ usage: { prompt_tokens: 1e12, completion_tokens: 1 } })).toMatchObject({
      prompt: 2 ** 31 - 1,
    });
  });

  it("take the last of duplicate names", () => {
    const text =
      '{"usage":{"prompt_tokens":1,"prompt_tokens":2,"completion_tokens":1},"usage":{"prompt_tokens":3}}';
    expect(reader.usage(text, false).usage).toMatchObject({ prompt: 3 });
  });

  it("give nothing for a body that is no JSON or is cut", () => {
    expect(reader.usage('{"usage":{"prompt_tokens":1}', false).usage).toBeNull();
    expect(reader.usage("upstream connect error", false).usage).toBeNull();
    expect(reader.usage("", false).usage).toBeNull();
  });
});
