// Bodies that are refused, and the words for it: llm-d's, and those of Go's JSON decoder.
import { beforeAll, describe, expect, it } from "vitest";
import { API, PromptReader } from "./support/prompt-reader.ts";

const MESSAGES = [{ role: "user", content: "x".repeat(300) }];

let reader: PromptReader;
beforeAll(async () => {
  reader = await PromptReader.start();
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
