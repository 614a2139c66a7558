// Hashes a whole JSON value (tools, tool calls, images): by its tokens, so that whitespace does not matter.
import {
  EVENT_ARRAY_END,
  EVENT_ARRAY_START,
  EVENT_INTEGERS,
  EVENT_KEY,
  EVENT_KEY_PIECE,
  EVENT_NUMBER,
  EVENT_OBJECT_END,
  EVENT_OBJECT_START,
  EVENT_STRING,
  EVENT_STRING_PIECE,
} from "../json/events";
import { PRIME_3, mixWord } from "../text/hash";
import { attributionBytes } from "./attribution";
import { digestAdd, digestEnd, digestOf, digestReset } from "./digest";
import { INGREDIENT_FUNCTIONS, INGREDIENT_SYSTEM, INGREDIENT_TOOLS, isCacheHint } from "./fields";
import { JSON_ARRAY, JSON_OBJECT, deliver } from "./ingredients";
import {
  AT_DIGEST_BYTES,
  AT_EXTRA,
  AT_HEAD,
  AT_TOOLS,
  AT_TREE,
  AT_TREE_EVENTS,
  AT_TREE_LEVEL,
  AT_TREE_SKIP,
  AT_TREE_TARGET,
  FLAG_COUNT_TEXT,
  INGREDIENTS_MAX,
  FLAG_SKIP_NEXT,
  clearFlag,
  countOne,
  hasFlag,
  setFlag,
} from "./layout";
import { wordAdd, wordEnd, wordPtr } from "./word";

/** Starts a value at its opening bracket; `countsText`: its strings are part of the prompt's length. */
export function treeBegin(record: usize, target: u32, isObject: bool, countsText: bool): void {
  store<u64>(record, PRIME_3, AT_TREE);
  store<u32>(record, 0, AT_TREE_EVENTS);
  store<u32>(record, target, AT_TREE_TARGET);
  store<u8>(record, 1, AT_TREE_LEVEL);
  store<u8>(record, 0, AT_TREE_SKIP);
  clearFlag(record, FLAG_SKIP_NEXT | FLAG_COUNT_TEXT);
  if (countsText) setFlag(record, FLAG_COUNT_TEXT);
  fold(record, isObject ? EVENT_OBJECT_START : EVENT_ARRAY_START, 0);
}

/** An event inside the value. Returns false with the bracket that closes it, after its hash was delivered. */
export function treeEvent(record: usize, event: u32, ptr: usize, len: u32): bool {
  const level = <u32>load<u8>(record, AT_TREE_LEVEL);
  if (event == EVENT_OBJECT_START || event == EVENT_ARRAY_START) {
    store<u8>(record, <u8>(level + 1), AT_TREE_LEVEL);
    if (hasFlag(record, FLAG_SKIP_NEXT) && load<u8>(record, AT_TREE_SKIP) == 0) {
      store<u8>(record, <u8>(level + 1), AT_TREE_SKIP);
    }
    if (level == 1) countTool(record);
  }
  if (event == EVENT_OBJECT_END || event == EVENT_ARRAY_END) {
    store<u8>(record, <u8>(level - 1), AT_TREE_LEVEL);
    if (load<u8>(record, AT_TREE_SKIP) == <u8>level) {
      store<u8>(record, 0, AT_TREE_SKIP);
      clearFlag(record, FLAG_SKIP_NEXT);
      return true;
    }
  }
  if (hasFlag(record, FLAG_SKIP_NEXT)) skipped(record, event);
  else hashed(record, event, ptr, len);
  if (load<u8>(record, AT_TREE_LEVEL) > 0) return true;
  // An empty array or object means the same as leaving it out.
  const hash = load<u32>(record, AT_TREE_EVENTS) == 2 ? 0 : load<u64>(record, AT_TREE);
  deliver(
    record,
    load<u32>(record, AT_TREE_TARGET),
    event == EVENT_ARRAY_END ? JSON_ARRAY : JSON_OBJECT,
    hash,
  );
  return false;
}

// A value that is no part of the prompt: a scalar ends at once, anything else at its bracket.
function skipped(record: usize, event: u32): void {
  if (load<u8>(record, AT_TREE_SKIP) != 0 || event == EVENT_STRING_PIECE) return;
  clearFlag(record, FLAG_SKIP_NEXT);
}

function hashed(record: usize, event: u32, ptr: usize, len: u32): void {
  switch (event) {
    case EVENT_KEY_PIECE:
      wordAdd(record, ptr, len);
      digestAdd(record, ptr, len);
      return;
    case EVENT_KEY:
      return key(record, ptr, len);
    case EVENT_STRING_PIECE:
    case EVENT_STRING:
      return text(record, event, ptr, len);
    case EVENT_NUMBER:
      fold(record, EVENT_NUMBER, digestOf(ptr, len));
      return;
    case EVENT_INTEGERS:
      for (let i: u32 = 0; i < len; i++) fold(record, EVENT_INTEGERS, load<u32>(ptr + ((<usize>i) << 2)));
      return;
    default:
      fold(record, event, 0);
  }
}

function text(record: usize, event: u32, ptr: usize, len: u32): void {
  const isLast = event == EVENT_STRING;
  if (
    load<u32>(record, AT_TREE_TARGET) == <u32>INGREDIENT_SYSTEM &&
    load<u32>(record, AT_DIGEST_BYTES) == 0
  ) {
    const left = attributionBytes(ptr, len, isLast);
    ptr += left;
    len -= left;
  }
  countText(record, len);
  if (isLast) fold(record, EVENT_STRING, digestEnd(record, ptr, len));
  else digestAdd(record, ptr, len);
}

function key(record: usize, ptr: usize, len: u32): void {
  const bytes = wordEnd(record, ptr, len);
  const isHint = isCacheHint(wordPtr(), bytes);
  if (isHint) {
    digestReset(record);
    setFlag(record, FLAG_SKIP_NEXT);
    return;
  }
  countText(record, load<u32>(record, AT_DIGEST_BYTES) + len);
  fold(record, EVENT_KEY, digestEnd(record, ptr, len));
}

function fold(record: usize, event: u32, value: u64): void {
  store<u64>(record, mixWord(load<u64>(record, AT_TREE), value + <u64>event), AT_TREE);
  countOne(record, AT_TREE_EVENTS);
}

function countText(record: usize, bytes: u32): void {
  if (!hasFlag(record, FLAG_COUNT_TEXT)) return;
  store<u32>(record, load<u32>(record, AT_EXTRA) + bytes, AT_EXTRA);
  if (load<u32>(record, AT_TREE_TARGET) < INGREDIENTS_MAX) {
    store<u32>(record, load<u32>(record, AT_HEAD) + bytes, AT_HEAD);
  }
}

function countTool(record: usize): void {
  const target = load<u32>(record, AT_TREE_TARGET);
  if (target == <u32>INGREDIENT_TOOLS || target == <u32>INGREDIENT_FUNCTIONS) countOne(record, AT_TOOLS);
}
