// The usage record of one response.
import { SCANNER_BYTES } from "../json/scanner";

//   ┌ usage, 208 bytes, owned by the caller, 8-byte aligned ──────────────────────────────────────┐
//   │   0 scanner[128]                                                                            │
//   │ 128 u8 flags   129 u8 line   130 u8 prefix bytes   131 u8 found   132 u32 prompt            │
//   │ 136 u32 completion   140 u32 cached   144 u32 of this document: prompt   148 u32 completion │
//   │ 152 u32 cached   156 u8 found   157 u8 depth   158 u8 key   159 u8 marks   160 u8[8] places │
//   │ 168 u8 word bytes   169 u8[32] word   204 u32 events with generated text                    │
//   └─────────────────────────────────────────────────────────────────────────────────────────────┘
export const AT_USAGE_FLAGS: usize = 128;
export const AT_LINE: usize = 129;
export const AT_PREFIX: usize = 130;
export const AT_FOUND: usize = 131;
/** u32[3]: prompt, completion and cached tokens. */
export const AT_COUNTS: usize = 132;
/** u32[3]: the same, of the document that is being read. */
export const AT_NEW_COUNTS: usize = 144;
export const AT_NEW_FOUND: usize = 156;
export const AT_DEPTH: usize = 157;
export const AT_KEY: usize = 158;
export const AT_MARKS: usize = 159;
export const AT_PLACES: usize = 160;
export const AT_WORD_BYTES: usize = 168;
export const AT_WORD: usize = 169;
export const WORD_BYTES: u32 = 32;
export const AT_EVENTS: usize = 204;

/** Bytes of a usage record. */
export const USAGE_BYTES: usize = 208;

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
export const COUNT_PROMPT: u32 = 0;
export const COUNT_COMPLETION: u32 = 1;
export const COUNT_CACHED: u32 = 2;

// Marks of the document that is being read.
/** Its usage stands in a response that is not complete yet, or in a meta_info without a finish reason. */
export const MARK_NOT_FINAL: u8 = 1;
/** It is final: the type or the finish reason says so. */
export const MARK_FINAL: u8 = 2;
/** It is an event before the first token, a keep-alive or an error. */
export const MARK_NO_TOKEN: u8 = 4;
