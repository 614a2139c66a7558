// Turns a conversation into prompt tokens, in the manner of ChatML.
import { answerTokens } from "./answer.ts";
import { hashText } from "./block-hash.ts";
import { encode, SPECIAL } from "./tokenizer.ts";

/** One message of any chat API, already reduced to what is rendered. */
export interface TemplateMessage {
  readonly role: string;
  readonly content: readonly TemplatePart[];
  /** Members of the message besides these two, as the client wrote them. */
  readonly others?: Readonly<Record<string, unknown>>;
}

/** Text, or a picture or sound that takes `mediaTokens` of context and is told apart by its source. */
export type TemplatePart =
  { readonly text: string } | { readonly mediaSource: string; readonly mediaTokens: number };

/** How a prompt ends: with the opening of the assistant's turn, after the last message, or inside it. */
export type PromptEnding = "generation-prompt" | "closed" | "open";

const newline = encode("\n");

/**
 * Prompt tokens of a conversation: tools first, then every message, then the opening of the assistant's turn.
 * Each message's content is encoded by itself, so that an answer continues the prompt with the very tokens
 * with which it is rendered as history in the next turn.
 * @param tools JSON text of the tools, or "" for none.
 */
export function renderConversation(
  messages: readonly TemplateMessage[],
  tools: string,
  ending: PromptEnding = "generation-prompt",
): number[] {
  const tokens: number[] = [];
  if (tools !== "") pushMessage(tokens, "tools", [{ text: tools }]);
  for (const message of messages) pushMessage(tokens, message.role, wholeContent(message));
  if (ending === "open") tokens.length -= 1 + newline.length;
  if (ending !== "generation-prompt") return tokens;
  tokens.push(SPECIAL.messageStart);
  pushAll(tokens, encode("assistant\n"));
  return tokens;
}

// What a message has besides its content becomes a part of it.
function wholeContent({ content, others = {} }: TemplateMessage): readonly TemplatePart[] {
  const parts = [...content];
  for (const field of ["reasoning", "reasoning_content", "name"]) {
    const text = others[field];
    if (typeof text === "string") parts.unshift({ text: `${text}\n` });
  }
  // An empty list is none (vllm/renderers/chat_utils.py, _postprocess_messages).
  const calls = others["tool_calls"];
  if (Array.isArray(calls) && calls.length > 0) parts.push({ text: JSON.stringify(calls) });
  return parts;
}

function pushMessage(tokens: number[], role: string, content: readonly TemplatePart[]): void {
  tokens.push(SPECIAL.messageStart);
  pushAll(tokens, encode(`${role}\n`));
  for (const part of content) {
    if ("text" in part) pushAll(tokens, encode(part.text));
    else pushAll(tokens, answerTokens(hashText(part.mediaSource, 0), part.mediaTokens));
  }
  tokens.push(SPECIAL.messageEnd);
  pushAll(tokens, newline);
}

function pushAll(target: number[], source: readonly number[]): void {
  for (const token of source) target.push(token);
}
