// /tokenize and /detokenize.
import { type JsonObject, requireList } from "./body.ts";
import { readChatCall, readPrompts } from "./calls.ts";
import { badRequest, validationError } from "./errors.ts";
import { decode, encode, tokenPiece } from "./tokenizer.ts";

/** Tokens of a text or of a conversation as the chat template renders it. */
export function tokenize(body: JsonObject, modelTokensMax: number): object {
  const tokens = tokensOf(body);
  const strings = body["return_token_strs"] === true ? tokens.map(tokenPiece) : null;
  return { count: tokens.length, max_model_len: modelTokensMax, tokens, token_strs: strings };
}

function tokensOf(body: JsonObject): readonly number[] {
  if (body["messages"] !== undefined) return readChatCall(body).prompts[0]!;
  const prompt = body["prompt"];
  if (typeof prompt === "string") return encode(prompt);
  throw validationError(
    "missing",
    "body.prompt",
    "Field required",
    `<dict of ${Object.keys(body).length} items>`,
  );
}

/** Text of token ids. */
export function detokenize(body: JsonObject): object {
  const tokens = requireList(body, "tokens");
  if (tokens.length === 0) return { prompt: "" };
  const [ids] = readPrompts(tokens);
  if (ids === undefined) throw badRequest("You must pass at least one token");
  return { prompt: decode(ids) };
}
