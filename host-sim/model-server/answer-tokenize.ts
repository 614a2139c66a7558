// /tokenize and /detokenize.
import { type JsonObject, requireList } from "./body.ts";
import { readConversation, readPrompts } from "./calls.ts";
import { badRequest, validationError } from "./errors.ts";
import type { TextModel } from "./text-model.ts";

/** Tokens of a text or of a conversation as the chat template renders it. */
export function tokenize(body: JsonObject, modelTokensMax: number, model: TextModel): object {
  const tokens = tokensOf(body, model);
  const strings = body["return_token_strs"] === true ? tokens.map((id) => model.tokenPiece(id)) : null;
  return { count: tokens.length, max_model_len: modelTokensMax, tokens, token_strs: strings };
}

function tokensOf(body: JsonObject, model: TextModel): readonly number[] {
  if (body["messages"] !== undefined) return readConversation(body, model);
  const { prompt, add_special_tokens: addSpecialTokens } = body;
  if (typeof prompt === "string") return model.encode(prompt, addSpecialTokens !== false);
  throw validationError(
    "missing",
    "body.prompt",
    "Field required",
    `<dict of ${Object.keys(body).length} items>`,
  );
}

/** Text of token ids. */
export function detokenize(body: JsonObject, model: TextModel): object {
  const tokens = requireList(body, "tokens");
  if (tokens.length === 0) return { prompt: "" };
  const [ids] = readPrompts(tokens, model);
  if (ids === undefined) throw badRequest("You must pass at least one token");
  return { prompt: model.decode(ids) };
}
