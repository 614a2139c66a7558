// Work in flight per endpoint row: this worker's own and the others', and the columns that hold the sums.
//
// The sum over all workers stands in the rows' INFLIGHT columns, where the scorers read it. Beside it stands since when
// the engine works on what heads its queue: from that the latency picker tells how much of the queue is done.
import {
  COLUMN_BUSY_SINCE_MS,
  COLUMN_CONTEXT_TOKENS,
  COLUMN_FIRST_TOKEN_MS,
  COLUMN_HEAD_SINCE_MS,
  COLUMN_HEAD_TOKENS,
  COLUMN_INFLIGHT_PEAK,
  COLUMN_INFLIGHT_REQUESTS,
  COLUMN_INFLIGHT_TOKENS,
  COLUMN_LEGS,
  COLUMN_PREFILLING,
  rowF64,
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
export const AT_OTHER_REQUESTS: usize = 4;
export const AT_TOKENS: usize = 8;
export const AT_OTHER_TOKENS: usize = 16;
export const AT_PREFILLING: usize = 24;
export const AT_OTHER_PREFILLING: usize = 28;
export const AT_SINCE: usize = 32;
export const AT_OTHER_SINCE: usize = 40;
export const AT_FIRST: usize = 48;
export const AT_OTHER_FIRST: usize = 56;
export const AT_COMPUTED: usize = 64;
export const AT_LEGS: usize = 68;
export const AT_CONTEXT: usize = 72;
export const AT_OTHER_CONTEXT: usize = 80;
export const AT_OTHER_LEGS: usize = 88;
const rows: usize = memory.data(4096 * 96, 8);

/** Times that came through a cell are this exact, ms: a head that moved by less is the same head. */
const HEAD_MOVED_MS: f64 = 1.5;

/** The record of a row. */
export function reservedAt(row: u32): usize {
  return rows + <usize>row * ROW_BYTES;
}

/** Work in flight there changed: puts its sums into the columns. */
export function refreshRow(row: u32): void {
  const at = reservedAt(row);
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

/**
 * What is to be prefilled there changed: looks anew at what heads the queue, after refreshRow(). The engine works on
 * that since the last first token, or since there was something to prefill.
 */
export function refreshHead(row: u32): void {
  const at = reservedAt(row);
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
