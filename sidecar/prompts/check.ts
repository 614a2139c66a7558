// Holds a learnt program against the server's own rendering of random conversations.
import * as wire from "../../assembly/wire/prompt-programs.ts";
import { PECULIARITIES, type Peculiarity, ProbeTexts, walks } from "./probe-texts.ts";
import { type Message, type PromptProgram, renderChat, renderCompletion, transitionsOf } from "./program.ts";
import type { Renderer } from "./render-server.ts";

/** Conversations beyond those that come by each known literal once. */
const EXTRA_CONVERSATIONS = 8;
const MESSAGES_MAX = 6;
/** Text prompts of one check. */
const COMPLETIONS = 4;
/**
 * Special tokens' texts are not part of it: some tokenizers add or swallow white space around them. What they cost is
 * a match that is too short, and never one that is too long, because no engine has such a text.
 */
const STRICT: readonly Peculiarity[] = PECULIARITIES.filter((one) => one !== "special");

/**
 * The server's rendering where it is not what the gateway would render; null = it is, or the gateway does not render
 * such a conversation, or the server refuses it, so that its engine never has it.
 */
export async function mismatchOf(
  renderer: Renderer,
  program: PromptProgram,
  messages: readonly Message[],
): Promise<Uint8Array | null> {
  const expected = renderChat(program, messages);
  if (expected === null) return null;
  const rendered = await renderer.chat(messages);
  return rendered === null || expected.equals(rendered) ? null : rendered;
}

/**
 * Random conversations of the program's transitions, each of these at least once.
 * @param random 0 ≤ x < 1
 */
export function conversationsFor({ literals }: PromptProgram, random: () => number): Message[][] {
  const texts = new ProbeTexts(random);
  const known = new Set<number>();
  for (let index = 0; index < wire.PROMPT_COMPLETION; index++) if (literals[index] !== null) known.add(index);
  const all = walks(known, MESSAGES_MAX);
  const conversations: Message[][] = [];
  for (const index of known) {
    const through = all.filter((roles) => transitionsOf(roles).includes(index));
    if (through.length > 0) conversations.push(texts.conversation(texts.pick(through), STRICT));
  }
  for (let extra = 0; all.length > 0 && extra < EXTRA_CONVERSATIONS; extra++) {
    conversations.push(texts.conversation(texts.pick(all), STRICT));
  }
  const answered = all.filter((roles) => roles.includes("assistant"));
  if (answered.length > 0) {
    conversations.push(withNoCalls(texts.conversation(texts.pick(answered), ["plain"])));
  }
  return conversations;
}

/** The conversation with an empty list of tool calls in each of the assistant's messages. */
export function withNoCalls(messages: readonly Message[]): Message[] {
  return messages.map((message) =>
    message.role === "assistant" ? { ...message, hasNoCalls: true } : message,
  );
}

/** Whether text prompts come out as the program says; a prompt that the server refuses says nothing. */
export async function completionsMatch(
  renderer: Renderer,
  program: PromptProgram,
  random: () => number,
): Promise<boolean> {
  const texts = new ProbeTexts(random);
  const peculiarities: readonly Peculiarity[] = ["plain", "edges", "thinking", "long"];
  for (let index = 0; index < COMPLETIONS; index++) {
    const prompt = texts.content(peculiarities[index % peculiarities.length]!) as string;
    const expected = renderCompletion(program, prompt);
    if (expected === null) return true;
    const rendered = await renderer.completion(prompt);
    if (rendered !== null && !expected.equals(rendered)) return false;
  }
  return true;
}

/** Whether a program that was learnt elsewhere, or before, is this server's. Throws what the renderer throws. */
export async function holds(
  renderer: Renderer,
  program: PromptProgram,
  random: () => number,
): Promise<boolean> {
  for (const messages of conversationsFor(program, random)) {
    if ((await mismatchOf(renderer, program, messages)) !== null) return false;
  }
  return completionsMatch(renderer, program, random);
}
