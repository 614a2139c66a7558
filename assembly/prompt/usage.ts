// What a response says about its tokens: from a JSON body or from server-sent events, split anywhere.
//
// Known are the usage objects of OpenAI's APIs (chat, completions, responses, embeddings), Anthropic's messages and
// SGLang's meta_info. Of several in one stream the last values count; llm-d takes the first of each chunk and loses
// one that a chunk's border splits.
import { scannerErrorByte, scannerErrorOffset } from "../json/fault";
import { scannerEnd, scannerFeed, scannerReset } from "../json/scanner";
import {
  AT_COUNTS,
  AT_EVENTS,
  AT_FOUND,
  AT_LINE,
  AT_PREFIX,
  AT_USAGE_FLAGS,
  COUNT_CACHED,
  COUNT_COMPLETION,
  COUNT_CREATED,
  COUNT_INPUT,
  COUNT_PROMPT,
  COUNT_READ,
  LINE_DATA,
  LINE_SKIP,
  LINE_SPACE,
  LINE_START,
  USAGE_BYTES,
  USAGE_EVENT_STREAM,
  USAGE_SAW_DATA,
} from "./usage-layout";
import { beginDocument, carriesTokens, endDocument, onUsageEvent } from "./usage-walk";

export { USAGE_BYTES } from "./usage-layout";

const LINE_FEED: u32 = 10;
const CARRIAGE_RETURN: u32 = 13;
const PREFIX_BYTES: u32 = 5;
const prefix: usize = memory.data<u8>([0x64, 0x61, 0x74, 0x61, 0x3a]); // data:

/** Starts a response in the record at `record` (USAGE_BYTES, 8-byte aligned). */
export function usageBegin(record: usize, isEventStream: bool): void {
  memory.fill(record, 0, USAGE_BYTES);
  scannerReset(record);
  if (isEventStream) store<u8>(record, USAGE_EVENT_STREAM, AT_USAGE_FLAGS);
}

/** The next `bytes` bytes of the body. What is no JSON is passed over. */
export function usageFeed(record: usize, ptr: usize, bytes: u32): void {
  if ((load<u8>(record, AT_USAGE_FLAGS) & USAGE_EVENT_STREAM) == 0) {
    scannerFeed(record, ptr, bytes, onUsageEvent, record);
    return;
  }
  const end = ptr + bytes;
  while (ptr < end) {
    const line = load<u8>(record, AT_LINE);
    if (line == LINE_START) ptr = startLine(record, ptr, end);
    else if (line == LINE_SPACE) ptr = skipSpace(record, ptr);
    else ptr = restOfLine(record, ptr, end, line == LINE_DATA);
  }
}

/** The body has ended. A last line without a line break counts. */
export function usageEnd(record: usize): void {
  const isStream = (load<u8>(record, AT_USAGE_FLAGS) & USAGE_EVENT_STREAM) != 0;
  if (!isStream || load<u8>(record, AT_LINE) == LINE_DATA) finishDocument(record);
}

/** Whether a number of prompt or completion tokens was found. */
export function usageFound(record: usize): bool {
  return has(record, COUNT_PROMPT) || has(record, COUNT_INPUT) || has(record, COUNT_COMPLETION);
}

/**
 * Tokens of the prompt, cached ones included; 0 when not given, i32.MAX_VALUE at most. Anthropic's input_tokens are
 * those neither read from the cache nor put there, so all three are added; each is the newest that the answer has
 * given, as vLLM's streams start with the sum and end with the parts. Source: Anthropic's "Prompt caching" guide,
 * vLLM 0.32.0 entrypoints/anthropic/serving.py.
 */
export function usagePromptTokens(record: usize): u32 {
  if (has(record, COUNT_PROMPT)) return count(record, COUNT_PROMPT);
  if (!has(record, COUNT_INPUT)) return 0;
  const parts = <u64>count(record, COUNT_READ) + <u64>count(record, COUNT_CREATED);
  return <u32>min<u64>(parts + <u64>count(record, COUNT_INPUT), <u64>i32.MAX_VALUE);
}

/** Tokens generated; 0 when not given. */
export function usageCompletionTokens(record: usize): u32 {
  return count(record, COUNT_COMPLETION);
}

/** Prompt tokens taken from the engine's prefix cache; 0 when not given. */
export function usageCachedTokens(record: usize): u32 {
  return count(record, has(record, COUNT_CACHED) ? COUNT_CACHED : COUNT_READ);
}

/** Whether the response says how many tokens were cached. vLLM does so only with --enable-prompt-tokens-details. */
export function usageHasCachedTokens(record: usize): bool {
  return has(record, COUNT_CACHED) || has(record, COUNT_READ);
}

/**
 * Whether an event with generated text has come: not a comment (keep-alive), [DONE], an error, or one of the
 * events that a server sends before the first token (the Responses API's response.created and in_progress, ping).
 */
export function usageSawData(record: usize): bool {
  return (load<u8>(record, AT_USAGE_FLAGS) & USAGE_SAW_DATA) != 0;
}

/** Events with generated text so far: of engines that send each token as one, the tokens generated. */
export function usageEvents(record: usize): u32 {
  return load<u32>(record, AT_EVENTS);
}

function has(record: usize, index: u32): bool {
  return (((<u32>load<u8>(record, AT_FOUND)) >> index) & 1) != 0;
}

function count(record: usize, index: u32): u32 {
  return load<u32>(record + ((<usize>index) << 2), AT_COUNTS);
}

// The first bytes of a line; "data:" may itself be split.
function startLine(record: usize, ptr: usize, end: usize): usize {
  let matched = <u32>load<u8>(record, AT_PREFIX);
  while (ptr < end && matched < PREFIX_BYTES && load<u8>(ptr) == load<u8>(prefix + matched)) {
    ptr++;
    matched++;
  }
  if (matched == PREFIX_BYTES) {
    store<u8>(record, LINE_SPACE, AT_LINE);
    scannerReset(record);
    beginDocument(record);
    matched = 0;
  } else if (ptr < end) {
    store<u8>(record, LINE_SKIP, AT_LINE);
    matched = 0;
  }
  store<u8>(record, <u8>matched, AT_PREFIX);
  return ptr;
}

function skipSpace(record: usize, ptr: usize): usize {
  store<u8>(record, LINE_DATA, AT_LINE);
  return load<u8>(ptr) == 0x20 ? ptr + 1 : ptr;
}

// Up to and with the line break. WHATWG HTML section 9.2.6: a line ends with CR LF, LF or CR; the empty line that
// CR LF seems to leave is passed over like any other.
function restOfLine(record: usize, ptr: usize, end: usize, isData: bool): usize {
  const stop = lineEnd(ptr, end);
  if (isData && stop != ptr) scannerFeed(record, ptr, <u32>(stop - ptr), onUsageEvent, record);
  if (stop == end) return stop;
  if (isData) finishDocument(record);
  store<u8>(record, LINE_START, AT_LINE);
  return stop + 1;
}

function lineEnd(ptr: usize, end: usize): usize {
  while (ptr + 16 <= end) {
    const bytes = v128.load(ptr);
    const breaks = v128.or(i8x16.eq(bytes, i8x16.splat(10)), i8x16.eq(bytes, i8x16.splat(13)));
    const mask = i8x16.bitmask(breaks);
    if (mask != 0) return ptr + <usize>ctz<i32>(mask);
    ptr += 16;
  }
  while (ptr < end && <u32>load<u8>(ptr) != LINE_FEED && <u32>load<u8>(ptr) != CARRIAGE_RETURN) ptr++;
  return ptr;
}

function finishDocument(record: usize): void {
  const isJson = scannerEnd(record, onUsageEvent, record) == 0;
  if (isJson) endDocument(record);
  // [DONE] stops being JSON at its D.
  const isDone = !isJson && scannerErrorOffset(record) == 1 && scannerErrorByte(record) == 0x44;
  if (!isDone && carriesTokens(record)) {
    store<u32>(record, load<u32>(record, AT_EVENTS) + 1, AT_EVENTS);
    store<u8>(record, load<u8>(record, AT_USAGE_FLAGS) | USAGE_SAW_DATA, AT_USAGE_FLAGS);
  }
}
