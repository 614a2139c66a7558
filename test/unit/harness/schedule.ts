// The scheduler as a small module: what its tests call from Node.
import "../../../assembly/abi/abort";
export {
  candidateCount,
  candidateRow,
  candidatesAdd,
  candidatesReset,
  scoreOf,
  setScore,
  setTotal,
  setUnknownMean,
  totalOf,
  totalsAdd,
  totalsReset,
} from "../../../assembly/schedule/candidates";
export {
  instanceReset,
  planAddFilter,
  planAddScorer,
  planFilter,
  planFilters,
  planPicker,
  planReset,
  planResults,
  planScorer,
  planScorers,
  planSetUnknownMean,
  planUnknownMean,
  planWeight,
} from "../../../assembly/schedule/plan";
export {
  requestReset,
  requestSetHeader,
  requestSetLora,
  requestSetModel,
  requestSetTokens,
} from "../../../assembly/schedule/request";
export {
  runFilter,
  runScorer,
  schedule,
  schedulePlaced,
  scheduleReason,
  scheduleRefuser,
} from "../../../assembly/schedule/schedule";
export { pick, resultCount, resultRow, resultTotal } from "../../../assembly/schedule/pickers";
export { conditionSet } from "../../../assembly/schedule/utilization-filter";
export { requirementSet } from "../../../assembly/schedule/label-selector-filter";
export { sessionTokenBytes, sessionTokenPtr } from "../../../assembly/schedule/session-affinity";
export { base64Decode, base64Encode, base64EncodedBytes } from "../../../assembly/schedule/base64";
export { setRowRecord } from "../../../assembly/pool/labels";
export { loraActiveHashes, loraWaitingHashes, setRowF64, setRowU32 } from "../../../assembly/pool/rows";

/** hashBytes with its default seed: an export with a default argument needs set-up by the caller. */
export function nameHash(ptr: usize, bytes: u32): u64 {
  return hashBytes(ptr, bytes);
}

const scratch: usize = memory.data(262144, 16);

/** Memory for what a test lays down: 256 KiB, 16-byte aligned. */
export function scratchPtr(): usize {
  return scratch;
}

/** Decides `times` times over the same candidates: what a benchmark measures. Returns a sum, so that nothing is left out. */
export function scheduleRepeatedly(plan: usize, pool: u32, candidates: u32, times: u32): u32 {
  let sum: u32 = 0;
  for (let i: u32 = 0; i < times; i++) {
    candidatesResetTo(pool, candidates);
    sum += scheduleOnce(plan, pool);
  }
  return sum;
}

import { hashBytes } from "../../../assembly/text/hash";
import { candidatesAdd as add, candidatesReset as reset } from "../../../assembly/schedule/candidates";
import { schedule as scheduleOnce } from "../../../assembly/schedule/schedule";

function candidatesResetTo(pool: u32, candidates: u32): void {
  reset();
  for (let slot: u32 = 0; slot < candidates; slot++) add(pool * 256 + slot);
}
