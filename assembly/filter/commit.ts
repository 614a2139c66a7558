// What follows from a decision: the work reserved, the prefix noted, and both moved or given back later.
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { JOURNAL_COLD, JOURNAL_REMOVED, JOURNAL_STORED } from "../wire/journal";
import {
  COLUMN_COLD_USED_MS,
  COLUMN_GENERATION,
  COLUMN_INFLIGHT_REQUESTS,
  COLUMN_INFLIGHT_TOKENS,
  COLUMN_UNCACHED_TOKENS,
  rowF64,
  rowU32,
  setRowF64,
} from "../pool/rows";
import { chainKey, chainKeyCount } from "../prefix/chain";
import { indexInsert, indexIsFresh, indexRemove, indexStored, matchedKeys } from "../prefix/index";
import { apiAnswersAtOnce, apiKeepsPrefix } from "../prompt/api";
import { promptMaxTokens } from "../prompt/record";
import { noteFirstToken, releaseRequest, releaseTokens, reserve } from "../flow/reservations";
import { poolNoteAnswer, poolNoteTokens } from "../pool/means";
import { tpotSloAdd, tpotSloRemove } from "../flow/tpot-slos";
import { prefillBaseMs, prefillTokenMs, rateBegin, rateFirstToken, rateTpot, ratesOf } from "../pool/rates";
import { COUNT_MATCHED_TOKENS, COUNT_PROMPT_TOKENS, countUp } from "./counters";
import {
  F_EARLY,
  F_EVENT_STREAM,
  F_HAS_PROMPT,
  F_PREFIX_STORED,
  F_REQUEST_RESERVED,
  F_STREAM,
  F_TOKENS_RESERVED,
  S_API,
  S_DECIDED,
  S_FIRST_TOKEN,
  S_GENERATIONS,
  S_KEYS_MATCHED,
  S_KEY_ROOT,
  S_POOL,
  S_PREFILLED_BY,
  S_PREFIX_ROW,
  S_PROMPT_TOKENS,
  S_REQUESTS,
  S_ROWS,
  S_TPOT_SLO,
  S_UNCACHED,
  clearFlag,
  destinationGeneration,
  destinationRow,
  hasFlag,
  setFlag,
  streamChain,
  streamPrompt,
} from "./streams";
import { journal, nowMs } from "./worker";

/** An answer of fewer tokens says little of the time between them. */
const TPOT_TOKENS_MIN: u32 = 8;

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
  reserveAt(stream, row, now);
  store<f64>(stream, now, S_DECIDED);
  if (!hasPrompt) return;
  poolNoteTokens(pool, uncached, promptTokens);
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

function reserveAt(stream: usize, row: u32, now: f64): void {
  rateBegin(row, now);
  reserve(row, load<u32>(stream, S_UNCACHED), load<u32>(stream, S_PROMPT_TOKENS), now);
  const slo = <f64>load<f32>(stream, S_TPOT_SLO);
  if (slo > 0) tpotSloAdd(row, slo);
  setFlag(stream, F_REQUEST_RESERVED | F_TOKENS_RESERVED);
  if (showsFirstToken(stream)) return store<f64>(stream, 0, S_PREFILLED_BY);
  ratesOf(row, now);
  const queued = rowF64(COLUMN_INFLIGHT_TOKENS, row);
  store<f64>(stream, now + prefillBaseMs() + prefillTokenMs() * queued, S_PREFILLED_BY);
}

// An answer in one piece shows when all of it was generated, and not when the prompt was computed; but embeddings and
// the like, and answers of one token, come when the prompt is.
function showsFirstToken(stream: usize): bool {
  if (!hasFlag(stream, F_HAS_PROMPT) || hasFlag(stream, F_EARLY) || hasFlag(stream, F_STREAM)) return true;
  return answersAtOnce(stream);
}

function answersAtOnce(stream: usize): bool {
  if (!hasFlag(stream, F_HAS_PROMPT)) return false;
  return apiAnswersAtOnce(load<u32>(stream, S_API)) || promptMaxTokens(streamPrompt(stream)) == 1;
}

// The keys that the row already holds are touched if that is due, the others stored. The other workers' copies of the
// index get the same keys: a touch of the deepest one alone would let its ancestors expire there, and then the prefix
// is not found.
function storePrefix(stream: usize, pool: u32, row: u32, held: u32, newTokens: u32, kind: u32): void {
  const chain = streamChain(stream);
  const root = load<u64>(stream, S_KEY_ROOT);
  const keys = chainKeyCount(chain);
  const untouched: u32 = held > 0 && indexIsFresh(chainKey(chain, held - 1, root), row) ? held : 0;
  for (let i = untouched; i < keys; i++) indexInsert(chainKey(chain, i, root), row);
  indexStored(row, newTokens);
  journal(JOURNAL_STORED | kind, pool, row, newTokens, chain, root, untouched, keys);
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
  reserveAt(stream, row, nowMs());
  store<f64>(stream, 0, S_DECIDED);
  if (!hadPrefix) return;
  store<u32>(stream, row, S_PREFIX_ROW);
  store<u16>(stream, 0, S_KEYS_MATCHED);
  storePrefix(stream, pool, row, 0, promptTokens, 0);
}

/**
 * The first token came at `now`: the prompt is computed, and how long that took is learnt. The first bytes of an answer
 * in one piece only end the reservation.
 */
export function firstToken(stream: usize, now: f64): void {
  const row = destinationRow(stream, 0);
  const isShown = hasFlag(stream, F_EVENT_STREAM) || answersAtOnce(stream);
  if (isShown && load<f64>(stream, S_DECIDED) > 0 && isSameEndpoint(stream, row)) {
    const tokens = load<u32>(stream, S_UNCACHED);
    if (hasFlag(stream, F_HAS_PROMPT)) rateFirstToken(row, tokens, now);
    noteFirstToken(row, tokens, now);
    store<f64>(stream, now, S_FIRST_TOKEN);
    store<f32>(stream, <f32>rowF64(COLUMN_INFLIGHT_REQUESTS, row), S_REQUESTS);
  }
  releasePrefill(stream);
}

function isSameEndpoint(stream: usize, row: u32): bool {
  return rowU32(COLUMN_GENERATION, row) == destinationGeneration(stream, 0);
}

/** The prompt of an answer in one piece counts as computed once that is to be expected; from the tick. */
export function releaseExpected(stream: usize, now: f64): void {
  const by = load<f64>(stream, S_PREFILLED_BY);
  if (by == 0 || now < by || !hasFlag(stream, F_TOKENS_RESERVED)) return;
  noteFirstToken(destinationRow(stream, 0), load<u32>(stream, S_UNCACHED), now);
  releasePrefill(stream);
}

/** All data of the answer came, `tokens` tokens of it (0 = unknown) one by one since the first: learns their pace. */
export function streamFinished(stream: usize, tokens: u32, now: f64): void {
  const first = load<f64>(stream, S_FIRST_TOKEN);
  if (first > 0 && tokens > 0) poolNoteAnswer(load<u32>(stream, S_POOL), tokens);
  const row = destinationRow(stream, 0);
  if (first == 0 || tokens < TPOT_TOKENS_MIN || !isSameEndpoint(stream, row)) return;
  const requests = (<f64>load<f32>(stream, S_REQUESTS) + rowF64(COLUMN_INFLIGHT_REQUESTS, row)) / 2;
  rateTpot(row, requests, (now - first) / <f64>(tokens - 1), now);
}

/** The prompt is computed, or will not be. */
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
  const row = destinationRow(stream, 0);
  const slo = <f64>load<f32>(stream, S_TPOT_SLO);
  if (slo > 0) tpotSloRemove(row, slo);
  releaseRequest(row, load<u32>(stream, S_PROMPT_TOKENS));
}
