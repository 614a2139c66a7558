// The exact index as one small module: cells, entries, look-ups, batches, and the approximate entries beside them.
import "../../../assembly/abi/abort";
export {
  CELLS_BYTES,
  cellKey,
  cellsBreak,
  cellsOpen,
  cellsRelease,
  cellsReset,
  cellsText,
} from "../../../assembly/prefix/cells";
export { CHAIN_BYTES, chainKey, chainKeyCount, chainReset, chainText } from "../../../assembly/prefix/chain";
export { indexStored } from "../../../assembly/prefix/clocks";
export { exactClear, exactEntriesTotal, exactRemove, exactStore } from "../../../assembly/prefix/exact";
export { exactBytes, exactLookup, exactTokens } from "../../../assembly/prefix/exact-lookup";
export {
  exactDigest,
  exactEntries,
  exactFlags,
  isExact,
  setExactFlags,
  setExactGeneration,
} from "../../../assembly/prefix/exact-rows";
export {
  deadExactEntries,
  indexDrops,
  indexEntries,
  indexEvictions,
  sweepAllExact,
  sweepExact,
} from "../../../assembly/prefix/entries";
export { inFlightKeys, indexInsert, indexLookup, matchedKeys } from "../../../assembly/prefix/index";
export { kvApply, kvDrifts, kvDropped, kvIsWanted, kvRefreshRow } from "../../../assembly/flow/kv-apply";
export { kvChanges, kvCheck } from "../../../assembly/flow/kv-batch";
export { faultField, faultFieldBytes, faultMessage, faultMessageBytes } from "../../../assembly/pool/fault";
export { setRowF64, setRowU32 } from "../../../assembly/pool/rows";
export { avalanche, hashBytes, mixPair } from "../../../assembly/text/hash";

const scratch: usize = memory.data(1048576, 16);
const records: usize = memory.data(88 * 64, 8);
const chains: usize = memory.data(112 * 64, 8);

/** Memory for what a test lays down: 1 MiB. */
export function scratchPtr(): usize {
  return scratch;
}
/** The i-th of 64 cells records, and of 64 chains. */
export function cellsAt(i: u32): usize {
  return records + <usize>i * 88;
}
export function chainAt(i: u32): usize {
  return chains + <usize>i * 112;
}
