// What the prompt reader makes of request bodies: which requests share keys, what is kept, what is refused.
import { beforeAll, describe, expect, it } from "vitest";
import { API, type Prompt, PromptReader, sharedKeys } from "./support/prompt-reader.ts";

const BLOCK_BYTES = 64;

let reader: PromptReader;
beforeAll(async () => {
  reader = await PromptReader.start();
});

/** Text long enough for `blocks` keys, different for every `name`. */
const text = (name: string, blocks = 4): string =>
  `${name} `.padEnd(blocks * BLOCK_BYTES, `${name} speaks on. `);

const chat = (messages: unknown, fields: object = {}): Prompt =>
  reader.read(API.chat, { model: "m", messages, ...fields });
const user = (content: unknown) => ({ role: "user", content });
const assistant = (content: unknown, fields: object = {}) => ({ role: "assistant", content, ...fields });
const system = (content: unknown) => ({ role: "system", content });

/** Both prompts have the same keys, and more than none. */
function expectSame(left: Prompt, right: Prompt): void {
  expect(left.keys.length).toBeGreaterThan(0);
  expect(right.keys).toEqual(left.keys);
}

describe("chat: what shares keys", () => {
  const turn = [system(text("rules")), user(text("question"))];
  const long = [...turn, assistant(text("answer")), user(text("more"))];

  it("a conversation's next turn goes on where the last one ended", () => {
    const before = chat(turn);
    const after = chat(long);
    expect(sharedKeys(before.keys, after.keys)).toBe(before.keys.length);
    expect(after.keys.length).toBeGreaterThan(before.keys.length);
  });

  it("a system prompt is shared by different users, and no more than that", () => {
    const one = chat([system(text("rules", 10)), user(text("mary"))]);
    const other = chat([system(text("rules", 10)), user(text("john"))]);
    expect(sharedKeys(one.keys, other.keys)).toBe(10);
  });

  it("nothing is shared when the first text differs", () => {
    expect(sharedKeys(chat([user(text("a"))]).keys, chat([user(text("b"))]).keys)).toBe(0);
  });

  it("where the role stands in a message does not matter", () => {
    expectSame(chat(long), chat(long.map(({ role, content }) => ({ content, role }))));
  });

  it("where the fields stand in the body does not matter", () => {
    const tools = [{ type: "function", function: { name: "f" } }];
    const fields = { model: "m", messages: long, tools, cache_salt: "s", reasoning_effort: "low" };
    const backwards = Object.fromEntries(Object.entries(fields).reverse());
    expectSame(reader.read(API.chat, fields), reader.read(API.chat, backwards));
  });

  it("one block of text is the same as plain text, and several are joined with line breaks", () => {
    const plain = chat([user(text("question"))]);
    expectSame(plain, chat([user([{ type: "text", text: text("question") }])]));
    expectSame(plain, chat([user([{ text: text("question"), type: "text" }])]));
    const joined = chat([user(`${text("one")}\n${text("two")}`)]);
    expectSame(
      joined,
      chat([user([text("one"), text("two")].map((part) => ({ type: "text", text: part })))]),
    );
    expectSame(joined, chat([user([text("one"), text("two")])]));
  });

  it("whitespace and escapes of the JSON do not matter", () => {
    const body = {
      model: "m",
      messages: [user(text('é €😀\n"quoted" \\ '))],
      tools: [{ name: "x", parameters: {} }],
    };
    const plain = reader.read(API.chat, body);
    expectSame(plain, reader.read(API.chat, JSON.stringify(body, null, 3)));
    const ascii = JSON.stringify(body).replace(
      /[^ -~]/g,
      (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
    );
    expectSame(plain, reader.read(API.chat, ascii));
  });

  it("the same text of another role is not the same message", () => {
    const tail = user(text("tail"));
    const first = chat([user(text("x")), tail]);
    const other = chat([assistant(text("x")), tail]);
    expect(sharedKeys(first.keys, other.keys)).toBe(4);
    expect(other.keys.length).toBe(first.keys.length);
  });

  it("a text cut into messages elsewhere is not the same conversation", () => {
    const one = chat([user("a".repeat(100)), user("b".repeat(200))]);
    const other = chat([user(`${"a".repeat(100)}b`), user("b".repeat(199))]);
    expect(sharedKeys(one.keys, other.keys)).toBe(1);
  });

  const CHANGES: readonly [string, object][] = [
    ["name", { name: "mary" }],
    ["tool_calls", { tool_calls: [{ id: "1", type: "function", function: { name: "f", arguments: "{}" } }] }],
    ["reasoning", { reasoning: "because" }],
    ["reasoning_content", { reasoning_content: "because" }],
    ["tool_call_id", { tool_call_id: "1" }],
    ["refusal", { refusal: "no" }],
    ["a number", { weight: 1 }],
    ["a flag", { prefix: true }],
  ];
  for (const [name, fields] of CHANGES) {
    it(`${name} of a message changes the keys behind it, wherever it stands`, () => {
      const tail = user(text("tail"));
      const plain = chat([assistant(text("x")), tail]);
      const changed = chat([assistant(text("x"), fields), tail]);
      expect(sharedKeys(plain.keys, changed.keys)).toBe(4);
      expectSame(changed, chat([{ ...fields, content: text("x"), role: "assistant" }, tail]));
    });
  }

  it("null fields of a message are as good as none", () => {
    const tail = user(text("tail"));
    const nulls = { name: null, tool_calls: null, refusal: null, reasoning_content: null };
    expectSame(chat([assistant(text("x")), tail]), chat([assistant(text("x"), nulls), tail]));
    expectSame(chat([assistant(null), tail]), chat([{ role: "assistant" }, tail]));
  });

  it("the arguments of a tool call count", () => {
    const call = (argument: string) => [
      assistant(null, { tool_calls: [{ id: "1", function: { name: "f", arguments: argument } }] }),
      user(text("tail")),
    ];
    expect(sharedKeys(chat(call("{}")).keys, chat(call('{"a":1}')).keys)).toBe(0);
  });
});

describe("chat: images, audio and video", () => {
  const image = (url: string) => ({ type: "image_url", image_url: { url } });
  const tail = { type: "text", text: text("tail") };

  it("count by hash: the same picture shares keys, another does not", () => {
    const one = chat([user([image("data:image/png;base64,AAAA"), tail])]);
    expectSame(one, chat([user([image("data:image/png;base64,AAAA"), tail])]));
    const other = chat([user([image("data:image/png;base64,AAAB"), tail])]);
    expect(sharedKeys(one.keys, other.keys)).toBe(0);
    expect(one.textBytes).toBe(tail.text.length);
    expect(one.extraBytes).toBe(0);
  });

  it("count where they stand", () => {
    const head = { type: "text", text: text("head") };
    const one = chat([user([head, image("https://a/b.png"), tail])]);
    const other = chat([user([head, image("https://a/c.png"), tail])]);
    expect(sharedKeys(one.keys, other.keys)).toBe(4);
  });

  it("are counted by kind", () => {
    const { images, audios, videos, messages } = chat([
      user([
        image("a"),
        image("b"),
        { type: "input_audio", input_audio: { data: "x", format: "wav" } },
        tail,
      ]),
      user([
        { type: "video_url", video_url: { url: "v" } },
        { type: "audio_url", audio_url: { url: "v" } },
      ]),
    ]);
    expect({ images, audios, videos, messages }).toEqual({ images: 2, audios: 2, videos: 1, messages: 2 });
  });

  it("a picture of megabytes has the same hash however it is cut", () => {
    const body = Buffer.from(JSON.stringify({ messages: [user([image("QUJD".repeat(400_000)), tail])] }));
    const whole = reader.read(API.chat, body);
    for (const chunk of [16_384, 1000, 65_537]) expectSame(whole, reader.read(API.chat, body, chunk));
    const changed = Buffer.from(body);
    changed[800_000] = 0x5a;
    expect(sharedKeys(whole.keys, reader.read(API.chat, changed).keys)).toBe(0);
  });
});

describe("ingredients", () => {
  const TOOL = {
    type: "function",
    function: { name: "f", description: "d", parameters: { type: "object" } },
  };
  const CHANGING: readonly [string, unknown][] = [
    ["tools", [TOOL]],
    ["tool_choice", "none"],
    ["tool_choice", { type: "function", function: { name: "f" } }],
    ["documents", [{ text: "d" }]],
    ["chat_template", "{{ x }}"],
    ["chat_template_kwargs", { enable_thinking: false }],
    ["reasoning_effort", "high"],
    ["add_generation_prompt", false],
    ["continue_final_message", true],
    ["truncate_prompt_tokens", 100],
    ["functions", [{ name: "f" }]],
    ["function_call", "f"],
    ["cache_salt", "tenant-a"],
    ["add_special_tokens", true],
    ["mm_processor_kwargs", { num_crops: 4 }],
  ];
  const plain = () => chat([user(text("x"))]);

  for (const [name, value] of CHANGING) {
    it(`${name} ${JSON.stringify(value)} changes every key and no text`, () => {
      const changed = chat([user(text("x"))], { [name]: value });
      expect(changed.error).toBeUndefined();
      expect(changed.chain).toEqual(plain().chain);
      expect(sharedKeys(changed.keys, plain().keys)).toBe(0);
      const first = reader.read(API.chat, { [name]: value, messages: [user(text("x"))], model: "m" });
      expectSame(changed, first);
    });
  }

  const NEUTRAL: readonly [string, unknown][] = [
    ["temperature", 0.5],
    ["stop", ["a"]],
    ["stream", true],
    ["stream_options", { include_usage: true }],
    ["max_tokens", 10],
    ["n", 2],
    ["seed", 1],
    ["logit_bias", { "1": 5 }],
    ["response_format", { type: "json_object" }],
    ["user", "mary"],
    ["metadata", { a: [1, 2, [3]] }],
    ["model", "other"],
    ["tools", null],
    ["tools", []],
    ["tool_choice", "auto"],
    ["tool_choice", null],
    ["add_generation_prompt", true],
    ["continue_final_message", false],
    ["return_assistant_tokens_mask", true],
    ["cache_salt", null],
    ["unknown", { deep: [[[{}]]] }],
  ];
  for (const [name, value] of NEUTRAL) {
    it(`${name} ${JSON.stringify(value)} changes no key`, () => {
      expectSame(plain(), chat([user(text("x"))], { [name]: value }));
    });
  }

  it("differ by every value and by every place of a value", () => {
    const variants: object[] = [
      { tools: [{ name: "f" }] },
      { tools: [{ name: "g" }] },
      { tools: [{ name: "f" }, { name: "f" }] },
      { tools: [["name", "f"]] },
      { tools: [{ name: ["f"] }] },
      { tools: [{ f: "name" }] },
      { tools: [{ name: "f", strict: true }] },
      { tools: [{ name: "f", strict: false }] },
      { tools: [{ name: "f", strict: null }] },
      { tools: [{ name: "f", strict: 1 }] },
      { tools: [{ name: "f", strict: [1] }] },
      { tools: [{ name: "f", strict: [1, 1] }] },
      { tools: [{ name: "f", strict: 1.5 }] },
      { documents: [{ name: "f" }] },
      { cache_salt: "f" },
      { chat_template: "f" },
      { reasoning_effort: "f" },
      { cache_salt: "f", chat_template: "f" },
    ];
    const hashes = variants.map((fields) => chat([user("x")], fields).ingredients);
    expect(new Set(hashes).size).toBe(variants.length);
  });

  it("give tools and salt apart", () => {
    const { tools, toolsHash, salt } = chat([user("x")], { tools: [TOOL, TOOL, TOOL], cache_salt: "s" });
    expect(tools).toBe(3);
    expect(toolsHash).not.toBe(0n);
    expect(salt).not.toBe(0n);
    expect(plain()).toMatchObject({ tools: 0, toolsHash: 0n, salt: 0n });
  });

  it("count the text of tools and tool calls as prompt text, but not a cache salt", () => {
    expect(plain().extraBytes).toBe(0);
    expect(chat([user("x")], { cache_salt: "salt" }).extraBytes).toBe(0);
    expect(chat([user("x")], { tools: [{ name: "four" }] }).extraBytes).toBe(8);
    expect(chat([assistant("x", { reasoning: "because" })]).extraBytes).toBe(7);
  });
});

describe("cache_control", () => {
  it("changes nothing, as clients move it with every turn", () => {
    const hint = { cache_control: { type: "ephemeral", ttl: "5m" } };
    const body = (marked: object) => ({
      model: "m",
      system: [{ type: "text", text: "rules", ...marked }],
      tools: [{ name: "f", ...marked, input_schema: { type: "object" } }],
      messages: [
        user([{ type: "text", text: text("one"), ...marked }]),
        assistant([{ type: "tool_use", id: "1", name: "f", input: { a: 1 }, ...marked }]),
        user([{ type: "tool_result", tool_use_id: "1", content: text("two"), ...marked }]),
        { role: "user", content: text("three"), ...marked },
      ],
    });
    const plain = reader.read(API.messages, body({}));
    expectSame(plain, reader.read(API.messages, body(hint)));
    expectSame(plain, reader.read(API.messages, body({ cache_control: null })));
    expectSame(plain, reader.read(API.messages, body({ cache_control: "x" })));
    const bytes = Buffer.from(JSON.stringify(body(hint)));
    for (const chunk of [1, 2, 3, 5, 50]) expectSame(plain, reader.read(API.messages, bytes, chunk));
  });
});

describe("Anthropic messages", () => {
  it("system is shared wherever it stands, as text or as blocks of the same content", () => {
    const messages = [user(text("x"))];
    const first = reader.read(API.messages, { system: "rules", messages, model: "m" });
    expectSame(first, reader.read(API.messages, { model: "m", messages, system: "rules" }));
    const other = reader.read(API.messages, { system: "laws", messages, model: "m" });
    expect(sharedKeys(first.keys, other.keys)).toBe(0);
    expect(first.extraBytes).toBe(5);
  });

  it("tool results are text of the chain", () => {
    const result = (content: unknown) => [
      user(text("ask")),
      assistant([{ type: "tool_use", id: "1", name: "f", input: {} }]),
      user([{ type: "tool_result", tool_use_id: "1", content }]),
    ];
    const one = reader.read(API.messages, { messages: result(text("sunny", 8)) });
    const blocks = reader.read(API.messages, {
      messages: result([{ type: "text", text: text("sunny", 8) }]),
    });
    expectSame(one, blocks);
    expect(one.textBytes).toBe(12 * BLOCK_BYTES);
    const other = reader.read(API.messages, { messages: result(`${text("sunny", 6)}${text("rain", 2)}`) });
    expect(sharedKeys(one.keys, other.keys)).toBeGreaterThanOrEqual(10);
  });

  it("blocks in blocks are read to a depth and hashed whole beyond it", () => {
    const nested = (depth: number, leaf: string): unknown =>
      depth === 0 ? leaf : [{ type: "tool_result", content: nested(depth - 1, leaf) }];
    for (let depth = 1; depth < 12; depth++) {
      const body = (leaf: string) => ({ messages: [user(nested(depth, leaf)), user(text("tail"))] });
      const one = reader.read(API.messages, body("a"));
      expect(one.error).toBeUndefined();
      expect(sharedKeys(one.keys, reader.read(API.messages, body("b")).keys)).toBe(0);
      expectSame(one, reader.read(API.messages, body("a")));
    }
  });

  it("max_tokens and stream are read", () => {
    const body = { max_tokens: 7, stream: true, messages: [user("x")], model: "claude" };
    expect(reader.read(API.messages, body)).toMatchObject({
      maxTokens: 7,
      stream: true,
      model: "claude",
      messages: 1,
    });
  });
});

describe("responses", () => {
  it("instructions and previous_response_id are ingredients, input is text", () => {
    const read = (fields: object) => reader.read(API.responses, { model: "m", input: text("x"), ...fields });
    const plain = read({});
    expect(plain.textBytes).toBe(4 * BLOCK_BYTES);
    for (const fields of [
      { instructions: "i" },
      { previous_response_id: "r" },
      { reasoning: { effort: "low" } },
    ]) {
      expect(sharedKeys(plain.keys, read(fields).keys)).toBe(0);
    }
    expectSame(plain, read({ store: false, text: { format: { type: "text" } } }));
  });

  it("items share keys with the messages that they are", () => {
    const items = [
      { type: "message", role: "user", content: [{ type: "input_text", text: text("x") }] },
      { role: "user", content: text("y") },
    ];
    const plain = [user(text("x")), user(text("y"))];
    expectSame(reader.read(API.responses, { input: items }), reader.read(API.responses, { input: plain }));
  });

  it("function calls and their outputs are items", () => {
    const input = (output: string) => [
      user(text("x")),
      { type: "function_call", call_id: "1", name: "f", arguments: "{}" },
      { type: "function_call_output", call_id: "1", output },
    ];
    const one = reader.read(API.responses, { input: input(text("a", 8)) });
    expect(one.messages).toBe(3);
    expect(one.textBytes).toBe(12 * BLOCK_BYTES);
    expect(sharedKeys(one.keys, reader.read(API.responses, { input: input(text("b", 8)) }).keys)).toBe(4);
  });
});

describe("token ids", () => {
  const ids = Array.from({ length: 200 }, (_, index) => index * 601);

  it("are four bytes each, and counted", () => {
    const one = reader.read(API.completions, { model: "m", prompt: ids });
    expect(one).toMatchObject({ tokenIds: 200, textBytes: 800 });
    expect(one.keys).toHaveLength(12);
    const longer = reader.read(API.completions, { model: "m", prompt: [...ids, 1, 2, 3] });
    expect(sharedKeys(one.keys, longer.keys)).toBe(12);
    const other = reader.read(API.completions, {
      model: "m",
      prompt: [...ids.slice(0, 100), 7, ...ids.slice(101)],
    });
    expect(sharedKeys(one.keys, other.keys)).toBe(6);
  });

  it("share keys across the APIs that take them", () => {
    const one = reader.read(API.completions, { prompt: ids });
    expectSame(one, reader.read(API.completions, { prompt: [ids] }));
    expectSame(one, reader.read(API.vllmGenerate, { token_ids: ids }));
    expectSame(one, reader.read(API.sglangGenerate, { input_ids: ids }));
    expectSame(one, reader.read(API.embeddings, { input: ids }));
    expectSame(one, reader.read(API.tokenize, { prompt: ids }));
  });

  it("have the same keys in any chunking and notation", () => {
    const body = Buffer.from(JSON.stringify({ prompt: ids }));
    const whole = reader.read(API.completions, body);
    for (const chunk of [1, 2, 3, 10, 100]) expectSame(whole, reader.read(API.completions, body, chunk));
    expectSame(whole, reader.read(API.completions, JSON.stringify({ prompt: ids }, null, 2)));
    expectSame(whole, reader.read(API.completions, `{"prompt":[${ids.map((id) => `${id}.0`).join()}]}`));
  });

  it("take the largest id and no larger one", () => {
    expect(reader.read(API.vllmGenerate, { token_ids: [4294967295] }).error).toBeUndefined();
    expect(reader.read(API.vllmGenerate, { token_ids: [4294967296] }).error).toBe(
      "invalid generate request: token_ids[0]: invalid value 4294967296",
    );
  });
});

describe("completions", () => {
  it("a list of one text has the keys of the text", () => {
    const plain = reader.read(API.completions, { prompt: text("x") });
    const list = reader.read(API.completions, { prompt: [text("x")] });
    expect(sharedKeys(plain.keys, list.keys)).toBe(plain.keys.length);
  });

  it("several texts do not run into each other", () => {
    const one = reader.read(API.completions, { prompt: ["ab", `c${text("x")}`] });
    const other = reader.read(API.completions, { prompt: ["abc", text("x")] });
    expect(sharedKeys(one.keys, other.keys)).toBe(0);
  });

  it("do not share keys with chats of the same text, which have a template around it", () => {
    const one = reader.read(API.completions, { prompt: text("x") });
    expect(sharedKeys(one.keys, chat([user(text("x"))]).keys)).toBe(0);
  });
});

describe("SGLang generate", () => {
  it("takes text, extra_key as the salt, the LoRA path and max_new_tokens", () => {
    const body = { text: text("x"), extra_key: "s", lora_path: "a", sampling_params: { max_new_tokens: 9 } };
    const one = reader.read(API.sglangGenerate, body);
    expect(one).toMatchObject({ error: undefined, maxTokens: 9, textBytes: 4 * BLOCK_BYTES });
    expect(one.salt).not.toBe(0n);
    expect(one.lora).not.toBe(0n);
    const other = reader.read(API.sglangGenerate, { ...body, lora_path: "b" });
    expect(other.lora).not.toBe(one.lora);
    expectSame(one, other);
  });

  it("input_ids go before text, wherever they stand", () => {
    const ids = Array.from({ length: 64 }, (_, index) => index);
    const plain = reader.read(API.sglangGenerate, { input_ids: ids });
    expectSame(plain, reader.read(API.sglangGenerate, { text: text("x"), input_ids: ids }));
    expectSame(plain, reader.read(API.sglangGenerate, { input_ids: ids, text: text("x") }));
    expectSame(plain, reader.read(API.sglangGenerate, { input_ids: ids, text: ["a", "b"] }));
    const withText = reader.read(API.sglangGenerate, { text: text("x") });
    expectSame(withText, reader.read(API.sglangGenerate, { text: text("x"), input_ids: null }));
  });

  it("takes batches, and an extra_key for each of a batch only", () => {
    expect(
      reader.read(API.sglangGenerate, { text: ["a", "b"], extra_key: ["x", "y"] }).error,
    ).toBeUndefined();
    expect(
      reader.read(API.sglangGenerate, { input_ids: [[1], [2]], extra_key: ["x", "y"] }).error,
    ).toBeUndefined();
    expect(reader.read(API.sglangGenerate, { text: "a", extra_key: ["x"] }).error).toBe(
      "unsupported generate request: extra_key must be a string",
    );
  });
});

describe("other APIs", () => {
  const READS: readonly [number, string, object][] = [
    [API.embeddings, "embeddings of a text", { input: text("x") }],
    [API.embeddings, "embeddings of a chat", { messages: [user(text("x"))] }],
    [API.images, "images", { prompt: text("x") }],
    [API.conversations, "conversations", { items: [user(text("x"))] }],
    [API.countTokens, "count_tokens", { messages: [user(text("x"))] }],
    [API.tokenize, "tokenize of a text", { prompt: text("x") }],
    [API.tokenize, "tokenize of a chat", { messages: [user(text("x"))] }],
    [API.rerank, "rerank", { query: "q", documents: [text("x")] }],
    [API.score, "score", { text_1: "q", text_2: text("x") }],
    [API.score, "score of queries", { queries: "q", documents: [text("x")] }],
    [API.pooling, "pooling", { input: text("x") }],
    [API.classify, "classify", { input: text("x") }],
    [API.chatRender, "render of a chat", { messages: [user(text("x"))] }],
    [API.completionsRender, "render of a completion", { prompt: text("x") }],
  ];
  for (const [api, name, body] of READS) {
    it(`${name}: text and model are read`, () => {
      const one = reader.read(api, { ...body, model: "m" });
      expect(one).toMatchObject({ error: undefined, model: "m", textBytes: 4 * BLOCK_BYTES });
      const bytes = Buffer.from(JSON.stringify({ model: "m", ...body }));
      for (const chunk of [1, 3, 17]) expectSame(one, reader.read(api, bytes, chunk));
    });
  }

  it("the query of rerank changes the keys, wherever it stands", () => {
    const documents = [text("x")];
    const one = reader.read(API.rerank, { query: "q", documents });
    expectSame(one, reader.read(API.rerank, { documents, query: "q" }));
    expect(sharedKeys(one.keys, reader.read(API.rerank, { query: "r", documents }).keys)).toBe(0);
  });

  it("only bodies of checked APIs are refused; the rest is the engine's to answer", () => {
    for (const api of Object.values(API)) {
      const checked = reader.exports.apiIsChecked(api) !== 0;
      for (const body of ["{", "no json", "[]", "", "{}", '{"prompt":[1,"a"]}']) {
        const { error } = reader.read(api, body);
        if (!checked) expect(error).toBeUndefined();
        else expect(error, `${api} ${body}`).toMatch(/request|unexpected|invalid|object/);
      }
    }
  });
});
