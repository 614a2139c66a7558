// What a simulated server takes from its model: a tokenizer and a chat template. Others than the simulated ones are
// handed in, so that nothing here needs a real vocabulary.
import { type AnswerWords, SIMULATED_WORDS } from "./answer.ts";
import type { JsonObject } from "./body.ts";
import { type PromptEnding, renderConversation, type TemplateMessage } from "./chat-template.ts";
import { decode, encode, tokenPiece, tokenText, VOCABULARY_SIZE } from "./tokenizer.ts";

/** What a chat template is given. */
export interface Conversation {
  /** At least one. */
  readonly messages: readonly TemplateMessage[];
  /** As the client wrote them; empty without. */
  readonly tools: readonly unknown[];
  readonly ending: PromptEnding;
  /** Further variables (`chat_template_kwargs`). */
  readonly variables: JsonObject;
}

/** A tokenizer with its chat template. One serves any number of replicas. */
export interface TextModel {
  /** What its answers are made of. */
  readonly answerWords: AnswerWords;
  /** Number of ids; every id is below it. */
  readonly vocabularySize: number;
  /**
   * Token ids of a text.
   * @param addSpecialTokens with those that the tokenizer itself puts before a prompt (`add_special_tokens`)
   */
  encode(text: string, addSpecialTokens: boolean): number[];
  /** Text of ids, as the tokenizer gives it; bytes that are not UTF-8 become U+FFFD. Foreign ids are a RangeError. */
  decode(tokens: readonly number[]): string;
  /** Text of one token as a server streams it. */
  tokenText(id: number): string;
  /** A token as the vocabulary spells it (`token_strs`). */
  tokenPiece(id: number): string;
  /**
   * Prompt tokens of a conversation.
   * @param addSpecialTokens beyond those of the template
   * @throws ApiError 400 for what the template does not take
   */
  render(conversation: Conversation, addSpecialTokens: boolean): number[];
}

/** The tokenizer and the template of this folder. */
export const SIMULATED_MODEL: TextModel = {
  answerWords: SIMULATED_WORDS,
  vocabularySize: VOCABULARY_SIZE,
  encode: (text) => encode(text),
  decode,
  tokenText,
  tokenPiece,
  render: ({ messages, tools, ending }) =>
    renderConversation(messages, tools.length === 0 ? "" : JSON.stringify(tools), ending),
};
