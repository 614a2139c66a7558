// Numbers, booleans and null of a request body, and token ids.
import { parseNumber } from "../json/parse-number";
import { chainText } from "../prefix/chain";
import { mixPair } from "../text/hash";
import { beginPrompt } from "./begin";
import { digestOf } from "./digest";
import {
  FIELD_INGREDIENT,
  FIELD_INPUT_IDS,
  FIELD_LORA,
  FIELD_MAX_COMPLETION,
  FIELD_MAX_TOKENS,
  FIELD_N,
  FIELD_PROMPT,
  FIELD_STREAM,
  PART_CONTENT,
  PART_IGNORED,
  PART_ROLE,
} from "./fields";
import {
  JSON_NULL,
  JSON_NUMBER,
  JSON_TRUE,
  TARGET_LORA,
  TARGET_TAG,
  checkKind,
  deliver,
} from "./ingredients";
import {
  AT_BAD,
  AT_BAD_BYTES,
  AT_BAD_INDEX,
  AT_CHAIN,
  AT_FIELD,
  AT_ITEMS,
  AT_MAX_COMPLETION,
  AT_MAX_TOKENS,
  AT_N,
  AT_SCOPE,
  AT_TOKEN_IDS,
  FLAG_BAD_FIELD,
  FLAG_BAD_ID,
  FLAG_INPUT_IDS,
  FLAG_ROOT,
  FLAG_STREAM,
  KIND_ITEM_ID,
  KIND_ITEM_NULL,
  KIND_ITEM_OTHER,
  KIND_NULL,
  KIND_SCALAR,
  SCOPE_LIST,
  SCOPE_MESSAGE,
  SCOPE_PART,
  SCOPE_PARTS,
  SCOPE_ROOT,
  SCOPE_SAMPLING,
  SCOPE_TOP,
  addKind,
  countOne,
  hasFlag,
  renderOf,
  setFlag,
} from "./layout";
import { RENDER_CONTENT, RENDER_TOKEN_IDS, renderBreak } from "./render-layout";
import { isNestedList } from "./scope";

/** Bytes kept of a token id that is none, for the error text. */
const BAD_BYTES_MAX: u32 = 24;
const idWord: usize = memory.data(4, 4);

/** A number (with its text), a boolean or null; `kind` is JSON_*. */
export function scalar(record: usize, kind: u32, ptr: usize, len: u32): void {
  switch (load<u8>(record, AT_SCOPE)) {
    case SCOPE_TOP:
      if (kind == JSON_NULL) setFlag(record, FLAG_ROOT);
      return;
    case SCOPE_ROOT:
      return bodyScalar(record, kind, ptr, len);
    case SCOPE_LIST:
      return listScalar(record, kind, ptr, len);
    case SCOPE_MESSAGE:
    case SCOPE_PART:
      return messageScalar(record, kind, ptr, len);
    case SCOPE_PARTS:
      if (kind != JSON_NULL) setFlag(record, FLAG_BAD_FIELD);
      if (renderOf(record) != 0) renderBreak(renderOf(record), RENDER_CONTENT);
      return;
    case SCOPE_SAMPLING:
      if (load<u8>(record, AT_FIELD) == FIELD_MAX_TOKENS) limit(record, AT_MAX_TOKENS, kind, ptr, len);
      else if (load<u8>(record, AT_FIELD) == FIELD_N) limit(record, AT_N, kind, ptr, len);
      return;
    default:
      return;
  }
}

/** Token ids: u32[count] at `ptr`. */
export function tokenIds(record: usize, ptr: usize, count: u32): void {
  if (load<u8>(record, AT_SCOPE) != SCOPE_LIST) return;
  if (renderOf(record) != 0) renderBreak(renderOf(record), RENDER_TOKEN_IDS);
  chainText(<usize>load<u32>(record, AT_CHAIN), ptr, count << 2);
  store<u32>(record, load<u32>(record, AT_TOKEN_IDS) + count, AT_TOKEN_IDS);
  if (isNestedList(record)) return;
  addKind(record, KIND_ITEM_ID);
  store<u32>(record, load<u32>(record, AT_ITEMS) + count, AT_ITEMS);
}

function hashOf(kind: u32, ptr: usize, len: u32): u64 {
  return mixPair(<u64>kind, kind == JSON_NUMBER ? digestOf(ptr, len) : 1);
}

function bodyScalar(record: usize, kind: u32, ptr: usize, len: u32): void {
  const field = load<u8>(record, AT_FIELD);
  if (field >= FIELD_INGREDIENT) {
    const index = <u32>(field - FIELD_INGREDIENT);
    checkKind(record, index, kind);
    deliver(record, index, kind, hashOf(kind, ptr, len));
    return;
  }
  switch (field) {
    case FIELD_STREAM:
      if (kind == JSON_TRUE) setFlag(record, FLAG_STREAM);
      return;
    case FIELD_MAX_TOKENS:
      return limit(record, AT_MAX_TOKENS, kind, ptr, len);
    case FIELD_MAX_COMPLETION:
      return limit(record, AT_MAX_COMPLETION, kind, ptr, len);
    case FIELD_N:
      return limit(record, AT_N, kind, ptr, len);
    case FIELD_LORA:
      return deliver(record, TARGET_LORA, kind, hashOf(kind, ptr, len));
    case FIELD_INPUT_IDS:
      if (kind == JSON_NULL) return;
      beginPrompt(record);
      setFlag(record, FLAG_INPUT_IDS);
      return addKind(record, KIND_SCALAR);
    case FIELD_PROMPT:
      beginPrompt(record);
      return addKind(record, kind == JSON_NULL ? KIND_NULL : KIND_SCALAR);
    default:
      return;
  }
}

// A limit in tokens: a whole number from 0; anything else counts as absent, as in llm-d's parsers.
function limit(record: usize, at: usize, kind: u32, ptr: usize, len: u32): void {
  const value = kind == JSON_NUMBER ? parseNumber(ptr, len) : NaN;
  const isWhole = value >= 0 && value == Math.floor(value);
  store<i32>(record + at, isWhole ? <i32>min<f64>(value, <f64>i32.MAX_VALUE) : -1);
}

function listScalar(record: usize, kind: u32, ptr: usize, len: u32): void {
  const value = kind == JSON_NUMBER ? parseNumber(ptr, len) : NaN;
  if (value >= 0 && value <= <f64>u32.MAX_VALUE && value == Math.floor(value)) {
    // A whole number written otherwise, 1.0 or 1e3: pydantic and Go's parser take it for an id.
    store<u32>(idWord, <u32>value);
    return tokenIds(record, idWord, 1);
  }
  if (renderOf(record) != 0) renderBreak(renderOf(record), RENDER_CONTENT);
  if (!hasFlag(record, FLAG_BAD_ID)) noteBadId(record, kind, ptr, len);
  if (isNestedList(record)) return;
  countOne(record, AT_ITEMS);
  if (kind == JSON_NUMBER) addKind(record, KIND_ITEM_ID);
  else addKind(record, kind == JSON_NULL ? KIND_ITEM_NULL : KIND_ITEM_OTHER);
}

function noteBadId(record: usize, kind: u32, ptr: usize, len: u32): void {
  if (kind == JSON_NULL) return;
  setFlag(record, FLAG_BAD_ID);
  const kept = kind == JSON_NUMBER ? min<u32>(len, BAD_BYTES_MAX) : 0;
  memory.copy(record + AT_BAD, ptr, kept);
  store<u8>(record, <u8>kept, AT_BAD_BYTES);
  store<u32>(record, load<u32>(record, AT_TOKEN_IDS), AT_BAD_INDEX);
}

function messageScalar(record: usize, kind: u32, ptr: usize, len: u32): void {
  const field = load<u8>(record, AT_FIELD);
  if (kind == JSON_NULL || field == PART_IGNORED) return;
  const isMessage = load<u8>(record, AT_SCOPE) == SCOPE_MESSAGE;
  if (isMessage && (field == PART_ROLE || field == PART_CONTENT)) setFlag(record, FLAG_BAD_FIELD);
  deliver(record, TARGET_TAG, kind, hashOf(kind, ptr, len));
}
