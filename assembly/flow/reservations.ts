// Work in flight per endpoint row, as this worker reserved it and as the others published theirs.
//
// A reservation is made at the decision and released piece by piece: its uncached tokens when the first
// token comes back, its request when the stream ends. The sum over all workers stands in the rows'
// INFLIGHT columns, where the scorers read it.
import { ROWS_MAX } from "../wire/limits";
import {
  COLUMN_GENERATION,
  COLUMN_INFLIGHT_REQUESTS,
  COLUMN_INFLIGHT_TOKENS,
  f64Column,
  rowU32,
} from "../pool/rows";

//   ┌ row, 24 bytes: 0 u32 requests  4 u32 others' requests  8 u64 tokens  16 u64 others' tokens ┐
const ROW_BYTES: usize = 24;
const AT_OTHER_REQUESTS: usize = 4;
const AT_TOKENS: usize = 8;
const AT_OTHER_TOKENS: usize = 16;
const rows: usize = memory.data(4096 * 24, 8);

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
  const tokens = <f64>load<u64>(at, AT_TOKENS) + <f64>load<u64>(at, AT_OTHER_TOKENS);
  store<f64>(f64Column(COLUMN_INFLIGHT_REQUESTS) + ((<usize>row) << 3), requests);
  store<f64>(f64Column(COLUMN_INFLIGHT_TOKENS) + ((<usize>row) << 3), tokens);
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

/** Puts a row on the list that the cell is made from. */
export function markBusy(row: u32): void {
  const place = load<u16>(busyPlaces + ((<usize>row) << 1));
  if (place != 0) return;
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

/** One more request, with `tokens` prompt tokens to compute, goes to the row. */
export function reserve(row: u32, tokens: u32): void {
  const at = rowAt(row);
  store<u32>(at, load<u32>(at) + 1);
  store<u64>(at, load<u64>(at, AT_TOKENS) + tokens, AT_TOKENS);
  markBusy(row);
  refresh(row);
  changed = true;
}

/** The prompt's tokens have been computed. */
export function releaseTokens(row: u32, tokens: u32): void {
  if (tokens == 0) return;
  const at = rowAt(row);
  const held = load<u64>(at, AT_TOKENS);
  assert(held >= tokens);
  store<u64>(at, held - tokens, AT_TOKENS);
  refresh(row);
  changed = true;
}

/** The request has ended. */
export function releaseRequest(row: u32): void {
  const at = rowAt(row);
  const held = load<u32>(at);
  assert(held > 0);
  store<u32>(at, held - 1);
  refresh(row);
  changed = true;
}

/** Forgets the others' work, before their cells are read anew. */
export function clearOthers(): void {
  for (let i: u32 = 0; i < otherCount; i++) {
    const row = <u32>load<u16>(otherRows + ((<usize>i) << 1));
    store<u32>(rowAt(row), 0, AT_OTHER_REQUESTS);
    store<u64>(rowAt(row), 0, AT_OTHER_TOKENS);
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
export function addOther(row: u32, generation: u32, requests: u32, tokens: u32): bool {
  if (rowU32(COLUMN_GENERATION, row) != generation) return false;
  const at = rowAt(row);
  if (!isListed(row)) {
    if (otherCount >= <u32>ROWS_MAX) return false;
    store<u16>(otherRows + ((<usize>otherCount) << 1), <u16>row);
    otherCount++;
  }
  store<u32>(at, load<u32>(at, AT_OTHER_REQUESTS) + requests, AT_OTHER_REQUESTS);
  store<u64>(at, load<u64>(at, AT_OTHER_TOKENS) + tokens, AT_OTHER_TOKENS);
  refresh(row);
  return true;
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
