// Reads the generation APIs' bodies into one form: prompts as tokens, and how to answer.
import {
  type JsonObject,
  optionalFlag,
  optionalInteger,
  optionalObject,
  optionalText,
  requireList,
} from "./body.ts";
import type { PromptEnding, TemplateMessage, TemplatePart } from "./chat-template.ts";
import { badParameter, badRequest, validationError } from "./errors.ts";
import type { TextModel } from "./text-model.ts";

/** Prompts × n of one request. vLLM's own bound on n is 16,384; a simulation needs no more than this. */
const SEQUENCES_PER_CALL_MAX = 128;
/** Context that a picture or a sound takes: 576 patches, as a 336-pixel CLIP encoder makes (LLaVA-1.5). */
const MEDIA_TOKENS = 576;

/** A generation request of any API. */
export interface GenerationCall {
  /** Model as named by the client; undefined = the server's own. */
  readonly model: string | undefined;
  /** Token ids of each prompt; every prompt is answered `choices` times. */
  readonly prompts: readonly (readonly number[])[];
  readonly choices: number;
  /** Limit set by the client; undefined = what the context leaves. */
  readonly maxTokens: number | undefined;
  /** Parameter that carried the limit, for error messages. */
  readonly maxTokensName: string;
  /** The prompts came as token ids, not as texts. */
  readonly givenAsTokens: boolean;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  readonly continuousUsage: boolean;
  /** Generate up to the limit instead of stopping at the natural end. */
  readonly ignoreEos: boolean;
  readonly stop: readonly string[];
  readonly cacheSalt: string | undefined;
  /** The prompt is only read, nothing is generated (embeddings, scores). */
  readonly promptOnly: boolean;
}

/** /v1/chat/completions */
export function readChatCall(body: JsonObject, model: TextModel): GenerationCall {
  const named = body["max_completion_tokens"] === undefined ? "max_tokens" : "max_completion_tokens";
  return {
    ...readCommon(body, named),
    prompts: [readConversation(body, model)],
  };
}

/** Prompt of /v1/chat/completions, and of /tokenize with messages. */
export function readConversation(body: JsonObject, model: TextModel): number[] {
  const messages = requireList(body, "messages");
  if (messages.length === 0) {
    throw badRequest("Cannot apply chat template to an empty conversation. Provide at least one message.");
  }
  const variables = optionalObject(body, "chat_template_kwargs") ?? {};
  return render(body, messages.map(readMessage), model, readEnding(body), variables);
}

/** /v1/completions: prompt is a string, strings, token ids, or lists of token ids. */
export function readCompletionCall(body: JsonObject, model: TextModel): GenerationCall {
  const { prompt, add_special_tokens: addSpecialTokens } = body;
  const givenAsTokens = Array.isArray(prompt) && typeof prompt[0] !== "string";
  return {
    ...readCommon(body, "max_tokens"),
    givenAsTokens,
    prompts: readPrompts(prompt, model, addSpecialTokens !== false),
  };
}

/** /v1/messages (Anthropic) */
export function readMessagesCall(body: JsonObject, model: TextModel): GenerationCall {
  const messages = requireList(body, "messages").map(readMessage);
  if (body["max_tokens"] === undefined) {
    const input = `<dict of ${Object.keys(body).length} items>`;
    throw validationError("missing", "body.max_tokens", "Field required", input);
  }
  const system = body["system"];
  if (system !== undefined) messages.unshift({ role: "system", content: readContent(system) });
  return {
    ...readCommon(body, "max_tokens"),
    maxTokensName: "max_completion_tokens",
    stop: readStop(body["stop_sequences"]),
    prompts: [render(body, messages, model)],
  };
}

/** Prompt of /v1/messages/count_tokens, which has no limit on the answer. */
export function readCountTokens(body: JsonObject, model: TextModel): readonly number[] {
  return readMessagesCall({ ...body, max_tokens: 1 }, model).prompts[0]!;
}

/** /v1/responses: input is a string or a list of messages. */
export function readResponsesCall(body: JsonObject, model: TextModel): GenerationCall {
  const input = body["input"];
  const messages: TemplateMessage[] = [];
  const instructions = optionalText(body, "instructions");
  if (instructions !== undefined) messages.push({ role: "system", content: [{ text: instructions }] });
  if (typeof input === "string") messages.push({ role: "user", content: [{ text: input }] });
  else for (const item of requireList(body, "input")) messages.push(readMessage(item));
  return { ...readCommon(body, "max_output_tokens"), prompts: [render(body, messages, model)] };
}

/** Prompts of /v1/completions and inputs of /v1/embeddings. */
export function readPrompts(value: unknown, model: TextModel, addSpecialTokens = true): number[][] {
  if (value === undefined || value === null || value === "") {
    throw badParameter("Either prompt or prompt_embeds must be provided and non-empty.", "prompt");
  }
  if (typeof value === "string") return [model.encode(value, addSpecialTokens)];
  if (!Array.isArray(value)) {
    throw validationError("string_type", "body.prompt", "Input should be a valid string", typeof value);
  }
  if (value.length === 0) throw badRequest("You must pass at least one prompt");
  if (typeof value[0] === "number") return [readTokenIds(value, model)];
  if (value.length > SEQUENCES_PER_CALL_MAX) {
    throw badRequest(`At most ${SEQUENCES_PER_CALL_MAX} prompts are accepted, got ${value.length}`);
  }
  return value.map((prompt) =>
    typeof prompt === "string" ? model.encode(prompt, addSpecialTokens) : readTokenIds(prompt, model),
  );
}

/** The prompt of a conversation whose tools are the body's. */
function render(
  body: JsonObject,
  messages: readonly TemplateMessage[],
  model: TextModel,
  ending: PromptEnding = "generation-prompt",
  variables: JsonObject = {},
): number[] {
  const tools = Array.isArray(body["tools"]) ? (body["tools"] as unknown[]) : [];
  return model.render({ messages, tools, ending, variables }, optionalFlag(body, "add_special_tokens"));
}

function readEnding(body: JsonObject): PromptEnding {
  const isClosed = body["add_generation_prompt"] === false;
  if (!optionalFlag(body, "continue_final_message")) return isClosed ? "closed" : "generation-prompt";
  if (isClosed) return "open";
  throw badRequest("Cannot set both `continue_final_message` and `add_generation_prompt` to True.");
}

function readTokenIds(value: unknown, { vocabularySize }: TextModel): number[] {
  if (!Array.isArray(value) || value.length === 0) throw badRequest("You must pass at least one prompt");
  for (const id of value) {
    if (!Number.isInteger(id) || id < 0 || id >= vocabularySize) {
      throw badRequest(`Token id ${String(id)} is out of vocabulary`);
    }
  }
  return value as number[];
}

function readCommon(body: JsonObject, maxTokensName: string): Omit<GenerationCall, "prompts"> {
  const stream = optionalFlag(body, "stream");
  const options = optionalObject(body, "stream_options");
  if (options !== undefined && !stream) {
    throw badParameter("Stream options can only be defined when `stream=True`.", "stream_options");
  }
  const maxTokens = optionalInteger(body, maxTokensName);
  if (maxTokens !== undefined && maxTokens < 1) {
    throw badParameter(
      `${maxTokensName} must be at least 1, got ${maxTokens}.`,
      maxTokensName,
      String(maxTokens),
    );
  }
  const temperature = body["temperature"];
  if (typeof temperature === "number" && temperature < 0) {
    const shown = Number.isInteger(temperature) ? temperature.toFixed(1) : String(temperature);
    throw badParameter(`temperature must be non-negative, got ${shown}.`, "temperature", shown);
  }
  const choices = optionalInteger(body, "n") ?? 1;
  if (choices < 1 || choices > SEQUENCES_PER_CALL_MAX) {
    throw badParameter(
      `n must be between 1 and ${SEQUENCES_PER_CALL_MAX}, got ${choices}.`,
      "n",
      String(choices),
    );
  }
  return {
    model: optionalText(body, "model"),
    choices,
    maxTokens,
    maxTokensName,
    givenAsTokens: false,
    stream,
    includeUsage: options !== undefined && optionalFlag(options, "include_usage"),
    continuousUsage: options !== undefined && optionalFlag(options, "continuous_usage_stats"),
    ignoreEos: optionalFlag(body, "ignore_eos"),
    stop: readStop(body["stop"]),
    cacheSalt: optionalText(body, "cache_salt"),
    promptOnly: false,
  };
}

function readStop(value: unknown): string[] {
  if (typeof value === "string") return [value];
  if (!Array.isArray(value)) return [];
  return value.filter((stop): stop is string => typeof stop === "string" && stop !== "");
}

function readMessage(value: unknown): TemplateMessage {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw validationError("dict_type", "body.messages", "Input should be a valid dictionary", String(value));
  }
  const { role, content, ...others } = value as JsonObject;
  return { role: typeof role === "string" ? role : "user", content: readContent(content), others };
}

function readContent(value: unknown): TemplatePart[] {
  if (typeof value === "string") return [{ text: value }];
  if (!Array.isArray(value)) return [];
  return value.map((part) => readPart(part));
}

function readPart(value: unknown): TemplatePart {
  if (typeof value === "string") return { text: value };
  const part = (value ?? {}) as JsonObject;
  if (typeof part["text"] === "string") return { text: part["text"] };
  for (const field of ["image_url", "input_audio", "audio_url", "video_url", "source", "image"]) {
    if (part[field] !== undefined)
      return { mediaSource: JSON.stringify(part[field]), mediaTokens: MEDIA_TOKENS };
  }
  return { text: JSON.stringify(part) };
}
