// The prefill leg of a stream whose prompt another endpoint computes: where, what is reserved and noted there.
//
// The decode leg is the stream itself (commit.ts). With the pods' sidecars ("headers") the stream owns the reservation
// at the prefill endpoint, until its first token shows that the prompt is computed. Where the filter calls the
// endpoint itself ("inline") the call owns it (prefill-calls.ts), as it outlives a client that goes away.
import { JOURNAL_COLD } from "../wire/journal";
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import {
  COLUMN_GENERATION,
  COLUMN_INFLIGHT_TOKENS,
  COLUMN_UNCACHED_TOKENS,
  rowF64,
  rowU32,
} from "../pool/rows";
import { prefillBaseMs, prefillTokenMs, rateBegin, rateFirstToken, ratesOf } from "../pool/rates";
import { noteFirstToken, releaseLegAt, reserveLegAt } from "../flow/reservations";
import { PAIR_NONE } from "../schedule/pairs";
import { heldKeys } from "./candidates";
import { insertKeys, removeKeys } from "./prefix-keys";
import {
  F_PREFILL_NOTED,
  F_PREFILL_RESERVED,
  S_PROMPT_TOKENS,
  clearFlag,
  hasFlag,
  setFlag,
  streamSlot,
} from "./streams";

/** "No endpoint." */
export const NO_ROW: u32 = PAIR_NONE;

//   ┌ leg, 64 bytes ────────────────────────────────────────────────────────────────────────┐
//   │ 0 u32 row   4 u16 generation   6 u16 keys held there   8 u32 uncached there            │
//   │ 12 u32 the other row (~0 = none)   16 u32 call's token (0 = none)   20 u32 attempts    │
//   │ 24 u32 tokens that the decode endpoint lacks   28 u32 offset behind the body's brace   │
//   │ 32 f64 expected to be computed by, ms   40 f64 decode leg began ms                      │
//   │ 48 u32 bytes of the body held   52 u16 generation of the other row   54 u8 both at once │
//   │ 56 f64 ms that a token's transfer takes, as configured                                  │
//   └────────────────────────────────────────────────────────────────────────────────────────┘
const LEG_BYTES: usize = 64;
export const LEG_ROW: usize = 0;
const LEG_GENERATION: usize = 4;
const LEG_KEYS: usize = 6;
const LEG_UNCACHED: usize = 8;
export const LEG_OTHER_ROW: usize = 12;
export const LEG_TOKEN: usize = 16;
export const LEG_ATTEMPTS: usize = 20;
export const LEG_LACKING: usize = 24;
export const LEG_BODY_OPEN: usize = 28;
const LEG_OTHER_GENERATION: usize = 52;
const LEG_BY: usize = 32;
export const LEG_DECODE_BEGAN: usize = 40;
/** 1: the decode leg began with the prefill, and its first token shows both. */
export const LEG_AT_ONCE: usize = 54;
export const LEG_BODY_BYTES: usize = 48;
export const LEG_TRANSFER_MS: usize = 56;
const legs: usize = memory.data(4096 * 64, 8);

/** The leg of a stream; its contents count while the stream has F_DISAGGREGATED. */
export function legOf(stream: usize): usize {
  return legs + <usize>streamSlot(stream) * LEG_BYTES;
}

/** Begins a leg at `row`; `other` is asked when that fails, `lacking` tokens are to go to the decode endpoint. `transferMs`: of one, as configured. */
export function legBegin(stream: usize, row: u32, other: u32, lacking: u32, transferMs: f64): void {
  const leg = legOf(stream);
  memory.fill(leg, 0, LEG_BYTES);
  legMove(leg, row);
  store<u32>(leg, other, LEG_OTHER_ROW);
  if (other != NO_ROW) store<u16>(leg, <u16>rowU32(COLUMN_GENERATION, other), LEG_OTHER_GENERATION);
  store<u32>(leg, lacking, LEG_LACKING);
  store<f64>(leg, transferMs, LEG_TRANSFER_MS);
}

/** The leg goes to `row`. What it holds of the prompt is taken from the decision in hand. */
export function legMove(leg: usize, row: u32): void {
  store<u32>(leg, row);
  store<u16>(leg, <u16>rowU32(COLUMN_GENERATION, row), LEG_GENERATION);
  store<u16>(leg, <u16>heldKeys(row % POOL_ENDPOINTS_MAX), LEG_KEYS);
  store<u32>(leg, <u32>Math.max(rowF64(COLUMN_UNCACHED_TOKENS, row), 0), LEG_UNCACHED);
}

/** Whether the endpoint behind the other row is still the one that was chosen for when the first fails. */
export function legOtherIsSame(stream: usize): bool {
  const leg = legOf(stream);
  const generation = rowU32(COLUMN_GENERATION, load<u32>(leg, LEG_OTHER_ROW));
  return generation == <u32>load<u16>(leg, LEG_OTHER_GENERATION);
}

/** The leg goes to its other row, of whose cache nothing is known any more. */
export function legMoveToOther(stream: usize): void {
  const leg = legOf(stream);
  const row = load<u32>(leg, LEG_OTHER_ROW);
  store<u32>(leg, row);
  store<u16>(leg, <u16>rowU32(COLUMN_GENERATION, row), LEG_GENERATION);
  store<u16>(leg, 0, LEG_KEYS);
  store<u32>(leg, load<u32>(stream, S_PROMPT_TOKENS), LEG_UNCACHED);
  store<u32>(leg, NO_ROW, LEG_OTHER_ROW);
}

export function legRow(stream: usize): u32 {
  return load<u32>(legOf(stream));
}
/** Tokens that the prefill endpoint has to compute. */
export function legUncached(stream: usize): u32 {
  return min(load<u32>(legOf(stream), LEG_UNCACHED), load<u32>(stream, S_PROMPT_TOKENS));
}
/** Whether the endpoint behind the row is still the one that was chosen. */
export function legIsSame(stream: usize): bool {
  const leg = legOf(stream);
  return rowU32(COLUMN_GENERATION, load<u32>(leg)) == <u32>load<u16>(leg, LEG_GENERATION);
}

/**
 * Reserves the prompt's computation at the leg's row. The caller, or the call it makes, gives that back; where nothing
 * `shows` when it was computed, it counts as that once it is to be expected.
 */
export function reserveLeg(stream: usize, shows: bool, now: f64): void {
  const row = legRow(stream);
  rateBegin(row, now);
  reserveLegAt(row, legUncached(stream), load<u32>(stream, S_PROMPT_TOKENS), now);
  if (shows) return store<f64>(legOf(stream), Infinity, LEG_BY);
  ratesOf(row, now);
  const queued = rowF64(COLUMN_INFLIGHT_TOKENS, row);
  store<f64>(legOf(stream), now + prefillBaseMs() + prefillTokenMs() * queued, LEG_BY);
}

/** Notes the prompt as held by the leg's row, while it is still being computed. */
export function noteLeg(stream: usize): void {
  const leg = legOf(stream);
  const keys = <u32>load<u16>(leg, LEG_KEYS);
  insertKeys(stream, load<u32>(leg), keys, legUncached(stream), keys == 0 ? JOURNAL_COLD : 0);
  setFlag(stream, F_PREFILL_NOTED);
}

/** It was not computed there. */
export function forgetLeg(stream: usize): void {
  if (!hasFlag(stream, F_PREFILL_NOTED)) return;
  clearFlag(stream, F_PREFILL_NOTED);
  removeKeys(stream, legRow(stream), <u32>load<u16>(legOf(stream), LEG_KEYS));
}

/** The prompt of `tokens` uncached tokens was computed at `row` by `now`: teaches its rate. Before it is given back. */
export function learnPrefill(row: u32, tokens: u32, now: f64): void {
  rateFirstToken(row, tokens, now);
  noteFirstToken(row, tokens, now);
}

/** Gives the stream's own reservation back. Calling it again is harmless. */
export function releaseLeg(stream: usize): void {
  if (!hasFlag(stream, F_PREFILL_RESERVED)) return;
  clearFlag(stream, F_PREFILL_RESERVED);
  releaseLegAt(legRow(stream), legUncached(stream), load<u32>(stream, S_PROMPT_TOKENS));
}

/** A first token came at the decode endpoint, `transferMs` after the prompt was computed: gives the own reservation back. */
export function legComputed(stream: usize, transferMs: f64, isMeasure: bool, now: f64): void {
  if (!hasFlag(stream, F_PREFILL_RESERVED)) return;
  if (isMeasure && legIsSame(stream)) learnPrefill(legRow(stream), legUncached(stream), now - transferMs);
  releaseLeg(stream);
}

/** The prompt counts as computed once that is to be expected, where no first token shows it; from the tick. */
export function releaseExpectedLeg(stream: usize, now: f64): void {
  if (hasFlag(stream, F_PREFILL_RESERVED) && now >= load<f64>(legOf(stream), LEG_BY)) releaseLeg(stream);
}
