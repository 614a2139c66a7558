// What is wrong with a text, for those who tell the client.
import { JSON_BAD_ESCAPE, JSON_BAD_LITERAL, JSON_BAD_NUMBER, JSON_EXPECTED_COMMA } from "./events";
import {
  AT_ESCAPE,
  AT_FAULT,
  AT_FAULT_BYTE,
  AT_FAULT_OFFSET,
  AT_LITERAL,
  AT_LITERAL_BYTES,
  AT_NUMBER_STATE,
} from "./state";
import { insideObject } from "./containers";

/** Code of the first fault, JSON_OK if none. */
export function scannerErrorCode(state: usize): u32 {
  return <u32>load<u8>(state, AT_FAULT);
}

/**
 * Offset in the text of the first byte that cannot stand there; the text's length when it ended too early; for
 * JSON_STOPPED a place behind the token at which the sink stopped.
 */
export function scannerErrorOffset(state: usize): u64 {
  return load<u64>(state, AT_FAULT_OFFSET);
}

/** The byte at scannerErrorOffset; 0 when the text ended too early. */
export function scannerErrorByte(state: usize): u32 {
  return <u32>load<u8>(state, AT_FAULT_BYTE);
}

// Details of a fault, for error texts.
/** JSON_EXPECTED_COMMA: in an object (else in an array). JSON_BAD_ESCAPE: in the digits of a \u escape. */
export const DETAIL_INSIDE: u32 = 1;
/** JSON_BAD_NUMBER: behind a minus, a leading zero, a point, an e. */
export const DETAIL_MINUS: u32 = 1;
export const DETAIL_ZERO: u32 = 2;
export const DETAIL_POINT: u32 = 4;

/**
 * More about the fault: a DETAIL_* value (a number's other values are its exponent's); for JSON_BAD_LITERAL 0 for
 * true, 1 for false, 2 for null, 3 for the byte order mark, plus 256 × the letters that were right.
 */
export function scannerErrorDetail(state: usize): u32 {
  switch (<u32>load<u8>(state, AT_FAULT)) {
    case JSON_EXPECTED_COMMA:
      return insideObject(state) ? DETAIL_INSIDE : 0;
    case JSON_BAD_ESCAPE:
      return load<u8>(state, AT_ESCAPE) > 1 ? DETAIL_INSIDE : 0;
    case JSON_BAD_NUMBER:
      return <u32>load<u8>(state, AT_NUMBER_STATE);
    case JSON_BAD_LITERAL:
      return (<u32>load<u8>(state, AT_LITERAL)) | ((<u32>load<u8>(state, AT_LITERAL_BYTES)) << 8);
    default:
      return 0;
  }
}
