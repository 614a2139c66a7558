// Work in flight per endpoint row, as this worker reserved it and as the others published theirs.
//
// A reservation is made at the decision and released piece by piece: its uncached tokens when the first
// token comes back, its request when the stream ends. The sum over all workers stands in the rows'
// INFLIGHT columns, where the scorers read it. Beside it stands since when the engine works on what heads
// its queue: from that the latency picker tells how much of the queue is done.
import { ROWS_MAX } from "../wire/limits";
import {
  COLUMN_BUSY_SINCE_MS,
  COLUMN_CONTEXT_TOKENS,
  COLUMN_FIRST_TOKEN_MS,
  COLUMN_GENERATION,
  COLUMN_HEAD_SINCE_MS,
  COLUMN_HEAD_TOKENS,
  COLUMN_INFLIGHT_PEAK,
  COLUMN_INFLIGHT_REQUESTS,
  COLUMN_INFLIGHT_TOKENS,
  COLUMN_LEGS,
  COLUMN_OTHERS_COMPUTED,
  COLUMN_PREFILLING,
  rowF64,
  rowU32,
  setRowF64,
} from "../pool/rows";

//   ┌ row, 96 bytes ───────────────────────────────────────────────────────────────────────┐
//   │ 0 u32 requests   4 u32 others' requests   8 u64 tokens   16 u64 others' tokens        │
//   │ 24 u32 prefilling   28 u32 others' prefilling   32 f64 prefilling since ms            │
//   │ 40 f64 others' since   48 f64 last first token ms   56 f64 others' last first token   │
//   │ 64 u32 tokens computed since the row was marked busy   68 u32 legs                    │
//   │ 72 u64 context tokens   80 u64 others' context tokens   88 u32 others' legs           │
//   └──────────────────────────────────────────────────────────────────────────────────────┘
const ROW_BYTES: usize = 96;
const AT_OTHER_REQUESTS: usize = 4;
const AT_TOKENS: usize = 8;
const AT_OTHER_TOKENS: usize = 16;
const AT_PREFILLING: usize = 24;
const AT_OTHER_PREFILLING: usize = 28;
const AT_SINCE: usize = 32;
const AT_OTHER_SINCE: usize = 40;
const AT_FIRST: usize = 48;
const AT_OTHER_FIRST: usize = 56;
const AT_COMPUTED: usize = 64;
const AT_LEGS: usize = 68;
const AT_CONTEXT: usize = 72;
const AT_OTHER_CONTEXT: usize = 80;
const AT_OTHER_LEGS: usize = 88;
const rows: usize = memory.data(4096 * 96, 8);

/** Times that came through a cell are this exact, ms: a head that moved by less is the same head. */
const HEAD_MOVED_MS: f64 = 1.5;

// Rows that carry anything of ours, so that publishing costs what is busy and not what is configured.
const busyRows: usize = memory.data(4096 * 2, 2);
const busyPlaces: usize = memory.data(4096 * 2, 2);
let busyCount: u32 = 0;
// Rows that carry anything of the others.
const otherRows: usize = memory.data(4096 * 2, 2);
let otherCount: u32 = 0;

let changed: bool = false;

function rowAt(row: u32): usize {
  return rows + <usize>row * ROW_BYTES;
}

function refresh(row: u32): void {
  const at = rowAt(row);
  const requests = <f64>load<u32>(at) + <f64>load<u32>(at, AT_OTHER_REQUESTS);
  setRowF64(COLUMN_INFLIGHT_REQUESTS, row, requests);
  setRowF64(COLUMN_INFLIGHT_TOKENS, row, <f64>load<u64>(at, AT_TOKENS) + <f64>load<u64>(at, AT_OTHER_TOKENS));
  const context = <f64>load<u64>(at, AT_CONTEXT) + <f64>load<u64>(at, AT_OTHER_CONTEXT);
  setRowF64(COLUMN_CONTEXT_TOKENS, row, context);
  setRowF64(COLUMN_LEGS, row, <f64>load<u32>(at, AT_LEGS) + <f64>load<u32>(at, AT_OTHER_LEGS));
  setRowF64(
    COLUMN_PREFILLING,
    row,
    <f64>load<u32>(at, AT_PREFILLING) + <f64>load<u32>(at, AT_OTHER_PREFILLING),
  );
  if (requests > rowF64(COLUMN_INFLIGHT_PEAK, row)) setRowF64(COLUMN_INFLIGHT_PEAK, row, requests);
}

// The engine works on the head of its queue since the last first token, or since there was something to prefill.
function refreshHead(row: u32): void {
  const at = rowAt(row);
  const first = Math.max(load<f64>(at, AT_FIRST), load<f64>(at, AT_OTHER_FIRST));
  setRowF64(COLUMN_FIRST_TOKEN_MS, row, first);
  if (rowF64(COLUMN_PREFILLING, row) == 0) {
    setRowF64(COLUMN_BUSY_SINCE_MS, row, 0);
    setRowF64(COLUMN_HEAD_SINCE_MS, row, 0);
    setRowF64(COLUMN_HEAD_TOKENS, row, 0);
    return;
  }
  let since: f64 = Infinity;
  if (load<u32>(at, AT_PREFILLING) > 0) since = load<f64>(at, AT_SINCE);
  if (load<u32>(at, AT_OTHER_PREFILLING) > 0) since = Math.min(since, load<f64>(at, AT_OTHER_SINCE));
  setRowF64(COLUMN_BUSY_SINCE_MS, row, since);
  const head = Math.max(since, first);
  if (Math.abs(head - rowF64(COLUMN_HEAD_SINCE_MS, row)) < HEAD_MOVED_MS) return;
  setRowF64(COLUMN_HEAD_SINCE_MS, row, head);
  setRowF64(COLUMN_HEAD_TOKENS, row, rowF64(COLUMN_INFLIGHT_TOKENS, row));
}

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
  return load<u32>(rowAt(row));
}
export function ownTokens(row: u32): u64 {
  return load<u64>(rowAt(row), AT_TOKENS);
}
/** Prompt tokens of the own requests there, cached ones included. */
export function ownContextTokens(row: u32): u64 {
  return load<u64>(rowAt(row), AT_CONTEXT);
}
/** Own requests there that another endpoint answers. */
export function ownLegs(row: u32): u32 {
  return load<u32>(rowAt(row), AT_LEGS);
}
/** Own requests there that have had no first token. */
export function ownPrefilling(row: u32): u32 {
  return load<u32>(rowAt(row), AT_PREFILLING);
}
/** Since when there is such a request, ms; meaningless without one. */
export function ownPrefillingSinceMs(row: u32): f64 {
  return load<f64>(rowAt(row), AT_SINCE);
}
/** When an own request there last had its first token, ms; 0 = never. */
export function ownFirstTokenMs(row: u32): f64 {
  return load<f64>(rowAt(row), AT_FIRST);
}

/** Puts a row on the list that the cell is made from. */
export function markBusy(row: u32): void {
  const place = load<u16>(busyPlaces + ((<usize>row) << 1));
  if (place != 0) return;
  store<u32>(rowAt(row), 0, AT_COMPUTED);
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
  const at = rowAt(row);
  store<u32>(at, load<u32>(at) + 1);
  store<u64>(at, load<u64>(at, AT_CONTEXT) + context, AT_CONTEXT);
  markBusy(row);
  refresh(row);
  changed = true;
}

/** One more request, of `context` prompt tokens with `tokens` of them to compute, goes to the row at `nowMs`. */
export function reserve(row: u32, tokens: u32, context: u32, nowMs: f64): void {
  const at = rowAt(row);
  const prefilling = load<u32>(at, AT_PREFILLING);
  store<u32>(at, load<u32>(at) + 1);
  store<u64>(at, load<u64>(at, AT_TOKENS) + tokens, AT_TOKENS);
  store<u64>(at, load<u64>(at, AT_CONTEXT) + context, AT_CONTEXT);
  if (prefilling == 0) store<f64>(at, nowMs, AT_SINCE);
  store<u32>(at, prefilling + 1, AT_PREFILLING);
  markBusy(row);
  refresh(row);
  refreshHead(row);
  changed = true;
}

/** The same of a request that another endpoint answers: a leg. */
export function reserveLegAt(row: u32, tokens: u32, context: u32, nowMs: f64): void {
  const at = rowAt(row);
  store<u32>(at, load<u32>(at, AT_LEGS) + 1, AT_LEGS);
  reserve(row, tokens, context, nowMs);
}

/** Gives back all that reserveLegAt() reserved; with the same figures. */
export function releaseLegAt(row: u32, tokens: u32, context: u32): void {
  const at = rowAt(row);
  const legs = load<u32>(at, AT_LEGS);
  assert(legs > 0);
  store<u32>(at, legs - 1, AT_LEGS);
  releaseTokens(row, tokens);
  releaseRequest(row, context);
}

/** A request's `tokens` prompt tokens have been computed, or will not be. Once per reserve(). */
export function releaseTokens(row: u32, tokens: u32): void {
  const at = rowAt(row);
  const held = load<u64>(at, AT_TOKENS);
  const prefilling = load<u32>(at, AT_PREFILLING);
  assert(held >= tokens && prefilling > 0);
  store<u64>(at, held - tokens, AT_TOKENS);
  store<u32>(at, prefilling - 1, AT_PREFILLING);
  refresh(row);
  refreshHead(row);
  changed = true;
}

/**
 * A first token came from the row, of a prompt of `tokens` uncached tokens: whatever the engine works on now, it began
 * after it. Before releaseTokens().
 */
export function noteFirstToken(row: u32, tokens: u32, nowMs: f64): void {
  const at = rowAt(row);
  store<f64>(at, nowMs, AT_FIRST);
  store<u32>(at, load<u32>(at, AT_COMPUTED) + tokens, AT_COMPUTED);
}

/** Uncached tokens whose computation ended there for this worker since the row was marked busy; wraps at 2^32. */
export function ownComputed(row: u32): u32 {
  return load<u32>(rowAt(row), AT_COMPUTED);
}

/** The request has ended; `context` as reserved. */
export function releaseRequest(row: u32, context: u32): void {
  const at = rowAt(row);
  const held = load<u32>(at);
  const contextHeld = load<u64>(at, AT_CONTEXT);
  assert(held > 0 && contextHeld >= context);
  store<u32>(at, held - 1);
  store<u64>(at, contextHeld - context, AT_CONTEXT);
  refresh(row);
  changed = true;
}

/** Forgets the others' work, before their cells are read anew. */
export function clearOthers(): void {
  for (let i: u32 = 0; i < otherCount; i++) {
    const row = <u32>load<u16>(otherRows + ((<usize>i) << 1));
    store<u32>(rowAt(row), 0, AT_OTHER_REQUESTS);
    store<u64>(rowAt(row), 0, AT_OTHER_TOKENS);
    store<u32>(rowAt(row), 0, AT_OTHER_PREFILLING);
    store<u64>(rowAt(row), 0, AT_OTHER_CONTEXT);
    store<u32>(rowAt(row), 0, AT_OTHER_LEGS);
    setRowF64(COLUMN_OTHERS_COMPUTED, row, 0);
    refresh(row);
  }
  otherCount = 0;
}

/** Rows that carry work of the others, as of the last reading; for clearing what came along with it. */
export function otherRowCount(): u32 {
  return otherCount;
}
export function otherRow(index: u32): u32 {
  return <u32>load<u16>(otherRows + ((<usize>index) << 1));
}

/** Adds one other worker's work at a row; `generation` must be the row's present one, else nothing happens. */
export function addOther(row: u32, generation: u32, requests: u32, tokens: u32, context: u32): bool {
  if (rowU32(COLUMN_GENERATION, row) != generation) return false;
  const at = rowAt(row);
  if (!isListed(row)) {
    if (otherCount >= <u32>ROWS_MAX) return false;
    store<u16>(otherRows + ((<usize>otherCount) << 1), <u16>row);
    otherCount++;
  }
  store<u32>(at, load<u32>(at, AT_OTHER_REQUESTS) + requests, AT_OTHER_REQUESTS);
  store<u64>(at, load<u64>(at, AT_OTHER_TOKENS) + tokens, AT_OTHER_TOKENS);
  store<u64>(at, load<u64>(at, AT_OTHER_CONTEXT) + context, AT_OTHER_CONTEXT);
  refresh(row);
  return true;
}

/** What came along with addOther(): `prefilling` requests, since `sinceMs` the first; last first token (0 = none). */
export function addOtherPrefilling(row: u32, prefilling: u32, sinceMs: f64, firstTokenMs: f64): void {
  const at = rowAt(row);
  if (prefilling > 0) {
    const before = load<u32>(at, AT_OTHER_PREFILLING);
    const since = load<f64>(at, AT_OTHER_SINCE);
    store<f64>(at, before > 0 ? Math.min(since, sinceMs) : sinceMs, AT_OTHER_SINCE);
    store<u32>(at, before + prefilling, AT_OTHER_PREFILLING);
  }
  if (firstTokenMs > load<f64>(at, AT_OTHER_FIRST)) store<f64>(at, firstTokenMs, AT_OTHER_FIRST);
  refresh(row);
}

/** And its requests there that another endpoint answers. */
export function addOtherLegs(row: u32, legs: u32): void {
  const at = rowAt(row);
  store<u32>(at, load<u32>(at, AT_OTHER_LEGS) + legs, AT_OTHER_LEGS);
  refresh(row);
}

/** And the tokens whose computation ended there for that worker. */
export function addOtherComputed(row: u32, tokens: u32): void {
  setRowF64(COLUMN_OTHERS_COMPUTED, row, rowF64(COLUMN_OTHERS_COMPUTED, row) + <f64>tokens);
}

/** All cells were read: heads of queues are looked at again. */
export function endOthers(): void {
  for (let i: u32 = 0; i < otherCount; i++) refreshHead(otherRow(i));
}

// Listed rows are found by a stamp per row, renewed at each reading.
const stamps: usize = memory.data(4096 * 4, 4);
let stamp: u32 = 1;

function isListed(row: u32): bool {
  const at = stamps + ((<usize>row) << 2);
  if (load<u32>(at) == stamp) return true;
  store<u32>(at, stamp);
  return false;
}

/** Starts a new reading of the others' cells. */
export function beginOthers(): void {
  clearOthers();
  stamp++;
}
