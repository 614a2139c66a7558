// What tells a conversation apart and stays the same in all its turns: users, first questions, beginnings of prompts.
import { beforeAll, describe, expect, it } from "vitest";
import { API, PromptReader } from "./support/prompt-reader.ts";

let reader: PromptReader;
beforeAll(async () => {
  reader = await PromptReader.start();
});

function of(body: object, api: number = API.chat, chunk?: number): bigint {
  reader.read(api, body, chunk);
  return reader.conversation();
}
const user = (content: unknown): object => ({ role: "user", content });
const assistant = { role: "assistant", content: "An answer. ".repeat(30) };
const system = { role: "system", content: "You are helpful. ".repeat(50) };

describe("a conversation", () => {
  it("is the same in every turn, in any chunks, wherever the role stands", () => {
    const first = of({ messages: [system, user("one")] });
    expect(first).not.toBe(0n);
    expect(of({ messages: [system, user("one"), assistant, user("two")] })).toBe(first);
    expect(of({ messages: [system, { content: "one", role: "user" }, assistant, user("three")], n: 1 })).toBe(
      first,
    );
    expect(of({ messages: [system, user([{ type: "text", text: "one" }]), assistant] })).toBe(first);
    for (const chunk of [1, 7, 64]) {
      expect(of({ messages: [system, user("one"), assistant, user("two")] }, API.chat, chunk)).toBe(first);
    }
  });

  it("is told apart by its first question, not by the system text that all share", () => {
    const first = of({ messages: [system, user("one")] });
    expect(of({ messages: [system, user("two")] })).not.toBe(first);
    expect(of({ messages: [user("one")] })).not.toBe(first);
    expect(of({ messages: [system, { role: "tool", content: "one" }, user("two")] })).not.toBe(first);
  });

  it("is the user's where one is named, the last of two", () => {
    const named = of({ user: "u-1", messages: [user("one")] });
    expect(of({ messages: [user("two")], user: "u-1" })).toBe(named);
    expect(of({ messages: [user("two")], user: "u-2", model: "m" })).not.toBe(named);
    reader.read(API.chat, '{"user":"u-2","user":"u-1","messages":[{"role":"user","content":"x"}]}');
    expect(reader.conversation()).toBe(named);
    reader.read(API.chat, '{"user":"u-1","user":null,"messages":[{"role":"user","content":"one"}]}');
    expect(reader.conversation()).toBe(of({ messages: [user("one")] }));
    expect(of({ messages: [{ role: "user", content: "x", user: "u-1" }] })).not.toBe(named);
  });

  it("of the last of two lists of messages counts", () => {
    reader.read(
      API.chat,
      '{"messages":[{"role":"user","content":"a"}],"messages":[{"role":"user","content":"b"}]}',
    );
    expect(reader.conversation()).toBe(of({ messages: [user("b")] }));
  });

  it("of a text prompt is its first 512 bytes", () => {
    const start = "x".repeat(512);
    const prompt = (text: string): bigint => of({ prompt: text }, API.completions);
    expect(prompt(`${start}a`)).toBe(prompt(`${start}${"b".repeat(3_000)}`));
    expect(prompt(`a${start}`)).not.toBe(prompt(`b${start}`));
    expect(prompt("short")).not.toBe(prompt("other"));
    expect(prompt("short")).not.toBe(0n);
    expect(of({ messages: [system] })).not.toBe(0n);
    expect(of({ input: "x" }, API.embeddings)).not.toBe(of({ input: "y" }, API.embeddings));
  });

  it("of Anthropic's messages and of the Responses API's items is the first question too", () => {
    const turns = [user("one"), assistant, user("two")];
    for (const [api, field] of [
      [API.messages, "messages"],
      [API.responses, "input"],
    ] as const) {
      const first = of({ [field]: turns.slice(0, 1), max_tokens: 1 }, api);
      expect(of({ [field]: turns, max_tokens: 1 }, api)).toBe(first);
      expect(of({ [field]: turns.slice(1), max_tokens: 1 }, api)).not.toBe(first);
    }
  });
});
