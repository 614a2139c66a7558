// The restore record of one stream: what is kept of a response between two chunks while its model is given back.

//   ┌ restore, 600 bytes, owned by the caller, 8-byte aligned ───────────────────────────────────┐
//   │  0 u32 depth   4 u8 event stream   5 u8 line   6 u8 prefix matched   7 u8 string           │
//   │  8 u8 escape   9 u8 name expected   10 u8 root is an object   11 u8 inner is one that counts│
//   │ 12 u8 name   13 u8 word bytes   14 u16 held bytes   16 u16 client bytes   18 u16 model bytes│
//   │ 20 u32 client's name   24 u8[16] word   40 u8[256] model   296 u8[304] held                 │
//   └────────────────────────────────────────────────────────────────────────────────────────────┘
export const AT_DEPTH: usize = 0;
export const AT_EVENT_STREAM: usize = 4;
export const AT_LINE: usize = 5;
export const AT_PREFIX: usize = 6;
export const AT_STRING: usize = 7;
export const AT_ESCAPE: usize = 8;
export const AT_EXPECTS_NAME: usize = 9;
export const AT_ROOT: usize = 10;
export const AT_INNER: usize = 11;
export const AT_NAME: usize = 12;
export const AT_WORD_BYTES: usize = 13;
export const AT_HELD_BYTES: usize = 14;
export const AT_CLIENT_BYTES: usize = 16;
export const AT_MODEL_BYTES: usize = 18;
export const AT_CLIENT: usize = 20;
export const AT_WORD: usize = 24;
export const AT_MODEL: usize = 40;
export const AT_HELD: usize = 296;

/** Bytes of a restore record. */
export const RESTORE_BYTES: usize = 600;
/** Bytes of a name; longer ones are not kept. */
export const RESTORE_NAME_BYTES_MAX: u32 = 256;
/** Bytes of a value, as it stands in the text, that can be held back at a chunk's end; a longer one is left as it is. */
export const RESTORE_HELD_BYTES_MAX: u32 = 304;
/** Longest name of a member that matters: "response". */
export const WORD_BYTES_MAX: u32 = 8;

// Strings: what the one that is open stands for.
export const STRING_NONE: u8 = 0;
/** Anything that does not matter. */
export const STRING_OTHER: u8 = 1;
/** A member's name that may matter. */
export const STRING_NAME: u8 = 2;
/** The value of a model. */
export const STRING_MODEL: u8 = 3;

// Lines of an event stream.
export const LINE_START: u8 = 0;
export const LINE_SKIP: u8 = 1;
export const LINE_DATA: u8 = 2;

// Names of the member whose value is read.
export const NAME_OTHER: u8 = 0;
export const NAME_MODEL: u8 = 1;
/** An object in which a model may stand: "response" of the Responses API, "message" of Anthropic's. */
export const NAME_INNER: u8 = 2;
