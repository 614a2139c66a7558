// How the engines' chat templates turn messages into text, as literals between them. Constants only; little-endian.
//
//   POST /v1/pools/<name>/prompts    body = header · programs · models · UTF-8 bytes
//
//   ┌ header, 64 bytes ────────────────────────────────────────────────────────────────┐
//   │ 0  u32 magic "EPT1"      4 u16 version   6 u16 header bytes (64)                  │
//   │ 8  u32 checksum of [12, total), as in snapshot.ts       12 u32 total bytes        │
//   │ 16 u64 id: 1 to 2^48 - 1, the same for the same content                           │
//   │ 24 u32 programs   28 u32 models   32…63 zero                                      │
//   ├ programs × 160 bytes ─────────────────────────────────────────────────────────────┤
//   │ 0 u32 flags   4…15 zero   16 literals × 18: u32 offset (~0 = not known), u32 bytes│
//   ├ models × 16 bytes, names strictly ascending by their bytes ───────────────────────┤
//   │ 0 u32 name offset   4 u32 name bytes   8 u16 program   10 u16 flags   12 u32 zero │
//   ├ bytes ────────────────────────────────────────────────────────────────────────────┤
//   └───────────────────────────────────────────────────────────────────────────────────┘
//
// All offsets count from the start of the body. The literal between two contents has the index previous × 4 + next;
// the last message is followed by PROMPT_END, whose literal holds the generation prompt. A prompt that needs a literal
// that is not known is not rendered: it is matched by the approximate index.

export const PROMPTS_MAGIC = 0x31545045;
export const PROMPTS_WIRE_VERSION = 1;
export const PROMPTS_HEADER_BYTES = 64;
export const PROMPTS_PROGRAM_BYTES = 160;
export const PROMPTS_MODEL_BYTES = 16;

export const PROMPTS_AT_MAGIC = 0;
export const PROMPTS_AT_VERSION = 4;
export const PROMPTS_AT_HEADER_BYTES = 6;
export const PROMPTS_AT_CHECKSUM = 8;
export const PROMPTS_AT_TOTAL_BYTES = 12;
export const PROMPTS_AT_ID = 16;
export const PROMPTS_AT_PROGRAMS = 24;
export const PROMPTS_AT_MODELS = 28;

export const PROGRAM_AT_FLAGS = 0;
export const PROGRAM_AT_LITERALS = 16;
export const PROGRAM_LITERALS = 18;
export const MODEL_AT_NAME = 0;
export const MODEL_AT_NAME_BYTES = 4;
export const MODEL_AT_PROGRAM = 8;
export const MODEL_AT_FLAGS = 10;
export const LITERAL_UNKNOWN = 0xffffffff;

// What stands before a literal …
export const PROMPT_START = 0;
export const PROMPT_AFTER_SYSTEM = 1;
export const PROMPT_AFTER_USER = 2;
export const PROMPT_AFTER_ASSISTANT = 3;
// … and what after it.
export const PROMPT_SYSTEM = 0;
export const PROMPT_USER = 1;
export const PROMPT_ASSISTANT = 2;
export const PROMPT_END = 3;
/** Literal before a completion's text (a tokenizer's first token). */
export const PROMPT_COMPLETION = 16;
/**
 * Literal between two text parts of one content. Where it is not known, no content of parts is rendered, not even one; nor
 * ever one with an empty part, which vLLM leaves out of contents that it joins itself, and templates do not.
 */
export const PROMPT_PART_JOIN = 17;

// Flags of a program. Contents of the role lose white space at both ends, as Python's str.strip takes it.
export const PROGRAM_TRIMS_SYSTEM = 1;
export const PROGRAM_TRIMS_USER = 2;
export const PROGRAM_TRIMS_ASSISTANT = 4;
/** The template edits reasoning in the assistant's contents: one that holds "think>" is not rendered. */
export const PROGRAM_EDITS_THINKING = 8;
/** White space at an end of the role's contents is lost in part: a request with such a content is not rendered. */
export const PROGRAM_EDITS_EDGES_SYSTEM = 16;
export const PROGRAM_EDITS_EDGES_USER = 32;
export const PROGRAM_EDITS_EDGES_ASSISTANT = 64;
/** An empty content (after its trim) changes what stands around it: a request with one is not rendered. */
export const PROGRAM_EDITS_EMPTY = 128;
/** A message with an empty list of tool calls is rendered otherwise than one without: such a request is not rendered. */
export const PROGRAM_EDITS_CALLS = 256;
/** All flags; a program with others is refused. */
export const PROGRAM_FLAGS = 511;

/** Flag of a model: a LoRA adapter, whose name is the root of its keys; else a name of the base model. */
export const MODEL_IS_ADAPTER = 1;

/** Bytes of one push. The sidecar leaves out what does not fit, the gateway refuses more with 413. */
export const PROMPTS_BYTES_MAX = 16384;
export const PROMPTS_PROGRAMS_MAX = 8;
export const PROMPTS_MODELS_MAX = 64;
/** Bytes of one literal (a template's own system prompt is the longest). A longer one makes the template unknown. */
export const PROMPT_LITERAL_BYTES_MAX = 2048;
/** Answer header of an accepted snapshot: the id of the programs that the gateway holds for the pool, 0 = none. */
export const PROMPTS_ID_HEADER = "x-epp-prompts-id";
