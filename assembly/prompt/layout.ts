// The prompt record of one stream: what is kept of a request body while it is read.
import { SCANNER_BYTES } from "../json/scanner";

//   ┌ prompt, 928 bytes, owned by the caller, 8-byte aligned ───────────────────────────────────────────┐
//   │   0 scanner[128]                                                                                  │
//   │ 128 u32 chain   132 u8 api   133 u8 scope   134 u8 depth   135 u8 field                           │
//   │ 136 u32 flags   140 u32 kinds   144 i32 max tokens   148 i32 max completion tokens   152 u32 n    │
//   │ 156 u32 messages   160 u32 tools   164 u32 images   168 u32 audios   172 u32 videos               │
//   │ 176 u32 token ids   180 u32 items   184 u32 extra bytes   188 u32 bad item                        │
//   │ 192 u16 model bytes   194 u8 word bytes   195 u8 tag level   196 u8 tree level   197 u8 tree skip │
//   │ 198 u8 error   199 u8 bad item's bytes   200 u64 tree   208 u32 tree events   212 u32 tree target │
//   │ 216 u64 digest   224 u32 digest bytes   228 u32 tail bytes   232 u8[32] tail                      │
//   │ 264 u64[4] tags   296 u64[24] ingredients   488 u64 LoRA   496 u8[65] scopes                      │
//   │ 568 u8[48] word   616 u8[24] bad item   640 u8[256] model   896 u64 key   904 u32 head bytes      │
//   │ 908 u32 render   912 u64 user   920 u64 first turn   928 u32 list from   932 u32 list to          │
//   └───────────────────────────────────────────────────────────────────────────────────────────────────┘
export const AT_CHAIN: usize = 128;
export const AT_API: usize = 132;
export const AT_SCOPE: usize = 133;
export const AT_DEPTH: usize = 134;
export const AT_FIELD: usize = 135;
export const AT_FLAGS: usize = 136;
export const AT_KINDS: usize = 140;
export const AT_MAX_TOKENS: usize = 144;
export const AT_MAX_COMPLETION: usize = 148;
export const AT_N: usize = 152;
export const AT_MESSAGES: usize = 156;
export const AT_TOOLS: usize = 160;
export const AT_IMAGES: usize = 164;
export const AT_AUDIOS: usize = 168;
export const AT_VIDEOS: usize = 172;
export const AT_TOKEN_IDS: usize = 176;
export const AT_ITEMS: usize = 180;
export const AT_EXTRA: usize = 184;
export const AT_BAD_INDEX: usize = 188;
export const AT_MODEL_BYTES: usize = 192;
export const AT_WORD_BYTES: usize = 194;
export const AT_TAG_LEVEL: usize = 195;
export const AT_TREE_LEVEL: usize = 196;
export const AT_TREE_SKIP: usize = 197;
export const AT_ERROR: usize = 198;
export const AT_BAD_BYTES: usize = 199;
export const AT_TREE: usize = 200;
export const AT_TREE_EVENTS: usize = 208;
export const AT_TREE_TARGET: usize = 212;
export const AT_DIGEST: usize = 216;
export const AT_DIGEST_BYTES: usize = 224;
export const AT_TAIL_BYTES: usize = 228;
export const AT_TAIL: usize = 232;
export const AT_TAGS: usize = 264;
export const AT_INGREDIENTS: usize = 296;
export const AT_LORA: usize = 488;
export const AT_SCOPES: usize = 496;
export const AT_WORD: usize = 568;
export const AT_BAD: usize = 616;
export const AT_MODEL: usize = 640;
export const AT_KEY_HASH: usize = 896;
/** u32: bytes of prompt text before the messages: tools, system text. */
export const AT_HEAD: usize = 904;
/** u32: the render record of a prompt that is rendered too (render-layout.ts), 0 of another one. */
export const AT_RENDER: usize = 908;
/** u64: hash of `user`, 0 without. */
export const AT_USER: usize = 912;
/** u64: hash of the conversation up to the end of its first user message, 0 before that. */
export const AT_FIRST_TURN: usize = 920;
/** u32: offset in the body of the bracket that opens the prompt's list; meaningless while "list to" is 0. */
export const AT_LIST_FROM: usize = 928;
/** u32: offset behind the one that closes it; 0 = the prompt is no list, or that is still open. */
export const AT_LIST_TO: usize = 932;

/** Bytes of a model's name that are kept; a longer name is cut, and then no endpoint serves it. */
export const MODEL_BYTES_MAX: u32 = 256;
/** Bytes of a prompt record. */
export const PROMPT_BYTES: usize = 936;
/** Longest name of a field or value that is told apart; no name that matters is longer. */
export const WORD_BYTES_MAX: u32 = 48;
/** Content blocks inside content blocks that are read as text; deeper ones are hashed whole. */
export const TAG_LEVELS: u32 = 4;
/** Ingredients: see fields.ts. */
export const INGREDIENTS_MAX: u32 = 24;

/** The render record of a prompt that is rendered too; 0. */
export function renderOf(record: usize): usize {
  return <usize>load<u32>(record, AT_RENDER);
}

/** Scanner record inside a prompt record. */
export function scannerOf(record: usize): usize {
  return record;
}

if (SCANNER_BYTES != AT_CHAIN) unreachable();

// Scopes: what the array or object stands for in which the scanner is.
export const SCOPE_TOP: u8 = 0;
/** The body's object. */
export const SCOPE_ROOT: u8 = 1;
/** An array of prompts, messages, items or token ids. */
export const SCOPE_LIST: u8 = 2;
/** A message or an item of the conversation. */
export const SCOPE_MESSAGE: u8 = 3;
/** An array of content blocks. */
export const SCOPE_PARTS: u8 = 4;
/** A content block. */
export const SCOPE_PART: u8 = 5;
/** sampling_params. */
export const SCOPE_SAMPLING: u8 = 6;
/** Anything that is hashed whole. */
export const SCOPE_TREE: u8 = 7;
/** Anything that does not matter. */
export const SCOPE_SKIP: u8 = 8;

// Flags.
export const FLAG_STREAM: u32 = 1 << 0;
export const FLAG_MODEL: u32 = 1 << 1;
/** A prompt field has begun. */
export const FLAG_PROMPT: u32 = 1 << 2;
/** The body is an object, or null (which llm-d's Go decoder takes for an empty one). */
export const FLAG_ROOT: u32 = 1 << 3;
/** A field of another kind than the API has. */
export const FLAG_BAD_FIELD: u32 = 1 << 4;
/** SGLang: the prompt is input_ids. */
export const FLAG_INPUT_IDS: u32 = 1 << 5;
/** SGLang: extra_key is a list. */
export const FLAG_SALT_LIST: u32 = 1 << 6;
/** Inside a string value of several pieces. */
export const FLAG_IN_STRING: u32 = 1 << 7;
/** The message has text already: the next text block is joined with a line break. */
export const FLAG_JOIN: u32 = 1 << 8;
/** The body has ended. */
export const FLAG_ENDED: u32 = 1 << 9;
/** The tree's next value is skipped. */
export const FLAG_SKIP_NEXT: u32 = 1 << 10;
/** Text of the tree counts as prompt text. */
export const FLAG_COUNT_TEXT: u32 = 1 << 11;
/** An element of input_ids or token_ids is none. */
export const FLAG_BAD_ID: u32 = 1 << 12;
/** The message that is open is the user's. */
export const FLAG_USER_TURN: u32 = 1 << 13;
/** The body has a field that only the gateway may set; the bad item's bytes are its name. */
export const FLAG_FORBIDDEN: u32 = 1 << 14;
/** The member at hand of the body's object is one whose value an engine takes such fields from. */
export const FLAG_CARRIER: u32 = 1 << 15;

// Kinds of the prompt's value and of its elements, as seen so far.
export const KIND_TEXT: u32 = 1 << 0;
export const KIND_EMPTY_TEXT: u32 = 1 << 1;
export const KIND_ARRAY: u32 = 1 << 2;
export const KIND_OBJECT: u32 = 1 << 3;
export const KIND_SCALAR: u32 = 1 << 4;
export const KIND_NULL: u32 = 1 << 5;
export const KIND_ITEM_TEXT: u32 = 1 << 8;
export const KIND_ITEM_ID: u32 = 1 << 9;
export const KIND_ITEM_LIST: u32 = 1 << 10;
export const KIND_ITEM_OBJECT: u32 = 1 << 11;
export const KIND_ITEM_NULL: u32 = 1 << 12;
export const KIND_ITEM_OTHER: u32 = 1 << 13;
export const KIND_ITEMS: u32 = 0xff00;

export function hasFlag(record: usize, flag: u32): bool {
  return (load<u32>(record, AT_FLAGS) & flag) != 0;
}

export function setFlag(record: usize, flag: u32): void {
  store<u32>(record, load<u32>(record, AT_FLAGS) | flag, AT_FLAGS);
}

export function clearFlag(record: usize, flag: u32): void {
  store<u32>(record, load<u32>(record, AT_FLAGS) & ~flag, AT_FLAGS);
}

export function addKind(record: usize, kind: u32): void {
  store<u32>(record, load<u32>(record, AT_KINDS) | kind, AT_KINDS);
}

/** One more of the u32 counter at `at`. */
export function countOne(record: usize, at: usize): void {
  store<u32>(record + at, load<u32>(record + at) + 1);
}
