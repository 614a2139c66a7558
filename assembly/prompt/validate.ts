// Whether a whole body fits its API. Refused is what llm-d's parsers refuse and the engine would refuse as well.
import {
  API_ANTHROPIC_MESSAGES,
  API_CHAT,
  API_CHAT_RENDER,
  API_COMPLETIONS,
  API_COMPLETIONS_RENDER,
  API_CONVERSATIONS,
  API_EMBEDDINGS,
  API_IMAGES,
  API_RESPONSES,
  API_SGLANG_GENERATE,
  API_VLLM_GENERATE,
} from "./api";
import { INGREDIENT_EMBEDS } from "./fields";
import {
  AT_API,
  AT_INGREDIENTS,
  AT_ITEMS,
  AT_KINDS,
  AT_TOKEN_IDS,
  FLAG_BAD_FIELD,
  FLAG_BAD_ID,
  FLAG_INPUT_IDS,
  FLAG_ROOT,
  FLAG_SALT_LIST,
  KIND_ARRAY,
  KIND_ITEMS,
  KIND_ITEM_ID,
  KIND_ITEM_LIST,
  KIND_ITEM_NULL,
  KIND_ITEM_OBJECT,
  KIND_ITEM_TEXT,
  KIND_NULL,
  KIND_TEXT,
  hasFlag,
} from "./layout";

/** Not JSON; the text of the error says where. */
export const PROMPT_BAD_JSON: u32 = 1;
/** JSON, but neither an object nor null. */
export const PROMPT_NOT_OBJECT: u32 = 2;
/** Chat completions: messages is no list of messages, or empty, or another field is of the wrong kind. */
export const PROMPT_CHAT: u32 = 3;
/** Completions: prompt is missing, empty or mixed. */
export const PROMPT_COMPLETIONS: u32 = 4;
/** Responses: input is missing. */
export const PROMPT_RESPONSES: u32 = 5;
/** Conversations: items is missing or empty. */
export const PROMPT_CONVERSATIONS: u32 = 6;
/** Embeddings: input is missing, empty or mixed. */
export const PROMPT_EMBEDDINGS: u32 = 7;
/** Images: prompt is missing or empty. */
export const PROMPT_IMAGES: u32 = 8;
/** Anthropic messages: messages is missing or empty. */
export const PROMPT_MESSAGES: u32 = 9;
/** Anthropic messages: a field is of the wrong kind. */
export const PROMPT_MESSAGES_KIND: u32 = 10;
/** vLLM generate: token_ids is missing or empty. */
export const PROMPT_TOKEN_IDS: u32 = 11;
/** vLLM generate: token_ids has an element that is none. */
export const PROMPT_TOKEN_ID: u32 = 12;
/** SGLang generate: neither text nor input_ids nor input_embeds. */
export const PROMPT_INPUT_MISSING: u32 = 13;
/** SGLang generate: input_ids is empty. */
export const PROMPT_INPUT_EMPTY: u32 = 14;
/** SGLang generate: input_ids is something else. */
export const PROMPT_INPUT_KIND: u32 = 15;
/** SGLang generate: extra_key is a list though there is one prompt, or no string at all. */
export const PROMPT_EXTRA_KEY: u32 = 16;
/** vLLM generate: a field is of the wrong kind. */
export const PROMPT_GENERATE_KIND: u32 = 17;

/** 0, or what is wrong with the complete body. */
export function validate(record: usize): u32 {
  if (!hasFlag(record, FLAG_ROOT)) return PROMPT_NOT_OBJECT;
  const kinds = load<u32>(record, AT_KINDS);
  const isBad = hasFlag(record, FLAG_BAD_FIELD);
  switch (<u32>load<u8>(record, AT_API)) {
    case API_CHAT:
    case API_CHAT_RENDER:
      return !isBad && isMessageList(record, kinds) ? 0 : PROMPT_CHAT;
    case API_COMPLETIONS:
    case API_COMPLETIONS_RENDER:
      return !isBad && isPrompt(record, kinds, false) ? 0 : PROMPT_COMPLETIONS;
    case API_EMBEDDINGS:
      return !isBad && isPrompt(record, kinds, true) ? 0 : PROMPT_EMBEDDINGS;
    case API_RESPONSES:
      return !isBad && kinds != 0 && kinds != KIND_NULL ? 0 : PROMPT_RESPONSES;
    case API_CONVERSATIONS:
      return !isBad && isMessageList(record, kinds) ? 0 : PROMPT_CONVERSATIONS;
    case API_IMAGES:
      return !isBad && kinds == KIND_TEXT ? 0 : PROMPT_IMAGES;
    case API_ANTHROPIC_MESSAGES:
      return validateMessages(record, kinds, isBad);
    case API_VLLM_GENERATE:
      return validateTokenIds(record, kinds, isBad);
    case API_SGLANG_GENERATE:
      return validateGenerate(record, kinds, isBad);
    default:
      return 0;
  }
}

// A list of objects, not empty. null among them is an empty message to llm-d's parser.
function isMessageList(record: usize, kinds: u32): bool {
  if ((kinds & KIND_ARRAY) == 0 || load<u32>(record, AT_ITEMS) == 0) return false;
  return (kinds & KIND_ITEMS & ~(KIND_ITEM_OBJECT | KIND_ITEM_NULL)) == 0;
}

// A text, or a list of texts, of token ids, or of lists of token ids; never mixed.
function isPrompt(record: usize, kinds: u32, takesMessages: bool): bool {
  if (kinds == KIND_TEXT) return true;
  if (load<u64>(record + AT_INGREDIENTS + ((<usize>INGREDIENT_EMBEDS) << 3)) != 0) return true;
  if ((kinds & KIND_ARRAY) == 0 || hasFlag(record, FLAG_BAD_ID)) return false;
  const items = kinds & KIND_ITEMS;
  if (items == KIND_ITEM_TEXT || items == KIND_ITEM_ID || items == KIND_ITEM_LIST) return true;
  return takesMessages && items == KIND_ITEM_OBJECT;
}

function validateMessages(record: usize, kinds: u32, isBad: bool): u32 {
  if (isBad || (kinds & ~(KIND_ARRAY | KIND_ITEM_OBJECT | KIND_ITEM_NULL | KIND_NULL)) != 0) {
    return PROMPT_MESSAGES_KIND;
  }
  return isMessageList(record, kinds) ? 0 : PROMPT_MESSAGES;
}

function validateTokenIds(record: usize, kinds: u32, isBad: bool): u32 {
  if (isBad) return PROMPT_GENERATE_KIND;
  if (hasFlag(record, FLAG_BAD_ID)) return PROMPT_TOKEN_ID;
  if ((kinds & ~(KIND_ARRAY | KIND_NULL | KIND_ITEM_ID)) != 0) return PROMPT_GENERATE_KIND;
  return load<u32>(record, AT_TOKEN_IDS) == 0 ? PROMPT_TOKEN_IDS : 0;
}

function validateGenerate(record: usize, kinds: u32, isBad: bool): u32 {
  const hasEmbeds = load<u64>(record + AT_INGREDIENTS + ((<usize>INGREDIENT_EMBEDS) << 3)) != 0;
  if ((kinds == 0 || kinds == KIND_NULL) && !hasEmbeds) return PROMPT_INPUT_MISSING;
  const items = kinds & KIND_ITEMS;
  const isBatch = items == KIND_ITEM_LIST || items == KIND_ITEM_TEXT;
  if (isBad || (hasFlag(record, FLAG_SALT_LIST) && !isBatch)) return PROMPT_EXTRA_KEY;
  if (!hasFlag(record, FLAG_INPUT_IDS)) return 0;
  if (kinds == KIND_ARRAY) return PROMPT_INPUT_EMPTY;
  if (hasFlag(record, FLAG_BAD_ID) || (items != KIND_ITEM_ID && items != KIND_ITEM_LIST))
    return PROMPT_INPUT_KIND;
  return 0;
}
