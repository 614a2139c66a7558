// The cells of one rendered prompt: text in, one 64-bit key out for every 64 bytes of it (wire/kv-deltas.ts).
//
// A cell's key stands for all text from the prompt's start to the cell's end, as the engine's own block hashes do. The
// running hash is the prefix chain's; what stands outside the text (LoRA adapter, cache_salt) is mixed in when the
// keys are used, by cellKey's `root`. Unlike a chain's keys none are thinned out: a match is known to the cell.
import { KV_CELL_BYTES } from "../wire/kv-deltas";
import { PROMPT_HASHED_BYTES_MAX } from "../wire/limits";
import { PRIME_3, PRIME_5, mixPair } from "../text/hash";
import { hashBlock } from "./chain";
import { NO_PAGE, PAGES, PAGE_KEYS, pageKeyPtr, pageReturn, pageTake } from "./pages";

/** Most cells of one prompt; text beyond counts towards its length only. */
export const CELLS_MAX: u32 = PROMPT_HASHED_BYTES_MAX / KV_CELL_BYTES;
/** Pages that are left to the chains, which every request needs: with no more than these free the cells end there. */
const PAGES_KEPT: u32 = PAGES / 4;
/** Most pages of one prompt: CELLS_MAX / PAGE_KEYS. */
const PROMPT_PAGES_MAX: u32 = 256;

//   ┌ cells, 88 bytes ──────────────────────────────────────────────────────────┐
//   │ 0 u64 running hash   8 u32 text bytes   12 u32 cells   16 u16 first page   │
//   │ 18 u16 last page   20 u8 partial bytes   21 u8 cut   22 u8 broken          │
//   │ 24 u8 partial[64]                                                          │
//   └───────────────────────────────────────────────────────────────────────────┘
const AT_HASH: usize = 0;
const AT_TEXT_BYTES: usize = 8;
const AT_CELLS: usize = 12;
const AT_FIRST: usize = 16;
const AT_LAST: usize = 18;
const AT_PARTIAL_BYTES: usize = 20;
const AT_CUT: usize = 21;
const AT_BROKEN: usize = 22;
const AT_PARTIAL: usize = 24;
/** Bytes of a record; the caller owns it, 8-byte aligned. */
export const CELLS_BYTES: usize = 88;

// The page behind each page of a prompt.
const nextPages: usize = memory.data(16384 * 2, 2);
let cellsCut: u64 = 0;

/** Prompts whose cells ended early because the key arena was short, since the VM started. */
export function cellsCutTotal(): u64 {
  return cellsCut;
}

/** Starts an empty text in the record at `cells`. One that was in use is released first by cellsRelease. */
export function cellsReset(cells: usize): void {
  store<u64>(cells, PRIME_5, AT_HASH);
  store<u64>(cells, 0, AT_TEXT_BYTES);
  store<u64>(cells, 0, AT_FIRST);
}

/** Returns the pages to the arena and empties the record. Calling it twice is harmless. */
export function cellsRelease(cells: usize): void {
  let page = <u32>load<u16>(cells, AT_FIRST);
  const held = (load<u32>(cells, AT_CELLS) + PAGE_KEYS - 1) / PAGE_KEYS;
  for (let i: u32 = 0; i < held; i++) {
    const next = <u32>load<u16>(nextPages + ((<usize>page) << 1));
    pageReturn(page);
    page = next;
  }
  cellsReset(cells);
}

/** Appends rendered text: `bytes` bytes at `ptr`, at any alignment. */
export function cellsText(cells: usize, ptr: usize, bytes: u32): void {
  store<u32>(cells, load<u32>(cells, AT_TEXT_BYTES) + bytes, AT_TEXT_BYTES);
  if (load<u8>(cells, AT_CUT) | load<u8>(cells, AT_BROKEN)) return;
  const partial = <u32>load<u8>(cells, AT_PARTIAL_BYTES);
  if (partial + bytes < <u32>KV_CELL_BYTES) return keepPartial(cells, partial, ptr, bytes);
  const end = ptr + bytes;
  if (partial > 0) {
    const missing = <u32>KV_CELL_BYTES - partial;
    memory.copy(cells + AT_PARTIAL + partial, ptr, missing);
    ptr += missing;
    addCells(cells, cells + AT_PARTIAL, cells + AT_PARTIAL + KV_CELL_BYTES);
  }
  ptr = addCells(cells, ptr, end);
  keepPartial(cells, 0, ptr, <u32>(end - ptr) % KV_CELL_BYTES);
}

function keepPartial(cells: usize, held: u32, ptr: usize, bytes: u32): void {
  memory.copy(cells + AT_PARTIAL + held, ptr, bytes);
  store<u8>(cells, <u8>(held + bytes), AT_PARTIAL_BYTES);
}

// Whole cells from ptr on, as far as they are kept. Returns where the rest begins.
function addCells(cells: usize, ptr: usize, end: usize): usize {
  let hash = load<u64>(cells, AT_HASH);
  for (; ptr + KV_CELL_BYTES <= end && load<u8>(cells, AT_CUT) == 0; ptr += KV_CELL_BYTES) {
    hash = hashBlock(hash, ptr);
    addCell(cells, hash);
  }
  store<u64>(cells, hash, AT_HASH);
  return ptr;
}

function addCell(cells: usize, hash: u64): void {
  const index = load<u32>(cells, AT_CELLS);
  if (index >= CELLS_MAX) return store<u8>(cells, 1, AT_CUT);
  if ((index & (PAGE_KEYS - 1)) == 0 && !addPage(cells, index)) {
    store<u8>(cells, 1, AT_CUT);
    cellsCut++;
    return;
  }
  store<u64>(pageKeyPtr(load<u16>(cells, AT_LAST), index & (PAGE_KEYS - 1)), hash);
  store<u32>(cells, index + 1, AT_CELLS);
}

function addPage(cells: usize, index: u32): bool {
  const page = pageTake(PAGES_KEPT);
  if (page == NO_PAGE) return false;
  if (index == 0) store<u16>(cells, <u16>page, AT_FIRST);
  else store<u16>(nextPages + ((<usize>load<u16>(cells, AT_LAST)) << 1), <u16>page);
  store<u16>(cells, <u16>page, AT_LAST);
  return true;
}

/** Whole cells so far, 0…CELLS_MAX. What follows the last has no key: it is less than a cell, or was cut. */
export function cellsCount(cells: usize): u32 {
  return load<u32>(cells, AT_CELLS);
}

/** Bytes of text so far, those without a key too. */
export function cellsBytes(cells: usize): u32 {
  return load<u32>(cells, AT_TEXT_BYTES);
}

/** The text is not known to be what the engine sees: its keys are not to be used, and no more are made. */
export function cellsBreak(cells: usize): void {
  store<u8>(cells, 1, AT_BROKEN);
}
export function cellsBroken(cells: usize): bool {
  return load<u8>(cells, AT_BROKEN) != 0;
}

// The pages of the record opened last, in order.
const opened: usize = memory.data(256 * 2, 2);

/** Makes the record's keys readable by cellKey(), until another is opened or this one changes. Returns cellsCount(). */
export function cellsOpen(cells: usize): u32 {
  const count = load<u32>(cells, AT_CELLS);
  const held = min((count + PAGE_KEYS - 1) / PAGE_KEYS, PROMPT_PAGES_MAX);
  let page = load<u16>(cells, AT_FIRST);
  for (let i: u32 = 0; i < held; i++) {
    store<u16>(opened + ((<usize>i) << 1), page);
    page = load<u16>(nextPages + ((<usize>page) << 1));
  }
  return count;
}

/** The key of the cell at `index` < cellsCount of the opened record, under `root`: the hash of adapter and salt. */
export function cellKey(index: u32, root: u64): u64 {
  const page = <u32>load<u16>(opened + ((<usize>(index / PAGE_KEYS)) << 1));
  const key = mixPair(load<u64>(pageKeyPtr(page, index & (PAGE_KEYS - 1))), root);
  return key == 0 ? PRIME_3 : key;
}
