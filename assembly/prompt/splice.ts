// Where the model's name stands in a request body, so that it alone can be exchanged.
//
// The body was accepted by the scanner up to here; it may go on. Of several members "model" of the body's object the
// last one counts, as for json.loads and so for the engine. The name may be written with escapes. What stands deeper
// is never touched.
import {
  memberEnd,
  memberIs,
  memberValue,
  membersBegin,
  membersEmpty,
  membersNext,
  membersOpen,
} from "../json/members";
import { ascii } from "../text/text";

const MODEL = ascii("model");

/** What locateModel found. */
export const MODEL_NOWHERE: u32 = 0;
/** A value: spliceFrom() to spliceTo(), quotes included, are to be replaced by another value. */
export const MODEL_VALUE: u32 = 1;
/** The body's object has no such member: one can be put at spliceFrom(), behind the opening brace. */
export const MODEL_ABSENT: u32 = 2;

let from: u32 = 0;
let to: u32 = 0;
let empty: bool = false;

/** Offset of the first byte to be replaced. */
export function spliceFrom(): u32 {
  return from;
}
/** Offset behind the last one. */
export function spliceTo(): u32 {
  return to;
}
/** With MODEL_ABSENT: the object has no member at all, so no comma follows. */
export function spliceIntoEmpty(): bool {
  return empty;
}

/** Finds the model in the first `bytes` bytes of a body at `ptr`. A value that is cut by their end counts as not there. */
export function locateModel(ptr: usize, bytes: u32): u32 {
  if (!membersBegin(ptr, bytes)) return MODEL_NOWHERE;
  from = to = membersOpen();
  empty = membersEmpty();
  let found = MODEL_ABSENT;
  while (membersNext()) {
    if (!memberIs(MODEL)) continue;
    from = <u32>(memberValue() - ptr);
    to = <u32>(memberEnd() - ptr);
    found = MODEL_VALUE;
  }
  return found;
}
