// Drives the JSON scanner and tree from Node: a text in a buffer, its events recorded in another.
import "../../../assembly/abi/abort";
import {
  SCANNER_BYTES,
  scannerDepth,
  scannerDone,
  scannerEnd,
  scannerFeed,
  scannerReset,
} from "../../../assembly/json/scanner";
import { scannerErrorCode, scannerErrorOffset } from "../../../assembly/json/fault";
import {
  EVENT_ARRAY_START,
  EVENT_INTEGERS,
  SINK_GO,
  SINK_INTEGERS,
  SINK_STOP,
} from "../../../assembly/json/events";

export * from "../../../assembly/json/tree";

const INPUT_BYTES: u32 = 4194304;
const RECORD_BYTES: u32 = 16777216;
const input: usize = memory.data(4194304, 16);
const records: usize = memory.data(16777216, 16);
const state: usize = memory.data(256, 16);
let recordBytes: u32 = 0;
let eventCount: u32 = 0;
let stopAfter: u32 = u32.MAX_VALUE;
let batched: bool = false;

export function inputPtr(): usize {
  return input;
}
export function inputBytesMax(): u32 {
  return INPUT_BYTES;
}
export function recordsPtr(): usize {
  return records;
}
export function recordedBytes(): u32 {
  return recordBytes;
}
export function stateBytes(): u32 {
  return <u32>SCANNER_BYTES;
}
export function errorCode(): u32 {
  return scannerErrorCode(state);
}
export function errorOffset(): f64 {
  return <f64>scannerErrorOffset(state);
}
export function done(): bool {
  return scannerDone(state);
}
export function depth(): u32 {
  return scannerDepth(state);
}

/** Starts a text; `integers`: answer every array with SINK_INTEGERS; stop after `stop` events. */
export function reset(integers: bool, stop: u32): void {
  scannerReset(state);
  recordBytes = 0;
  eventCount = 0;
  stopAfter = stop;
  batched = integers;
}

/** Feeds the bytes [from, from + len) of the input, in chunks of `chunk` bytes. */
export function feed(from: u32, len: u32, chunk: u32): u32 {
  let status: u32 = 0;
  for (let at: u32 = 0; at < len && status == 0; at += chunk) {
    status = scannerFeed(state, input + from + at, min<u32>(chunk, len - at), record, 7);
  }
  return status;
}

export function end(): u32 {
  return scannerEnd(state, record, 7);
}

/** Scans the first `len` bytes of the input `rounds` times, recording nothing. For benchmarks. */
export function scanMany(len: u32, rounds: u32, integers: bool): u32 {
  let status: u32 = 0;
  for (let i: u32 = 0; i < rounds; i++) {
    scannerReset(state);
    batched = integers;
    status |= scannerFeed(state, input, len, ignore, 0);
    status |= scannerEnd(state, ignore, 0);
  }
  return status;
}

function ignore(_context: usize, event: u32, _ptr: usize, _len: u32): u32 {
  return batched && event == EVENT_ARRAY_START ? SINK_INTEGERS : SINK_GO;
}

// A record: u32 event, u32 bytes, then the bytes.
function record(context: usize, event: u32, ptr: usize, len: u32): u32 {
  const bytes = event == EVENT_INTEGERS ? len << 2 : len;
  if (context != 7 || recordBytes + bytes + 8 > RECORD_BYTES) return SINK_STOP;
  store<u32>(records + recordBytes, event);
  store<u32>(records + recordBytes, bytes, 4);
  memory.copy(records + recordBytes + 8, ptr, bytes);
  recordBytes += 8 + bytes;
  eventCount++;
  if (eventCount >= stopAfter) return SINK_STOP;
  return batched && event == EVENT_ARRAY_START ? SINK_INTEGERS : SINK_GO;
}
