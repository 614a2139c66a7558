// The prefix chain of one prompt: text in, 64-bit keys out, each standing for all text up to its depth.
//
// Text is hashed in 64-byte blocks as it arrives. A key is kept after every block up to 4 KiB, then at
// 32 depths an octave (every 128 bytes to 8 KiB, every 256 to 16 KiB …), so a match is known to within
// 1/32 of its depth and 512 KiB need 288 keys. The rest of the last block has no key: engines cache
// whole blocks only. Ingredients outside the text (model, LoRA, cache_salt, tools) are mixed into the
// keys when they are used, by chainKey's `root`, so that their place in the body does not matter. Those of
// them that are prompt text themselves, tools and a system text apart from the messages, come first in the
// engine's prompt: they are the chain's head and have one key of their own, the shallowest.
import { PROMPT_HASHED_BYTES_MAX } from "../wire/limits";
import { PRIME_1, PRIME_2, PRIME_3, PRIME_4, PRIME_5, hashBytes, mixPair } from "../text/hash";
import { NO_PAGE, PAGE_KEYS, pageKeyPtr, pageReturn, pageTake } from "./pages";

/** Bytes hashed at a time. */
export const BLOCK_BYTES: u32 = 64;
/** Depth, in blocks, down to which every block has a key. */
const FINE_BLOCKS: u32 = 64;
/** Keys per doubling of the depth beyond that. */
const KEYS_PER_OCTAVE: u32 = 32;
/** Most keys of the text: 64 + 32 × log2(512 KiB / 4 KiB). */
const TEXT_KEYS_MAX: u32 = 288;
/** Most keys of one chain, its head included. */
export const CHAIN_KEYS_MAX: u32 = 289;
const BLOCKS_MAX: u32 = PROMPT_HASHED_BYTES_MAX / 64;

//   ┌ chain, 112 bytes ─────────────────────────────────────────────────────┐
//   │ 0 u64 running hash   8 u32 text bytes   12 u32 blocks   16 u32 keys   │
//   │ 20 u16 partial bytes   22 u8 cut   24 u16 pages[9]   44 u32 head bytes │
//   │ 48 u8 partial[64]                                                     │
//   └───────────────────────────────────────────────────────────────────────┘
const AT_HASH: usize = 0;
const AT_TEXT_BYTES: usize = 8;
const AT_BLOCKS: usize = 12;
const AT_KEYS: usize = 16;
const AT_PARTIAL_BYTES: usize = 20;
const AT_CUT: usize = 22;
const AT_PAGES: usize = 24;
const AT_HEAD_BYTES: usize = 44;
const AT_PARTIAL: usize = 48;
/** Bytes of a chain record; the caller owns it, 8-byte aligned. */
export const CHAIN_BYTES: usize = 112;

let chainsCut: u64 = 0;

/** Chains cut because the key arena was full, since the VM started. */
export function chainsCutTotal(): u64 {
  return chainsCut;
}

/** Starts an empty chain in the record at `chain`. A chain that was in use is released first by chainRelease. */
export function chainReset(chain: usize): void {
  store<u64>(chain, PRIME_5, AT_HASH);
  store<u32>(chain, 0, AT_TEXT_BYTES);
  store<u32>(chain, 0, AT_BLOCKS);
  store<u32>(chain, 0, AT_KEYS);
  store<u32>(chain, 0, AT_PARTIAL_BYTES);
  store<u32>(chain, 0, AT_HEAD_BYTES);
}

/** Returns the chain's pages to the arena and empties it. Calling it twice is harmless. */
export function chainRelease(chain: usize): void {
  const held = (load<u32>(chain, AT_KEYS) + PAGE_KEYS - 1) / PAGE_KEYS;
  for (let i: u32 = 0; i < held; i++) pageReturn(load<u16>(chain + AT_PAGES + ((<usize>i) << 1)));
  chainReset(chain);
}

/** Appends prompt text: `bytes` bytes at `ptr`. Beyond PROMPT_HASHED_BYTES_MAX only the length counts. */
export function chainText(chain: usize, ptr: usize, bytes: u32): void {
  store<u32>(chain, load<u32>(chain, AT_TEXT_BYTES) + bytes, AT_TEXT_BYTES);
  let partial = <u32>load<u16>(chain, AT_PARTIAL_BYTES);
  if (partial + bytes < BLOCK_BYTES) {
    memory.copy(chain + AT_PARTIAL + partial, ptr, bytes);
    store<u16>(chain, <u16>(partial + bytes), AT_PARTIAL_BYTES);
    return;
  }
  const end = ptr + bytes;
  if (partial > 0) {
    const missing = BLOCK_BYTES - partial;
    memory.copy(chain + AT_PARTIAL + partial, ptr, missing);
    ptr += missing;
    addBlocks(chain, chain + AT_PARTIAL, chain + AT_PARTIAL + BLOCK_BYTES);
  }
  ptr = addBlocks(chain, ptr, end);
  if (ptr == 0) return;
  partial = <u32>(end - ptr);
  memory.copy(chain + AT_PARTIAL, ptr, partial);
  store<u16>(chain, <u16>partial, AT_PARTIAL_BYTES);
}

/**
 * Ends a message: its role and whatever else is not text, as one hash. It is put behind the message's
 * text and not before it, so that {"role","content"} and {"content","role"} have the same keys.
 */
export function chainBoundary(chain: usize, tag: u64): void {
  store<u64>(boundaryTag, tag);
  const textBytes = load<u32>(chain, AT_TEXT_BYTES);
  chainText(chain, boundaryTag, 8);
  store<u32>(chain, textBytes, AT_TEXT_BYTES);
}
const boundaryTag: usize = memory.data(8, 8);

/** One hash of all text hashed so far, whole blocks or not. */
export function chainDigest(chain: usize): u64 {
  const rest = <u32>load<u16>(chain, AT_PARTIAL_BYTES);
  return mixPair(load<u64>(chain, AT_HASH), hashBytes(chain + AT_PARTIAL, rest));
}

/** Bytes of text so far, beyond the hashed ones too. */
export function chainTextBytes(chain: usize): u32 {
  return load<u32>(chain, AT_TEXT_BYTES);
}

/** Prompt text that stands before the chain's: `bytes` bytes, whose hash is part of the root. Before the keys are used. */
export function chainSetHead(chain: usize, bytes: u32): void {
  store<u32>(chain, bytes, AT_HEAD_BYTES);
}

// A head shorter than a block has no key, as no engine would keep it.
function hasHead(chain: usize): bool {
  return load<u32>(chain, AT_HEAD_BYTES) >= BLOCK_BYTES;
}

/** Number of keys, 0…CHAIN_KEYS_MAX, the shallowest first. */
export function chainKeyCount(chain: usize): u32 {
  return load<u32>(chain, AT_KEYS) + (hasHead(chain) ? 1 : 0);
}

/** The key at `index` < chainKeyCount, under `root`: the hash of model, LoRA, salt and tools. */
export function chainKey(chain: usize, index: u32, root: u64): u64 {
  if (hasHead(chain)) {
    if (index == 0) return mixPair(PRIME_1, root);
    index--;
  }
  const page = <u32>load<u16>(chain + AT_PAGES + (((<usize>index) >> 5) << 1));
  const key = mixPair(load<u64>(pageKeyPtr(page, index & (PAGE_KEYS - 1))), root);
  return key == 0 ? PRIME_3 : key;
}

/** Prompt bytes, head included, that the key at `index` stands for. */
export function chainDepthBytes(chain: usize, index: u32): u32 {
  const head = load<u32>(chain, AT_HEAD_BYTES);
  if (!hasHead(chain)) return head + keyDepthBytes(index);
  return index == 0 ? head : head + keyDepthBytes(index - 1);
}

/** Depth in bytes of hashed text that the text's key at `index` stands for. */
export function keyDepthBytes(index: u32): u32 {
  if (index < FINE_BLOCKS) return (index + 1) * BLOCK_BYTES;
  const octave = (index - FINE_BLOCKS) / KEYS_PER_OCTAVE;
  const step = ((index - FINE_BLOCKS) % KEYS_PER_OCTAVE) + 1;
  return ((FINE_BLOCKS << octave) + (step << (octave + 1))) * BLOCK_BYTES;
}

// Whole blocks from ptr on. Returns where the rest begins, 0 when no more is hashed.
function addBlocks(chain: usize, ptr: usize, end: usize): usize {
  let hash = load<u64>(chain, AT_HASH);
  let blocks = load<u32>(chain, AT_BLOCKS);
  for (; ptr + BLOCK_BYTES <= end; ptr += BLOCK_BYTES) {
    if (blocks >= BLOCKS_MAX) {
      store<u16>(chain, 0, AT_PARTIAL_BYTES);
      ptr = 0;
      break;
    }
    hash = hashBlock(hash, ptr);
    blocks++;
    if (hasKey(blocks)) addKey(chain, hash);
  }
  store<u64>(chain, hash, AT_HASH);
  store<u32>(chain, blocks, AT_BLOCKS);
  return ptr;
}

function hasKey(blocks: u32): bool {
  if (blocks <= FINE_BLOCKS) return true;
  const octave = <u32>(31 - clz<u32>((blocks - 1) / FINE_BLOCKS));
  return (blocks & ((2 << octave) - 1)) == 0;
}

function addKey(chain: usize, hash: u64): void {
  if (load<u8>(chain, AT_CUT)) return;
  const index = load<u32>(chain, AT_KEYS);
  if (index >= TEXT_KEYS_MAX) return;
  const slot = chain + AT_PAGES + (((<usize>index) >> 5) << 1);
  if ((index & (PAGE_KEYS - 1)) == 0) {
    const page = pageTake(0);
    if (page == NO_PAGE) {
      store<u8>(chain, 1, AT_CUT);
      chainsCut++;
      return;
    }
    store<u16>(slot, <u16>page);
  }
  store<u64>(pageKeyPtr(load<u16>(slot), index & (PAGE_KEYS - 1)), hash);
  store<u32>(chain, index + 1, AT_KEYS);
}

/**
 * The running hash `hash` and the BLOCK_BYTES at `block`, which may lie anywhere. Four independent lanes, then two
 * serial steps: the multiplier's latency is paid twice a block, not eight times.
 */
export function hashBlock(hash: u64, block: usize): u64 {
  const a = rotl<u64>(load<u64>(block, 0) * PRIME_1 + load<u64>(block, 8), 31) * PRIME_2;
  const b = rotl<u64>(load<u64>(block, 16) * PRIME_2 + load<u64>(block, 24), 29) * PRIME_3;
  const c = rotl<u64>(load<u64>(block, 32) * PRIME_3 + load<u64>(block, 40), 37) * PRIME_4;
  const d = rotl<u64>(load<u64>(block, 48) * PRIME_4 + load<u64>(block, 56), 27) * PRIME_1;
  let word = (a ^ rotl<u64>(b, 17)) * PRIME_3;
  word = ((word ^ (word >> 32)) + c + rotl<u64>(d, 41)) * PRIME_2;
  return rotl<u64>(hash ^ word ^ (word >> 29), 27) * PRIME_1 + PRIME_4;
}
