// String values of a request body, piece by piece: prompt text, names, and what is hashed.
import { chainBoundary, chainText, chainTextBytes } from "../prefix/chain";
import { mixPair } from "../text/hash";
import { attributionBytes, isAttributed } from "./attribution";
import { beginPrompt } from "./begin";
import { digestAdd, digestEnd, digestOf } from "./digest";
import {
  FIELD_INGREDIENT,
  FIELD_INPUT_IDS,
  FIELD_LORA,
  FIELD_MODEL,
  FIELD_PROMPT,
  FIELD_SUFFIX,
  FIELD_USER,
  INGREDIENT_SALT,
  INGREDIENT_SYSTEM,
  INGREDIENT_TOOL_CHOICE,
  PART_CONTENT,
  PART_IGNORED,
  PART_OTHER,
  PART_ROLE,
  PART_TEXT,
  PART_TYPE,
  isTextType,
  isWord,
} from "./fields";
import {
  JSON_STRING,
  TARGET_LORA,
  TARGET_TAG,
  addToTag,
  checkKind,
  deliver,
  isPromptText,
} from "./ingredients";
import {
  AT_AUDIOS,
  AT_CHAIN,
  AT_EXTRA,
  AT_FIELD,
  AT_HEAD,
  AT_IMAGES,
  AT_ITEMS,
  AT_KEY_HASH,
  AT_MODEL,
  AT_MODEL_BYTES,
  AT_SCOPE,
  AT_USER,
  AT_VIDEOS,
  FLAG_INPUT_IDS,
  FLAG_IN_STRING,
  FLAG_JOIN,
  FLAG_MODEL,
  FLAG_USER_TURN,
  KIND_EMPTY_TEXT,
  KIND_ITEM_TEXT,
  KIND_SCALAR,
  KIND_TEXT,
  MODEL_BYTES_MAX,
  SCOPE_LIST,
  SCOPE_MESSAGE,
  SCOPE_PART,
  SCOPE_PARTS,
  SCOPE_ROOT,
  WORD_BYTES_MAX,
  addKind,
  clearFlag,
  countOne,
  hasFlag,
  renderOf,
  setFlag,
} from "./layout";
import { USER_HASH, renderContent, renderPartType, renderRole } from "./render";
import { RENDER_CONTENT, renderBreak } from "./render-layout";
import { renderSalt, renderSuffix } from "./render-outcome";
import { renderText } from "./render-walk";
import { isNestedList } from "./scope";
import { wordAdd, wordEnd, wordPtr } from "./word";

/** Ends one of several prompts, so that the next one's text does not continue it. */
const TAG_ITEM: u64 = 0x6974656d;

const lineBreak: usize = memory.data<u8>([10]);

/** A piece of a string value; `isLast`: the string is complete with it. */
export function stringPiece(record: usize, ptr: usize, len: u32, isLast: bool): void {
  const isFirst = !hasFlag(record, FLAG_IN_STRING);
  switch (load<u8>(record, AT_SCOPE)) {
    case SCOPE_ROOT:
      bodyString(record, ptr, len, isFirst, isLast);
      break;
    case SCOPE_LIST:
      listString(record, ptr, len, isFirst, isLast);
      break;
    case SCOPE_MESSAGE:
    case SCOPE_PART:
      messageString(record, ptr, len, isFirst, isLast);
      break;
    case SCOPE_PARTS:
      joinedText(record, ptr, len, isFirst, isLast);
      break;
    default:
      break;
  }
  if (isLast) clearFlag(record, FLAG_IN_STRING);
  else if (isFirst) setFlag(record, FLAG_IN_STRING);
}

function chainOf(record: usize): usize {
  return <usize>load<u32>(record, AT_CHAIN);
}

function bodyString(record: usize, ptr: usize, len: u32, isFirst: bool, isLast: bool): void {
  const field = load<u8>(record, AT_FIELD);
  if (field == FIELD_PROMPT) {
    if (isFirst) beginPrompt(record);
    chainText(chainOf(record), ptr, len);
    if (renderOf(record) != 0) renderText(record, ptr, len, isFirst, isLast);
    if (isLast) addKind(record, chainTextBytes(chainOf(record)) > 0 ? KIND_TEXT : KIND_EMPTY_TEXT);
  } else if (field == FIELD_MODEL) {
    modelPiece(record, ptr, len);
    if (isLast && load<u16>(record, AT_MODEL_BYTES) > 0) setFlag(record, FLAG_MODEL);
  } else if (field >= FIELD_INGREDIENT) {
    const index = <u32>(field - FIELD_INGREDIENT);
    const isSalt = index == <u32>INGREDIENT_SALT;
    if (isSalt && renderOf(record) != 0) renderSalt(renderOf(record), ptr, len, isFirst, isLast);
    const left = isFirst && index == <u32>INGREDIENT_SYSTEM ? attributionBytes(ptr, len, isLast) : 0;
    ingredientString(record, index, ptr + left, len - left, isLast);
  } else if (field == FIELD_USER) {
    if (isLast) store<u64>(record, digestEnd(record, ptr, len), AT_USER);
    else digestAdd(record, ptr, len);
  } else if (field == FIELD_LORA) {
    if (isLast) deliver(record, TARGET_LORA, JSON_STRING, digestEnd(record, ptr, len));
    else digestAdd(record, ptr, len);
  } else if (field == FIELD_SUFFIX) {
    if (len > 0 && renderOf(record) != 0) renderSuffix(renderOf(record));
  } else if (field == FIELD_INPUT_IDS && isLast) {
    beginPrompt(record);
    setFlag(record, FLAG_INPUT_IDS);
    addKind(record, KIND_SCALAR);
  }
}

function modelPiece(record: usize, ptr: usize, len: u32): void {
  const held = <u32>load<u16>(record, AT_MODEL_BYTES);
  const kept = min<u32>(len, MODEL_BYTES_MAX - held);
  memory.copy(record + AT_MODEL + held, ptr, kept);
  store<u16>(record, <u16>(held + kept), AT_MODEL_BYTES);
}

function ingredientString(record: usize, index: u32, ptr: usize, len: u32, isLast: bool): void {
  if (isPromptText(index)) {
    countExtra(record, len);
    store<u32>(record, load<u32>(record, AT_HEAD) + len, AT_HEAD);
  }
  // tool_choice "auto" is what the engine does without it.
  const isChoice = index == <u32>INGREDIENT_TOOL_CHOICE;
  if (!isLast) {
    digestAdd(record, ptr, len);
    if (isChoice) wordAdd(record, ptr, len);
    return;
  }
  checkKind(record, index, JSON_STRING);
  const hash = digestEnd(record, ptr, len);
  if (isChoice) {
    const bytes = wordEnd(record, ptr, len);
    if (isWord(wordPtr(), bytes, "auto")) return deliver(record, index, JSON_STRING, 0);
  }
  deliver(record, index, JSON_STRING, hash);
}

function listString(record: usize, ptr: usize, len: u32, isFirst: bool, isLast: bool): void {
  chainText(chainOf(record), ptr, len);
  if (renderOf(record) != 0) renderText(record, ptr, len, isFirst, isLast);
  if (!isLast) return;
  chainBoundary(chainOf(record), TAG_ITEM);
  if (isNestedList(record)) return;
  addKind(record, KIND_ITEM_TEXT);
  countOne(record, AT_ITEMS);
}

// Text of content blocks is joined with line breaks, as vLLM and SGLang flatten it, so that one block of text
// and plain content have the same keys.
function joinedText(record: usize, ptr: usize, len: u32, isFirst: bool, isLast: bool): void {
  const chain = chainOf(record);
  const left = isFirst ? attributionBytes(ptr, len, isLast) : 0;
  if (isFirst && hasFlag(record, FLAG_JOIN)) chainText(chain, lineBreak, 1);
  chainText(chain, ptr + left, len - left);
  if (isLast) setFlag(record, FLAG_JOIN);
  if (renderOf(record) == 0) return;
  if (isFirst && isAttributed(ptr, len)) renderBreak(renderOf(record), RENDER_CONTENT);
  renderContent(renderOf(record), ptr, len, isFirst, isLast);
}

// A string member of a message or of a content block.
function messageString(record: usize, ptr: usize, len: u32, isFirst: bool, isLast: bool): void {
  const field = load<u8>(record, AT_FIELD);
  if (field == PART_CONTENT || field == PART_TEXT) return joinedText(record, ptr, len, isFirst, isLast);
  if (field == PART_IGNORED) return;
  if (field == PART_TYPE) {
    if (isLast) typeString(record, wordEnd(record, ptr, len));
    else wordAdd(record, ptr, len);
    return;
  }
  if (field == PART_OTHER) countExtra(record, len);
  if (!isLast) return digestAdd(record, ptr, len);
  const hash = digestEnd(record, ptr, len);
  const isMessage = load<u8>(record, AT_SCOPE) == SCOPE_MESSAGE;
  if (field == PART_ROLE && isMessage) {
    if (hash == USER_HASH) setFlag(record, FLAG_USER_TURN);
    if (renderOf(record) != 0) renderRole(renderOf(record), hash);
  }
  deliver(record, TARGET_TAG, JSON_STRING, hash);
}

function typeString(record: usize, bytes: u32): void {
  const type = wordPtr();
  const isPart = load<u8>(record, AT_SCOPE) == SCOPE_PART;
  if (isPart && renderOf(record) != 0) renderPartType(renderOf(record), isWord(type, bytes, "text"));
  if (isTextType(type, bytes)) return;
  const isImage = isWord(type, bytes, "image_url") || isWord(type, bytes, "image");
  if (isImage || isWord(type, bytes, "input_image")) countOne(record, AT_IMAGES);
  else if (isWord(type, bytes, "input_audio") || isWord(type, bytes, "audio_url"))
    countOne(record, AT_AUDIOS);
  else if (isWord(type, bytes, "video_url")) countOne(record, AT_VIDEOS);
  const hash = digestOf(type, bytes > WORD_BYTES_MAX ? 0 : bytes);
  addToTag(record, mixPair(load<u64>(record, AT_KEY_HASH), hash));
}

function countExtra(record: usize, bytes: u32): void {
  store<u32>(record, load<u32>(record, AT_EXTRA) + bytes, AT_EXTRA);
}
