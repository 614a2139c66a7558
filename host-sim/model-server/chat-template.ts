// Turns a conversation into prompt tokens, in the manner of ChatML.
import { answerTokens } from "./answer.ts";
import { hashText } from "./block-hash.ts";
import { encode, SPECIAL } from "./tokenizer.ts";

/** One message of any chat API, already reduced to what is rendered. */
export interface TemplateMessage {
  readonly role: string;
  readonly content: readonly TemplatePart[];
}

/** Text, or a picture or sound that takes `mediaTokens` of context and is told apart by its source. */
export type TemplatePart =
  { readonly text: string } | { readonly mediaSource: string; readonly mediaTokens: number };

const newline = encode("\n");

/**
 * Prompt tokens of a conversation: tools first, then every message, then the opening of the assistant's turn.
 * Each message's content is encoded by itself, so that an answer continues the prompt with the very tokens
 * with which it is rendered as history in the next turn.
 * @param tools JSON text of the tools, or "" for none.
 */
export function renderConversation(messages: readonly TemplateMessage[], tools: string): number[] {
  const tokens: number[] = [];
  if (tools !== "") pushMessage(tokens, "tools", [{ text: tools }]);
  for (const message of messages) pushMessage(tokens, message.role, message.content);
  tokens.push(SPECIAL.messageStart);
  pushAll(tokens, encode("assistant\n"));
  return tokens;
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
