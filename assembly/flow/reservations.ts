// Work in flight per endpoint row, as this worker reserved it.
//
// A reservation is made at the decision and released piece by piece: its uncached tokens when the first
// token comes back, its request when the stream ends.
import {
  AT_COMPUTED,
  AT_CONTEXT,
  AT_FIRST,
  AT_LEGS,
  AT_PREFILLING,
  AT_SINCE,
  AT_TOKENS,
  refreshHead,
  refreshRow,
  reservedAt,
} from "./reserved-rows";

// Rows that carry anything of ours, so that publishing costs what is busy and not what is configured.
const busyRows: usize = memory.data(4096 * 2, 2);
const busyPlaces: usize = memory.data(4096 * 2, 2);
let busyCount: u32 = 0;

let changed: bool = false;

/** Whether anything of ours changed since reservationsPublished(). */
export function reservationsChanged(): bool {
  return changed;
}
export function reservationsPublished(): void {
  changed = false;
}
/** Something else that the cell carries changed. */
export function markChanged(): void {
  changed = true;
}

/** Rows with own work in flight, set aside ones included as markBusy() added them. */
export function busyRowCount(): u32 {
  return busyCount;
}
export function busyRow(index: u32): u32 {
  return <u32>load<u16>(busyRows + ((<usize>index) << 1));
}
export function ownRequests(row: u32): u32 {
  return load<u32>(reservedAt(row));
}
export function ownTokens(row: u32): u64 {
  return load<u64>(reservedAt(row), AT_TOKENS);
}
/** Prompt tokens of the own requests there, cached ones included. */
export function ownContextTokens(row: u32): u64 {
  return load<u64>(reservedAt(row), AT_CONTEXT);
}
/** Own requests there that another endpoint answers. */
export function ownLegs(row: u32): u32 {
  return load<u32>(reservedAt(row), AT_LEGS);
}
/** Own requests there that have had no first token. */
export function ownPrefilling(row: u32): u32 {
  return load<u32>(reservedAt(row), AT_PREFILLING);
}
/** Since when there is such a request, ms; meaningless without one. */
export function ownPrefillingSinceMs(row: u32): f64 {
  return load<f64>(reservedAt(row), AT_SINCE);
}
/** When an own request there last had its first token, ms; 0 = never. */
export function ownFirstTokenMs(row: u32): f64 {
  return load<f64>(reservedAt(row), AT_FIRST);
}

/** Puts a row on the list that the cell is made from. */
export function markBusy(row: u32): void {
  const place = load<u16>(busyPlaces + ((<usize>row) << 1));
  if (place != 0) return;
  store<u32>(reservedAt(row), 0, AT_COMPUTED);
  store<u16>(busyRows + ((<usize>busyCount) << 1), <u16>row);
  store<u16>(busyPlaces + ((<usize>row) << 1), <u16>++busyCount);
}

/** Takes it off again; the caller knows that it carries nothing. */
export function unmarkBusy(row: u32): void {
  const place = <u32>load<u16>(busyPlaces + ((<usize>row) << 1));
  if (place == 0) return;
  const last = <u32>load<u16>(busyRows + ((<usize>--busyCount) << 1));
  store<u16>(busyRows + ((<usize>place - 1) << 1), <u16>last);
  store<u16>(busyPlaces + ((<usize>last) << 1), <u16>place);
  store<u16>(busyPlaces + ((<usize>row) << 1), 0);
}

/** One more request, of `context` prompt tokens that another endpoint computes, goes to the row: to be decoded alone. */
export function reserveRequest(row: u32, context: u32): void {
  const at = reservedAt(row);
  store<u32>(at, load<u32>(at) + 1);
  store<u64>(at, load<u64>(at, AT_CONTEXT) + context, AT_CONTEXT);
  markBusy(row);
  refreshRow(row);
  changed = true;
}

/** One more request, of `context` prompt tokens with `tokens` of them to compute, goes to the row at `nowMs`. */
export function reserve(row: u32, tokens: u32, context: u32, nowMs: f64): void {
  const at = reservedAt(row);
  const prefilling = load<u32>(at, AT_PREFILLING);
  store<u32>(at, load<u32>(at) + 1);
  store<u64>(at, load<u64>(at, AT_TOKENS) + tokens, AT_TOKENS);
  store<u64>(at, load<u64>(at, AT_CONTEXT) + context, AT_CONTEXT);
  if (prefilling == 0) store<f64>(at, nowMs, AT_SINCE);
  store<u32>(at, prefilling + 1, AT_PREFILLING);
  markBusy(row);
  refreshRow(row);
  refreshHead(row);
  changed = true;
}

/** The same of a request that another endpoint answers: a leg. */
export function reserveLegAt(row: u32, tokens: u32, context: u32, nowMs: f64): void {
  const at = reservedAt(row);
  store<u32>(at, load<u32>(at, AT_LEGS) + 1, AT_LEGS);
  reserve(row, tokens, context, nowMs);
}

/** Gives back all that reserveLegAt() reserved; with the same figures. */
export function releaseLegAt(row: u32, tokens: u32, context: u32): void {
  const at = reservedAt(row);
  const legs = load<u32>(at, AT_LEGS);
  assert(legs > 0);
  store<u32>(at, legs - 1, AT_LEGS);
  releaseTokens(row, tokens);
  releaseRequest(row, context);
}

/** A request's `tokens` prompt tokens have been computed, or will not be. Once per reserve(). */
export function releaseTokens(row: u32, tokens: u32): void {
  const at = reservedAt(row);
  const held = load<u64>(at, AT_TOKENS);
  const prefilling = load<u32>(at, AT_PREFILLING);
  assert(held >= tokens && prefilling > 0);
  store<u64>(at, held - tokens, AT_TOKENS);
  store<u32>(at, prefilling - 1, AT_PREFILLING);
  refreshRow(row);
  refreshHead(row);
  changed = true;
}

/**
 * A first token came from the row, of a prompt of `tokens` uncached tokens: whatever the engine works on now, it began
 * after it. Before releaseTokens().
 */
export function noteFirstToken(row: u32, tokens: u32, nowMs: f64): void {
  const at = reservedAt(row);
  store<f64>(at, nowMs, AT_FIRST);
  store<u32>(at, load<u32>(at, AT_COMPUTED) + tokens, AT_COMPUTED);
}

/** Uncached tokens whose computation ended there for this worker since the row was marked busy; wraps at 2^32. */
export function ownComputed(row: u32): u32 {
  return load<u32>(reservedAt(row), AT_COMPUTED);
}

/** The request has ended; `context` as reserved. */
export function releaseRequest(row: u32, context: u32): void {
  const at = reservedAt(row);
  const held = load<u32>(at);
  const contextHeld = load<u64>(at, AT_CONTEXT);
  assert(held > 0 && contextHeld >= context);
  store<u32>(at, held - 1);
  store<u64>(at, contextHeld - context, AT_CONTEXT);
  refreshRow(row);
  changed = true;
}
