// The first fault found in pushed bytes: the field's path and what was expected, as two texts for the sidecar.
import {
  writeBegin,
  writeByte,
  writeBytes,
  writeF64,
  writeLength,
  writeLiteral,
  writeU64,
} from "../text/text";

const FIELD_BYTES: u32 = 64;
const MESSAGE_BYTES: u32 = 192;
/** Bytes of a refused text that the message quotes. */
const QUOTED_BYTES: u32 = 96;
const field: usize = memory.data(64);
const message: usize = memory.data(192);
let fieldLength: u32 = 0;
let messageLength: u32 = 0;

/** Path of the field at fault, such as endpoints[3].address; faultFieldBytes() long. */
export function faultField(): usize {
  return field;
}
export function faultFieldBytes(): u32 {
  return fieldLength;
}
/** The value and what was expected; faultMessageBytes() long. */
export function faultMessage(): usize {
  return message;
}
export function faultMessageBytes(): u32 {
  return messageLength;
}

/** Notes that field `name` of `list`[index] (index −1 = the header) is `value`. Always returns false. */
export function fault(list: string, index: i32, name: string, value: f64, expected: string): bool {
  noteField(list, index, name);
  writeBegin(message, MESSAGE_BYTES);
  writeF64(value);
  return endMessage(": expected ", expected);
}

/** The same for a text of `bytes` bytes at `ptr`. */
export function faultText(
  list: string,
  index: i32,
  name: string,
  ptr: usize,
  bytes: u32,
  expected: string,
): bool {
  noteField(list, index, name);
  writeBegin(message, MESSAGE_BYTES);
  writeByte(34);
  writeBytes(ptr, min(bytes, QUOTED_BYTES));
  return endMessage('": expected ', expected);
}

/** The same for a number inside `list`[index].`inner`[innerIndex]. */
export function faultInside(
  list: string,
  index: u32,
  inner: string,
  innerIndex: u32,
  name: string,
  value: f64,
  expected: string,
): bool {
  writeBegin(field, FIELD_BYTES);
  writePlace(list, index);
  writePlace(inner, innerIndex);
  writeLiteral(name);
  fieldLength = writeLength();
  writeBegin(message, MESSAGE_BYTES);
  writeF64(value);
  return endMessage(": expected ", expected);
}

function noteField(list: string, index: i32, name: string): void {
  writeBegin(field, FIELD_BYTES);
  if (index >= 0) writePlace(list, <u32>index);
  writeLiteral(name);
  fieldLength = writeLength();
}

function writePlace(list: string, index: u32): void {
  writeLiteral(list);
  writeLiteral("[");
  writeU64(index);
  writeLiteral("].");
}

function endMessage(between: string, expected: string): bool {
  writeLiteral(between);
  writeLiteral(expected);
  messageLength = writeLength();
  return false;
}

/** Whether `bytes` bytes at `offset` lie inside `total`. */
export function isInside(total: u32, offset: u32, bytes: u32): bool {
  return offset <= total && bytes <= total - offset;
}
