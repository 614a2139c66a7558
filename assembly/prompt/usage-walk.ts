// Finds the token counts in one JSON document of a response by where they stand.
import {
  EVENT_ARRAY_END,
  EVENT_ARRAY_START,
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
import { parseNumber } from "../json/parse-number";
import { isWord } from "./fields";
import {
  AT_COUNTS,
  AT_DEPTH,
  AT_FOUND,
  AT_KEY,
  AT_MARKS,
  AT_NEW_COUNTS,
  AT_NEW_FOUND,
  AT_PLACES,
  AT_USAGE_FLAGS,
  AT_WORD,
  AT_WORD_BYTES,
  COUNTS,
  MARK_FINAL,
  MARK_NOT_FINAL,
  MARK_NO_TOKEN,
  USAGE_EVENT_STREAM,
  WORD_BYTES,
} from "./usage-layout";

/** Depth to which places are told apart; the deepest that matters is response.usage.input_tokens_details. */
const DEPTH_KNOWN: u32 = 4;

// Places: what an open object is.
const PLACE_OTHER: u8 = 0;
const PLACE_ROOT: u8 = 1;
/** "response" of the Responses API's events. */
const PLACE_RESPONSE: u8 = 2;
/** "message" of Anthropic's message_start. */
const PLACE_MESSAGE: u8 = 3;
const PLACE_USAGE: u8 = 4;
const PLACE_DETAILS: u8 = 5;
/** SGLang's meta_info. */
const PLACE_META: u8 = 6;

// Names that matter, by place. From KEY_PROMPT on: a count, KEY_PROMPT + its index.
const KEY_OTHER: u8 = 0;
const KEY_USAGE: u8 = 1;
const KEY_RESPONSE: u8 = 2;
const KEY_MESSAGE: u8 = 3;
const KEY_META: u8 = 4;
const KEY_TYPE: u8 = 5;
const KEY_ERROR: u8 = 6;
const KEY_DETAILS: u8 = 7;
const KEY_FINISH: u8 = 8;
const KEY_PROMPT: u8 = 16;
const KEY_COMPLETION: u8 = 17;
const KEY_CACHED: u8 = 18;
const KEY_INPUT: u8 = 19;
const KEY_READ: u8 = 20;
const KEY_CREATED: u8 = 21;

/** Starts a document: a body, or the data of one event. */
export function beginDocument(record: usize): void {
  memory.fill(record + AT_NEW_COUNTS, 0, AT_WORD - AT_NEW_COUNTS);
}

/** Ends a document: its counts replace those known, unless they are not final. */
export function endDocument(record: usize): void {
  const marks = load<u8>(record, AT_MARKS);
  const found = load<u8>(record, AT_NEW_FOUND);
  if (found == 0 || (marks & (MARK_NOT_FINAL | MARK_FINAL)) == MARK_NOT_FINAL) return;
  for (let i: u32 = 0; i < COUNTS; i++) {
    const at = record + ((<usize>i) << 2);
    if (((<u32>found) >> i) & 1) store<u32>(at, load<u32>(at, AT_NEW_COUNTS), AT_COUNTS);
  }
  store<u8>(record, load<u8>(record, AT_FOUND) | found, AT_FOUND);
}

/** Whether the document can carry generated text: it is no event before the first token, keep-alive or error. */
export function carriesTokens(record: usize): bool {
  return (load<u8>(record, AT_MARKS) & MARK_NO_TOKEN) == 0;
}

/** The scanner's sink; its context is the usage record. */
export function onUsageEvent(record: usize, event: u32, ptr: usize, len: u32): u32 {
  const depth = <u32>load<u8>(record, AT_DEPTH);
  switch (event) {
    case EVENT_OBJECT_START:
    case EVENT_ARRAY_START:
      enter(record, depth + 1, event == EVENT_OBJECT_START);
      return event == EVENT_ARRAY_START ? SINK_INTEGERS : SINK_GO;
    case EVENT_OBJECT_END:
    case EVENT_ARRAY_END:
      store<u8>(record, <u8>(depth - 1), AT_DEPTH);
      store<u8>(record, KEY_OTHER, AT_KEY);
      return SINK_GO;
    default:
      break;
  }
  const place = placeAt(record, depth);
  if (place == PLACE_OTHER) return SINK_GO;
  if (event == EVENT_KEY_PIECE || event == EVENT_STRING_PIECE) addWord(record, ptr, len);
  else if (event == EVENT_KEY) key(record, place, ptr, len);
  else value(record, event, ptr, len);
  return SINK_GO;
}

function placeAt(record: usize, depth: u32): u8 {
  return depth == 0 || depth > DEPTH_KNOWN ? PLACE_OTHER : load<u8>(record + AT_PLACES + depth);
}

function enter(record: usize, depth: u32, isObject: bool): void {
  store<u8>(record, <u8>depth, AT_DEPTH);
  if (depth > DEPTH_KNOWN) return;
  const place = isObject ? placeOf(record, depth) : PLACE_OTHER;
  store<u8>(record + AT_PLACES + depth, place);
  if (place == PLACE_RESPONSE) mark(record, MARK_NOT_FINAL);
  // In an event stream SGLang repeats meta_info with every event; the last one has a finish reason.
  const isStream = (load<u8>(record, AT_USAGE_FLAGS) & USAGE_EVENT_STREAM) != 0;
  if (place == PLACE_META && isStream) mark(record, MARK_NOT_FINAL);
  const key = load<u8>(record, AT_KEY);
  if (depth == 2 && key == KEY_ERROR) mark(record, MARK_NO_TOKEN);
  if (placeAt(record, depth - 1) == PLACE_META && key == KEY_FINISH) mark(record, MARK_FINAL);
}

// The place of an object from the place around it and its name.
function placeOf(record: usize, depth: u32): u8 {
  if (depth == 1) return PLACE_ROOT;
  const around = placeAt(record, depth - 1);
  const key = load<u8>(record, AT_KEY);
  if (key == KEY_USAGE && around != PLACE_OTHER) return PLACE_USAGE;
  if (key == KEY_DETAILS && around == PLACE_USAGE) return PLACE_DETAILS;
  if (around != PLACE_ROOT) return PLACE_OTHER;
  if (key == KEY_RESPONSE) return PLACE_RESPONSE;
  if (key == KEY_MESSAGE) return PLACE_MESSAGE;
  return key == KEY_META ? PLACE_META : PLACE_OTHER;
}

function mark(record: usize, bit: u8): void {
  store<u8>(record, load<u8>(record, AT_MARKS) | bit, AT_MARKS);
}

function addWord(record: usize, ptr: usize, len: u32): void {
  const held = <u32>load<u8>(record, AT_WORD_BYTES);
  const total = min<u32>(held + len, WORD_BYTES + 1);
  if (total <= WORD_BYTES) memory.copy(record + AT_WORD + held, ptr, len);
  store<u8>(record, <u8>total, AT_WORD_BYTES);
}

let word: usize = 0;

// The last piece of a name or string: its length, and its bytes at `word`.
function endWord(record: usize, ptr: usize, len: u32): u32 {
  if (load<u8>(record, AT_WORD_BYTES) == 0) {
    word = ptr;
    return len;
  }
  addWord(record, ptr, len);
  word = record + AT_WORD;
  const total = <u32>load<u8>(record, AT_WORD_BYTES);
  store<u8>(record, 0, AT_WORD_BYTES);
  return total;
}

function key(record: usize, place: u8, ptr: usize, len: u32): void {
  const bytes = endWord(record, ptr, len);
  store<u8>(record, place < PLACE_USAGE ? documentKey(bytes) : countKey(place, bytes), AT_KEY);
}

function documentKey(bytes: u32): u8 {
  if (isWord(word, bytes, "usage")) return KEY_USAGE;
  if (isWord(word, bytes, "type")) return KEY_TYPE;
  if (isWord(word, bytes, "response")) return KEY_RESPONSE;
  if (isWord(word, bytes, "message")) return KEY_MESSAGE;
  if (isWord(word, bytes, "meta_info")) return KEY_META;
  return isWord(word, bytes, "error") ? KEY_ERROR : KEY_OTHER;
}

function countKey(place: u8, bytes: u32): u8 {
  if (place == PLACE_DETAILS) return isWord(word, bytes, "cached_tokens") ? KEY_CACHED : KEY_OTHER;
  if (isWord(word, bytes, "prompt_tokens")) return KEY_PROMPT;
  if (isWord(word, bytes, "input_tokens")) return KEY_INPUT;
  if (isWord(word, bytes, "completion_tokens") || isWord(word, bytes, "output_tokens")) return KEY_COMPLETION;
  if (isWord(word, bytes, "cache_read_input_tokens")) return KEY_READ;
  if (isWord(word, bytes, "cache_creation_input_tokens")) return KEY_CREATED;
  if (isWord(word, bytes, "prompt_tokens_details") || isWord(word, bytes, "input_tokens_details")) {
    return KEY_DETAILS;
  }
  if (place != PLACE_META) return KEY_OTHER;
  if (isWord(word, bytes, "finish_reason")) return KEY_FINISH;
  return isWord(word, bytes, "cached_tokens") ? KEY_CACHED : KEY_OTHER;
}

// A value that is no array or object.
function value(record: usize, event: u32, ptr: usize, len: u32): void {
  const key = load<u8>(record, AT_KEY);
  store<u8>(record, KEY_OTHER, AT_KEY);
  if (event == EVENT_STRING) {
    len = endWord(record, ptr, len);
    ptr = word;
  }
  if (event == EVENT_NULL) return;
  if (key >= KEY_PROMPT) {
    // Some servers write counts as strings.
    if (event == EVENT_NUMBER || event == EVENT_STRING) count(record, <u32>(key - KEY_PROMPT), ptr, len);
  } else if (key == KEY_FINISH) {
    mark(record, MARK_FINAL);
  } else if (key == KEY_ERROR && load<u8>(record, AT_DEPTH) == 1) {
    mark(record, MARK_NO_TOKEN);
  } else if (key == KEY_TYPE && event == EVENT_STRING && load<u8>(record, AT_DEPTH) == 1) {
    type(record, ptr, len);
  }
}

function count(record: usize, index: u32, ptr: usize, len: u32): void {
  if (len == 0 || len > WORD_BYTES || <u32>load<u8>(ptr) - 0x30 > 9) return;
  const tokens = parseNumber(ptr, len);
  if (!(tokens >= 0)) return;
  store<u32>(record + AT_NEW_COUNTS + ((<usize>index) << 2), <u32>min<f64>(tokens, <f64>i32.MAX_VALUE));
  store<u8>(record, load<u8>(record, AT_NEW_FOUND) | (<u8>((<u32>1) << index)), AT_NEW_FOUND);
}

// Types of events in the Responses API and in Anthropic's.
function type(record: usize, ptr: usize, len: u32): void {
  if (isWord(ptr, len, "response.completed") || isWord(ptr, len, "response.incomplete")) {
    mark(record, MARK_FINAL);
  } else if (
    isWord(ptr, len, "response.created") ||
    isWord(ptr, len, "response.in_progress") ||
    isWord(ptr, len, "response.queued") ||
    isWord(ptr, len, "ping") ||
    isWord(ptr, len, "error")
  ) {
    mark(record, MARK_NO_TOKEN);
  }
}
