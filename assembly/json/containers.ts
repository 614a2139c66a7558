// Arrays and objects that are open, and what may come next in them.
import { JSON_DEPTH_MAX } from "../wire/limits";
import {
  EVENT_ARRAY_END,
  EVENT_ARRAY_START,
  EVENT_OBJECT_END,
  EVENT_OBJECT_START,
  JSON_TOO_DEEP,
  JsonSink,
  SINK_INTEGERS,
} from "./events";
import { AT_DEPTH, AT_INTEGERS, AT_MODE, AT_OBJECTS, fail, stop } from "./state";

// What the next token may be. The order matters: modes below MODE_COLON take a value or a name.
export const MODE_START: u8 = 0;
export const MODE_VALUE: u8 = 1;
export const MODE_VALUE_OR_END: u8 = 2;
export const MODE_KEY: u8 = 3;
export const MODE_KEY_OR_END: u8 = 4;
export const MODE_COLON: u8 = 5;
export const MODE_COMMA_OR_END: u8 = 6;
export const MODE_DONE: u8 = 7;

/** Whether the elements of the array that is open come in batches. */
export function isBatched(state: usize): bool {
  const depth = <u64>load<u8>(state, AT_DEPTH);
  return depth > 0 && ((load<u64>(state, AT_INTEGERS) >> (depth - 1)) & 1) != 0;
}

/** A value ends: sets what is expected behind it. */
export function valueDone(state: usize): void {
  store<u8>(state, load<u8>(state, AT_DEPTH) == 0 ? MODE_DONE : MODE_COMMA_OR_END, AT_MODE);
}

/** Whether the innermost that is open is an object. */
export function insideObject(state: usize): bool {
  return ((load<u64>(state, AT_OBJECTS) >> (<u64>load<u8>(state, AT_DEPTH) - 1)) & 1) != 0;
}

/** `{` or `[` at p. Returns the address behind it, or p when it is too deep. */
export function open(state: usize, p: usize, object: bool, sink: JsonSink, context: usize): usize {
  const depth = <u32>load<u8>(state, AT_DEPTH);
  if (depth >= <u32>JSON_DEPTH_MAX) {
    fail(state, p, JSON_TOO_DEEP);
    return p;
  }
  const bit = (<u64>1) << (<u64>depth);
  const objects = load<u64>(state, AT_OBJECTS);
  store<u64>(state, object ? objects | bit : objects & ~bit, AT_OBJECTS);
  store<u8>(state, <u8>(depth + 1), AT_DEPTH);
  store<u8>(state, object ? MODE_KEY_OR_END : MODE_VALUE_OR_END, AT_MODE);
  const answer = sink(context, object ? EVENT_OBJECT_START : EVENT_ARRAY_START, p, 1);
  const integers = load<u64>(state, AT_INTEGERS);
  store<u64>(state, answer == SINK_INTEGERS && !object ? integers | bit : integers & ~bit, AT_INTEGERS);
  if (answer > SINK_INTEGERS) stop(state);
  return p + 1;
}

/** `}` or `]` at p. Returns the address behind it. */
export function close(state: usize, p: usize, sink: JsonSink, context: usize): usize {
  const answer = sink(context, insideObject(state) ? EVENT_OBJECT_END : EVENT_ARRAY_END, p, 1);
  store<u8>(state, load<u8>(state, AT_DEPTH) - 1, AT_DEPTH);
  valueDone(state);
  if (answer > SINK_INTEGERS) stop(state);
  return p + 1;
}
