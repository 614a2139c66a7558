// The render record of one stream: how far its prompt is rendered, and why it is not.
import { cellsBreak } from "../prefix/cells";

//   ┌ render, 192 bytes, owned by the caller, 8-byte aligned ────────────────────────────────────────┐
//   │  0 u32 cells   4 u32 pool   8 u64 id of the programs   16 u32 program (~0 = none)              │
//   │ 20 u8 previous   21 u8 role   22 u8 reason   23 u8 members of the message   24 u8 of the part  │
//   │ 25 u8 flags   26 u8 held bytes   27 u8 bytes of a cut character at their end   28 u32 given    │
//   │ 32 u64 salt   40 u64 last five bytes   48 u32 part bytes   52 u8 salt bytes                    │
//   │ 53 u8 reason of the body   64 u8[64] held   128 u8[64] salt                                    │
//   └────────────────────────────────────────────────────────────────────────────────────────────────┘
export const R_CELLS: usize = 0;
export const R_POOL: usize = 4;
export const R_ID: usize = 8;
export const R_PROGRAM: usize = 16;
/** PROMPT_START or PROMPT_AFTER_*: what stands before the next literal. */
export const R_PREVIOUS: usize = 20;
/** PROMPT_SYSTEM, PROMPT_USER or PROMPT_ASSISTANT; ROLE_NONE. */
export const R_ROLE: usize = 21;
/** RENDER_*: why the prompt is not rendered. */
export const R_REASON: usize = 22;
export const R_MEMBERS: usize = 23;
export const R_PART_MEMBERS: usize = 24;
export const R_FLAGS: usize = 25;
export const R_HELD_BYTES: usize = 26;
export const R_CUT_BYTES: usize = 27;
/** Bit i: the body has the ingredient i (fields.ts) with a value that is not its default. */
export const R_GIVEN: usize = 28;
export const R_SALT_HASH: usize = 32;
export const R_LAST_BYTES: usize = 40;
export const R_PART_BYTES: usize = 48;
export const R_SALT_BYTES: usize = 52;
/** RENDER_*: what of the body beside its prompt forbids to render it. */
export const R_BODY: usize = 53;
export const R_HELD: usize = 64;
export const R_SALT: usize = 128;

/** Bytes of a render record. */
export const RENDER_BYTES: usize = 192;
/**
 * White space at the end of a piece of text that is held back, as it may be the content's end, in bytes. Where more
 * of it comes the prompt is not rendered. White space inside a piece is never held.
 */
export const HELD_BYTES_MAX: u32 = 64;
/** Bytes of a cache_salt that comes in pieces; with a longer one the prompt is not rendered. */
export const SALT_BYTES_MAX: u32 = 64;

export const ROLE_NONE: u8 = 0xff;

// Members that the open message or part has had: each may come once.
export const HAD_ROLE: u8 = 1;
export const HAD_CONTENT: u8 = 2;
export const HAD_TYPE: u8 = 4;
export const HAD_TEXT: u8 = 8;
/** The part's type is "text". */
export const IS_TEXT: u8 = 16;
/** The part's text is one. */
export const TEXT_CAME: u8 = 32;

// Flags.
/** The prompt's first text, or the content of the open message, has begun. */
export const RENDER_BEGUN: u8 = 1;
/** Something else than white space came in this content. */
export const RENDER_SOLID: u8 = 2;
/** The prompt is complete. */
export const RENDER_ENDED: u8 = 4;
/** White space at an end of this content is not to be rendered, and not left out either: it breaks the rendering. */
export const RENDER_EDGES: u8 = 8;
/** The content is a list of parts. */
export const RENDER_PARTS: u8 = 16;

// Why a prompt is not rendered; 0 = it is. Names: filter/prompt-metrics.ts.
/** The API is neither chat nor completions. */
export const RENDER_API: u8 = 1;
/** The model has no program, or came too late to tell which of several. */
export const RENDER_MODEL: u8 = 2;
/** A role, or an order of roles, that the model's template was not seen with. */
export const RENDER_ROLE: u8 = 3;
/** A message's content stands before its role. */
export const RENDER_ORDER: u8 = 4;
/** A message has other members, or one of them twice. */
export const RENDER_MEMBER: u8 = 5;
/** A message's content is missing, empty, or not text alone. */
export const RENDER_CONTENT: u8 = 6;
/** Reasoning in an assistant's content, which the template edits. */
export const RENDER_THINKING: u8 = 7;
/** White space at an end of a content that the template edits, or more at the end of a piece of text than is held back. */
export const RENDER_WHITE_SPACE: u8 = 8;
/** Tools, documents, a template of its own or anything else beside the messages that changes the prompt. */
export const RENDER_FIELD: u8 = 9;
/** A cache_salt that is no text, or too long. */
export const RENDER_SALT: u8 = 10;
/** Several prompts. */
export const RENDER_SEVERAL: u8 = 11;
/** Token ids. */
export const RENDER_TOKEN_IDS: u8 = 12;
/** The pool got other programs while the body was read. */
export const RENDER_CHANGED: u8 = 13;
/** The body was not read to its end, and what engines were sent tells that it may hold more that changes the prompt. */
export const RENDER_UNREAD: u8 = 14;
export const RENDER_REASONS: u32 = 15;

/** The prompt is not rendered, because of `reason`; the first one counts. */
export function renderBreak(render: usize, reason: u8): void {
  if (load<u8>(render, R_REASON) != 0) return;
  store<u8>(render, reason, R_REASON);
  cellsBreak(<usize>load<u32>(render, R_CELLS));
}

export function isBroken(render: usize): bool {
  return load<u8>(render, R_REASON) != 0;
}

export function renderHas(render: usize, flag: u8): bool {
  return (load<u8>(render, R_FLAGS) & flag) != 0;
}

export function renderSet(render: usize, flag: u8): void {
  store<u8>(render, load<u8>(render, R_FLAGS) | flag, R_FLAGS);
}
