// Names of the fields that matter, by API: what each means for the prompt and its prefix keys.
import {
  API_ANTHROPIC_COUNT_TOKENS,
  API_ANTHROPIC_MESSAGES,
  API_CHAT,
  API_CHAT_RENDER,
  API_CLASSIFY,
  API_COMPLETIONS,
  API_COMPLETIONS_RENDER,
  API_CONVERSATIONS,
  API_EMBEDDINGS,
  API_IMAGES,
  API_POOLING,
  API_RERANK,
  API_RESPONSES,
  API_SCORE,
  API_SGLANG_GENERATE,
  API_TOKENIZE,
  API_VLLM_GENERATE,
} from "./api";

// Fields of the body. From FIELD_INGREDIENT on: an ingredient of the keys, FIELD_INGREDIENT + its index.
export const FIELD_NONE: u8 = 0;
export const FIELD_MODEL: u8 = 1;
export const FIELD_STREAM: u8 = 2;
export const FIELD_MAX_TOKENS: u8 = 3;
/** max_completion_tokens, which goes before max_tokens. */
export const FIELD_MAX_COMPLETION: u8 = 4;
export const FIELD_N: u8 = 5;
/** The prompt, whatever its kind. */
export const FIELD_PROMPT: u8 = 6;
/** SGLang's input_ids, which go before its text. */
export const FIELD_INPUT_IDS: u8 = 7;
export const FIELD_SAMPLING: u8 = 8;
export const FIELD_LORA: u8 = 9;
/** Who asks. */
export const FIELD_USER: u8 = 10;
/** What is to follow a completion: SGLang writes it into the prompt (srt/parser/code_completion_parser.py). */
export const FIELD_SUFFIX: u8 = 11;
export const FIELD_INGREDIENT: u8 = 16;

// Ingredients: fields beside the prompt's text that change what the engine computes for it. Their order in
// the body does not matter. From vLLM's and SGLang's request models.
export const INGREDIENT_SALT: u8 = 0;
export const INGREDIENT_TOOLS: u8 = 1;
export const INGREDIENT_TOOL_CHOICE: u8 = 2;
export const INGREDIENT_DOCUMENTS: u8 = 3;
export const INGREDIENT_CHAT_TEMPLATE: u8 = 4;
export const INGREDIENT_TEMPLATE_KWARGS: u8 = 5;
export const INGREDIENT_REASONING: u8 = 6;
export const INGREDIENT_GENERATION_PROMPT: u8 = 7;
export const INGREDIENT_CONTINUE: u8 = 8;
export const INGREDIENT_TRUNCATE: u8 = 9;
export const INGREDIENT_FUNCTIONS: u8 = 10;
export const INGREDIENT_FUNCTION_CALL: u8 = 11;
/** Anthropic's system, the Responses API's instructions: text before the messages, wherever it stands. */
export const INGREDIENT_SYSTEM: u8 = 12;
/** What the conversation continues: previous_response_id, conversation, prompt (a stored one). */
export const INGREDIENT_PREVIOUS: u8 = 13;
export const INGREDIENT_CONVERSATION: u8 = 14;
export const INGREDIENT_STORED_PROMPT: u8 = 15;
export const INGREDIENT_EMBEDS: u8 = 16;
/** Images of a token-id prompt: vLLM's features, SGLang's image_data. */
export const INGREDIENT_IMAGES: u8 = 17;
export const INGREDIENT_AUDIO: u8 = 18;
export const INGREDIENT_VIDEO: u8 = 19;
/** The query of rerank and score. */
export const INGREDIENT_QUERY: u8 = 20;
export const INGREDIENT_SPECIAL_TOKENS: u8 = 21;
export const INGREDIENT_PROCESSOR: u8 = 22;
/** Only tells llm-d's checks apart: return_assistant_tokens_mask changes nothing in the prompt. */
export const INGREDIENT_TOKENS_MASK: u8 = 23;

// Fields of a message and of a content block.
export const PART_OTHER: u8 = 0;
/** content: text or blocks, to the chain. */
export const PART_CONTENT: u8 = 1;
export const PART_ROLE: u8 = 2;
export const PART_TYPE: u8 = 3;
/** Text of a block. */
export const PART_TEXT: u8 = 4;
/** Image, audio or video, by hash; its bytes are no text. */
export const PART_MEDIA: u8 = 5;
/** A cache hint or anything else that is no part of the prompt. */
export const PART_IGNORED: u8 = 6;

/** Whether the bytes are the ASCII literal. */
export function isWord(ptr: usize, bytes: u32, literal: string): bool {
  if (bytes != <u32>literal.length) return false;
  const chars = changetype<usize>(literal);
  for (let i: usize = 0; i < bytes; i++) {
    if (<u16>load<u8>(ptr + i) != load<u16>(chars + (i << 1))) return false;
  }
  return true;
}

/** FIELD_* of a name in the body's object. */
export function bodyField(api: u32, ptr: usize, bytes: u32): u8 {
  if (isWord(ptr, bytes, "model")) return FIELD_MODEL;
  if (isWord(ptr, bytes, "stream")) return FIELD_STREAM;
  if (isWord(ptr, bytes, "n")) return FIELD_N;
  if (isWord(ptr, bytes, "user")) return FIELD_USER;
  const own = ownField(api, ptr, bytes);
  if (own != FIELD_NONE) return own;
  const ingredient = ingredientOf(api, ptr, bytes);
  return ingredient == 0xff ? FIELD_NONE : FIELD_INGREDIENT + ingredient;
}

// The prompt and the token limit have another name in every API.
function ownField(api: u32, ptr: usize, bytes: u32): u8 {
  switch (api) {
    case API_CHAT:
    case API_CHAT_RENDER:
      if (isWord(ptr, bytes, "messages")) return FIELD_PROMPT;
      if (isWord(ptr, bytes, "max_tokens")) return FIELD_MAX_TOKENS;
      return isWord(ptr, bytes, "max_completion_tokens") ? FIELD_MAX_COMPLETION : FIELD_NONE;
    case API_COMPLETIONS:
    case API_COMPLETIONS_RENDER:
      if (isWord(ptr, bytes, "max_tokens")) return FIELD_MAX_TOKENS;
      if (isWord(ptr, bytes, "suffix")) return FIELD_SUFFIX;
      return isWord(ptr, bytes, "prompt") ? FIELD_PROMPT : FIELD_NONE;
    case API_ANTHROPIC_MESSAGES:
    case API_ANTHROPIC_COUNT_TOKENS:
      if (isWord(ptr, bytes, "max_tokens")) return FIELD_MAX_TOKENS;
      return isWord(ptr, bytes, "messages") ? FIELD_PROMPT : FIELD_NONE;
    case API_RESPONSES:
      if (isWord(ptr, bytes, "max_output_tokens")) return FIELD_MAX_TOKENS;
      return isWord(ptr, bytes, "input") ? FIELD_PROMPT : FIELD_NONE;
    case API_CONVERSATIONS:
      return isWord(ptr, bytes, "items") ? FIELD_PROMPT : FIELD_NONE;
    case API_IMAGES:
      return isWord(ptr, bytes, "prompt") ? FIELD_PROMPT : FIELD_NONE;
    case API_EMBEDDINGS:
    case API_POOLING:
    case API_CLASSIFY:
      return isWord(ptr, bytes, "input") || isWord(ptr, bytes, "messages") ? FIELD_PROMPT : FIELD_NONE;
    case API_TOKENIZE:
      return isWord(ptr, bytes, "prompt") || isWord(ptr, bytes, "messages") ? FIELD_PROMPT : FIELD_NONE;
    case API_VLLM_GENERATE:
      if (isWord(ptr, bytes, "sampling_params")) return FIELD_SAMPLING;
      return isWord(ptr, bytes, "token_ids") ? FIELD_PROMPT : FIELD_NONE;
    case API_SGLANG_GENERATE:
      if (isWord(ptr, bytes, "sampling_params")) return FIELD_SAMPLING;
      if (isWord(ptr, bytes, "lora_path")) return FIELD_LORA;
      if (isWord(ptr, bytes, "input_ids")) return FIELD_INPUT_IDS;
      return isWord(ptr, bytes, "text") ? FIELD_PROMPT : FIELD_NONE;
    case API_RERANK:
      return isWord(ptr, bytes, "documents") ? FIELD_PROMPT : FIELD_NONE;
    case API_SCORE:
      if (isWord(ptr, bytes, "text_2") || isWord(ptr, bytes, "data_2")) return FIELD_PROMPT;
      return isWord(ptr, bytes, "documents") ? FIELD_PROMPT : FIELD_NONE;
    default:
      return FIELD_NONE;
  }
}

function ingredientOf(api: u32, ptr: usize, bytes: u32): u8 {
  if (isWord(ptr, bytes, "cache_salt")) return INGREDIENT_SALT;
  switch (api) {
    case API_SGLANG_GENERATE:
      if (isWord(ptr, bytes, "extra_key")) return INGREDIENT_SALT;
      if (isWord(ptr, bytes, "input_embeds")) return INGREDIENT_EMBEDS;
      if (isWord(ptr, bytes, "image_data")) return INGREDIENT_IMAGES;
      if (isWord(ptr, bytes, "audio_data")) return INGREDIENT_AUDIO;
      return isWord(ptr, bytes, "video_data") ? INGREDIENT_VIDEO : 0xff;
    case API_VLLM_GENERATE:
      return isWord(ptr, bytes, "features") ? INGREDIENT_IMAGES : 0xff;
    case API_RERANK:
      return isWord(ptr, bytes, "query") ? INGREDIENT_QUERY : 0xff;
    case API_SCORE:
      if (isWord(ptr, bytes, "queries") || isWord(ptr, bytes, "text_1")) return INGREDIENT_QUERY;
      return isWord(ptr, bytes, "data_1") ? INGREDIENT_QUERY : 0xff;
    case API_ANTHROPIC_MESSAGES:
    case API_ANTHROPIC_COUNT_TOKENS:
      if (isWord(ptr, bytes, "system")) return INGREDIENT_SYSTEM;
      return isWord(ptr, bytes, "thinking") ? INGREDIENT_REASONING : templateIngredient(ptr, bytes);
    case API_RESPONSES:
      if (isWord(ptr, bytes, "instructions")) return INGREDIENT_SYSTEM;
      if (isWord(ptr, bytes, "previous_response_id")) return INGREDIENT_PREVIOUS;
      if (isWord(ptr, bytes, "conversation")) return INGREDIENT_CONVERSATION;
      if (isWord(ptr, bytes, "prompt")) return INGREDIENT_STORED_PROMPT;
      return isWord(ptr, bytes, "reasoning") ? INGREDIENT_REASONING : templateIngredient(ptr, bytes);
    default:
      return templateIngredient(ptr, bytes);
  }
}

// What a chat template or the tokeniser may see.
function templateIngredient(ptr: usize, bytes: u32): u8 {
  if (isWord(ptr, bytes, "tools")) return INGREDIENT_TOOLS;
  if (isWord(ptr, bytes, "tool_choice")) return INGREDIENT_TOOL_CHOICE;
  if (isWord(ptr, bytes, "documents")) return INGREDIENT_DOCUMENTS;
  if (isWord(ptr, bytes, "chat_template")) return INGREDIENT_CHAT_TEMPLATE;
  if (isWord(ptr, bytes, "chat_template_kwargs")) return INGREDIENT_TEMPLATE_KWARGS;
  if (isWord(ptr, bytes, "reasoning_effort")) return INGREDIENT_REASONING;
  if (isWord(ptr, bytes, "add_generation_prompt")) return INGREDIENT_GENERATION_PROMPT;
  if (isWord(ptr, bytes, "continue_final_message")) return INGREDIENT_CONTINUE;
  if (isWord(ptr, bytes, "return_assistant_tokens_mask")) return INGREDIENT_TOKENS_MASK;
  if (isWord(ptr, bytes, "truncate_prompt_tokens")) return INGREDIENT_TRUNCATE;
  if (isWord(ptr, bytes, "functions")) return INGREDIENT_FUNCTIONS;
  if (isWord(ptr, bytes, "function_call")) return INGREDIENT_FUNCTION_CALL;
  if (isWord(ptr, bytes, "prompt_embeds")) return INGREDIENT_EMBEDS;
  if (isWord(ptr, bytes, "add_special_tokens")) return INGREDIENT_SPECIAL_TOKENS;
  if (isWord(ptr, bytes, "mm_processor_kwargs")) return INGREDIENT_PROCESSOR;
  return 0xff;
}

/** PART_* of a name in a message or an item. */
export function messageField(ptr: usize, bytes: u32): u8 {
  if (isWord(ptr, bytes, "content")) return PART_CONTENT;
  if (isWord(ptr, bytes, "role")) return PART_ROLE;
  if (isWord(ptr, bytes, "type")) return PART_TYPE;
  // Results of function calls in the Responses API.
  if (isWord(ptr, bytes, "output")) return PART_CONTENT;
  return isCacheHint(ptr, bytes) ? PART_IGNORED : PART_OTHER;
}

/** PART_* of a name in a content block. */
export function blockField(ptr: usize, bytes: u32): u8 {
  if (isWord(ptr, bytes, "type")) return PART_TYPE;
  if (isWord(ptr, bytes, "text")) return PART_TEXT;
  if (isWord(ptr, bytes, "content")) return PART_CONTENT;
  if (isWord(ptr, bytes, "thinking")) return PART_TEXT;
  if (isWord(ptr, bytes, "image_url") || isWord(ptr, bytes, "video_url")) return PART_MEDIA;
  if (isWord(ptr, bytes, "input_audio") || isWord(ptr, bytes, "audio_url")) return PART_MEDIA;
  if (isWord(ptr, bytes, "source") || isWord(ptr, bytes, "file")) return PART_MEDIA;
  return isCacheHint(ptr, bytes) ? PART_IGNORED : PART_OTHER;
}

/**
 * Anthropic's cache_control: clients move it to the newest block with every turn, so it must not be part of
 * any key. It changes nothing in the prompt.
 */
export function isCacheHint(ptr: usize, bytes: u32): bool {
  return isWord(ptr, bytes, "cache_control");
}

/** Whether a message's or block's type says nothing beyond "text". */
export function isTextType(ptr: usize, bytes: u32): bool {
  if (isWord(ptr, bytes, "text") || isWord(ptr, bytes, "message")) return true;
  return isWord(ptr, bytes, "input_text") || isWord(ptr, bytes, "output_text");
}
