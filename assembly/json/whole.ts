// Whether some bytes are one JSON value and nothing else, for texts that are to be put into another one.
import { EVENT_ARRAY_START, JSON_OK, SINK_GO, SINK_INTEGERS } from "./events";
import { scannerEnd, scannerFeed, scannerReset } from "./scanner";

const state: usize = memory.data(128, 16);

/** Whether the `bytes` bytes at `ptr` are a whole JSON value, white space around it allowed. */
export function isWholeJson(ptr: usize, bytes: u32): bool {
  scannerReset(state);
  return scannerFeed(state, ptr, bytes, ignore, 0) == JSON_OK && scannerEnd(state, ignore, 0) == JSON_OK;
}

function ignore(_context: usize, event: u32, _ptr: usize, _len: u32): u32 {
  return event == EVENT_ARRAY_START ? SINK_INTEGERS : SINK_GO;
}
