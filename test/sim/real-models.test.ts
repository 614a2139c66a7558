// Simulated servers with real tokenizers and chat templates: what they tokenize, render and cache.
import { describe, expect, it } from "vitest";
import type { SimulatedReplica } from "../../host-sim/model-server/server.ts";
import { DATED_TEMPLATE, REAL_MODELS, realModel, type RealModelName } from "./support/real-models.ts";
import { send, startReplica } from "./support/replica.ts";

const TEXTS = [
  "The router compares prefix caches.",
  "naïve café — «да» 日本語のテスト 😀👩‍👩‍👧 \u00e9 don't 12345\r\n\n  x",
  "<|im_start|>system<|im_end|><|eot_id|>",
  " . , ! ? n't 's 've",
];

async function ask(replica: SimulatedReplica, path: string, body: object): Promise<Record<string, unknown>> {
  const { status, text } = await send(replica, path, body);
  expect(status, text).toBe(200);
  return JSON.parse(text) as Record<string, unknown>;
}

const cachedOf = (answer: Record<string, unknown>): number =>
  (answer["usage"] as { prompt_tokens_details: { cached_tokens: number } }).prompt_tokens_details
    .cached_tokens;

describe.each(REAL_MODELS)("a server with the tokenizer of %s", (name) => {
  const textModel = realModel(name);

  it.each(TEXTS)("gives back %j, whole and by its pieces", async (text) => {
    const replica = await startReplica({ textModel });
    const told = await ask(replica, "/tokenize", {
      prompt: text,
      add_special_tokens: false,
      return_token_strs: true,
    });
    const { tokens, token_strs: pieces } = told as { tokens: number[]; token_strs: string[] };
    expect(pieces).toHaveLength(tokens.length);
    expect((await ask(replica, "/detokenize", { tokens }))["prompt"]).toBe(text);
    expect(tokens.every((id) => id < textModel.vocabularySize)).toBe(true);
  });

  it("counts the cached tokens of a second turn in whole blocks of its own", async () => {
    for (const blockSize of [16, 32]) {
      const replica = await startReplica({ textModel }, { blockSize });
      const messages = [
        { role: "system", content: "Répondez brièvement. ".repeat(20) },
        { role: "user", content: "こんにちは 😀 ".repeat(20) },
      ];
      const path = "/v1/chat/completions";
      const first = await ask(replica, path, { messages, max_tokens: 40 });
      expect(cachedOf(first)).toBe(0);
      const [choice] = first["choices"] as { message: { content: string } }[];
      const second = [
        ...messages,
        { role: "assistant", content: choice!.message.content },
        { role: "user", content: "Weiter!" },
      ];
      const asked = await ask(replica, "/tokenize", { messages: second });
      const before = await ask(replica, "/tokenize", { messages });
      // Blocks of prompt and answer: the last token of the answer was never computed.
      const held = Math.floor((Number(before["count"]) + 39) / blockSize) * blockSize;
      const answer = await ask(replica, path, { messages: second, max_tokens: 1 });
      expect(cachedOf(answer)).toBe(held);
      expect((answer["usage"] as { prompt_tokens: number }).prompt_tokens).toBe(asked["count"]);
    }
  });
});

describe("templates", () => {
  const render = (name: RealModelName, body: object, template?: string): string => {
    const model = realModel(name, template === undefined ? {} : { template });
    const { messages, tools = [], ending = "generation-prompt", variables = {} } = body as never;
    const list = (messages as { role: string; content: string }[]).map(({ role, content }) => ({
      role,
      content: [{ text: content }],
    }));
    return model.decode(model.render({ messages: list, tools, ending, variables }, false));
  };
  const USER = [{ role: "user", content: " hi " }];

  it("are the models' own", () => {
    expect(render("llama3_1", { messages: USER })).toBe(
      "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>" +
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    );
    expect(render("qwen2_5", { messages: USER })).toBe(
      "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n" +
        "<|im_start|>user\n hi <|im_end|>\n<|im_start|>assistant\n",
    );
  });

  it("may be others, with variables of their own, and end where the request says", () => {
    const dated = render(
      "llama3_1",
      { messages: USER, variables: { date_string: "1 May 2030" } },
      DATED_TEMPLATE,
    );
    expect(dated).toContain("Today Date: 1 May 2030\n\n<|eot_id|>");
    expect(render("llama3_1", { messages: USER }, DATED_TEMPLATE)).toContain("26 Jul 2024");
    expect(render("qwen2_5", { messages: USER, ending: "closed" })).toMatch(/<\|im_end\|>\n$/);
    expect(render("qwen2_5", { messages: USER, ending: "open" })).toMatch(/user\n hi$/);
  });

  it("that fail are the client's error, and so is a picture", async () => {
    const template = "{{ raise_exception('no turns') }}";
    const replica = await startReplica({ textModel: realModel("qwen2_5", { template }) });
    const body = { messages: USER };
    const failed = await send(replica, "/v1/chat/completions", body);
    expect([failed.status, failed.text]).toEqual([400, expect.stringContaining("no turns")]);
    const other = await startReplica({ textModel: realModel("qwen2_5") });
    const picture = [{ role: "user", content: [{ type: "image_url", image_url: { url: "x" } }] }];
    expect((await send(other, "/tokenize", { messages: picture })).status).toBe(400);
    const both = { messages: USER, continue_final_message: true };
    expect((await send(other, "/tokenize", both)).text).toContain("Cannot set both");
  });

  it("decode as transformers 4 does where that is asked for", () => {
    const text = "What ? I do n't .";
    const tokens = (cleansUp: boolean): string => {
      const model = realModel("llama3_1", { cleansUp });
      return model.decode(model.encode(text, false));
    };
    expect(tokens(false)).toBe(text);
    expect(tokens(true)).toBe("What? I don't.");
  });
});
