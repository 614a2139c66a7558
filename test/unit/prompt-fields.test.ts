// Model, limits and flags of request bodies; duplicates; paths; what is known before the end.
import { beforeAll, describe, expect, it } from "vitest";
import { API, type Prompt, PromptReader } from "./support/prompt-reader.ts";
import { random } from "./support/random.ts";

const RECORD_BYTES_MAX = 1024;
const MODEL_BYTES_MAX = 256;
const I32_MAX = 2 ** 31 - 1;

let reader: PromptReader;
beforeAll(async () => {
  reader = await PromptReader.start();
});

const MESSAGES = [{ role: "user", content: "x".repeat(300) }];
const chat = (fields: object): Prompt => reader.read(API.chat, { messages: MESSAGES, ...fields });

describe("paths", () => {
  const PATHS: readonly [string, number][] = [
    ["/v1/chat/completions", API.chat],
    ["/v1/chat/completions/", API.chat],
    ["/v1/chat/completions?api-version=2024-10-21", API.chat],
    ["/v1/chat/completions/?a=/v1/embeddings", API.chat],
    ["/openai/deployments/gpt/chat/completions?api-version=1", API.chat],
    ["/v1/projects/p/locations/l/endpoints/openapi/chat/completions", API.chat],
    ["/chat/completions", API.chat],
    ["/v1/completions", API.completions],
    ["/v1/chat/completions/render", API.chatRender],
    ["/v1/completions/render/", API.completionsRender],
    ["/v1/responses", API.responses],
    ["/v1/conversations", API.conversations],
    ["/v1/embeddings", API.embeddings],
    ["/v1/images/generations", API.images],
    ["/openai/v1/images/generations", API.images],
    ["/v1/messages", API.messages],
    ["/anthropic/v1/messages", API.messages],
    ["/v1/messages/count_tokens", API.countTokens],
    ["/inference/v1/generate", API.vllmGenerate],
    ["/generate", API.sglangGenerate],
    ["/generate/?x", API.sglangGenerate],
    ["/tokenize", API.tokenize],
    ["/rerank", API.rerank],
    ["/v1/rerank", API.rerank],
    ["/v2/rerank", API.rerank],
    ["/score", API.score],
    ["/v1/score", API.score],
    ["/pooling", API.pooling],
    ["/classify", API.classify],
    ["/regenerate", API.other],
    ["/health_generate", API.other],
    ["/prefix/generate", API.other],
    ["/v2/models/x/generate", API.other],
    ["/xchat/completions", API.completions],
    ["/xcompletions", API.other],
    ["/v1/threads/t/messages", API.other],
    ["/v1/models", API.other],
    ["/v1/completions/x", API.other],
    ["/?/v1/completions", API.other],
    ["/detokenize", API.other],
    ["/health", API.other],
    ["/", API.other],
    ["", API.other],
    ["*", API.other],
  ];
  for (const [path, api] of PATHS) it(`${path || "(none)"}`, () => expect(reader.api(path)).toBe(api));

  it("name the APIs whose prompts stay in a cache", () => {
    const kept = Object.entries(API).filter(([, api]) => reader.exports.apiKeepsPrefix(api) !== 0);
    expect(kept.map(([name]) => name)).toEqual([
      "chat",
      "completions",
      "responses",
      "embeddings",
      "messages",
      "vllmGenerate",
      "sglangGenerate",
      "pooling",
      "classify",
    ]);
  });
});

describe("fields", () => {
  it("the model's name is kept to its limit, the hash is that of the bytes kept", () => {
    expect(chat({ model: 'org/名前 "x"' }).model).toBe('org/名前 "x"');
    const longest = "m".repeat(MODEL_BYTES_MAX);
    expect(chat({ model: longest }).model).toBe(longest);
    expect(chat({ model: `${longest}n` })).toMatchObject({
      model: longest,
      modelHash: chat({ model: longest }).modelHash,
    });
  });

  it("a model that is no name counts as absent", () => {
    for (const model of ["", null, 1, true, ["m"], { a: "m" }]) {
      expect(chat({ model })).toMatchObject({ model: "", modelHash: 0n, error: undefined });
      expect(reader.exports.promptHasModel(reader.exports.recordPtr())).toBe(0);
    }
  });

  it("stream is true only when it is true", () => {
    expect(chat({ stream: true }).stream).toBe(true);
    for (const stream of [false, null, 1, "true", [true], { stream: true }])
      expect(chat({ stream }).stream).toBe(false);
  });

  const LIMITS: readonly [object, number | undefined][] = [
    [{}, undefined],
    [{ max_tokens: 5 }, 5],
    [{ max_tokens: 0 }, 0],
    [{ max_tokens: -1 }, undefined],
    [{ max_tokens: 1.5 }, undefined],
    [{ max_tokens: 2.0 }, 2],
    [{ max_tokens: 1e30 }, I32_MAX],
    [{ max_tokens: "5" }, undefined],
    [{ max_tokens: null }, undefined],
    [{ max_tokens: [5] }, undefined],
    [{ max_tokens: 5, max_completion_tokens: 9 }, 9],
    [{ max_completion_tokens: 9, max_tokens: 5 }, 9],
    [{ max_completion_tokens: 0, max_tokens: 5 }, 0],
    [{ max_completion_tokens: null, max_tokens: 5 }, 5],
    [{ max_output_tokens: 7 }, undefined],
  ];
  for (const [fields, expected] of LIMITS) {
    it(`${JSON.stringify(fields)} limits the answer to ${expected ?? "nothing"}`, () => {
      expect(chat(fields).maxTokens).toBe(expected);
    });
  }

  it("n is at least 1", () => {
    expect(chat({ n: 4 }).count).toBe(4);
    for (const n of [undefined, 0, -3, null, "4"]) expect(chat({ n }).count).toBe(1);
  });

  it("names of fields may be escaped or very long", () => {
    const body = '{"m\\u006fdel":"m","messages":[{"r\\u006fle":"user","content":"x"}]}';
    for (const chunk of [1, 2, 5, 100])
      expect(reader.read(API.chat, Buffer.from(body), chunk).model).toBe("m");
    const long = { [`model${"x".repeat(300)}`]: "no", ["y".repeat(5000)]: 1, model: "m" };
    for (const chunk of [1, 7, 10_000]) {
      expect(
        reader.read(API.chat, Buffer.from(JSON.stringify({ ...long, messages: MESSAGES })), chunk).model,
      ).toBe("m");
    }
  });
});

describe("duplicate names: the last one counts, as for the engine", () => {
  it("model, stream and limits", () => {
    const body =
      '{"model":"a","stream":true,"max_tokens":1,"messages":[{"role":"user","content":"x"}],"model":"b","stream":false,"max_tokens":2}';
    expect(reader.read(API.chat, body)).toMatchObject({ model: "b", stream: false, maxTokens: 2 });
    expect(reader.read(API.chat, body.replace('"model":"b"', '"model":null')).model).toBe("");
  });

  it("messages: the chain starts anew, and its pages go back", () => {
    const first = JSON.stringify([
      { role: "user", content: [{ type: "image_url", image_url: { url: "u" } }, "a".repeat(9000)] },
    ]);
    const second = JSON.stringify(MESSAGES);
    const twice = reader.read(API.chat, `{"messages":${first},"messages":${second}}`);
    expect(twice).toEqual(reader.read(API.chat, `{"messages":${second}}`));
    reader.exports.begin(API.chat);
    expect(reader.exports.pagesInUse()).toBe(0);
  });

  it("prompts of different kinds", () => {
    const ids = Array.from({ length: 40 }, (_, index) => index);
    const one = reader.read(
      API.completions,
      `{"prompt":"${"x".repeat(500)}","prompt":${JSON.stringify(ids)}}`,
    );
    expect(one).toEqual(reader.read(API.completions, { prompt: ids }));
    expect(reader.read(API.completions, `{"prompt":"x","prompt":null}`).error).toBeDefined();
    expect(reader.read(API.completions, `{"prompt":null,"prompt":"x"}`).error).toBeUndefined();
  });

  it("ingredients", () => {
    const tools = (names: string[]) => JSON.stringify(names.map((name) => ({ name })));
    const body = (fields: string) => `{"messages":${JSON.stringify(MESSAGES)},${fields}}`;
    const once = reader.read(API.chat, body(`"cache_salt":"b","tools":${tools(["f"])}`));
    const twice = reader.read(
      API.chat,
      body(`"cache_salt":"a","tools":${tools(["g", "h"])},"cache_salt":"b","tools":${tools(["f"])}`),
    );
    expect({ ...twice, extraBytes: 0 }).toEqual({ ...once, extraBytes: 0 });
  });
});

describe("before the end of the body", () => {
  const start = `{"messages":[{"role":"user","content":"${"x".repeat(300)}`;

  it("text already has keys, the model is not known yet", () => {
    const early = reader.readStart(API.chat, start);
    expect(early).toMatchObject({ error: undefined, model: "", textBytes: 300 });
    expect(early.keys).toHaveLength(4);
    expect(reader.exports.promptHasEnded(reader.exports.recordPtr())).toBe(0);
    expect(reader.exports.promptHasPrompt(reader.exports.recordPtr())).toBe(1);
    expect(reader.readStart(API.chat, `{"model":"m",${start.slice(1)}`).model).toBe("m");
  });

  it("the model is not known before its last byte", () => {
    expect(reader.readStart(API.chat, '{"model":"mod').model).toBe("");
    expect(reader.readStart(API.chat, '{"model":"mod"').model).toBe("mod");
  });

  it("ingredients that have not come count as absent: the order of fields changes a key only here", () => {
    const messages = JSON.stringify(MESSAGES);
    const early = reader.readStart(API.chat, `{"messages":${messages},"tools":[{"name":"f"`);
    const plain = reader.read(API.chat, { messages: MESSAGES });
    expect(early.keys).toEqual(plain.keys);
    const whole = reader.read(API.chat, { messages: MESSAGES, tools: [{ name: "f" }] });
    expect(reader.readStart(API.chat, `{"tools":[{"name":"f"}],"messages":${messages}`).keys).toEqual(
      whole.keys,
    );
    expect(whole.keys).not.toEqual(plain.keys);
  });

  it("the end of the object is seen before the end of the body", () => {
    reader.readStart(API.chat, '{"messages":[]}');
    expect(reader.exports.promptHasEnded(reader.exports.recordPtr())).toBe(1);
  });
});

describe("limits", () => {
  it("the record has the promised size", () => {
    expect(reader.exports.recordBytes()).toBeLessThanOrEqual(RECORD_BYTES_MAX);
    expect(reader.exports.usageBytes()).toBeLessThanOrEqual(256);
  });

  it("any field may be nested to the depth limit", () => {
    for (const field of ["messages", "tools", "model", "stop", "max_tokens", "unknown"]) {
      const nested = `${"[".repeat(63)}${"]".repeat(63)}`;
      expect(reader.read(API.responses, `{"input":"x","${field}":${nested}}`).error).toBeUndefined();
      const objects = `${'{"content":'.repeat(62)}[]${"}".repeat(62)}`;
      expect(reader.read(API.responses, `{"input":"x","${field}":${objects}}`).error).toBeUndefined();
    }
  });
});

describe("random bodies", () => {
  const NAMES = [
    "model",
    "messages",
    "prompt",
    "input",
    "tools",
    "content",
    "role",
    "type",
    "text",
    "stream",
    "system",
  ];
  const MORE = [
    "cache_control",
    "cache_salt",
    "input_ids",
    "token_ids",
    "sampling_params",
    "max_tokens",
    "image_url",
  ];
  const STRINGS = ["user", "text", "image_url", "x".repeat(70), "é€😀", 'q"\\\n', ""];

  function randomValue(next: () => number, size: number): unknown {
    const pick = Math.floor(next() * (size > 1 ? 10 : 6));
    if (pick < 3) return STRINGS[Math.floor(next() * STRINGS.length)];
    if (pick === 3) return [null, true, false][Math.floor(next() * 3)];
    if (pick === 4) return Math.floor(next() * 1000) - 3;
    if (pick === 5) return Array.from({ length: 12 }, () => Math.floor(next() * 99_999));
    const members = Array.from({ length: Math.floor(next() * 5) }, () => randomValue(next, size / 2));
    return pick < 8 ? members : Object.fromEntries(members.map((member) => [randomName(next), member]));
  }

  function randomName(next: () => number): string {
    const names = next() < 0.7 ? NAMES : MORE;
    return names[Math.floor(next() * names.length)]!;
  }

  it("give the same result in any chunking, for every API", () => {
    const { seed, next } = random();
    for (let round = 0; round < 600; round++) {
      const fields = Array.from({ length: 8 }, () => [randomName(next), randomValue(next, 32)]);
      const bytes = Buffer.from(JSON.stringify(Object.fromEntries(fields), null, next() < 0.3 ? 1 : 0));
      const api = Math.floor(next() * 18);
      const whole = reader.read(api, bytes);
      for (const chunk of [1, 2, 3, 1 + Math.floor(next() * 60)]) {
        expect(
          reader.read(api, bytes, chunk),
          `TEST_SEED=${seed} round ${round} chunks of ${chunk}: ${bytes}`,
        ).toEqual(whole);
      }
    }
  });
});
