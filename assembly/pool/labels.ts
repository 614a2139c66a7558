// The text facts of a row, read in place from its record in the pool's snapshot: labels, name, address.
import { POOL_ENDPOINTS_MAX, ROWS_MAX } from "../wire/limits";
import {
  ENDPOINT_AT_ADDRESS,
  ENDPOINT_AT_ADDRESS_BYTES,
  ENDPOINT_AT_LABELS,
  ENDPOINT_AT_LABEL_COUNT,
  ENDPOINT_AT_NAME,
  ENDPOINT_AT_NAME_BYTES,
} from "../wire/snapshot";

// Where the record of a row lies, and the snapshot that its offsets count from; 0 = no endpoint in this row.
const records: usize = memory.data(4096 * 4, 8);
const snapshots: usize = memory.data(4096 * 4, 8);
const versions: usize = memory.data(16 * 4, 8);

let valuePtr: usize = 0;
let valueLen: u32 = 0;

/**
 * Tells where a row's record lies. Called for every row whenever the bytes of a pool's snapshot change,
 * also when the record stays at its address: everything derived from labels is rebuilt after it.
 * `record` = 0 empties the row. `record` and `snapshot` were checked by the caller and stay readable.
 */
export function setRowRecord(row: u32, record: usize, snapshot: usize): void {
  if (row >= <u32>ROWS_MAX) return;
  store<u32>(records + ((<usize>row) << 2), <u32>record);
  store<u32>(snapshots + ((<usize>row) << 2), <u32>snapshot);
  const version = versions + ((<usize>(row / POOL_ENDPOINTS_MAX)) << 2);
  store<u32>(version, load<u32>(version) + 1);
}

/** The row's endpoint record (wire/snapshot.ts), or 0. */
export function rowRecord(row: u32): usize {
  return <usize>load<u32>(records + ((<usize>row) << 2));
}

/** The snapshot that the row's offsets count from, or 0. */
export function rowSnapshot(row: u32): usize {
  return <usize>load<u32>(snapshots + ((<usize>row) << 2));
}

/** Changes whenever a label of any row of the pool may have changed. */
export function labelsVersion(pool: u32): u32 {
  return load<u32>(versions + ((<usize>pool) << 2));
}

/** Looks up a label of a row by its key. True: labelValuePtr() and labelValueLen() tell the value. */
export function labelFind(row: u32, keyPtr: usize, keyLen: u32): bool {
  const record = rowRecord(row);
  if (record == 0) return false;
  const snapshot = rowSnapshot(row);
  const count = <u32>load<u16>(record, ENDPOINT_AT_LABEL_COUNT);
  let refs = snapshot + load<u32>(record, ENDPOINT_AT_LABELS);
  for (let i: u32 = 0; i < count; i++, refs += 16) {
    if (load<u32>(refs, 4) != keyLen) continue;
    if (memory.compare(snapshot + load<u32>(refs), keyPtr, keyLen) != 0) continue;
    valuePtr = snapshot + load<u32>(refs, 8);
    valueLen = load<u32>(refs, 12);
    return true;
  }
  return false;
}

/** Value of the label found last; UTF-8, valid until the next setRowRecord. */
export function labelValuePtr(): usize {
  return valuePtr;
}

export function labelValueLen(): u32 {
  return valueLen;
}

/** The row's "ip:port"; rowAddressLen is 0 for an empty row. */
export function rowAddressPtr(row: u32): usize {
  const record = rowRecord(row);
  return record == 0 ? 0 : rowSnapshot(row) + load<u32>(record, ENDPOINT_AT_ADDRESS);
}

export function rowAddressLen(row: u32): u32 {
  const record = rowRecord(row);
  return record == 0 ? 0 : load<u32>(record, ENDPOINT_AT_ADDRESS_BYTES);
}

/** The row's name: "namespace/name" in Kubernetes, else as its source names it; rowNameLen is 0 for an empty row. */
export function rowNamePtr(row: u32): usize {
  const record = rowRecord(row);
  return record == 0 ? 0 : rowSnapshot(row) + load<u32>(record, ENDPOINT_AT_NAME);
}

export function rowNameLen(row: u32): u32 {
  const record = rowRecord(row);
  return record == 0 ? 0 : load<u32>(record, ENDPOINT_AT_NAME_BYTES);
}
