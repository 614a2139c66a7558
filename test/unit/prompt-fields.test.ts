// Model, limits and flags of request bodies; duplicates; paths; what is refused and in which words.
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
    expect(reader.exports.chainPagesInUse()).toBe(0);
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

describe("bodies that do not fit their API", () => {
  const CHAT = "invalid chat completions request: must have valid messages field";
  const COMPLETIONS = "invalid completions request: must have prompt field";
  const EMBEDDINGS = "invalid embeddings request: must have input field";
  const GENERATE = "invalid generate request: must have non-empty token_ids field";
  const REFUSED: readonly [number, unknown, string | undefined][] = [
    [API.chat, {}, CHAT],
    [API.chat, null, CHAT],
    [API.chat, { messages: null }, CHAT],
    [API.chat, { messages: {} }, CHAT],
    [API.chat, { messages: ["x"] }, CHAT],
    [API.chat, { messages: [["x"]] }, CHAT],
    [API.chat, { messages: [1] }, CHAT],
    [API.chat, { messages: [{ role: "user", content: {} }] }, CHAT],
    [API.chat, { messages: [{ role: "user", content: true }] }, CHAT],
    [API.chat, { messages: [{ role: "user", content: [1] }] }, CHAT],
    [API.chat, { messages: [{ role: ["user"], content: "x" }] }, CHAT],
    [API.chat, { messages: [{ role: "user", content: null }] }, undefined],
    [API.chat, { messages: [{}] }, undefined],
    [API.chat, { messages: MESSAGES, tools: {} }, CHAT],
    [API.chat, { messages: MESSAGES, cache_salt: 1 }, CHAT],
    [API.chat, { messages: MESSAGES, chat_template_kwargs: [] }, CHAT],
    [API.chatRender, { messages: [] }, CHAT],
    [API.completions, { prompt: "" }, COMPLETIONS],
    [API.completions, { prompt: ["a", 1] }, COMPLETIONS],
    [API.completions, { prompt: [1, "a"] }, COMPLETIONS],
    [API.completions, { prompt: [[1], "a"] }, COMPLETIONS],
    [API.completions, { prompt: [[1], 1] }, COMPLETIONS],
    [API.completions, { prompt: [1, null] }, COMPLETIONS],
    [API.completions, { prompt: [1, -1] }, COMPLETIONS],
    [API.completions, { prompt: [1.5] }, COMPLETIONS],
    [API.completions, { prompt: [[1, -1]] }, COMPLETIONS],
    [API.completions, { prompt: [{}] }, COMPLETIONS],
    [API.completions, { prompt: {} }, COMPLETIONS],
    [API.completions, { prompt: "x", cache_salt: {} }, COMPLETIONS],
    [API.completions, { prompt: [""] }, undefined],
    [API.completions, { prompt_embeds: "AAAA" }, undefined],
    [API.completionsRender, { prompt: 1 }, COMPLETIONS],
    [API.embeddings, { input: [] }, EMBEDDINGS],
    [API.embeddings, { input: 1 }, EMBEDDINGS],
    [API.embeddings, { input: ["a", [1]] }, EMBEDDINGS],
    [API.responses, { input: null }, "invalid responses request: must have input field"],
    [API.responses, { input: "" }, undefined],
    [API.responses, { input: [] }, undefined],
    [API.conversations, { items: [] }, "invalid conversations request: must have items field"],
    [API.images, { prompt: ["x"] }, "invalid images generations request: must have prompt field"],
    [API.messages, { messages: null }, "invalid messages request: must have at least one message"],
    [API.messages, { messages: "x" }, "error parsing messages request: a field is of the wrong type"],
    [
      API.messages,
      { messages: [{ role: 1 }] },
      "error parsing messages request: a field is of the wrong type",
    ],
    [API.vllmGenerate, { token_ids: null }, GENERATE],
    [API.vllmGenerate, { token_ids: [1, "x"] }, "invalid generate request: a field is of the wrong type"],
    [API.vllmGenerate, { token_ids: [1, true] }, "invalid generate request: token_ids[1]: invalid value"],
    [API.vllmGenerate, { token_ids: [1, 2.5] }, "invalid generate request: token_ids[1]: invalid value 2.5"],
    [API.vllmGenerate, { token_ids: "x" }, "invalid generate request: a field is of the wrong type"],
    [
      API.sglangGenerate,
      { input_ids: "x" },
      "invalid generate request: input_ids must be an array of uint32 integers",
    ],
    [API.sglangGenerate, { input_ids: null }, "invalid generate request: input_ids must be provided"],
    [API.chat, [], "error unmarshaling request bodyMap: the body is not a JSON object"],
    [API.chat, "text", "error unmarshaling request bodyMap: the body is not a JSON object"],
    [API.messages, 1, "error unmarshaling request body: the body is not a JSON object"],
  ];
  for (const [api, body, error] of REFUSED) {
    it(`${api} ${JSON.stringify(body)}`, () => {
      const bytes = Buffer.from(JSON.stringify(body));
      for (const chunk of [bytes.length, 1]) expect(reader.read(api, bytes, chunk).error).toBe(error);
    });
  }
});

describe("bodies that are no JSON, in the words of Go's decoder", () => {
  const PREFIX = "error unmarshaling request bodyMap: ";
  const TEXTS: readonly [string, string, number][] = [
    ["", "unexpected end of JSON input", 0],
    ["{", "unexpected end of JSON input", 1],
    ['{"a":"b', "unexpected end of JSON input", 7],
    ["no healthy upstream", "invalid character 'o' in literal null (expecting 'u')", 1],
    ["tru!", "invalid character '!' in literal true (expecting 'e')", 3],
    ["fx", "invalid character 'x' in literal false (expecting 'a')", 1],
    ["hello", "invalid character 'h' looking for beginning of value", 0],
    ["{malformed", "invalid character 'm' looking for beginning of object key string", 1],
    ['{"a" 1}', "invalid character '1' after object key", 5],
    ['{"a":1 "b"}', "invalid character '\"' after object key:value pair", 7],
    ["[1 2]", "invalid character '2' after array element", 3],
    ["{}x", "invalid character 'x' after top-level value", 2],
    ['{"a":"\n"}', "invalid character '\\n' in string literal", 6],
    ['{"a":"\u0001"}', "invalid character '\\x01' in string literal", 6],
    ['{"a":"\\q"}', "invalid character 'q' in string escape code", 7],
    ['{"a":"\\u12x4"}', "invalid character 'x' in \\u hexadecimal character escape", 10],
    ["[-]", "invalid character ']' in numeric literal", 2],
    ["[1.]", "invalid character ']' after decimal point in numeric literal", 3],
    ["[1e]", "invalid character ']' in exponent of numeric literal", 3],
    ["[01]", "invalid character '1' after a leading zero in numeric literal", 2],
    ["'a'", "invalid character '\\'' looking for beginning of value", 0],
    ["é", "invalid character '\\xc3' looking for beginning of value", 0],
    [`${"[".repeat(65)}`, "exceeded max depth of 64", 64],
  ];
  for (const [body, error, offset] of TEXTS) {
    it(JSON.stringify(body.slice(0, 40)), () => {
      const bytes = Buffer.from(body);
      for (const chunk of [Math.max(bytes.length, 1), 1]) {
        expect(reader.read(API.chat, bytes, chunk)).toMatchObject({
          error: PREFIX + error,
          errorOffset: offset,
        });
      }
    });
  }

  it("bytes that are not UTF-8 are refused where they stand", () => {
    const bytes = Buffer.concat([Buffer.from('{"a":"b'), Buffer.from([0xff]), Buffer.from('"}')]);
    expect(reader.read(API.chat, bytes).error).toBe(`${PREFIX}invalid UTF-8 in string literal at byte 7`);
  });

  it("each API has its own prefix", () => {
    expect(reader.read(API.messages, "x").error).toMatch(/^error unmarshaling request body: invalid/);
    expect(reader.read(API.vllmGenerate, "x").error).toMatch(/^invalid character/);
    expect(reader.read(API.sglangGenerate, "x").error).toMatch(
      /^invalid generate request: invalid character/,
    );
  });

  it("the fault is known at the chunk that has it", () => {
    expect(reader.readStart(API.chat, '{"messages":[}').error).toMatch(/'}' looking for beginning of value/);
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
