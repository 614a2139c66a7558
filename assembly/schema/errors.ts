// What is wrong with a configuration, and what is worth saying: two bounded texts, and the JSON path in hand.
//
//   error:  plugins[2].parameters.threshold: "abc" — expected a number
//   notice: plugins[4] "metrics-data-source": the sidecar's; …
import {
  KIND_ARRAY,
  KIND_FALSE,
  KIND_NONE,
  KIND_NULL,
  KIND_NUMBER,
  KIND_OBJECT,
  KIND_STRING,
  treeKind,
  treeTextLen,
  treeTextPtr,
} from "../json/tree";

/** Bytes of an error text; what does not fit is cut. */
export const ERROR_BYTES_MAX: u32 = 1024;
/** Bytes of all notices of one configuration; what does not fit is cut. */
export const NOTICE_BYTES_MAX: u32 = 2048;
/** Bytes of a JSON path; a longer one is cut. */
const PATH_BYTES_MAX: u32 = 256;
/** Bytes of an offending value that are quoted. */
const VALUE_BYTES_MAX: u32 = 64;

const error: usize = memory.data(1024);
const notice: usize = memory.data(2048);
const path: usize = memory.data(256);
let errorBytes: u32 = 0;
let noticeBytes: u32 = 0;
let pathBytes: u32 = 0;

// Where text is being written to.
let target: usize = 0;
let targetMax: u32 = 0;
let used: u32 = 0;

/** The error of the last configuration that was refused; UTF-8. */
export function schemaErrorPtr(): usize {
  return error;
}
export function schemaErrorBytes(): u32 {
  return errorBytes;
}
/** What the last configuration holds that has no effect here, to be logged once; UTF-8, 0 bytes = nothing. */
export function schemaNoticePtr(): usize {
  return notice;
}
export function schemaNoticeBytes(): u32 {
  return noticeBytes;
}

/** Forgets all texts: a new configuration begins. */
export function errorsReset(): void {
  errorBytes = 0;
  noticeBytes = 0;
  pathBytes = 0;
}

/** Whether something was refused since errorsReset(). */
export function isRefused(): bool {
  return errorBytes > 0;
}

/** Length of the path, for pathBack(). */
export function pathMark(): u32 {
  return pathBytes;
}

export function pathBack(mark: u32): void {
  pathBytes = mark;
}

/** Goes down to a member, by a literal name. */
export function pathMember(name: string): void {
  begin(path, PATH_BYTES_MAX, pathBytes);
  if (pathBytes > 0) byte(46);
  literal(name);
  pathBytes = used;
}

/** Goes down to a member whose name is in memory. */
export function pathKey(ptr: usize, bytes: u32): void {
  begin(path, PATH_BYTES_MAX, pathBytes);
  if (pathBytes > 0) byte(46);
  copy(ptr, bytes);
  pathBytes = used;
}

/** Goes down to an element. */
export function pathElement(index: u32): void {
  begin(path, PATH_BYTES_MAX, pathBytes);
  byte(91);
  number(index);
  byte(93);
  pathBytes = used;
}

/** Refuses the value at the path: `node` is quoted, `expected` says what would do; the first stays. False. */
export function refuse(node: i32, expected: string): bool {
  if (!refuseBegin(node)) return false;
  literal(" — expected ");
  literal(expected);
  return refuseEnd();
}

/** Refuses as refuse() does, for a reason instead of an expectation. */
export function refuseFor(node: i32, reason: string): bool {
  if (!refuseBegin(node)) return false;
  literal(" — ");
  literal(reason);
  return refuseEnd();
}

/** Starts an error that is put together: path and value stand, say…() go on; false if one is there. */
export function refuseBegin(node: i32): bool {
  if (errorBytes > 0) return false;
  begin(error, ERROR_BYTES_MAX, 0);
  if (pathBytes == 0) literal("configuration");
  copy(path, pathBytes);
  if (pathBytes > 0 || node >= 0) {
    literal(": ");
    value(node);
  }
  return true;
}

/** Ends it. False, so that it can be returned. */
export function refuseEnd(): bool {
  errorBytes = used;
  return false;
}

/** Continues an error or a notice with a literal. */
export function say(text: string): void {
  literal(text);
}

/** Continues an error or a notice with bytes of the document, bounded as quoted values are. */
export function sayBytes(ptr: usize, bytes: u32): void {
  copy(ptr, min<u32>(bytes, VALUE_BYTES_MAX));
}

/** Continues an error or a notice with a number. */
export function sayNumber(count: u32): void {
  number(count);
}

/** Starts a notice about the place at the path; say…() go on; noticeEnd() ends it. */
export function noticeBegin(): void {
  begin(notice, NOTICE_BYTES_MAX, noticeBytes);
  if (noticeBytes > 0) literal("; ");
  copy(path, pathBytes);
  if (pathBytes > 0) byte(32);
}

export function noticeEnd(): void {
  noticeBytes = used;
}

function begin(buffer: usize, bytesMax: u32, bytes: u32): void {
  target = buffer;
  targetMax = bytesMax;
  used = bytes;
}

function byte(value: u8): void {
  if (used < targetMax) store<u8>(target + used++, value);
}

function copy(ptr: usize, bytes: u32): void {
  for (let i: u32 = 0; i < bytes; i++) byte(load<u8>(ptr + i));
}

// A literal's UTF-16 units, all of the basic plane, as UTF-8.
function literal(text: string): void {
  const units = changetype<usize>(text);
  for (let i: usize = 0, count = <usize>text.length; i < count; i++) {
    const unit = <u32>load<u16>(units + (i << 1));
    if (unit < 0x80) {
      byte(<u8>unit);
    } else if (unit < 0x800) {
      byte(<u8>(0xc0 | (unit >> 6)));
      byte(<u8>(0x80 | (unit & 63)));
    } else {
      byte(<u8>(0xe0 | (unit >> 12)));
      byte(<u8>(0x80 | ((unit >> 6) & 63)));
      byte(<u8>(0x80 | (unit & 63)));
    }
  }
}

const digits: usize = memory.data(16);

function number(count: u32): void {
  let at: usize = 16;
  do {
    store<u8>(digits + --at, <u8>(48 + (count % 10)));
    count /= 10;
  } while (count != 0);
  copy(digits + at, 16 - <u32>at);
}

function value(node: i32): void {
  const kind = treeKind(node);
  if (kind == KIND_STRING) {
    byte(34);
    cutText(node);
    byte(34);
  } else if (kind == KIND_NUMBER) cutText(node);
  else if (kind == KIND_OBJECT) literal("{…}");
  else if (kind == KIND_ARRAY) literal("[…]");
  else if (kind == KIND_NULL) literal("null");
  else if (kind == KIND_NONE) literal("(missing)");
  else literal(kind == KIND_FALSE ? "false" : "true");
}

// Quoted values come from the outside: control characters would forge log lines.
function cutText(node: i32): void {
  const ptr = treeTextPtr(node);
  const bytes = treeTextLen(node);
  for (let i: u32 = 0, end = min<u32>(bytes, VALUE_BYTES_MAX); i < end; i++) {
    const char = load<u8>(ptr + i);
    byte(char < 32 || char == 127 ? 46 : char);
  }
  if (bytes > VALUE_BYTES_MAX) literal("…");
}
