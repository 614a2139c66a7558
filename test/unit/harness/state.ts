// Prefix chain and index, pool rows, reservations, cells, journal and health as one small module for Node.
import "../../../assembly/abi/abort";
export {
  CHAIN_BYTES,
  chainBoundary,
  chainDepthBytes,
  chainKey,
  chainKeyCount,
  chainRelease,
  chainReset,
  chainSetHead,
  chainText,
  chainTextBytes,
  chainsCutTotal,
  keyDepthBytes,
} from "../../../assembly/prefix/chain";
export { pagesInUse } from "../../../assembly/prefix/pages";
export { avalanche, hashBytes, mixPair } from "../../../assembly/text/hash";
export {
  inFlightKeys,
  indexInsert,
  indexLookup,
  indexRemove,
  matchedBytes,
  matchedKeys,
} from "../../../assembly/prefix/index";
export { indexStored } from "../../../assembly/prefix/clocks";
export { indexEntries, indexEvictions } from "../../../assembly/prefix/entries";
export { rowF64, rowU32, setRowF64, setRowU32 } from "../../../assembly/pool/rows";
export {
  failuresInARow,
  isSetAside,
  noteFailure,
  noteServerError,
  noteSuccess,
  ownAsideUntilMs,
} from "../../../assembly/pool/health";
export { hasOneModel, readyEndpoints } from "../../../assembly/pool/snapshot";
export { snapshotCheck } from "../../../assembly/pool/snapshot-check";
export { faultField, faultFieldBytes, faultMessage, faultMessageBytes } from "../../../assembly/pool/fault";
export {
  poolAdd,
  poolCount,
  poolFind,
  poolHash,
  poolIgnoreLoad,
  poolTake,
} from "../../../assembly/pool/table";
export { rowAddressLen, rowAddressPtr } from "../../../assembly/pool/labels";
export {
  busyRowCount,
  markBusy,
  releaseRequest,
  releaseTokens,
  reserve,
} from "../../../assembly/flow/reservations";
export { cellAdd, cellBuild, cellBytes, cellCheck, cellPtr, cellsBegin } from "../../../assembly/flow/cell";
export {
  journalHead,
  journalIsFull,
  journalNextSegment,
  journalReset,
  journalSegment,
  journalSegmentBytes,
  journalWrite,
  segmentCheck,
  segmentReplay,
} from "../../../assembly/flow/journal";

const scratch: usize = memory.data(1048576, 16);
const chains: usize = memory.data(112 * 4096, 16);

/** Memory for what a test lays down: 1 MiB. */
export function scratchPtr(): usize {
  return scratch;
}
/** The i-th of 4,096 chain records. */
export function chainAt(i: u32): usize {
  return chains + <usize>i * 112;
}
