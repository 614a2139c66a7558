// utilization-filter: keeps the endpoints that exceed none of the given caps.
//
//   keep where every condition holds: metric ≤ maxValue; a metric never published counts as 0
//   nothing left and fallbackOnEmpty → all are kept
//
// Parameters: list = condition[count]; mode = 1 for fallbackOnEmpty, default off.
// Source: llm-d-router pkg/epp/framework/plugins/scheduling/filter/utilization @ ebab6879.
import { candidateCount, candidateF64, candidateRow, candidateSet, candidatesKeep } from "./candidates";
import { INSTANCE_AT_COUNT, INSTANCE_AT_LIST, INSTANCE_AT_MODE } from "./plan";

//   ┌ condition, 16 bytes: 0 u32 f64 column (pool/rows.ts)  8 f64 maxValue ┐
export const CONDITION_BYTES: usize = 16;
const AT_MAX_VALUE: usize = 8;

/** Writes the condition at `at`, 8-byte aligned. */
export function conditionSet(at: usize, column: u32, maxValue: f64): void {
  store<u32>(at, column);
  store<f64>(at, maxValue, AT_MAX_VALUE);
}

/** Keeps the candidates below all caps. */
export function filterUtilization(instance: usize): void {
  const count = candidateCount();
  let below: u32 = 0;
  for (let i: u32 = 0; i < count; i++) if (isBelow(instance, i)) below++;
  if (below == count || (below == 0 && load<u8>(instance, INSTANCE_AT_MODE) != 0)) return;
  let kept: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    if (isBelow(instance, i)) candidateSet(kept++, candidateRow(i));
  }
  candidatesKeep(kept);
}

function isBelow(instance: usize, index: u32): bool {
  let condition = <usize>load<u32>(instance, INSTANCE_AT_LIST);
  for (let i: u32 = 0, count = load<u32>(instance, INSTANCE_AT_COUNT); i < count; i++) {
    const value = candidateF64(load<u32>(condition), index);
    if ((value == value ? value : 0) > load<f64>(condition, AT_MAX_VALUE)) return false;
    condition += CONDITION_BYTES;
  }
  return true;
}
