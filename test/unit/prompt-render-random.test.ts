// Random conversations through random programs, cut anywhere, against the sidecar's renderer in TypeScript.
import { beforeAll, describe, expect, it } from "vitest";
import * as wire from "../../assembly/wire/prompt-programs.ts";
import {
  type Message,
  type PromptProgram,
  ROLES,
  renderChat,
  renderCompletion,
} from "../../sidecar/prompts/program.ts";
import { CHAT, COMPLETIONS, Renderer, base } from "./support/prompt-renderer.ts";
import { random } from "./support/random.ts";

const ROUNDS = 4_000;
let r: Renderer;
beforeAll(async () => {
  r = await Renderer.start();
});

type Next = () => number;
const pick = <T>(next: Next, list: readonly T[]): T => list[Math.floor(next() * list.length)]!;
const upTo = (next: Next, most: number): number => Math.floor(next() * (most + 1));
const times = <T>(count: number, make: () => T): T[] => Array.from({ length: count }, make);

const WORDS = [
  "a",
  "word",
  "é",
  "😀",
  "漢字",
  "\u200b",
  "</",
  "think",
  ">",
  "think>",
  '"',
  "\\",
  "\u0001",
  "%",
  "–",
];
const WHITE = [" ", "\n", "\t", "\u00a0", "\u2003", "\u3000", "\u2028", "\u1680", "\u001c", "\u205f"];

function text(next: Next): string {
  const white = () => times(upTo(next, 3), () => pick(next, WHITE)).join("");
  const word = () => (next() < 0.03 ? "long ".repeat(upTo(next, 400)) : pick(next, WORDS));
  return times(upTo(next, 6), () => (next() < 0.4 ? white() : word())).join("");
}

function program(next: Next): PromptProgram {
  const literals = times(wire.PROGRAM_LITERALS, () =>
    next() < 0.06 ? null : Buffer.from(next() < 0.1 ? "" : `<${text(next).slice(0, 90)}>`),
  );
  return { flags: next() < 0.2 ? 0 : upTo(next, wire.PROGRAM_FLAGS), literals };
}

function message(next: Next): Message {
  const content = next() < 0.8 ? text(next) : times(1 + upTo(next, 2), () => text(next));
  return { role: pick(next, ROLES), content, hasNoCalls: next() < 0.1 };
}

/** A message as a client may write it. */
function written(next: Next, { role, content, hasNoCalls }: Message): string {
  const members: [string, unknown][] = [["role", role]];
  if (next() < 0.1) members.push(["name", null]);
  const part = (one: string) =>
    next() < 0.5 ? { type: "text", text: one } : { text: one, type: "text", cache_control: {} };
  members.push(["content", typeof content === "string" ? content : content.map(part)]);
  if (hasNoCalls) members.push(["tool_calls", []]);
  return `{${members.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(",")}}`;
}

function escaped(next: Next, json: string): string {
  if (next() < 0.6) return json;
  return json.replace(/[^ -~]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function cuts(next: Next, bytes: number): number | number[] {
  const way = next();
  if (way < 0.2) return [];
  if (way < 0.4) return 1 + upTo(next, 4);
  return times(upTo(next, 8), () => 1 + upTo(next, bytes - 1))
    .filter((at) => at < bytes)
    .sort((a, b) => a - b);
}

describe("random prompts", () => {
  it("are rendered as the sidecar renders them, or not at all where it does not", () => {
    const { seed, next } = random();
    let rendered = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const about = `TEST_SEED=${seed}, round ${round}`;
      const used = program(next);
      r.take(base("m", used));
      const isChat = next() < 0.85;
      let body: string;
      let expected: Buffer | null;
      if (isChat) {
        const messages = times(1 + upTo(next, 5), () => message(next));
        const list = messages.map((one) => written(next, one)).join(", ");
        body = next() < 0.5 ? `{"model":"m","messages":[${list}]}` : `{"messages":[${list}],"model":"m"}`;
        expected = renderChat(used, messages);
      } else {
        const prompt = `${text(next)}.`;
        body = JSON.stringify({ model: "m", prompt: next() < 0.5 ? prompt : [prompt] });
        expected = renderCompletion(used, prompt);
      }
      // No text at all is none.
      if (expected?.length === 0) expected = null;
      body = escaped(next, body);
      const api = isChat ? CHAT : COMPLETIONS;
      const outcome = r
        .feed(api, body, cuts(next, Buffer.byteLength(body)))
        .end()
        .outcome();
      if (expected === null) {
        expect(outcome, `${about}: ${body}`).not.toBe("rendered");
        continue;
      }
      expect(outcome, `${about}: ${body}`).toBe("rendered");
      expect(r.renderedBytes(), `${about}: ${body}`).toBe(expected.length);
      expect(r.isRendered(expected), `${about}: ${body}`).toBe(true);
      rendered++;
    }
    // The comparison says something about both.
    expect(rendered).toBeGreaterThan(ROUNDS / 8);
    expect(rendered).toBeLessThan((ROUNDS * 7) / 8);
    r.h["release"]();
    expect(r.h["pagesInUse"]()).toBe(0);
  });
});
