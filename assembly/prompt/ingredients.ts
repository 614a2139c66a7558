// Everything beside the prompt's text that changes its prefix keys, as hashes, wherever it stands in the body.
import { chainBoundary } from "../prefix/chain";
import { mixPair } from "../text/hash";
import { ascii, textBytes } from "../text/text";
import { API_ANTHROPIC_MESSAGES, API_CHAT, API_CHAT_RENDER, API_RESPONSES, API_SGLANG_GENERATE } from "./api";
import { digestOf } from "./digest";
import {
  INGREDIENT_CHAT_TEMPLATE,
  INGREDIENT_CONTINUE,
  INGREDIENT_DOCUMENTS,
  INGREDIENT_FUNCTIONS,
  INGREDIENT_GENERATION_PROMPT,
  INGREDIENT_SALT,
  INGREDIENT_QUERY,
  INGREDIENT_SYSTEM,
  INGREDIENT_TEMPLATE_KWARGS,
  INGREDIENT_TOKENS_MASK,
  INGREDIENT_TOOLS,
  PART_ROLE,
} from "./fields";
import {
  AT_API,
  AT_CHAIN,
  AT_FIELD,
  AT_INGREDIENTS,
  AT_KEY_HASH,
  AT_LORA,
  AT_TAGS,
  AT_TAG_LEVEL,
  FLAG_BAD_FIELD,
  FLAG_SALT_LIST,
  INGREDIENTS_MAX,
  renderOf,
  setFlag,
} from "./layout";
import { renderNoCalls } from "./render";
import { RENDER_MEMBER, renderBreak } from "./render-layout";
import { renderIngredient } from "./render-outcome";

// Where the hash of a value goes: an ingredient's index, or one of these.
/** Into the tag of the message or content block around it, with the name's hash. */
export const TARGET_TAG: u32 = 64;
export const TARGET_LORA: u32 = 65;
/** Nowhere. */
export const TARGET_NONE: u32 = 66;

// JSON kinds of a value.
export const JSON_STRING: u32 = 1;
export const JSON_NUMBER: u32 = 2;
export const JSON_TRUE: u32 = 3;
export const JSON_FALSE: u32 = 4;
export const JSON_NULL: u32 = 5;
export const JSON_ARRAY: u32 = 6;
export const JSON_OBJECT: u32 = 7;

const TOOL_CALLS = ascii("tool_calls");
const TOOL_CALLS_HASH = digestOf(TOOL_CALLS, textBytes(TOOL_CALLS));

/** A value of kind `kind` with hash `hash` is complete. 0 and null count as absent. */
export function deliver(record: usize, target: u32, kind: u32, hash: u64): void {
  if (kind == JSON_NULL) hash = 0;
  if (target == TARGET_TAG) {
    const name = load<u64>(record, AT_KEY_HASH);
    if (hash != 0) addToTag(record, mixPair(name, hash));
    else if (kind == JSON_ARRAY && renderOf(record) != 0 && name == TOOL_CALLS_HASH)
      renderNoCalls(renderOf(record));
  } else if (target == TARGET_LORA) {
    store<u64>(record, hash, AT_LORA);
  } else if (target < INGREDIENTS_MAX) {
    const isGiven = kind != JSON_NULL && !isDefault(target, kind);
    store<u64>(record + AT_INGREDIENTS + ((<usize>target) << 3), isGiven ? hash : 0);
    if (renderOf(record) != 0) renderIngredient(renderOf(record), target, isGiven, kind == JSON_STRING, hash);
  }
}

/** Adds to the tag of the message or block that is open. The order of what is added does not matter. */
export function addToTag(record: usize, hash: u64): void {
  const tag = record + AT_TAGS + ((<usize>load<u8>(record, AT_TAG_LEVEL)) << 3);
  store<u64>(tag, load<u64>(tag) + hash);
  // Whatever makes a tag, the role alone excepted, may change the rendered text.
  const isRole = load<u8>(record, AT_FIELD) == PART_ROLE;
  if (renderOf(record) != 0 && !isRole) renderBreak(renderOf(record), RENDER_MEMBER);
}

/** Ends the message or block at the present tag level: its tag goes to the chain, if there is one. */
export function endTag(record: usize): void {
  const tag = record + AT_TAGS + ((<usize>load<u8>(record, AT_TAG_LEVEL)) << 3);
  const hash = load<u64>(tag);
  store<u64>(tag, 0);
  if (hash != 0) chainBoundary(<usize>load<u32>(record, AT_CHAIN), hash);
}

// Values that mean the same as leaving the field out.
function isDefault(index: u32, kind: u32): bool {
  if (index == INGREDIENT_GENERATION_PROMPT) return kind == JSON_TRUE;
  if (index == INGREDIENT_CONTINUE) return kind == JSON_FALSE;
  return index == INGREDIENT_TOKENS_MASK;
}

/**
 * Notes a value of a kind that the API's request model does not have; llm-d refuses those (its Go structs
 * CompletionsRequest, ChatCompletionsRequest, MessagesRequest …) and so do vLLM's.
 */
export function checkKind(record: usize, index: u32, kind: u32): void {
  if (kind == JSON_NULL) return;
  const api = <u32>load<u8>(record, AT_API);
  if (index == INGREDIENT_SALT) {
    if (kind == JSON_STRING) return;
    setFlag(record, kind == JSON_ARRAY && api == API_SGLANG_GENERATE ? FLAG_SALT_LIST : FLAG_BAD_FIELD);
    return;
  }
  const isChat = api == API_CHAT || api == API_CHAT_RENDER;
  let expected = true;
  if (index == INGREDIENT_TOOLS) expected = kind == JSON_ARRAY || !(isChat || api == API_ANTHROPIC_MESSAGES);
  if (isChat) {
    if (index == INGREDIENT_DOCUMENTS) expected = kind == JSON_ARRAY;
    if (index == INGREDIENT_CHAT_TEMPLATE) expected = kind == JSON_STRING;
    if (index == INGREDIENT_TEMPLATE_KWARGS) expected = kind == JSON_OBJECT;
    if (
      index == INGREDIENT_GENERATION_PROMPT ||
      index == INGREDIENT_CONTINUE ||
      index == INGREDIENT_TOKENS_MASK
    ) {
      expected = kind == JSON_TRUE || kind == JSON_FALSE;
    }
  }
  if (!expected) setFlag(record, FLAG_BAD_FIELD);
}

/** Whether the ingredient's text is part of the prompt that the engine computes. */
export function isPromptText(index: u32): bool {
  switch (index) {
    case INGREDIENT_TOOLS:
    case INGREDIENT_FUNCTIONS:
    case INGREDIENT_DOCUMENTS:
    case INGREDIENT_SYSTEM:
    case INGREDIENT_QUERY:
      return true;
    default:
      return false;
  }
}

/** All ingredients as one hash, LoRA and model apart. Chat APIs share one template, so they share keys. */
export function foldIngredients(record: usize): u64 {
  const api = <u32>load<u8>(record, AT_API);
  const isChat = api == API_CHAT || api == API_ANTHROPIC_MESSAGES || api == API_RESPONSES;
  let hash: u64 = isChat ? 1 : 2;
  for (let i: u32 = 0; i < INGREDIENTS_MAX; i++) {
    const value = load<u64>(record + AT_INGREDIENTS + ((<usize>i) << 3));
    if (value != 0) hash = mixPair(hash, value + <u64>i);
  }
  return hash;
}
