// What follows from a decision: the work reserved, the prefix noted, and both moved or given back later.
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { JOURNAL_COLD } from "../wire/journal";
import {
  COLUMN_COLD_USED_MS,
  COLUMN_GENERATION,
  COLUMN_INFLIGHT_REQUESTS,
  COLUMN_INFLIGHT_TOKENS,
  COLUMN_LEGS,
  COLUMN_UNCACHED_TOKENS,
  rowF64,
  rowU32,
  setRowF64,
} from "../pool/rows";
import { apiAnswersAtOnce, apiKeepsPrefix } from "../prompt/api";
import { promptMaxTokens } from "../prompt/record";
import { noteFirstToken, releaseRequest, releaseTokens, reserve, reserveRequest } from "../flow/reservations";
import { poolNoteAnswer, poolNoteTokens } from "../pool/means";
import { tpotSloAdd, tpotSloRemove } from "../flow/tpot-slos";
import { prefillBaseMs, prefillTokenMs, rateBegin, rateFirstToken, rateTpot, ratesOf } from "../pool/rates";
import { noteTransfer, transferTokenMs } from "../pool/transfer";
import { heldKeys } from "./candidates";
import { COUNT_MATCHED_TOKENS, COUNT_PROMPT_TOKENS, countUp } from "./counters";
import { meterDecodeLeg } from "./disaggregation-metrics";
import {
  LEG_AT_ONCE,
  LEG_DECODE_BEGAN,
  LEG_LACKING,
  LEG_TRANSFER_MS,
  legComputed,
  legOf,
  legUncached,
  noteLeg,
  releaseExpectedLeg,
  releaseLeg,
  reserveLeg,
} from "./legs";
import { insertKeys, removeKeys } from "./prefix-keys";
import {
  F_DISAGGREGATED,
  F_EARLY,
  F_EVENT_STREAM,
  F_HAS_PROMPT,
  F_INLINE,
  F_PREFILL_RESERVED,
  F_PREFIX_STORED,
  F_REQUEST_RESERVED,
  F_STREAM,
  F_TOKENS_RESERVED,
  S_API,
  S_DECIDED,
  S_FIRST_TOKEN,
  S_GENERATIONS,
  S_KEYS_MATCHED,
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
  streamPrompt,
} from "./streams";
import { nowMs } from "./worker";

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
  const isElsewhere = hasFlag(stream, F_DISAGGREGATED);
  store<u32>(stream, isElsewhere ? 0 : uncached, S_UNCACHED);
  reserveAt(stream, row, now);
  store<f64>(stream, now, S_DECIDED);
  if (!hasPrompt) return;
  poolNoteTokens(pool, isElsewhere ? legUncached(stream) : uncached, promptTokens);
  const keys = heldKeys(row % POOL_ENDPOINTS_MAX);
  store<u16>(stream, <u16>keys, S_KEYS_MATCHED);
  store<u32>(stream, row, S_PREFIX_ROW);
  if (keys == 0) setRowF64(COLUMN_COLD_USED_MS, row, now);
  if (isElsewhere) beginLeg(stream, now);
  // The decode endpoint gets what a call of ours computes elsewhere only when that is done: decodeBegins().
  if (apiKeepsPrefix(load<u32>(stream, S_API)) && !hasFlag(stream, F_INLINE)) {
    storePrefix(stream, row, keys, uncached, keys == 0 ? JOURNAL_COLD : 0);
  }
  countUp(COUNT_PROMPT_TOKENS, promptTokens);
  countUp(COUNT_MATCHED_TOKENS, promptTokens - uncached);
}

// The call owns the reservation of a prefill that we call ourselves (prefill-calls.ts).
function beginLeg(stream: usize, now: f64): void {
  noteLeg(stream);
  if (hasFlag(stream, F_INLINE)) return;
  reserveLeg(stream, showsFirstToken(stream), now);
  setFlag(stream, F_PREFILL_RESERVED);
}

/** The prompt is computed elsewhere and the decode endpoint is asked now: it will hold the prompt too. */
export function decodeBegins(stream: usize, now: f64): void {
  const leg = legOf(stream);
  store<f64>(leg, now, LEG_DECODE_BEGAN);
  storePrefix(
    stream,
    destinationRow(stream, 0),
    <u32>load<u16>(stream, S_KEYS_MATCHED),
    load<u32>(leg, LEG_LACKING),
    0,
  );
}

/** The prompt is to be computed where it is decoded after all. */
export function becomeDecodeOnly(stream: usize, now: f64): void {
  const lacking = load<u32>(legOf(stream), LEG_LACKING);
  const row = destinationRow(stream, 0);
  releaseReservation(stream);
  clearFlag(stream, F_DISAGGREGATED | F_INLINE);
  store<u32>(stream, lacking, S_UNCACHED);
  reserveAt(stream, row, now);
  store<f64>(stream, now, S_DECIDED);
  storePrefix(stream, row, <u32>load<u16>(stream, S_KEYS_MATCHED), lacking, 0);
}

function reserveAt(stream: usize, row: u32, now: f64): void {
  if (hasFlag(stream, F_DISAGGREGATED)) return reserveDecode(stream, row);
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

// Nothing is computed there that shows how fast the endpoint is.
function reserveDecode(stream: usize, row: u32): void {
  reserveRequest(row, load<u32>(stream, S_PROMPT_TOKENS));
  const slo = <f64>load<f32>(stream, S_TPOT_SLO);
  if (slo > 0) tpotSloAdd(row, slo);
  setFlag(stream, F_REQUEST_RESERVED);
  store<f64>(stream, 0, S_PREFILLED_BY);
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

function storePrefix(stream: usize, row: u32, held: u32, newTokens: u32, kind: u32): void {
  insertKeys(stream, row, held, newTokens, kind);
  setFlag(stream, F_PREFIX_STORED);
}

/** The prompt was not computed where it was noted: its new keys are forgotten there. */
export function forgetPrefix(stream: usize): void {
  if (!hasFlag(stream, F_PREFIX_STORED)) return;
  clearFlag(stream, F_PREFIX_STORED);
  removeKeys(stream, load<u32>(stream, S_PREFIX_ROW), <u32>load<u16>(stream, S_KEYS_MATCHED));
}

/** The request went to `row` and not to the first choice: reservation and prefix follow it. */
export function moveTo(stream: usize, row: u32): void {
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
  storePrefix(stream, row, 0, promptTokens, 0);
}

/**
 * The first token came at `now`: the prompt is computed, and how long that took is learnt. The first bytes of an answer
 * in one piece only end the reservation.
 */
export function firstToken(stream: usize, now: f64): void {
  const row = destinationRow(stream, 0);
  const isShown = hasFlag(stream, F_EVENT_STREAM) || answersAtOnce(stream);
  const isMeasure = isShown && load<f64>(stream, S_DECIDED) > 0 && isSameEndpoint(stream, row);
  const isElsewhere = hasFlag(stream, F_DISAGGREGATED);
  if (isElsewhere) transferred(stream, row, isMeasure, now);
  if (isMeasure) {
    const tokens = load<u32>(stream, S_UNCACHED);
    if (hasFlag(stream, F_HAS_PROMPT) && !isElsewhere) rateFirstToken(row, tokens, now);
    if (!isElsewhere) noteFirstToken(row, tokens, now);
    store<f64>(stream, now, S_FIRST_TOKEN);
    store<f32>(stream, <f32>answersAt(row), S_REQUESTS);
  }
  releasePrefill(stream);
}

// Of a prefill that we called ourselves, and waited for, the decode leg shows how long the transfer took; of others all
// shows together, and the transfer is taken to have been as it is known.
function transferred(stream: usize, row: u32, isMeasure: bool, now: f64): void {
  const pool = load<u32>(stream, S_POOL);
  const leg = legOf(stream);
  const lacking = <f64>load<u32>(leg, LEG_LACKING);
  const began = load<f64>(leg, LEG_DECODE_BEGAN);
  ratesOf(row, now);
  const stepMs = prefillBaseMs();
  if (began > 0 && isMeasure) {
    const isApart = load<u8>(leg, LEG_AT_ONCE) == 0;
    if (isApart) noteTransfer(pool, lacking, Math.max(now - began - stepMs, 0));
    meterDecodeLeg(pool, <u64>(now - began));
  }
  legComputed(
    stream,
    transferTokenMs(pool, load<f64>(leg, LEG_TRANSFER_MS)) * lacking + stepMs,
    isMeasure,
    now,
  );
}

function answersAt(row: u32): f64 {
  return rowF64(COLUMN_INFLIGHT_REQUESTS, row) - rowF64(COLUMN_LEGS, row);
}

function isSameEndpoint(stream: usize, row: u32): bool {
  return rowU32(COLUMN_GENERATION, row) == destinationGeneration(stream, 0);
}

/** The prompt of an answer in one piece counts as computed once that is to be expected; from the tick. */
export function releaseExpected(stream: usize, now: f64): void {
  releaseExpectedLeg(stream, now);
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
  const requests = (<f64>load<f32>(stream, S_REQUESTS) + answersAt(row)) / 2;
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
  releaseLeg(stream);
  releasePrefill(stream);
  if (!hasFlag(stream, F_REQUEST_RESERVED)) return;
  clearFlag(stream, F_REQUEST_RESERVED);
  const row = destinationRow(stream, 0);
  const slo = <f64>load<f32>(stream, S_TPOT_SLO);
  if (slo > 0) tpotSloRemove(row, slo);
  releaseRequest(row, load<u32>(stream, S_PROMPT_TOKENS));
}
