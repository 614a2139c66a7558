// What follows from a decision: the work reserved, the prefix noted, and both moved or given back later.
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { JOURNAL_COLD, JOURNAL_REMOVED, JOURNAL_STORED } from "../wire/journal";
import {
  COLUMN_COLD_USED_MS,
  COLUMN_GENERATION,
  COLUMN_UNCACHED_TOKENS,
  rowF64,
  rowU32,
  setRowF64,
} from "../pool/rows";
import { chainKey, chainKeyCount } from "../prefix/chain";
import { indexInsert, indexIsFresh, indexRemove, indexStored, matchedKeys } from "../prefix/index";
import { apiKeepsPrefix } from "../prompt/api";
import { releaseRequest, releaseTokens, reserve } from "../flow/reservations";
import { COUNT_MATCHED_TOKENS, COUNT_PROMPT_TOKENS, countUp } from "./counters";
import {
  F_HAS_PROMPT,
  F_PREFIX_STORED,
  F_REQUEST_RESERVED,
  F_TOKENS_RESERVED,
  S_API,
  S_GENERATIONS,
  S_KEYS_MATCHED,
  S_KEY_ROOT,
  S_POOL,
  S_PREFIX_ROW,
  S_PROMPT_TOKENS,
  S_ROWS,
  S_UNCACHED,
  clearFlag,
  destinationRow,
  hasFlag,
  setFlag,
  streamChain,
} from "./streams";
import { journal } from "./worker";

/**
 * Reserves the request and its uncached tokens, and notes the prompt as held by the chosen endpoint: so a burst
 * of requests with one new prefix finds the first one's entry while that is still being computed.
 */
export function commit(stream: usize, pool: u32, now: f64): void {
  const row = destinationRow(stream, 0);
  const promptTokens = load<u32>(stream, S_PROMPT_TOKENS);
  const hasPrompt = hasFlag(stream, F_HAS_PROMPT);
  const uncached: u32 = hasPrompt
    ? min(<u32>Math.max(rowF64(COLUMN_UNCACHED_TOKENS, row), 0), promptTokens)
    : 0;
  store<u32>(stream, uncached, S_UNCACHED);
  reserve(row, uncached);
  setFlag(stream, F_REQUEST_RESERVED | F_TOKENS_RESERVED);
  if (!hasPrompt) return;
  const keys = matchedKeys(row % POOL_ENDPOINTS_MAX);
  store<u16>(stream, <u16>keys, S_KEYS_MATCHED);
  store<u32>(stream, row, S_PREFIX_ROW);
  if (keys == 0) setRowF64(COLUMN_COLD_USED_MS, row, now);
  if (apiKeepsPrefix(load<u32>(stream, S_API))) {
    storePrefix(stream, pool, row, keys, uncached, keys == 0 ? JOURNAL_COLD : 0);
  }
  countUp(COUNT_PROMPT_TOKENS, promptTokens);
  countUp(COUNT_MATCHED_TOKENS, promptTokens - uncached);
}

// The keys that the row already holds are touched if that is due, the others stored. The other workers' copies
// of the index get the deepest held key and the new ones.
function storePrefix(stream: usize, pool: u32, row: u32, held: u32, newTokens: u32, kind: u32): void {
  const chain = streamChain(stream);
  const root = load<u64>(stream, S_KEY_ROOT);
  const keys = chainKeyCount(chain);
  const untouched: u32 = held > 0 && indexIsFresh(chainKey(chain, held - 1, root), row) ? held : 0;
  for (let i = untouched; i < keys; i++) indexInsert(chainKey(chain, i, root), row);
  indexStored(row, newTokens);
  const from = held > 0 ? held - 1 : 0;
  journal(JOURNAL_STORED | kind, pool, row, newTokens, chain, root, from, keys);
  setFlag(stream, F_PREFIX_STORED);
}

/** The prompt was not computed where it was noted: its new keys are forgotten there. */
export function forgetPrefix(stream: usize): void {
  if (!hasFlag(stream, F_PREFIX_STORED)) return;
  clearFlag(stream, F_PREFIX_STORED);
  const chain = streamChain(stream);
  const root = load<u64>(stream, S_KEY_ROOT);
  const row = load<u32>(stream, S_PREFIX_ROW);
  const from = <u32>load<u16>(stream, S_KEYS_MATCHED);
  const keys = chainKeyCount(chain);
  for (let i = from; i < keys; i++) indexRemove(chainKey(chain, i, root), row);
  if (keys > from) journal(JOURNAL_REMOVED, load<u32>(stream, S_POOL), row, 0, chain, root, from, keys);
}

/** The request went to `row` and not to the first choice: reservation and prefix follow it. */
export function moveTo(stream: usize, row: u32): void {
  const pool = load<u32>(stream, S_POOL);
  const hadTokens = hasFlag(stream, F_TOKENS_RESERVED);
  const hadPrefix = hasFlag(stream, F_PREFIX_STORED);
  releaseReservation(stream);
  forgetPrefix(stream);
  const promptTokens = load<u32>(stream, S_PROMPT_TOKENS);
  store<u16>(stream, <u16>row, S_ROWS);
  store<u16>(stream, <u16>rowU32(COLUMN_GENERATION, row), S_GENERATIONS);
  store<u32>(stream, hadTokens ? promptTokens : 0, S_UNCACHED);
  reserve(row, load<u32>(stream, S_UNCACHED));
  setFlag(stream, F_REQUEST_RESERVED | F_TOKENS_RESERVED);
  if (!hadPrefix) return;
  store<u32>(stream, row, S_PREFIX_ROW);
  store<u16>(stream, 0, S_KEYS_MATCHED);
  storePrefix(stream, pool, row, 0, promptTokens, 0);
}

/** The first token came: the prompt is computed. */
export function releasePrefill(stream: usize): void {
  if (!hasFlag(stream, F_TOKENS_RESERVED)) return;
  clearFlag(stream, F_TOKENS_RESERVED);
  releaseTokens(destinationRow(stream, 0), load<u32>(stream, S_UNCACHED));
}

/** Gives back whatever the stream still has reserved. Calling it again is harmless. */
export function releaseReservation(stream: usize): void {
  releasePrefill(stream);
  if (!hasFlag(stream, F_REQUEST_RESERVED)) return;
  clearFlag(stream, F_REQUEST_RESERVED);
  releaseRequest(destinationRow(stream, 0));
}
