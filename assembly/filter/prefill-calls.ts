// The calls of prefill endpoints that are out: a bounded table, by the host's token.
//
// A call cannot be cancelled, and its stream may be gone when the reply comes. So the record, not the stream, owns
// what is reserved at the prefill endpoint, and tells the stream only while that waits for this very call: numbers of
// streams may come again, those of calls are told apart by both.
import { releaseLegAt } from "../flow/reservations";
import { COLUMN_GENERATION, rowU32 } from "../pool/rows";
import { NOW_PREFILL_CALLS, setCounter } from "./counters";
import { learnPrefill, legRow, legUncached } from "./legs";
import { S_API, S_CONTEXT, S_POOL, S_PROMPT_TOKENS } from "./streams";

/** Calls of one worker that are out at once. Beyond, prompts are computed where they are decoded, and that is counted. */
export const CALLS_MAX: u32 = 1024;
/** A reply that is later than the call's timeout by this does not come any more, ms. */
const LOST_MS: f64 = 5000;

//   ┌ call, 64 bytes ───────────────────────────────────────────────────────────────────────┐
//   │ 0 u32 number (0 = free)   4 u32 stream's context (0 = gone)   8 u32 row                │
//   │ 12 u16 generation   14 u8 API    16 u32 uncached tokens   20 u32 prompt tokens         │
//   │ 24 u32 pool   28 u32 root's index   32 f64 started ms   40 f64 timeout ms              │
//   └────────────────────────────────────────────────────────────────────────────────────────┘
const CALL_BYTES: usize = 64;
const AT_CONTEXT: usize = 4;
const AT_ROW: usize = 8;
const AT_GENERATION: usize = 12;
const AT_API: usize = 14;
const AT_TOKENS: usize = 16;
const AT_PROMPT: usize = 20;
const AT_POOL: usize = 24;
const AT_ROOT: usize = 28;
const AT_STARTED: usize = 32;
const AT_TIMEOUT: usize = 40;
const calls: usize = memory.data(1024 * 64, 8);
let out: u32 = 0;

/** Calls that are out. */
export function callsOut(): u32 {
  return out;
}

/** The record of the call with that number, or 0. */
export function callFind(number: u32): usize {
  for (let step: u32 = 0; step < CALLS_MAX; step++) {
    const call = calls + <usize>((number + step) & (CALLS_MAX - 1)) * CALL_BYTES;
    if (load<u32>(call) == number) return call;
  }
  return 0;
}

/** Notes a call for the stream, whose leg is reserved. There is room: callsOut() < CALLS_MAX. */
export function callAdd(number: u32, stream: usize, root: u32, timeoutMs: f64, now: f64): void {
  let place = number;
  while (load<u32>(calls + <usize>(place & (CALLS_MAX - 1)) * CALL_BYTES) != 0) place++;
  const call = calls + <usize>(place & (CALLS_MAX - 1)) * CALL_BYTES;
  const row = legRow(stream);
  store<u32>(call, number);
  store<u32>(call, load<u32>(stream, S_CONTEXT), AT_CONTEXT);
  store<u32>(call, row, AT_ROW);
  store<u16>(call, <u16>rowU32(COLUMN_GENERATION, row), AT_GENERATION);
  store<u8>(call, <u8>load<u32>(stream, S_API), AT_API);
  store<u32>(call, legUncached(stream), AT_TOKENS);
  store<u32>(call, load<u32>(stream, S_PROMPT_TOKENS), AT_PROMPT);
  store<u32>(call, load<u32>(stream, S_POOL), AT_POOL);
  store<u32>(call, root, AT_ROOT);
  store<f64>(call, now, AT_STARTED);
  store<f64>(call, timeoutMs, AT_TIMEOUT);
  setCounter(NOW_PREFILL_CALLS, ++out);
}

/** Context of the stream that waits for the call; 0 = it is gone. */
export function callContext(call: usize): u32 {
  return load<u32>(call, AT_CONTEXT);
}
export function callRow(call: usize): u32 {
  return load<u32>(call, AT_ROW);
}
export function callPool(call: usize): u32 {
  return load<u32>(call, AT_POOL);
}
/** API_* of the request. */
export function callApi(call: usize): u32 {
  return <u32>load<u8>(call, AT_API);
}
/** Index of the root that the call was made for. */
export function callRoot(call: usize): u32 {
  return load<u32>(call, AT_ROOT);
}
export function callStartedMs(call: usize): f64 {
  return load<f64>(call, AT_STARTED);
}
export function callTimeoutMs(call: usize): f64 {
  return load<f64>(call, AT_TIMEOUT);
}
/** Whether the endpoint behind the call's row is still the one that was called. */
export function callIsSame(call: usize): bool {
  return rowU32(COLUMN_GENERATION, callRow(call)) == <u32>load<u16>(call, AT_GENERATION);
}

/** The stream of the call is gone; the reply will be thrown away. */
export function callOrphan(number: u32): void {
  const call = callFind(number);
  if (call != 0) store<u32>(call, 0, AT_CONTEXT);
}

/** The call is over: learns from it if it was a prefill, gives back what it reserved, and frees the record. */
export function callEnd(call: usize, wasComputed: bool, now: f64): void {
  const row = callRow(call);
  const tokens = load<u32>(call, AT_TOKENS);
  if (wasComputed && callIsSame(call)) learnPrefill(row, tokens, now);
  releaseLegAt(row, tokens, load<u32>(call, AT_PROMPT));
  store<u32>(call, 0);
  setCounter(NOW_PREFILL_CALLS, --out);
}

/** A call whose reply is overdue, or 0. */
export function callLost(now: f64): usize {
  for (let i: u32 = 0; i < CALLS_MAX && out > 0; i++) {
    const call = calls + <usize>i * CALL_BYTES;
    if (load<u32>(call) == 0) continue;
    if (now > callStartedMs(call) + callTimeoutMs(call) + LOST_MS) return call;
  }
  return 0;
}

/** A call that was made for this root, or 0: with the root the host forgets its calls. */
export function callOfRoot(root: u32): usize {
  for (let i: u32 = 0; i < CALLS_MAX && out > 0; i++) {
    const call = calls + <usize>i * CALL_BYTES;
    if (load<u32>(call) != 0 && callRoot(call) == root) return call;
  }
  return 0;
}
