// What the picker learns of a request from its body, while the body streams in.
//
// Prompt text goes to a prefix chain as it arrives; what else decides about the engine's cache (tools, cache_salt,
// chat template …) becomes one hash, so that its place in the body does not matter; model, token limit and the
// like are kept. A name that comes twice counts as Python's json.loads has it: the last one wins.
import { JSON_OK } from "../json/events";
import { scannerEnd, scannerFeed, scannerReset } from "../json/scanner";
import { chainDigest, chainKey, chainKeyCount, chainTextBytes } from "../prefix/chain";
import { hashBytes } from "../text/hash";
import { apiIsChecked } from "./api";
import { foldIngredients } from "./ingredients";
import { INGREDIENT_SALT, INGREDIENT_TOOLS } from "./fields";
import {
  AT_API,
  AT_AUDIOS,
  AT_CHAIN,
  AT_ERROR,
  AT_EXTRA,
  AT_FIRST_TURN,
  AT_HEAD,
  AT_IMAGES,
  AT_ITEMS,
  AT_KINDS,
  AT_INGREDIENTS,
  AT_LIST_FROM,
  AT_LIST_TO,
  AT_LORA,
  AT_MAX_COMPLETION,
  AT_MAX_TOKENS,
  AT_MESSAGES,
  AT_MODEL,
  AT_MODEL_BYTES,
  AT_N,
  AT_RENDER,
  AT_TOKEN_IDS,
  AT_TOOLS,
  AT_USER,
  AT_VIDEOS,
  FLAG_ENDED,
  FLAG_MODEL,
  FLAG_PROMPT,
  FLAG_STREAM,
  KIND_ITEM_LIST,
  KIND_ITEM_TEXT,
  PROMPT_BYTES,
  hasFlag,
  scannerOf,
} from "./layout";
import { PROMPT_BAD_JSON, validate } from "./validate";
import { onBodyEvent } from "./walk";

export { MODEL_BYTES_MAX, PROMPT_BYTES } from "./layout";

/**
 * Starts a body of API `api` in the record at `record` (PROMPT_BYTES, 8-byte aligned). `chain` is an empty prefix
 * chain of the caller's, who also releases it.
 */
export function promptBegin(record: usize, api: u32, chain: usize): void {
  memory.fill(record, 0, PROMPT_BYTES);
  scannerReset(scannerOf(record));
  store<u32>(record, <u32>chain, AT_CHAIN);
  store<u8>(record, <u8>api, AT_API);
  store<i32>(record, -1, AT_MAX_TOKENS);
  store<i32>(record, -1, AT_MAX_COMPLETION);
  store<i32>(record, -1, AT_N);
}

/** Has the prompt rendered too, into the record `render` (renderBegin of render.ts), as far as that is certain. */
export function promptRender(record: usize, render: usize): void {
  store<u32>(record, <u32>render, AT_RENDER);
}

/**
 * The next `bytes` bytes of the body. Returns 0, or PROMPT_BAD_JSON from the first byte on that is no JSON; for APIs
 * whose bodies are not checked here always 0, and then nothing more is learnt from the body.
 */
export function promptFeed(record: usize, ptr: usize, bytes: u32): u32 {
  const status = scannerFeed(scannerOf(record), ptr, bytes, onBodyEvent, record);
  return status == JSON_OK ? 0 : notJson(record);
}

/** The body is complete. Returns 0 or a PROMPT_* code of validate.ts: what the body lacks of its API. */
export function promptEnd(record: usize): u32 {
  const status = scannerEnd(scannerOf(record), onBodyEvent, record);
  if (status != JSON_OK) return notJson(record);
  const error = apiIsChecked(promptApi(record)) ? validate(record) : 0;
  store<u8>(record, <u8>error, AT_ERROR);
  return error;
}

function notJson(record: usize): u32 {
  const error = apiIsChecked(promptApi(record)) ? PROMPT_BAD_JSON : 0;
  store<u8>(record, <u8>error, AT_ERROR);
  return error;
}

/** API_* given to promptBegin. */
export function promptApi(record: usize): u32 {
  return <u32>load<u8>(record, AT_API);
}

/** Whether `model` was seen: a string that is not empty. */
export function promptHasModel(record: usize): bool {
  return hasFlag(record, FLAG_MODEL);
}

/** The model's name as UTF-8, in the record. */
export function promptModelPtr(record: usize): usize {
  return record + AT_MODEL;
}

/** Its length, 0 while none was seen, at most MODEL_BYTES_MAX. */
export function promptModelBytes(record: usize): u32 {
  return promptHasModel(record) ? <u32>load<u16>(record, AT_MODEL_BYTES) : 0;
}

/** hashBytes of the model's name, 0 while none was seen. */
export function promptModelHash(record: usize): u64 {
  return promptHasModel(record) ? hashBytes(record + AT_MODEL, promptModelBytes(record)) : 0;
}

/** Whether a prompt field has begun. */
export function promptHasPrompt(record: usize): bool {
  return hasFlag(record, FLAG_PROMPT);
}

/** Whether the body's object is closed: everything is known, though promptEnd has not checked it yet. */
export function promptHasEnded(record: usize): bool {
  return hasFlag(record, FLAG_ENDED);
}

/** Whether the answer is to be streamed. */
export function promptStream(record: usize): bool {
  return hasFlag(record, FLAG_STREAM);
}

/** Most tokens of an answer; -1 = not given. max_completion_tokens goes before max_tokens. */
export function promptMaxTokens(record: usize): i32 {
  const completion = load<i32>(record, AT_MAX_COMPLETION);
  return completion >= 0 ? completion : load<i32>(record, AT_MAX_TOKENS);
}

/** Answers asked for, at least 1. */
export function promptCount(record: usize): u32 {
  return <u32>max<i32>(load<i32>(record, AT_N), 1);
}

/** Offset in the body of the bracket that opens the prompt's list; where promptListTo() is not 0. */
export function promptListFrom(record: usize): u32 {
  return load<u32>(record, AT_LIST_FROM);
}

/** Offset behind the bracket that closes it; 0: the prompt is no list. */
export function promptListTo(record: usize): u32 {
  return load<u32>(record, AT_LIST_TO);
}

/** Whether the body asks for one prompt, not for several. */
export function promptIsOne(record: usize): bool {
  const kinds = load<u32>(record, AT_KINDS);
  if ((kinds & KIND_ITEM_LIST) != 0) return load<u32>(record, AT_ITEMS) == 1;
  return (kinds & KIND_ITEM_TEXT) == 0 || load<u32>(record, AT_ITEMS) <= 1;
}

/** Hash of all that changes the prefix keys beside text, model and LoRA; the root of the chain's keys with these. */
export function promptIngredientsHash(record: usize): u64 {
  return foldIngredients(record);
}

/** Hash of tools, 0 without. */
export function promptToolsHash(record: usize): u64 {
  return load<u64>(record + AT_INGREDIENTS + ((<usize>INGREDIENT_TOOLS) << 3));
}

/** Hash of cache_salt or extra_key, 0 without. */
export function promptSaltHash(record: usize): u64 {
  return load<u64>(record + AT_INGREDIENTS + ((<usize>INGREDIENT_SALT) << 3));
}

/** Hash of SGLang's lora_path, 0 without. Elsewhere a LoRA adapter is a model name. */
export function promptLoraHash(record: usize): u64 {
  return load<u64>(record, AT_LORA);
}

/** Messages or items of the conversation. */
export function promptMessages(record: usize): u32 {
  return load<u32>(record, AT_MESSAGES);
}

/** Tools and functions offered. */
export function promptTools(record: usize): u32 {
  return load<u32>(record, AT_TOOLS);
}

/** Image blocks. */
export function promptImages(record: usize): u32 {
  return load<u32>(record, AT_IMAGES);
}

/** Audio blocks. */
export function promptAudios(record: usize): u32 {
  return load<u32>(record, AT_AUDIOS);
}

/** Video blocks. */
export function promptVideos(record: usize): u32 {
  return load<u32>(record, AT_VIDEOS);
}

/** Token ids of the prompt; each is 4 bytes of the chain's text. 0 when the prompt is text. */
export function promptTokenIds(record: usize): u32 {
  return load<u32>(record, AT_TOKEN_IDS);
}

/** Bytes of prompt text outside the chain: tools, system text, tool calls, reasoning. */
export function promptExtraBytes(record: usize): u32 {
  return load<u32>(record, AT_EXTRA);
}

/** Those of them that stand before the messages in the engine's prompt: tools, functions, documents, system text. */
export function promptHeadBytes(record: usize): u32 {
  return load<u32>(record, AT_HEAD);
}

/** Keys of a text prompt that stand for its beginning: its first 512 bytes. */
const BEGINNING_KEYS: u32 = 8;

/**
 * What tells the conversation apart and is the same in all its turns: the hash of `user`, else of the messages up to
 * the first one of the user's, else of the first 512 bytes of the prompt. 0 when there is nothing of that. To be
 * asked before the decision gives the chain a head.
 */
export function promptConversation(record: usize): u64 {
  const user = load<u64>(record, AT_USER);
  if (user != 0) return user;
  const first = load<u64>(record, AT_FIRST_TURN);
  if (first != 0) return first;
  const chain = <usize>load<u32>(record, AT_CHAIN);
  const keys = min<u32>(chainKeyCount(chain), BEGINNING_KEYS);
  if (keys > 0) return chainKey(chain, keys - 1, 0);
  return chainTextBytes(chain) > 0 ? chainDigest(chain) : 0;
}

/** What promptFeed or promptEnd last returned. */
export function promptErrorCode(record: usize): u32 {
  return <u32>load<u8>(record, AT_ERROR);
}
