// What the JSON scanner tells its sink, what the sink may answer, and every way a text can be refused.

/** `{`. */
export const EVENT_OBJECT_START: u32 = 1;
/** `}`. */
export const EVENT_OBJECT_END: u32 = 2;
/** `[`. The sink may answer SINK_INTEGERS. */
export const EVENT_ARRAY_START: u32 = 3;
/** `]`. */
export const EVENT_ARRAY_END: u32 = 4;
/** Part of a member's name, as unescaped UTF-8; more of the same name follows. */
export const EVENT_KEY_PIECE: u32 = 5;
/** Last part of a member's name (the whole of it in most cases; may be empty). */
export const EVENT_KEY: u32 = 6;
/** Part of a string value, as unescaped UTF-8; more of the same string follows. */
export const EVENT_STRING_PIECE: u32 = 7;
/** Last part of a string value (may be empty). */
export const EVENT_STRING: u32 = 8;
/** A number's complete text; no text (len 0) when it has more than NUMBER_BYTES_MAX bytes. */
export const EVENT_NUMBER: u32 = 9;
/** `true`. */
export const EVENT_TRUE: u32 = 10;
/** `false`. */
export const EVENT_FALSE: u32 = 11;
/** `null`. */
export const EVENT_NULL: u32 = 12;
/** Elements of an array for which the sink answered SINK_INTEGERS: u32[len] at ptr. */
export const EVENT_INTEGERS: u32 = 13;

/** Sink's answer: go on. */
export const SINK_GO: u32 = 0;
/**
 * Sink's answer to EVENT_ARRAY_START: elements of this array that are plain integers of 0 to 2^32 - 1 come
 * in batches as EVENT_INTEGERS; all other elements as usual. Token-id prompts are such arrays: one call for
 * hundreds of ids instead of one each.
 */
export const SINK_INTEGERS: u32 = 1;
/** Sink's answer: stop; so does any answer not named here. The scanner then reports JSON_STOPPED. */
export const SINK_STOP: u32 = 2;

/** Receives the events of one text in order. `ptr` is valid during the call only. Must not feed a scanner. */
export type JsonSink = (context: usize, event: u32, ptr: usize, len: u32) => u32;

/** Longest number whose text is kept; a longer one is still checked, but comes without text. */
export const NUMBER_BYTES_MAX: u32 = 64;

/** No fault so far. */
export const JSON_OK: u32 = 0;
/** The sink asked to stop. */
export const JSON_STOPPED: u32 = 1;
/** The text ended inside a value, or before one. */
export const JSON_UNEXPECTED_END: u32 = 2;
/** A value was expected. */
export const JSON_EXPECTED_VALUE: u32 = 3;
/** A member's name in quotes was expected. */
export const JSON_EXPECTED_KEY: u32 = 4;
/** A colon was expected after a member's name. */
export const JSON_EXPECTED_COLON: u32 = 5;
/** A comma or the end of the array or object was expected. */
export const JSON_EXPECTED_COMMA: u32 = 6;
/** Something follows the value. */
export const JSON_TRAILING: u32 = 7;
/** More than JSON_DEPTH_MAX arrays and objects inside each other. */
export const JSON_TOO_DEEP: u32 = 8;
/** A character below U+0020 stands unescaped in a string. */
export const JSON_CONTROL_CHARACTER: u32 = 9;
/** A backslash is followed by a character that no escape has. */
export const JSON_BAD_ESCAPE: u32 = 10;
/** Not UTF-8 (overlong forms, encoded surrogates and code points beyond U+10FFFF included). */
export const JSON_BAD_UTF8: u32 = 11;
/** Not the number grammar: leading zero, bare minus, no digit after the point or in the exponent. */
export const JSON_BAD_NUMBER: u32 = 12;
/** Starts like true, false or null and goes on otherwise. */
export const JSON_BAD_LITERAL: u32 = 13;
