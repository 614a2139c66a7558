// Prompts as the filter renders them: literals between contents, trims, and everything that must not be rendered.
import { beforeAll, describe, expect, it } from "vitest";
import * as wire from "../../assembly/wire/prompt-programs.ts";
import { CHAT, COMPLETIONS, Renderer, adapter, base, programOf, tagged } from "./support/prompt-renderer.ts";

const TRIMS = wire.PROGRAM_TRIMS_SYSTEM | wire.PROGRAM_TRIMS_USER | wire.PROGRAM_TRIMS_ASSISTANT;
let r: Renderer;
beforeAll(async () => {
  r = await Renderer.start();
});

const system = (content: unknown, fields: object = {}) => ({ role: "system", content, ...fields });
const user = (content: unknown, fields: object = {}) => ({ role: "user", content, ...fields });
const assistant = (content: unknown, fields: object = {}) => ({ role: "assistant", content, ...fields });
const part = (text: unknown) => ({ type: "text", text });

const TALK = [system("Be brief."), user("Hi 😀"), assistant('Hello\n"you" é'), user("Why?")];
const TALK_TEXT =
  '<s><|system|>\nBe brief.<|end|>\n<|user|>\nHi 😀<|end|>\n<|assistant|>\nHello\n"you" é<|end|>\n<|user|>\nWhy?<|end|>\n<|assistant|>\n';

describe("a chat", () => {
  beforeAll(() => {
    r.take(base("m", tagged()));
  });

  it("is rendered with the literals between its roles, cut anywhere", () => {
    expect(r.chat(TALK, TALK_TEXT)).toBe("rendered");
    const body = JSON.stringify({ model: "m", messages: TALK });
    const length = Buffer.byteLength(body);
    for (let at = 1; at < length; at++) expect(r.read(CHAT, body, TALK_TEXT, [at])).toBe("rendered");
    for (const size of [1, 2, 3, 7, 64]) expect(r.read(CHAT, body, TALK_TEXT, size)).toBe("rendered");
  });

  it("is rendered the same from escapes and with white space between its members", () => {
    const body = JSON.stringify({ model: "m", messages: TALK }, null, 2);
    const ascii = body.replace(/[^ -~\n]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
    for (const size of [1, 5, 1000]) expect(r.read(CHAT, ascii, TALK_TEXT, size)).toBe("rendered");
  });

  it("may name its model behind its messages", () => {
    expect(
      r.read(CHAT, { messages: [user("x")], model: "m" }, "<s><|user|>\nx<|end|>\n<|assistant|>\n"),
    ).toBe("rendered");
  });

  it("is not rendered as another text", () => {
    expect(r.chat(TALK, TALK_TEXT.slice(0, -1))).toBe("otherwise");
    expect(r.chat(TALK, TALK_TEXT.replace("Why", "why"))).toBe("otherwise");
  });

  it("is rendered with white space at the ends of its contents, as nothing is trimmed", () => {
    expect(r.chat([user(" \n a ")], "<s><|user|>\n \n a <|end|>\n<|assistant|>\n")).toBe("rendered");
    expect(r.chat([user("")], "<s><|user|>\n<|end|>\n<|assistant|>\n")).toBe("rendered");
  });

  it("joins the text parts of a content", () => {
    const text = "<s><|user|>\none\ntwo<|end|>\n<|assistant|>\n";
    expect(r.chat([user([part("one"), part("two")])], text)).toBe("rendered");
    expect(r.chat([user([part("one"), "two"])], text)).toBe("rendered");
    expect(r.chat([user([{ text: "one\ntwo", type: "text", cache_control: { type: "x" } }])], text)).toBe(
      "rendered",
    );
  });

  it.each<[string, object]>([
    ["a null member", { name: null, tool_calls: null, refusal: null }],
    ["empty tool calls, as vLLM's own answers have them", { tool_calls: [], annotations: [] }],
    ["a cache hint", { cache_control: { type: "ephemeral" } }],
    ["its own kind's name", { type: "message" }],
  ])("is rendered with %s in a message", (_, fields) => {
    expect(r.chat([user("x", fields)], "<s><|user|>\nx<|end|>\n<|assistant|>\n")).toBe("rendered");
  });

  it.each<[string, unknown[], string]>([
    ["a name", [user("x", { name: "mary" })], "member"],
    ["tool calls", [user("q"), assistant("x", { tool_calls: [{ id: "1" }] })], "member"],
    ["reasoning", [user("q"), assistant("x", { reasoning_content: "hm" })], "member"],
    ["a number", [user("x", { weight: 0 })], "member"],
    ["a flag", [{ prefix: true, role: "user", content: "x" }], "member"],
    ["another API's content", [user("x", { output: "y" })], "member"],
    ["a tool's role", [{ role: "tool", content: "x" }], "role"],
    ["a developer's role", [{ role: "developer", content: "x" }], "role"],
    ["an unknown role", [{ role: "User", content: "x" }], "role"],
    ["its content before its role", [{ content: "x", role: "user" }], "order"],
    ["its parts before its role", [{ content: [part("x")], role: "user" }], "order"],
    ["no role", [{ content: "x" }], "order"],
    ["a null content", [user(null)], "content"],
    ["no content", [{ role: "user" }], "content"],
    ["no member", [{}], "content"],
    ["an empty list of parts", [user([])], "content"],
    ["an empty part", [user([part(""), part("x")])], "content"],
    ["null among its parts", [user([null, part("x")])], "content"],
    ["an image", [user([part("x"), { type: "image_url", image_url: { url: "u" } }])], "content"],
    ["a part without a type", [user([{ text: "x" }])], "content"],
    ["a part without text", [user([{ type: "text" }, part("x")])], "content"],
    ["a part with a null text", [user([{ type: "text", text: null }, part("x")])], "content"],
    ["an input_text part", [user([{ type: "input_text", text: "x" }])], "content"],
    ["a thinking part", [user([{ type: "text", thinking: "x" }])], "content"],
    ["a part with another member", [user([{ type: "text", text: "x", id: "1" }])], "content"],
    ["parts inside a part", [user([{ type: "text", text: [part("x")] }])], "content"],
    ["parts in a part's content", [user([{ type: "text", content: [part("x")] }])], "content"],
  ])("is not rendered with %s in a message", (_, messages, outcome) => {
    for (const cut of [[], 1]) expect(r.chat(messages, "", {}, cut)).toBe(outcome);
  });

  it("is not rendered with Claude Code's attribution, which vLLM leaves out", () => {
    expect(r.chat([system("x-anthropic-billing-header: cch=0;\nBe brief."), user("x")])).toBe("content");
    expect(r.chat([system([part("x-anthropic-billing-header: cch=0;"), part("a")]), user("x")])).toBe(
      "content",
    );
  });

  it.each<[string, string, string]>([
    ["content", '{"role":"user","content":"x","content":"y"}', "member"],
    ["content, the last one null", '{"role":"user","content":"x","content":null}', "member"],
    ["content, the first one null", '{"role":"user","content":null,"content":"x"}', "member"],
    ["role", '{"role":"user","role":"assistant","content":"x"}', "member"],
    ["role behind the content", '{"role":"user","content":"x","role":"assistant"}', "member"],
    ["text", '{"role":"user","content":[{"type":"text","text":"x","text":"y"}]}', "member"],
    ["type", '{"role":"user","content":[{"type":"text","text":"x","type":"text"}]}', "member"],
  ])("is not rendered with two members %s", (_, message, outcome) => {
    expect(r.read(CHAT, `{"model":"m","messages":[${message}]}`, "")).toBe(outcome);
  });

  it("is the last one of several, as Python's json.loads has it", () => {
    const twice = `{"model":"m","messages":[{"role":"tool"}],"messages":${JSON.stringify(TALK)}}`;
    for (const cut of [[], 1, 9]) expect(r.read(CHAT, twice, TALK_TEXT, cut)).toBe("rendered");
    const worse = `{"model":"m","messages":${JSON.stringify(TALK)},"messages":[{"role":"tool","content":"x"}]}`;
    expect(r.read(CHAT, worse, "")).toBe("role");
    expect(r.h["pagesInUse"]()).toBeLessThan(8);
  });

  it.each<[string, object, string]>([
    ["tools", { tools: [{ type: "function" }] }, "field"],
    ["an empty list of tools, which templates tell from none", { tools: [] }, "field"],
    ["a chosen tool", { tool_choice: "required" }, "field"],
    ["a function that is chosen", { tool_choice: { type: "function", function: { name: "f" } } }, "field"],
    ["functions", { functions: [{ name: "f" }] }, "field"],
    ["documents", { documents: [{ title: "d" }] }, "field"],
    ["a template", { chat_template: "{{x}}" }, "field"],
    ["template arguments", { chat_template_kwargs: { enable_thinking: false } }, "field"],
    ["an effort", { reasoning_effort: "low" }, "field"],
    ["no generation prompt", { add_generation_prompt: false }, "field"],
    ["a message to go on with", { continue_final_message: true }, "field"],
    ["a cut prompt", { truncate_prompt_tokens: 5 }, "field"],
    ["special tokens", { add_special_tokens: true }, "field"],
    ["a processor's arguments", { mm_processor_kwargs: { n: 1 } }, "field"],
    ["SGLang's adapter", { lora_path: "a" }, "field"],
    ["SGLang's key", { extra_key: "a" }, "field"],
    ["SGLang's token ids", { input_ids: [1] }, "field"],
    [
      "SGLang's reasoning, which goes into the template's arguments",
      { reasoning: { enabled: true } },
      "field",
    ],
    ["a long salt in pieces", { cache_salt: `${"s".repeat(60)}\n${"s".repeat(60)}` }, "rendered"],
  ])("is not rendered with %s beside it, wherever that stands", (_, fields, outcome) => {
    const messages = [user("x")];
    const text = "<s><|user|>\nx<|end|>\n<|assistant|>\n";
    expect(r.read(CHAT, { model: "m", messages, ...fields }, text)).toBe(outcome);
    expect(r.read(CHAT, { ...fields, model: "m", messages }, text)).toBe(outcome);
    const isSalt = outcome === "rendered";
    expect(r.read(CHAT, { ...fields, model: "m", messages }, text, 1)).toBe(isSalt ? "salt" : outcome);
  });

  it.each<[string, object]>([
    ["a free or no choice of tools", { tool_choice: "auto" }],
    ["no choice of tools", { tool_choice: "none" }],
    [
      "defaults",
      { add_generation_prompt: true, continue_final_message: false, tools: null, documents: null },
    ],
    ["limits", { max_tokens: 5, n: 2, stream: true, temperature: 0, stop: ["x"], logit_bias: { 5: 1 } }],
    ["a mask", { return_assistant_tokens_mask: true }],
  ])("is rendered with %s", (_, fields) => {
    expect(r.chat([user("x")], "<s><|user|>\nx<|end|>\n<|assistant|>\n", fields)).toBe("rendered");
  });

  it("goes by the last of several fields", () => {
    const messages = JSON.stringify([user("x")]);
    const text = "<s><|user|>\nx<|end|>\n<|assistant|>\n";
    expect(r.read(CHAT, `{"tools":[1],"model":"m","messages":${messages},"tools":null}`, text)).toBe(
      "rendered",
    );
    expect(r.read(CHAT, `{"tools":null,"model":"m","messages":${messages},"tools":[1]}`, text)).toBe("field");
  });

  it("that is not read to its end is rendered as far as it was read", () => {
    const body = JSON.stringify({ model: "m", messages: [user("a".repeat(100)), user("b".repeat(100))] });
    const start = body.slice(0, body.indexOf("bbb") + 50);
    r.feed(CHAT, start);
    expect(r.outcome("m", true)).toBe("content");
    expect(r.outcome("m", false)).toBe("rendered");
    expect(r.isRendered(`<s><|user|>\n${"a".repeat(100)}<|end|>\n<|user|>\n${"b".repeat(50)}`)).toBe(true);
    r.feed(CHAT, '{"model":"m","mess');
    expect(r.outcome("m", false)).toBe("content");
  });

  it("of other APIs' shapes is not rendered", () => {
    expect(r.feed(CHAT, { model: "m", messages: "x" }).outcome("m", false)).toBe("content");
    expect(r.feed(CHAT, { model: "m", messages: user("x") }).outcome("m", true)).toBe("content");
    expect(r.feed(CHAT, { model: "m", messages: ["x"] }).outcome("m", false)).toBe("content");
    expect(r.feed(CHAT, { model: "m", messages: [[user("x")]] }).outcome("m", false)).toBe("several");
    expect(r.feed(CHAT, { model: "m", messages: [null, user("x")] }).outcome("m", false)).toBe("content");
    expect(r.feed(CHAT, { model: "m", messages: [] }).outcome("m", false)).toBe("content");
  });
});

describe("a chat whose template", () => {
  const between = (program: Parameters<typeof base>[1]) => r.take(base("m", program));
  const one = "<s><|user|>\nx<|end|>\n<|assistant|>\n";

  it("was not seen with a role or an order of roles is not rendered with it", () => {
    between(
      programOf({ "start-user": "[", "user-assistant": "](", "assistant-user": ")[", "user-end": "]" }),
    );
    expect(r.chat([user("a"), assistant("b"), user("c")], "[a](b)[c]")).toBe("rendered");
    expect(r.chat([system("s"), user("a")])).toBe("role");
    expect(r.chat([user("a"), user("b")])).toBe("role");
    expect(r.chat([user("a"), assistant("b")])).toBe("role");
    expect(r.chat([user([part("a")])])).toBe("content");
    expect(r.completion("x")).toBe("model");
  });

  it("loses white space at the ends loses what Python's str.strip takes", () => {
    between(tagged({}, TRIMS));
    const white = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000";
    const inside = `x${white}y\u200b`;
    const body = JSON.stringify({ model: "m", messages: [user(`${white}${inside}${white}`)] });
    const text = one.replace("x", inside);
    const length = Buffer.byteLength(body);
    for (let at = 1; at < length; at++) expect(r.read(CHAT, body, text, [at])).toBe("rendered");
    for (const size of [1, 2, 3, 4]) expect(r.read(CHAT, body, text, size)).toBe("rendered");
    for (const kept of [
      "\u180e",
      "\u200b",
      "\ufeff",
      "\u2060",
      "\0",
      "\x1b",
      "\x7f",
      "\x84",
      "\u2010",
      "\u3001",
    ]) {
      for (const cut of [[], 1])
        expect(r.chat([user(kept)], one.replace("x", kept), {}, cut)).toBe("rendered");
    }
  });

  it("trims trims a content of parts as a whole", () => {
    between(tagged({}, TRIMS));
    expect(r.chat([user([part(" a "), part(" "), part("b ")])], one.replace("x", "a \n \nb"))).toBe(
      "rendered",
    );
    expect(r.chat([user([part(" "), part(" x")])], one)).toBe("rendered");
  });

  it("trims some roles leaves the others", () => {
    between(tagged({}, wire.PROGRAM_TRIMS_ASSISTANT));
    const text = "<s><|system|>\n s <|end|>\n<|user|>\n u <|end|>\n<|assistant|>\na<|end|>\n<|assistant|>\n";
    expect(r.chat([system(" s "), user(" u "), assistant(" a ")], text)).toBe("rendered");
  });

  it("trims is held up by as much white space as is held, and given up with more", () => {
    between(tagged({}, TRIMS));
    const held = (bytes: number, end: string, cut: number[] | number) =>
      r.chat(
        [user(`a${" ".repeat(bytes)}${end}`)],
        one.replace("x", `a${end === "" ? "" : " ".repeat(bytes)}${end}`),
        {},
        cut,
      );
    // In one piece any length will do.
    expect(held(10_000, "", [])).toBe("rendered");
    expect(held(10_000, "b", [])).toBe("rendered");
    for (const end of ["", "b"]) {
      expect(held(64, end, 1)).toBe("rendered");
      expect(held(65, end, 1)).toBe("white-space");
    }
    const wide = "\u3000".repeat(20);
    expect(r.chat([user(`a${wide}`)], one.replace("x", "a"), {}, 1)).toBe("rendered");
    expect(r.chat([user(`a${wide}${wide}`)], "", {}, 1)).toBe("white-space");
    // At the beginning nothing is held.
    expect(r.chat([user(`${wide}${wide}${wide}x`)], one, {}, 1)).toBe("rendered");
  });

  it("edits white space at the ends is given up where there is any", () => {
    between(tagged({}, wire.PROGRAM_EDITS_EDGES_USER | wire.PROGRAM_TRIMS_SYSTEM));
    for (const cut of [[], 1]) {
      expect(r.chat([user("x")], one, {}, cut)).toBe("rendered");
      expect(r.chat([user("a  b")], one.replace("x", "a  b"), {}, cut)).toBe("rendered");
      for (const edge of [" x", "x\n", "\u3000x", "x\u2003", " "]) {
        expect(r.chat([user(edge)], "", {}, cut)).toBe("white-space");
      }
      const trimmed = "<s><|system|>\ns<|end|>\n<|user|>\nx<|end|>\n<|assistant|>\n";
      expect(r.chat([system(" s "), user("x")], trimmed, {}, cut)).toBe("rendered");
    }
  });

  it("edits empty contents is given up where there is one, after its trim", () => {
    between(tagged({}, wire.PROGRAM_EDITS_EMPTY | wire.PROGRAM_TRIMS_USER));
    expect(r.chat([user("")])).toBe("content");
    expect(r.chat([user(" \n")])).toBe("content");
    expect(r.chat([system(""), user("x")])).toBe("content");
    expect(
      r.chat([system(" "), user("x")], `<s><|system|>\n <|end|>\n<|user|>\nx<|end|>\n<|assistant|>\n`),
    ).toBe("rendered");
  });

  it("edits answers with an empty list of tool calls is given up where there is one", () => {
    const text = "<s><|user|>\nq<|end|>\n<|assistant|>\na<|end|>\n<|user|>\nx<|end|>\n<|assistant|>\n";
    const chat = (more: object, cut: number[] | number = []) =>
      r.chat([user("q"), { ...assistant("a"), ...more }, user("x")], text, {}, cut);
    between(tagged());
    for (const more of [{}, { tool_calls: [] }, { tool_calls: null }]) expect(chat(more)).toBe("rendered");
    between(tagged({}, wire.PROGRAM_EDITS_CALLS));
    for (const more of [{}, { tool_calls: null }, { annotations: [] }]) expect(chat(more)).toBe("rendered");
    for (const cut of [[], 1, 2]) expect(chat({ tool_calls: [] }, cut)).toBe("member");
    expect(r.chat([user("q"), { tool_calls: [], ...assistant("a") }, user("x")])).toBe("member");
  });

  it("edits reasoning is given up where an assistant's content may have some", () => {
    between(tagged({}, wire.PROGRAM_EDITS_THINKING));
    const answers = ["<think>a</think>b", "think>", "a</think>", "</thinkthink>", `${"a>".repeat(40)}think>`];
    for (const answer of answers) {
      const body = JSON.stringify({ model: "m", messages: [user("q"), assistant(answer), user("x")] });
      const text = `<s><|user|>\nq<|end|>\n<|assistant|>\n${answer}<|end|>\n<|user|>\nx<|end|>\n<|assistant|>\n`;
      for (let at = 1; at < body.length; at++) expect(r.read(CHAT, body, text, [at])).toBe("thinking");
      expect(r.read(CHAT, body, text, 1)).toBe("thinking");
    }
    for (const answer of ["thinking>", "<think", "thin>k>", "tthink ", "think\n>", "Think>"]) {
      const text = `<s><|user|>\nthink><|end|>\n<|assistant|>\n${answer}<|end|>\n<|user|>\nx<|end|>\n<|assistant|>\n`;
      const messages = [user("think>"), assistant(answer), user("x")];
      for (const cut of [[], 1, 2]) expect(r.chat(messages, text, {}, cut)).toBe("rendered");
    }
    // Two contents have no text in common, two parts have.
    const apart = "<s><|assistant|>\nthink<|end|>\n<|assistant|>\n><|end|>\n<|assistant|>\n";
    expect(r.chat([assistant("think"), assistant(">")], apart)).toBe("rendered");
    between(tagged({ "part-join": "" }, wire.PROGRAM_EDITS_THINKING));
    expect(r.chat([user("q"), assistant([part("thi"), part("nk>")])])).toBe("thinking");
  });
});

describe("a completion", () => {
  beforeAll(() => {
    r.take(base("m", tagged()));
  });

  it("is its text behind the tokenizer's own, cut anywhere", () => {
    const prompt = ` Once "upon" é\n${"x".repeat(200)} `;
    expect(r.completion(prompt, `<s>${prompt}`)).toBe("rendered");
    const body = JSON.stringify({ prompt: [prompt], model: "m" });
    for (const size of [1, 2, 63, 64])
      expect(r.read(COMPLETIONS, body, `<s>${prompt}`, size)).toBe("rendered");
    r.feed(COMPLETIONS, body.slice(0, 150));
    expect(r.outcome("m", false)).toBe("rendered");
  });

  it("is the last one of several fields, and not rendered where there are several prompts", () => {
    expect(r.read(COMPLETIONS, '{"model":"m","prompt":[1,2],"prompt":"x"}', "<s>x", 1)).toBe("rendered");
    expect(r.completion(["a", "b"])).toBe("several");
    expect(r.completion([["a"]])).toBe("several");
  });

  it("with a suffix is not rendered, unless that is empty", () => {
    for (const suffix of ["", null]) expect(r.completion("x", "<s>x", { suffix })).toBe("rendered");
    expect(r.completion("x", "", { suffix: "y" })).toBe("field");
    expect(r.read(COMPLETIONS, '{"suffix":"yz","model":"m","prompt":"x"}', "", 1)).toBe("field");
  });

  it("of token ids, or of messages, is not rendered", () => {
    for (const ids of [[1, 2, 3], [1.0], [[1], [2]]]) {
      expect(["token-ids", "several"]).toContain(r.completion(ids));
    }
    expect(r.completion([1, 2])).toBe("token-ids");
    expect(r.feed(COMPLETIONS, { model: "m", prompt: [{ role: "user" }] }).outcome()).toBe("content");
    expect(r.completion("x", "", { add_special_tokens: false })).toBe("field");
  });
});

describe("the program of a prompt", () => {
  const text = "<s><|user|>\nx<|end|>\n<|assistant|>\n";
  const other = tagged({ "start-user": "<other>" });
  const late = { messages: [user("x")], model: "m" };

  it("is its model's, known before its messages", () => {
    r.take(base("m", tagged()), base("other", other));
    expect(r.chat([user("x")], text)).toBe("rendered");
    expect(r.read(CHAT, late, text)).toBe("model");
    r.feed(CHAT, { model: "other", messages: [user("x")] }).end();
    expect([r.outcome("m"), r.outcome("other")]).toEqual(["model", "rendered"]);
    expect(r.isRendered(text.replace("<s><|user|>\n", "<other>"))).toBe(true);
    expect(r.chat([user("x")], "", { model: "unknown" })).toBe("model");
  });

  it("may be all models' where the model comes late, is exchanged, or is not named", () => {
    r.take(base("m", tagged()), base("other", tagged()), adapter("lora", tagged()));
    expect(r.read(CHAT, late, text)).toBe("rendered");
    r.feed(CHAT, { model: "alias", messages: [user("x")] }).end();
    expect(["m", "other", "lora", "alias", ""].map((model) => r.outcome(model))).toEqual([
      "rendered",
      "rendered",
      "rendered",
      "model",
      "rendered",
    ]);
  });

  it("does not change while a body is read", () => {
    const body = JSON.stringify({ model: "m", messages: [user("a"), user("b")] });
    const change = (next: Parameters<typeof base>[1]) => {
      r.take(base("m", tagged()));
      r.feed(CHAT, body.slice(0, 50));
      r.take(base("m", next));
      const bytes = Buffer.from(body.slice(50));
      r.put(bytes);
      r.h["feed"](0, bytes.length);
      return r.end().outcome();
    };
    expect(change(tagged())).toBe("rendered");
    expect(change(other)).toBe("changed");
    r.take(base("m", tagged()));
    r.feed(CHAT, body).end();
    r.take(base("m", other));
    expect(r.outcome()).toBe("changed");
  });
});

describe("the root of a prompt's keys", () => {
  const hashBytes = (name: string) => r.nameHash(name);
  const mixPair = (left: bigint, right: bigint) => r.mixPair(left, right);
  const rootOf = (fields: object, model = "m", cut?: number) =>
    r
      .feed(CHAT, { model: "m", messages: [user("x")], ...fields }, cut)
      .end()
      .root(model);

  it("is the adapter and the salt, as the wire has them", () => {
    r.take(base("m", tagged()), adapter("lora é", tagged()));
    expect(rootOf({})).toBe(mixPair(0n, 0n));
    expect(rootOf({}, "lora é")).toBe(mixPair(hashBytes("lora é"), 0n));
    for (const cut of [undefined, 1, 3]) {
      expect(rootOf({ cache_salt: "tenant ☂" }, "m", cut)).toBe(mixPair(0n, hashBytes("tenant ☂")));
      expect(rootOf({ cache_salt: "s" }, "lora é", cut)).toBe(mixPair(hashBytes("lora é"), hashBytes("s")));
    }
    expect(rootOf({ cache_salt: "s".repeat(64) }, "m", 1)).toBe(mixPair(0n, hashBytes("s".repeat(64))));
    expect(rootOf({ cache_salt: "s".repeat(5_000) })).toBe(mixPair(0n, hashBytes("s".repeat(5_000))));
  });

  it("is the last salt's, and none of an empty one or null", () => {
    const salted = (...salts: string[]) => {
      const fields = salts.map((salt) => `"cache_salt":${salt},`).join("");
      return r.feed(CHAT, `{${fields}"model":"m","messages":[{"role":"user","content":"x"}]}`).end().root();
    };
    expect(salted('"a"', '"b"')).toBe(mixPair(0n, hashBytes("b")));
    expect(salted('"a"', "null")).toBe(mixPair(0n, 0n));
    expect(salted('""')).toBe(mixPair(0n, 0n));
    expect(salted(JSON.stringify(`${"s".repeat(60)}\n${"s".repeat(60)}`), '"b"')).toBe(
      mixPair(0n, hashBytes("b")),
    );
  });
});
