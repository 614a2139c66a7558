// Prompts of every API beside chat completions: what is text, what is an ingredient, which requests share keys.
import { beforeAll, describe, expect, it } from "vitest";
import {
  API,
  BLOCK_BYTES,
  type Prompt,
  PromptReader,
  blocksOf,
  sharedKeys,
} from "./support/prompt-reader.ts";

let reader: PromptReader;
beforeAll(async () => {
  reader = await PromptReader.start();
});

const chat = (messages: unknown, fields: object = {}): Prompt =>
  reader.read(API.chat, { model: "m", messages, ...fields });
const user = (content: unknown) => ({ role: "user", content });
const assistant = (content: unknown, fields: object = {}) => ({ role: "assistant", content, ...fields });

/** Both prompts have the same keys, and more than none. */
function expectSame(left: Prompt, right: Prompt): void {
  expect(left.keys.length).toBeGreaterThan(0);
  expect(right.keys).toEqual(left.keys);
}

describe("Anthropic messages", () => {
  it("system is shared wherever it stands, as text or as blocks of the same content", () => {
    const messages = [user(blocksOf("x"))];
    const first = reader.read(API.messages, { system: "rules", messages, model: "m" });
    expectSame(first, reader.read(API.messages, { model: "m", messages, system: "rules" }));
    const other = reader.read(API.messages, { system: "laws", messages, model: "m" });
    expect(sharedKeys(first.keys, other.keys)).toBe(0);
    expect(first.extraBytes).toBe(5);
  });

  it("a system text has no part of Claude Code's attribution, which is another one in every request", () => {
    const line = (hash: string) => `x-anthropic-billing-header: cc_version=2.1.37; cch=${hash};`;
    const text = (one: string) => ({ type: "text", text: one });
    const messages = [user(blocksOf("x"))];
    const body = (system: unknown) => ({ model: "m", max_tokens: 1, messages, system });
    const blocks = (hash: string, rules: string) => body([text(line(hash)), text(rules)]);
    const first = reader.read(API.messages, blocks("00000", "rules"));
    expectSame(first, reader.read(API.messages, blocks("a1b2c", "rules")));
    expect(sharedKeys(first.keys, reader.read(API.messages, blocks("00000", "laws")).keys)).toBe(0);
    const lines = (hash: string) => reader.read(API.messages, body(`${line(hash)}\nrules`));
    expectSame(lines("00000"), lines("a1b2c"));
    expectSame(lines("00000"), reader.read(API.messages, body("rules")));
    const asked = (hash: string) =>
      chat([{ role: "system", content: `${line(hash)}\nrules` }, user(blocksOf("x"))]);
    expectSame(asked("00000"), asked("a1b2c"));
    expectSame(asked("00000"), chat([{ role: "system", content: "rules" }, user(blocksOf("x"))]));
  });

  it("tool results are text of the chain", () => {
    const result = (content: unknown) => [
      user(blocksOf("ask")),
      assistant([{ type: "tool_use", id: "1", name: "f", input: {} }]),
      user([{ type: "tool_result", tool_use_id: "1", content }]),
    ];
    const one = reader.read(API.messages, { messages: result(blocksOf("sunny", 8)) });
    const blocks = reader.read(API.messages, {
      messages: result([{ type: "text", text: blocksOf("sunny", 8) }]),
    });
    expectSame(one, blocks);
    expect(one.textBytes).toBe(12 * BLOCK_BYTES);
    const other = reader.read(API.messages, {
      messages: result(`${blocksOf("sunny", 6)}${blocksOf("rain", 2)}`),
    });
    expect(sharedKeys(one.keys, other.keys)).toBeGreaterThanOrEqual(10);
  });

  it("blocks in blocks are read to a depth and hashed whole beyond it", () => {
    const nested = (depth: number, leaf: string): unknown =>
      depth === 0 ? leaf : [{ type: "tool_result", content: nested(depth - 1, leaf) }];
    for (let depth = 1; depth < 12; depth++) {
      const body = (leaf: string) => ({ messages: [user(nested(depth, leaf)), user(blocksOf("tail"))] });
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
    const read = (fields: object) =>
      reader.read(API.responses, { model: "m", input: blocksOf("x"), ...fields });
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
      { type: "message", role: "user", content: [{ type: "input_text", text: blocksOf("x") }] },
      { role: "user", content: blocksOf("y") },
    ];
    const plain = [user(blocksOf("x")), user(blocksOf("y"))];
    expectSame(reader.read(API.responses, { input: items }), reader.read(API.responses, { input: plain }));
  });

  it("function calls and their outputs are items", () => {
    const input = (output: string) => [
      user(blocksOf("x")),
      { type: "function_call", call_id: "1", name: "f", arguments: "{}" },
      { type: "function_call_output", call_id: "1", output },
    ];
    const one = reader.read(API.responses, { input: input(blocksOf("a", 8)) });
    expect(one.messages).toBe(3);
    expect(one.textBytes).toBe(12 * BLOCK_BYTES);
    expect(sharedKeys(one.keys, reader.read(API.responses, { input: input(blocksOf("b", 8)) }).keys)).toBe(4);
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
    const plain = reader.read(API.completions, { prompt: blocksOf("x") });
    const list = reader.read(API.completions, { prompt: [blocksOf("x")] });
    expect(sharedKeys(plain.keys, list.keys)).toBe(plain.keys.length);
  });

  it("several texts do not run into each other", () => {
    const one = reader.read(API.completions, { prompt: ["ab", `c${blocksOf("x")}`] });
    const other = reader.read(API.completions, { prompt: ["abc", blocksOf("x")] });
    expect(sharedKeys(one.keys, other.keys)).toBe(0);
  });

  it("do not share keys with chats of the same text, which have a template around it", () => {
    const one = reader.read(API.completions, { prompt: blocksOf("x") });
    expect(sharedKeys(one.keys, chat([user(blocksOf("x"))]).keys)).toBe(0);
  });
});

describe("SGLang generate", () => {
  it("takes text, extra_key as the salt, the LoRA path and max_new_tokens", () => {
    const body = {
      text: blocksOf("x"),
      extra_key: "s",
      lora_path: "a",
      sampling_params: { max_new_tokens: 9 },
    };
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
    expectSame(plain, reader.read(API.sglangGenerate, { text: blocksOf("x"), input_ids: ids }));
    expectSame(plain, reader.read(API.sglangGenerate, { input_ids: ids, text: blocksOf("x") }));
    expectSame(plain, reader.read(API.sglangGenerate, { input_ids: ids, text: ["a", "b"] }));
    const withText = reader.read(API.sglangGenerate, { text: blocksOf("x") });
    expectSame(withText, reader.read(API.sglangGenerate, { text: blocksOf("x"), input_ids: null }));
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
    [API.embeddings, "embeddings of a text", { input: blocksOf("x") }],
    [API.embeddings, "embeddings of a chat", { messages: [user(blocksOf("x"))] }],
    [API.images, "images", { prompt: blocksOf("x") }],
    [API.conversations, "conversations", { items: [user(blocksOf("x"))] }],
    [API.countTokens, "count_tokens", { messages: [user(blocksOf("x"))] }],
    [API.tokenize, "tokenize of a text", { prompt: blocksOf("x") }],
    [API.tokenize, "tokenize of a chat", { messages: [user(blocksOf("x"))] }],
    [API.rerank, "rerank", { query: "q", documents: [blocksOf("x")] }],
    [API.score, "score", { text_1: "q", text_2: blocksOf("x") }],
    [API.score, "score of queries", { queries: "q", documents: [blocksOf("x")] }],
    [API.pooling, "pooling", { input: blocksOf("x") }],
    [API.classify, "classify", { input: blocksOf("x") }],
    [API.chatRender, "render of a chat", { messages: [user(blocksOf("x"))] }],
    [API.completionsRender, "render of a completion", { prompt: blocksOf("x") }],
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
    const documents = [blocksOf("x")];
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
