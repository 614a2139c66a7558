// Which chats share prefix keys: messages, media, and everything beside the text.
import { beforeAll, describe, expect, it } from "vitest";
import { API, type Prompt, PromptReader, blocksOf, sharedKeys } from "./support/prompt-reader.ts";

let reader: PromptReader;
beforeAll(async () => {
  reader = await PromptReader.start();
});

const chat = (messages: unknown, fields: object = {}): Prompt =>
  reader.read(API.chat, { model: "m", messages, ...fields });
const system = (content: unknown) => ({ role: "system", content });
const user = (content: unknown) => ({ role: "user", content });
const assistant = (content: unknown, fields: object = {}) => ({ role: "assistant", content, ...fields });

/** Both prompts have the same keys, and more than none. */
function expectSame(left: Prompt, right: Prompt): void {
  expect(left.keys.length).toBeGreaterThan(0);
  expect(right.keys).toEqual(left.keys);
}

describe("chat: what shares keys", () => {
  const turn = [system(blocksOf("rules")), user(blocksOf("question"))];
  const long = [...turn, assistant(blocksOf("answer")), user(blocksOf("more"))];

  it("a conversation's next turn goes on where the last one ended", () => {
    const before = chat(turn);
    const after = chat(long);
    expect(sharedKeys(before.keys, after.keys)).toBe(before.keys.length);
    expect(after.keys.length).toBeGreaterThan(before.keys.length);
  });

  it("a system prompt is shared by different users, and no more than that", () => {
    const one = chat([system(blocksOf("rules", 10)), user(blocksOf("mary"))]);
    const other = chat([system(blocksOf("rules", 10)), user(blocksOf("john"))]);
    expect(sharedKeys(one.keys, other.keys)).toBe(10);
  });

  it("nothing is shared when the first text differs", () => {
    expect(sharedKeys(chat([user(blocksOf("a"))]).keys, chat([user(blocksOf("b"))]).keys)).toBe(0);
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
    const plain = chat([user(blocksOf("question"))]);
    expectSame(plain, chat([user([{ type: "text", text: blocksOf("question") }])]));
    expectSame(plain, chat([user([{ text: blocksOf("question"), type: "text" }])]));
    const joined = chat([user(`${blocksOf("one")}\n${blocksOf("two")}`)]);
    expectSame(
      joined,
      chat([user([blocksOf("one"), blocksOf("two")].map((part) => ({ type: "text", text: part })))]),
    );
    expectSame(joined, chat([user([blocksOf("one"), blocksOf("two")])]));
  });

  it("whitespace and escapes of the JSON do not matter", () => {
    const body = {
      model: "m",
      messages: [user(blocksOf('é €😀\n"quoted" \\ '))],
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
    const tail = user(blocksOf("tail"));
    const first = chat([user(blocksOf("x")), tail]);
    const other = chat([assistant(blocksOf("x")), tail]);
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
      const tail = user(blocksOf("tail"));
      const plain = chat([assistant(blocksOf("x")), tail]);
      const changed = chat([assistant(blocksOf("x"), fields), tail]);
      expect(sharedKeys(plain.keys, changed.keys)).toBe(4);
      expectSame(changed, chat([{ ...fields, content: blocksOf("x"), role: "assistant" }, tail]));
    });
  }

  it("null fields of a message are as good as none", () => {
    const tail = user(blocksOf("tail"));
    const nulls = { name: null, tool_calls: null, refusal: null, reasoning_content: null };
    expectSame(chat([assistant(blocksOf("x")), tail]), chat([assistant(blocksOf("x"), nulls), tail]));
    expectSame(chat([assistant(null), tail]), chat([{ role: "assistant" }, tail]));
  });

  it("the arguments of a tool call count", () => {
    const call = (argument: string) => [
      assistant(null, { tool_calls: [{ id: "1", function: { name: "f", arguments: argument } }] }),
      user(blocksOf("tail")),
    ];
    expect(sharedKeys(chat(call("{}")).keys, chat(call('{"a":1}')).keys)).toBe(0);
  });
});

describe("chat: images, audio and video", () => {
  const image = (url: string) => ({ type: "image_url", image_url: { url } });
  const tail = { type: "text", text: blocksOf("tail") };

  it("count by hash: the same picture shares keys, another does not", () => {
    const one = chat([user([image("data:image/png;base64,AAAA"), tail])]);
    expectSame(one, chat([user([image("data:image/png;base64,AAAA"), tail])]));
    const other = chat([user([image("data:image/png;base64,AAAB"), tail])]);
    expect(sharedKeys(one.keys, other.keys)).toBe(0);
    expect(one.textBytes).toBe(tail.text.length);
    expect(one.extraBytes).toBe(0);
  });

  it("count where they stand", () => {
    const head = { type: "text", text: blocksOf("head") };
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
  const plain = () => chat([user(blocksOf("x"))]);

  for (const [name, value] of CHANGING) {
    it(`${name} ${JSON.stringify(value)} changes every key and no text`, () => {
      const changed = chat([user(blocksOf("x"))], { [name]: value });
      expect(changed.error).toBeUndefined();
      expect(changed.chain).toEqual(plain().chain);
      expect(sharedKeys(changed.keys, plain().keys)).toBe(0);
      const first = reader.read(API.chat, { [name]: value, messages: [user(blocksOf("x"))], model: "m" });
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
      expectSame(plain(), chat([user(blocksOf("x"))], { [name]: value }));
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
        user([{ type: "text", text: blocksOf("one"), ...marked }]),
        assistant([{ type: "tool_use", id: "1", name: "f", input: { a: 1 }, ...marked }]),
        user([{ type: "tool_result", tool_use_id: "1", content: blocksOf("two"), ...marked }]),
        { role: "user", content: blocksOf("three"), ...marked },
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
