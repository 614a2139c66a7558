// Work in flight per endpoint row, as the other workers published theirs: read anew, cell by cell.
import { ROWS_MAX } from "../wire/limits";
import { COLUMN_GENERATION, COLUMN_OTHERS_COMPUTED, rowF64, rowU32, setRowF64 } from "../pool/rows";
import {
  AT_OTHER_CONTEXT,
  AT_OTHER_FIRST,
  AT_OTHER_LEGS,
  AT_OTHER_PREFILLING,
  AT_OTHER_REQUESTS,
  AT_OTHER_SINCE,
  AT_OTHER_TOKENS,
  refreshHead,
  refreshRow,
  reservedAt,
} from "./reserved-rows";

// Rows that carry anything of the others.
const otherRows: usize = memory.data(4096 * 2, 2);
let otherCount: u32 = 0;

// Listed rows are found by a stamp per row, renewed at each reading.
const stamps: usize = memory.data(4096 * 4, 4);
let stamp: u32 = 1;

/** Starts a new reading of the others' cells. */
export function beginOthers(): void {
  clearOthers();
  stamp++;
}

function clearOthers(): void {
  for (let i: u32 = 0; i < otherCount; i++) {
    const row = <u32>load<u16>(otherRows + ((<usize>i) << 1));
    store<u32>(reservedAt(row), 0, AT_OTHER_REQUESTS);
    store<u64>(reservedAt(row), 0, AT_OTHER_TOKENS);
    store<u32>(reservedAt(row), 0, AT_OTHER_PREFILLING);
    store<u64>(reservedAt(row), 0, AT_OTHER_CONTEXT);
    store<u32>(reservedAt(row), 0, AT_OTHER_LEGS);
    setRowF64(COLUMN_OTHERS_COMPUTED, row, 0);
    refreshRow(row);
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
  const at = reservedAt(row);
  if (!isListed(row)) {
    if (otherCount >= <u32>ROWS_MAX) return false;
    store<u16>(otherRows + ((<usize>otherCount) << 1), <u16>row);
    otherCount++;
  }
  store<u32>(at, load<u32>(at, AT_OTHER_REQUESTS) + requests, AT_OTHER_REQUESTS);
  store<u64>(at, load<u64>(at, AT_OTHER_TOKENS) + tokens, AT_OTHER_TOKENS);
  store<u64>(at, load<u64>(at, AT_OTHER_CONTEXT) + context, AT_OTHER_CONTEXT);
  refreshRow(row);
  return true;
}

/** What came along with addOther(): `prefilling` requests, since `sinceMs` the first; last first token (0 = none). */
export function addOtherPrefilling(row: u32, prefilling: u32, sinceMs: f64, firstTokenMs: f64): void {
  const at = reservedAt(row);
  if (prefilling > 0) {
    const before = load<u32>(at, AT_OTHER_PREFILLING);
    const since = load<f64>(at, AT_OTHER_SINCE);
    store<f64>(at, before > 0 ? Math.min(since, sinceMs) : sinceMs, AT_OTHER_SINCE);
    store<u32>(at, before + prefilling, AT_OTHER_PREFILLING);
  }
  if (firstTokenMs > load<f64>(at, AT_OTHER_FIRST)) store<f64>(at, firstTokenMs, AT_OTHER_FIRST);
  refreshRow(row);
}

/** And its requests there that another endpoint answers. */
export function addOtherLegs(row: u32, legs: u32): void {
  const at = reservedAt(row);
  store<u32>(at, load<u32>(at, AT_OTHER_LEGS) + legs, AT_OTHER_LEGS);
  refreshRow(row);
}

/** And the tokens whose computation ended there for that worker. */
export function addOtherComputed(row: u32, tokens: u32): void {
  setRowF64(COLUMN_OTHERS_COMPUTED, row, rowF64(COLUMN_OTHERS_COMPUTED, row) + <f64>tokens);
}

/** All cells were read: heads of queues are looked at again. */
export function endOthers(): void {
  for (let i: u32 = 0; i < otherCount; i++) refreshHead(otherRow(i));
}

function isListed(row: u32): bool {
  const at = stamps + ((<usize>row) << 2);
  if (load<u32>(at) == stamp) return true;
  store<u32>(at, stamp);
  return false;
}
