// true, false and null, and the byte order mark: words that a chunk's end can cut.
import {
  EVENT_FALSE,
  EVENT_NULL,
  EVENT_TRUE,
  JSON_BAD_LITERAL,
  JsonSink,
  SINK_GO,
  SINK_INTEGERS,
} from "./events";
import { AT_LITERAL, AT_LITERAL_BYTES, AT_PARTIAL, PARTIAL_LITERAL, PARTIAL_NONE, fail, stop } from "./state";

// Literals of AT_LITERAL; the byte order mark is one that gives no event.
export const LITERAL_TRUE: u32 = 0;
export const LITERAL_FALSE: u32 = 1;
export const LITERAL_NULL: u32 = 2;
export const LITERAL_MARK: u32 = 3;
// prettier-ignore
const literals: usize = memory.data<u8>([
  0x74, 0x72, 0x75, 0x65, 0, 0, 0, 0, // true
  0x66, 0x61, 0x6c, 0x73, 0x65, 0, 0, 0, // false
  0x6e, 0x75, 0x6c, 0x6c, 0, 0, 0, 0, // null
  0xef, 0xbb, 0xbf, 0, 0, 0, 0, 0, // byte order mark
]);

/** A literal begins at p. As scanLiteral. */
export function startLiteral(
  state: usize,
  p: usize,
  end: usize,
  literal: u32,
  sink: JsonSink,
  context: usize,
): usize {
  store<u8>(state, <u8>literal, AT_LITERAL);
  store<u8>(state, 0, AT_LITERAL_BYTES);
  return scanLiteral(state, p, end, sink, context);
}

/**
 * Scans a literal from p, its first byte or the start of a chunk that goes on with it. Returns the address behind it;
 * `end` with PARTIAL_LITERAL noted; or where the state failed.
 */
export function scanLiteral(state: usize, p: usize, end: usize, sink: JsonSink, context: usize): usize {
  const literal = <u32>load<u8>(state, AT_LITERAL);
  const bytes = literals + ((<usize>literal) << 3);
  let at = <usize>load<u8>(state, AT_LITERAL_BYTES);
  while (load<u8>(bytes + at) != 0) {
    if (p >= end) {
      store<u8>(state, <u8>at, AT_LITERAL_BYTES);
      store<u8>(state, PARTIAL_LITERAL, AT_PARTIAL);
      return p;
    }
    if (load<u8>(p) != load<u8>(bytes + at)) {
      store<u8>(state, <u8>at, AT_LITERAL_BYTES);
      fail(state, p, JSON_BAD_LITERAL);
      return p;
    }
    p++;
    at++;
  }
  store<u8>(state, PARTIAL_NONE, AT_PARTIAL);
  let answer: u32 = SINK_GO;
  if (literal == LITERAL_TRUE) answer = sink(context, EVENT_TRUE, 0, 0);
  else if (literal == LITERAL_FALSE) answer = sink(context, EVENT_FALSE, 0, 0);
  else if (literal == LITERAL_NULL) answer = sink(context, EVENT_NULL, 0, 0);
  if (answer > SINK_INTEGERS) stop(state);
  return p;
}
