// Reads the members of one JSON object after the other, and refuses those nobody asked for.
//
//   objectBegin(node) · numberField("threshold", …) · textField("label") · objectEnd()
//
// A member that is null counts as absent, as in Go's encoding/json. After the first error all calls answer
// with their fallback, so a reader asks isRefused() once, at its end.
import {
  KIND_ARRAY,
  KIND_FALSE,
  KIND_NULL,
  KIND_NUMBER,
  KIND_OBJECT,
  KIND_STRING,
  KIND_TRUE,
  NO_NODE,
  treeFind,
  treeFirst,
  treeKeyLen,
  treeKeyPtr,
  treeKind,
  treeNext,
  treeNumber,
  treeTextIs,
  treeTextLen,
  treeTextPtr,
} from "../json/tree";
import {
  isRefused,
  pathBack,
  pathKey,
  pathMark,
  pathMember,
  refuse,
  refuseBegin,
  refuseEnd,
  say,
} from "./errors";

/** Members of one object that has known fields; one with more has unknown ones and is refused for those. */
const MEMBERS_MAX: u32 = 64;
/** Objects within objects that are read at once. */
const DEPTH_MAX: u32 = 8;
/** Known fields that an "unknown field" error lists. */
const KNOWN_MAX: u32 = 16;

//   ┌ frame, 80 bytes: 0 i32 object  4 u32 known  8 u32 found  16 u32 known literal[16] ┐
const FRAME_BYTES: usize = 80;
const AT_KNOWN: usize = 4;
const AT_FOUND: usize = 8;
const AT_LITERALS: usize = 16;
const frames: usize = memory.data(8 * 80, 8);
// The members found, one list a frame: node[64].
const found: usize = memory.data(8 * 64 * 4, 8);
let depth: u32 = 0;

/** Forgets all objects in hand. */
export function fieldsReset(): void {
  depth = 0;
}

/** Starts reading an object; NO_NODE and null count as an empty one. Always paired with objectEnd(). */
export function objectBegin(node: i32): void {
  const kind = treeKind(node);
  if (node >= 0 && kind != KIND_OBJECT && kind != KIND_NULL) refuse(node, "an object");
  if (depth >= DEPTH_MAX) unreachable();
  const frame = frames + <usize>depth * FRAME_BYTES;
  memory.fill(frame, 0, FRAME_BYTES);
  store<i32>(frame, kind == KIND_OBJECT ? node : NO_NODE);
  depth++;
}

/** Ends it: a member that no field…() asked for is refused. False after any error. */
export function objectEnd(): bool {
  depth--;
  const frame = frames + <usize>depth * FRAME_BYTES;
  let member = isRefused() ? NO_NODE : treeFirst(load<i32>(frame));
  while (member >= 0) {
    if (!wasFound(frame, depth, member)) return refuseUnknown(frame, member);
    member = treeNext(member);
  }
  return !isRefused();
}

/** The member of that name; NO_NODE where it is absent or null. */
export function field(name: string): i32 {
  const level = depth - 1;
  const frame = frames + <usize>level * FRAME_BYTES;
  const known = load<u32>(frame, AT_KNOWN);
  if (known < KNOWN_MAX) {
    store<u32>(frame + ((<usize>known) << 2), <u32>changetype<usize>(name), AT_LITERALS);
    store<u32>(frame, known + 1, AT_KNOWN);
  }
  const node = treeFind(load<i32>(frame), name);
  if (node < 0) return NO_NODE;
  const count = load<u32>(frame, AT_FOUND);
  if (count < MEMBERS_MAX) {
    store<i32>(found + ((<usize>(level * MEMBERS_MAX + count)) << 2), node);
    store<u32>(frame, count + 1, AT_FOUND);
  }
  return treeKind(node) == KIND_NULL ? NO_NODE : node;
}

/** Refuses a field's value. False. */
export function refuseField(name: string, node: i32, expected: string): bool {
  const mark = pathMark();
  pathMember(name);
  refuse(node, expected);
  pathBack(mark);
  return false;
}

/** A number from `least` to `most`; `expected` describes it. */
export function numberField(name: string, fallback: f64, least: f64, most: f64, expected: string): f64 {
  const node = field(name);
  if (node < 0) return fallback;
  const value = treeNumber(node);
  if (value >= least && value <= most) return value;
  refuseField(name, node, expected);
  return fallback;
}

/** A whole number from `least` to `most`; `expected` describes it. */
export function wholeField(name: string, fallback: f64, least: f64, most: f64, expected: string): f64 {
  const node = field(name);
  if (node < 0) return fallback;
  const value = treeNumber(node);
  if (value >= least && value <= most && Math.floor(value) == value) return value;
  refuseField(name, node, expected);
  return fallback;
}

export function boolField(name: string, fallback: bool): bool {
  const node = field(name);
  if (node < 0) return fallback;
  const kind = treeKind(node);
  if (kind != KIND_TRUE && kind != KIND_FALSE) {
    refuseField(name, node, "true or false");
    return fallback;
  }
  return kind == KIND_TRUE;
}

/** A string's node; NO_NODE where it is absent, null or "". */
export function textField(name: string): i32 {
  const node = field(name);
  if (node < 0) return NO_NODE;
  if (treeKind(node) != KIND_STRING) {
    refuseField(name, node, "a string");
    return NO_NODE;
  }
  return treeTextLen(node) == 0 ? NO_NODE : node;
}

/** A string that is one of two; the index of the one it is, 0 where it is absent. */
export function choiceField(name: string, first: string, second: string, expected: string): u32 {
  const node = field(name);
  if (node < 0 || treeTextIs(node, first)) return 0;
  if (treeTextIs(node, second)) return 1;
  refuseField(name, node, expected);
  return 0;
}

/** An array's node; NO_NODE where it is absent or null. */
export function arrayField(name: string): i32 {
  const node = field(name);
  if (node < 0) return NO_NODE;
  if (treeKind(node) == KIND_ARRAY) return node;
  refuseField(name, node, "an array");
  return NO_NODE;
}

/** An object's node; NO_NODE where it is absent or null. */
export function objectField(name: string): i32 {
  const node = field(name);
  if (node < 0) return NO_NODE;
  if (treeKind(node) == KIND_OBJECT) return node;
  refuseField(name, node, "an object");
  return NO_NODE;
}

/** A field that is checked to be a string or a number and has no effect. */
export function scalarField(name: string): void {
  const node = field(name);
  if (node < 0) return;
  const kind = treeKind(node);
  if (kind != KIND_STRING && kind != KIND_NUMBER) refuseField(name, node, "a string or a number");
}

/** A duration as Go writes it ("200ms", "1m30s", "0"); its ms, or NaN where it is none. */
export function durationMs(ptr: usize, bytes: u32): f64 {
  if (bytes == 1 && load<u8>(ptr) == 48) return 0;
  let total: f64 = 0;
  let at: u32 = 0;
  while (at < bytes) {
    const start = at;
    let value: f64 = 0;
    let unit: f64 = 1;
    let isFraction = false;
    for (; at < bytes; at++) {
      const char = <u32>load<u8>(ptr + at);
      if (char == 46 && !isFraction) {
        isFraction = true;
        continue;
      }
      if (char - 48 > 9) break;
      if (isFraction) unit /= 10;
      value = isFraction ? value + unit * <f64>(char - 48) : value * 10 + <f64>(char - 48);
    }
    if (at == start || (at == start + 1 && isFraction)) return NaN;
    const unitMs = unitOf(ptr + at, bytes - at);
    if (!(unitMs > 0)) return NaN;
    total += value * unitMs;
    at += unitBytes;
  }
  return bytes == 0 ? NaN : total;
}

/** A duration string of more than 0 ms, checked, without effect. */
export function positiveDurationField(name: string): void {
  const node = textField(name);
  if (node < 0) return;
  if (!(durationMs(treeTextPtr(node), treeTextLen(node)) > 0))
    refuseField(name, node, 'a duration above 0, as "200ms"');
}

/** A duration string, checked, without effect. */
export function durationField(name: string): void {
  const node = textField(name);
  if (node < 0) return;
  if (!(durationMs(treeTextPtr(node), treeTextLen(node)) >= 0))
    refuseField(name, node, 'a duration, as "1m30s"');
}

let unitBytes: u32 = 0;

function unitOf(ptr: usize, bytes: u32): f64 {
  if (bytes >= 2) {
    const two = <u32>load<u16>(ptr);
    unitBytes = 2;
    if (two == 0x736d) return 1;
    if (two == 0x7375) return 0.001;
    if (two == 0x736e) return 0.000001;
  }
  unitBytes = 1;
  if (bytes == 0) return NaN;
  const char = load<u8>(ptr);
  return char == 115 ? 1000 : char == 109 ? 60000 : char == 104 ? 3600000 : NaN;
}

function wasFound(frame: usize, level: u32, member: i32): bool {
  for (let i: u32 = 0, count = load<u32>(frame, AT_FOUND); i < count; i++) {
    if (load<i32>(found + ((<usize>(level * MEMBERS_MAX + i)) << 2)) == member) return true;
  }
  return false;
}

function refuseUnknown(frame: usize, member: i32): bool {
  const mark = pathMark();
  pathKey(treeKeyPtr(member), min<u32>(treeKeyLen(member), 64));
  if (refuseBegin(member)) {
    const count = load<u32>(frame, AT_KNOWN);
    say(count == 0 ? " — unknown field, expected none" : " — unknown field, expected one of ");
    for (let i: u32 = 0; i < count; i++) {
      if (i > 0) say(", ");
      say(changetype<string>(<usize>load<u32>(frame + ((<usize>i) << 2), AT_LITERALS)));
    }
    refuseEnd();
  }
  pathBack(mark);
  return false;
}
