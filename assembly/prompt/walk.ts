// Walks a request body by its JSON events: knows in which array or object of the API it is.
import {
  EVENT_ARRAY_END,
  EVENT_ARRAY_START,
  EVENT_FALSE,
  EVENT_INTEGERS,
  EVENT_KEY,
  EVENT_KEY_PIECE,
  EVENT_NULL,
  EVENT_NUMBER,
  EVENT_OBJECT_END,
  EVENT_OBJECT_START,
  EVENT_STRING,
  EVENT_STRING_PIECE,
  SINK_GO,
  SINK_INTEGERS,
} from "../json/events";
import { scannerPosition } from "../json/scanner";
import { chainBoundary, chainDigest } from "../prefix/chain";
import { API_SGLANG_GENERATE } from "./api";
import { beginPrompt } from "./begin";
import { digestAdd, digestEnd } from "./digest";
import {
  FIELD_INGREDIENT,
  FIELD_INPUT_IDS,
  FIELD_LORA,
  FIELD_MAX_TOKENS,
  FIELD_MODEL,
  FIELD_N,
  FIELD_NONE,
  FIELD_PROMPT,
  FIELD_SAMPLING,
  FIELD_STREAM,
  FIELD_USER,
  INGREDIENT_FUNCTIONS,
  INGREDIENT_TOOLS,
  PART_CONTENT,
  PART_IGNORED,
  PART_MEDIA,
  PART_ROLE,
  PART_TEXT,
  blockField,
  bodyField,
  isWord,
  messageField,
} from "./fields";
import { checkField } from "./forbidden";
import {
  JSON_ARRAY,
  JSON_FALSE,
  JSON_NULL,
  JSON_NUMBER,
  JSON_OBJECT,
  JSON_TRUE,
  TARGET_LORA,
  TARGET_TAG,
  checkKind,
  endTag,
  isPromptText,
} from "./ingredients";
import {
  AT_API,
  AT_CHAIN,
  AT_FIELD,
  AT_FIRST_TURN,
  AT_ITEMS,
  AT_LIST_FROM,
  AT_LIST_TO,
  AT_KEY_HASH,
  AT_MESSAGES,
  AT_MODEL_BYTES,
  AT_SCOPE,
  AT_TAG_LEVEL,
  AT_TOOLS,
  AT_USER,
  FLAG_BAD_FIELD,
  FLAG_ENDED,
  FLAG_INPUT_IDS,
  FLAG_JOIN,
  FLAG_MODEL,
  FLAG_ROOT,
  FLAG_STREAM,
  FLAG_USER_TURN,
  KIND_ARRAY,
  KIND_ITEM_LIST,
  KIND_ITEM_OBJECT,
  KIND_OBJECT,
  SCOPE_LIST,
  SCOPE_MESSAGE,
  SCOPE_PART,
  SCOPE_PARTS,
  SCOPE_ROOT,
  SCOPE_SAMPLING,
  SCOPE_SKIP,
  SCOPE_TOP,
  SCOPE_TREE,
  TAG_LEVELS,
  addKind,
  clearFlag,
  countOne,
  hasFlag,
  renderOf,
  scannerOf,
  setFlag,
} from "./layout";
import { renderPart, renderParts } from "./render";
import { RENDER_SEVERAL, renderBreak } from "./render-layout";
import { renderClose, renderKey, renderObject } from "./render-walk";
import { scalar, tokenIds } from "./scalars";
import { isNestedList, popScope, pushScope } from "./scope";
import { stringPiece } from "./strings";
import { treeBegin, treeEvent } from "./tree";
import { wordAdd, wordEnd, wordPtr } from "./word";

/** Ends one of several token-id prompts. */
const TAG_LIST: u64 = 0x6c697374;

/** The scanner's sink; its context is the prompt record. */
export function onBodyEvent(record: usize, event: u32, ptr: usize, len: u32): u32 {
  if (load<u8>(record, AT_SCOPE) == SCOPE_TREE) {
    if (!treeEvent(record, event, ptr, len)) popScope(record);
    return event == EVENT_ARRAY_START ? SINK_INTEGERS : SINK_GO;
  }
  switch (event) {
    case EVENT_STRING_PIECE:
      stringPiece(record, ptr, len, false);
      return SINK_GO;
    case EVENT_STRING:
      stringPiece(record, ptr, len, true);
      return SINK_GO;
    case EVENT_KEY_PIECE:
      keyPiece(record, ptr, len);
      return SINK_GO;
    case EVENT_KEY:
      key(record, ptr, len);
      return SINK_GO;
    case EVENT_OBJECT_START:
      return open(record, true, ptr);
    case EVENT_ARRAY_START:
      return open(record, false, ptr);
    case EVENT_OBJECT_END:
    case EVENT_ARRAY_END:
      close(record, ptr);
      return SINK_GO;
    case EVENT_INTEGERS:
      tokenIds(record, ptr, len);
      return SINK_GO;
    default:
      scalar(record, scalarKind(event), ptr, len);
      return SINK_GO;
  }
}

function scalarKind(event: u32): u32 {
  if (event == EVENT_NUMBER) return JSON_NUMBER;
  if (event == EVENT_NULL) return JSON_NULL;
  return event == EVENT_FALSE ? JSON_FALSE : JSON_TRUE;
}

function keyPiece(record: usize, ptr: usize, len: u32): void {
  const scope = load<u8>(record, AT_SCOPE);
  wordAdd(record, ptr, len);
  if (scope == SCOPE_MESSAGE || scope == SCOPE_PART) digestAdd(record, ptr, len);
}

function key(record: usize, ptr: usize, len: u32): void {
  const scope = load<u8>(record, AT_SCOPE);
  const bytes = wordEnd(record, ptr, len);
  const word = wordPtr();
  let field = FIELD_NONE;
  checkField(record, word, bytes, scope == SCOPE_ROOT);
  if (scope == SCOPE_ROOT) {
    field = startBodyField(record, bodyField(<u32>load<u8>(record, AT_API), word, bytes));
  } else if (scope == SCOPE_MESSAGE || scope == SCOPE_PART) {
    field = scope == SCOPE_MESSAGE ? messageField(word, bytes) : blockField(word, bytes);
    store<u64>(record, digestEnd(record, ptr, len), AT_KEY_HASH);
  } else if (scope == SCOPE_SAMPLING) {
    const isSglang = <u32>load<u8>(record, AT_API) == API_SGLANG_GENERATE;
    const isLimit = isSglang ? isWord(word, bytes, "max_new_tokens") : isWord(word, bytes, "max_tokens");
    if (isLimit) field = FIELD_MAX_TOKENS;
    else if (isWord(word, bytes, "n")) field = FIELD_N;
  }
  if (renderOf(record) != 0) renderKey(record, scope, field, word, bytes);
  store<u8>(record, field, AT_FIELD);
}

// Of duplicate names the last one counts: what an earlier one said is forgotten.
function startBodyField(record: usize, field: u8): u8 {
  if (field == FIELD_MODEL) {
    store<u16>(record, 0, AT_MODEL_BYTES);
    clearFlag(record, FLAG_MODEL);
  } else if (field == FIELD_STREAM) {
    clearFlag(record, FLAG_STREAM);
  } else if (field == FIELD_USER) {
    store<u64>(record, 0, AT_USER);
  } else if (
    field == FIELD_INGREDIENT + INGREDIENT_TOOLS ||
    field == FIELD_INGREDIENT + INGREDIENT_FUNCTIONS
  ) {
    store<u32>(record, 0, AT_TOOLS);
  } else if (field == FIELD_PROMPT && hasFlag(record, FLAG_INPUT_IDS)) {
    return FIELD_NONE;
  }
  return field;
}

function open(record: usize, isObject: bool, ptr: usize): u32 {
  let next = SCOPE_SKIP;
  switch (load<u8>(record, AT_SCOPE)) {
    case SCOPE_TOP:
      if (isObject) {
        setFlag(record, FLAG_ROOT);
        next = SCOPE_ROOT;
      }
      break;
    case SCOPE_ROOT:
      next = openInBody(record, isObject);
      if (next == SCOPE_LIST) {
        store<u32>(record, scannerPosition(scannerOf(record), ptr), AT_LIST_FROM);
        store<u32>(record, 0, AT_LIST_TO);
      }
      break;
    case SCOPE_LIST:
      next = openInList(record, isObject);
      break;
    case SCOPE_MESSAGE:
    case SCOPE_PART:
      next = openInMessage(record, isObject);
      break;
    case SCOPE_PARTS:
      next = openInParts(record, isObject);
      break;
    default:
      break;
  }
  pushScope(record, next);
  // What is skipped comes in batches too: that is fewer calls.
  return !isObject && next != SCOPE_PARTS ? SINK_INTEGERS : SINK_GO;
}

function openInBody(record: usize, isObject: bool): u8 {
  const field = load<u8>(record, AT_FIELD);
  if (field == FIELD_PROMPT || field == FIELD_INPUT_IDS) {
    beginPrompt(record);
    if (field == FIELD_INPUT_IDS) setFlag(record, FLAG_INPUT_IDS);
    addKind(record, isObject ? KIND_OBJECT : KIND_ARRAY);
    if (isObject) startMessage(record);
    return isObject ? SCOPE_MESSAGE : SCOPE_LIST;
  }
  if (field >= FIELD_INGREDIENT) {
    const index = <u32>(field - FIELD_INGREDIENT);
    checkKind(record, index, isObject ? JSON_OBJECT : JSON_ARRAY);
    treeBegin(record, index, isObject, isPromptText(index));
    return SCOPE_TREE;
  }
  if (field == FIELD_LORA) {
    treeBegin(record, TARGET_LORA, isObject, false);
    return SCOPE_TREE;
  }
  return field == FIELD_SAMPLING && isObject ? SCOPE_SAMPLING : SCOPE_SKIP;
}

function openInList(record: usize, isObject: bool): u8 {
  if (!isNestedList(record)) {
    addKind(record, isObject ? KIND_ITEM_OBJECT : KIND_ITEM_LIST);
    countOne(record, AT_ITEMS);
  }
  if (!isObject) {
    if (renderOf(record) != 0) renderBreak(renderOf(record), RENDER_SEVERAL);
    return SCOPE_LIST;
  }
  countOne(record, AT_MESSAGES);
  startMessage(record);
  return SCOPE_MESSAGE;
}

function startMessage(record: usize): void {
  store<u8>(record, 0, AT_TAG_LEVEL);
  clearFlag(record, FLAG_JOIN | FLAG_USER_TURN);
  if (renderOf(record) != 0) renderObject(record);
}

// A member of a message or of a content block that is an array or object.
function openInMessage(record: usize, isObject: bool): u8 {
  const field = load<u8>(record, AT_FIELD);
  if (field == PART_IGNORED) return SCOPE_SKIP;
  const isMessage = load<u8>(record, AT_SCOPE) == SCOPE_MESSAGE;
  if ((field == PART_CONTENT || field == PART_TEXT) && !isObject) {
    if (renderOf(record) != 0) renderParts(renderOf(record), isMessage);
    return SCOPE_PARTS;
  }
  if (isMessage && (field == PART_CONTENT || field == PART_ROLE)) setFlag(record, FLAG_BAD_FIELD);
  treeBegin(record, TARGET_TAG, isObject, field != PART_MEDIA);
  return SCOPE_TREE;
}

function openInParts(record: usize, isObject: bool): u8 {
  const level = <u32>load<u8>(record, AT_TAG_LEVEL);
  if (!isObject) setFlag(record, FLAG_BAD_FIELD);
  if (!isObject || level + 1 >= TAG_LEVELS) {
    treeBegin(record, TARGET_TAG, isObject, true);
    return SCOPE_TREE;
  }
  store<u8>(record, <u8>(level + 1), AT_TAG_LEVEL);
  if (renderOf(record) != 0) renderPart(renderOf(record));
  return SCOPE_PART;
}

function close(record: usize, ptr: usize): void {
  const scope = load<u8>(record, AT_SCOPE);
  if (renderOf(record) != 0) renderClose(record, scope);
  if (scope == SCOPE_MESSAGE) {
    endTag(record);
    if (hasFlag(record, FLAG_USER_TURN) && load<u64>(record, AT_FIRST_TURN) == 0) {
      store<u64>(record, chainDigest(<usize>load<u32>(record, AT_CHAIN)) | 1, AT_FIRST_TURN);
    }
  } else if (scope == SCOPE_PART) {
    endTag(record);
    store<u8>(record, load<u8>(record, AT_TAG_LEVEL) - 1, AT_TAG_LEVEL);
  } else if (scope == SCOPE_LIST) {
    if (isNestedList(record)) chainBoundary(<usize>load<u32>(record, AT_CHAIN), TAG_LIST);
    else store<u32>(record, scannerPosition(scannerOf(record), ptr) + 1, AT_LIST_TO);
  } else if (scope == SCOPE_ROOT) {
    setFlag(record, FLAG_ENDED);
  }
  popScope(record);
}
