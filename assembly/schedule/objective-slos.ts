// The wishes of requests that name none themselves: by objective, from the latency picker's configuration.
import { INSTANCE_AT_COUNT, INSTANCE_AT_LIST } from "./plan";

//   ┌ objective, 16 bytes: 0 u64 hash of its name (0 = all others)  8 f32 TTFT SLO ms  12 f32 TPOT SLO ms ┐
export const OBJECTIVE_BYTES: usize = 16;
const AT_TTFT: usize = 8;
const AT_TPOT: usize = 12;

/** Writes an objective at `at`, 8-byte aligned; 0 ms = no matter. */
export function objectiveSet(at: usize, nameHash: u64, ttftMs: f64, tpotMs: f64): void {
  store<u64>(at, nameHash);
  store<f32>(at, <f32>ttftMs, AT_TTFT);
  store<f32>(at, <f32>tpotMs, AT_TPOT);
}

/** Wish of an objective's requests for the time to the first token, ms; 0 = no matter, or `instance` 0. */
export function objectiveTtftMs(instance: usize, nameHash: u64): f64 {
  const at = find(instance, nameHash);
  return at == 0 ? 0 : <f64>load<f32>(at, AT_TTFT);
}

/** The same for the time between tokens. */
export function objectiveTpotMs(instance: usize, nameHash: u64): f64 {
  const at = find(instance, nameHash);
  return at == 0 ? 0 : <f64>load<f32>(at, AT_TPOT);
}

// The objective of that name, else the entry for all others, which is the first.
function find(instance: usize, nameHash: u64): usize {
  if (instance == 0) return 0;
  const list = <usize>load<u32>(instance, INSTANCE_AT_LIST);
  for (let i: u32 = 1, count = load<u32>(instance, INSTANCE_AT_COUNT); i < count && nameHash != 0; i++) {
    const at = list + <usize>i * OBJECTIVE_BYTES;
    if (load<u64>(at) == nameHash) return at;
  }
  return list;
}
