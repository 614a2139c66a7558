// The pooled arena of keys: chains and cells take pages of 32 keys from it, so that short prompts, the most, need one.

/** Keys of one page, 8 bytes each. */
export const PAGE_KEYS: u32 = 32;
/** Pages in the arena, 4 MiB in all. Who needs one when it is empty stops at the present depth and counts that. */
export const PAGES: u32 = 16384;
/** "No page is free." */
export const NO_PAGE: u32 = 0xffffffff;

const pages: usize = memory.data(16384 * 256, 16);
const freePages: usize = memory.data(16384 * 2, 16);
let freeCount: u32 = 0;
let touched: u32 = 0;

/** Pages in use; 0 when no stream holds any. */
export function pagesInUse(): u32 {
  return touched - freeCount;
}

/** Takes a page, unless fewer than `kept` + 1 are free; NO_PAGE then. */
export function pageTake(kept: u32): u32 {
  if (PAGES - pagesInUse() <= kept) return NO_PAGE;
  if (freeCount == 0) return touched++;
  freeCount--;
  return <u32>load<u16>(freePages + ((<usize>freeCount) << 1));
}

/** Gives a page back; it was taken before. */
export function pageReturn(page: u32): void {
  store<u16>(freePages + ((<usize>freeCount) << 1), <u16>page);
  freeCount++;
}

/** Address of the key at `index` < PAGE_KEYS of a page. */
export function pageKeyPtr(page: u32, index: u32): usize {
  return pages + ((<usize>page) << 8) + ((<usize>index) << 3);
}
