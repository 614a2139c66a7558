// The scanner's record: everything that is remembered between two chunks of one text.
import { JSON_OK, JSON_STOPPED, JSON_UNEXPECTED_END } from "./events";

//   ┌ scanner, 128 bytes, owned by the caller, 8-byte aligned ──────────────────────────────────────┐
//   │  0 u64 objects: bit n = level n is an object      8 u64 integers: bit n = level n is batched  │
//   │ 16 u64 offset of the chunk in the text           24 u64 offset of the fault                   │
//   │ 32 u32 address of the chunk (during a feed)      36 u32 expected continuation of a UTF-8 char │
//   │ 40 u8 mode   41 u8 depth   42 u8 partial token   43 u8 fault   44 u8 string's piece event     │
//   │ 45 u8 escape progress   46 u16 \u digits   48 u16 waiting high surrogate                      │
//   │ 50 u8 literal   51 u8 literal progress   52 u8 number state   53 u8 number bytes              │
//   │ 54 u8 byte at fault                                                                           │
//   │ 56 u8[64] number                                                                              │
//   └───────────────────────────────────────────────────────────────────────────────────────────────┘
export const AT_OBJECTS: usize = 0;
export const AT_INTEGERS: usize = 8;
export const AT_OFFSET: usize = 16;
export const AT_FAULT_OFFSET: usize = 24;
export const AT_CHUNK: usize = 32;
export const AT_UTF8: usize = 36;
export const AT_MODE: usize = 40;
export const AT_DEPTH: usize = 41;
export const AT_PARTIAL: usize = 42;
export const AT_FAULT: usize = 43;
export const AT_STRING_EVENT: usize = 44;
export const AT_ESCAPE: usize = 45;
export const AT_UNIT: usize = 46;
export const AT_HIGH: usize = 48;
export const AT_LITERAL: usize = 50;
export const AT_LITERAL_BYTES: usize = 51;
export const AT_NUMBER_STATE: usize = 52;
export const AT_NUMBER_BYTES: usize = 53;
export const AT_FAULT_BYTE: usize = 54;
export const AT_NUMBER: usize = 56;

/** Bytes of a scanner record. */
export const SCANNER_BYTES: usize = 128;

// Tokens that a chunk's end can cut.
export const PARTIAL_NONE: u8 = 0;
export const PARTIAL_STRING: u8 = 1;
export const PARTIAL_NUMBER: u8 = 2;
export const PARTIAL_LITERAL: u8 = 3;

/** Notes the first fault: `code` at address `at` of the present chunk. */
export function fail(state: usize, at: usize, code: u32): void {
  if (load<u8>(state, AT_FAULT) != <u8>JSON_OK) return;
  store<u8>(state, <u8>code, AT_FAULT);
  if (code != JSON_UNEXPECTED_END) store<u8>(state, load<u8>(at), AT_FAULT_BYTE);
  store<u64>(
    state,
    load<u64>(state, AT_OFFSET) + <u64>(at - <usize>load<u32>(state, AT_CHUNK)),
    AT_FAULT_OFFSET,
  );
}

/** Notes that the sink stopped; scannerFeed adds the offset. */
export function stop(state: usize): void {
  if (load<u8>(state, AT_FAULT) == <u8>JSON_OK) store<u8>(state, <u8>JSON_STOPPED, AT_FAULT);
}

/** Whether the text was refused or the sink stopped. */
export function failed(state: usize): bool {
  return load<u8>(state, AT_FAULT) != <u8>JSON_OK;
}
