// Short words that may come in pieces: names of fields, types of blocks.
import { AT_WORD, AT_WORD_BYTES, WORD_BYTES_MAX } from "./layout";

let word: usize = 0;

/** Keeps a piece; of a word longer than WORD_BYTES_MAX only that it is longer. */
export function wordAdd(record: usize, ptr: usize, bytes: u32): void {
  const held = <u32>load<u8>(record, AT_WORD_BYTES);
  const total = held + bytes;
  if (total > WORD_BYTES_MAX) {
    store<u8>(record, <u8>(WORD_BYTES_MAX + 1), AT_WORD_BYTES);
    return;
  }
  memory.copy(record + AT_WORD + held, ptr, bytes);
  store<u8>(record, <u8>total, AT_WORD_BYTES);
}

/** The last piece. Returns the word's length, more than WORD_BYTES_MAX for all longer ones; it is at wordPtr(). */
export function wordEnd(record: usize, ptr: usize, bytes: u32): u32 {
  if (load<u8>(record, AT_WORD_BYTES) == 0) {
    word = ptr;
    return bytes;
  }
  wordAdd(record, ptr, bytes);
  word = record + AT_WORD;
  const total = <u32>load<u8>(record, AT_WORD_BYTES);
  store<u8>(record, 0, AT_WORD_BYTES);
  return total;
}

/** Where the word of the last wordEnd is, until the next piece of any word. */
export function wordPtr(): usize {
  return word;
}
