// The usage record of one response.
import { SCANNER_BYTES } from "../json/scanner";

//   ┌ usage, 232 bytes, owned by the caller, 8-byte aligned ──────────────────────────────────────┐
//   │   0 scanner[128]                                                                            │
//   │ 128 u8 flags   129 u8 line   130 u8 prefix bytes   131 u8 found   132 u32[6] counts         │
//   │ 156 u32[6] counts of this document   180 u8 found  181 u8 depth   182 u8 key  183 u8 marks  │
//   │ 184 u8[8] places   192 u8 word bytes   193 u8[32] word   228 u32 events with generated text │
//   └─────────────────────────────────────────────────────────────────────────────────────────────┘
export const AT_USAGE_FLAGS: usize = 128;
export const AT_LINE: usize = 129;
export const AT_PREFIX: usize = 130;
export const AT_FOUND: usize = 131;
/** u32[6]: tokens by COUNT_*. */
export const AT_COUNTS: usize = 132;
/** u32[6]: the same, of the document that is being read. */
export const AT_NEW_COUNTS: usize = 156;
export const AT_NEW_FOUND: usize = 180;
export const AT_DEPTH: usize = 181;
export const AT_KEY: usize = 182;
export const AT_MARKS: usize = 183;
export const AT_PLACES: usize = 184;
export const AT_WORD_BYTES: usize = 192;
export const AT_WORD: usize = 193;
export const WORD_BYTES: u32 = 32;
export const AT_EVENTS: usize = 228;

/** Bytes of a usage record. */
export const USAGE_BYTES: usize = 232;

if (SCANNER_BYTES != AT_USAGE_FLAGS) unreachable();

// Flags.
export const USAGE_EVENT_STREAM: u8 = 1;
export const USAGE_SAW_DATA: u8 = 2;

// Where in a line of server-sent events the next byte is.
/** In the first bytes, of which AT_PREFIX are those of "data:". */
export const LINE_START: u8 = 0;
/** Behind "data:", where one space may stand. */
export const LINE_SPACE: u8 = 1;
export const LINE_DATA: u8 = 2;
export const LINE_SKIP: u8 = 3;

// Counts, as indexes of AT_COUNTS and bits of AT_FOUND.
/** OpenAI's prompt_tokens, cached ones included. */
export const COUNT_PROMPT: u32 = 0;
export const COUNT_COMPLETION: u32 = 1;
/** OpenAI's and SGLang's cached_tokens, which are some of the prompt's. */
export const COUNT_CACHED: u32 = 2;
/** input_tokens: the Responses API's with cached ones, Anthropic's without. */
export const COUNT_INPUT: u32 = 3;
/** Anthropic's cache_read_input_tokens. */
export const COUNT_READ: u32 = 4;
/** Anthropic's cache_creation_input_tokens. */
export const COUNT_CREATED: u32 = 5;
export const COUNTS: u32 = 6;

// Marks of the document that is being read.
/** Its usage stands in a response that is not complete yet, or in a meta_info without a finish reason. */
export const MARK_NOT_FINAL: u8 = 1;
/** It is final: the type or the finish reason says so. */
export const MARK_FINAL: u8 = 2;
/** It is an event before the first token, a keep-alive or an error. */
export const MARK_NO_TOKEN: u8 = 4;
