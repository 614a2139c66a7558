// label-selector-filter: keeps the endpoints whose labels meet every requirement of a selector.
//
// Also by-label-selector and by-label, its deprecated forms, and any other filter that is a question about
// labels. The answer per endpoint changes only with the snapshot, so it is kept as a bit mask per
// (instance, pool) for as long as labelsVersion() of the pool stays.
//
// Parameters: list = requirement[count], all must hold; none → all endpoints.
// Source: llm-d-router pkg/epp/framework/plugins/scheduling/filter/bylabel @ ebab6879;
// operators as in Kubernetes' label selectors (apimachinery labels.Requirement).
import { labelFind, labelValueLen, labelValuePtr, labelsVersion, rowRecord } from "../pool/labels";
import { rowOf } from "../pool/rows";
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { candidateCount, candidateRow, candidateSet, candidatesKeep } from "./candidates";
import { INSTANCE_AT_COUNT, INSTANCE_AT_LIST, INSTANCE_AT_SERIAL } from "./plan";

//   ┌ requirement, 20 bytes: 0 u32 operator  4 u32 key, 8 u32 bytes  12 u32 values, 16 u32 count ┐
//   └ value: u32 ptr, u32 bytes ─────────────────────────────────────────────────────────────────┘
export const REQUIREMENT_BYTES: usize = 20;
const AT_KEY: usize = 4;
const AT_KEY_BYTES: usize = 8;
const AT_VALUES: usize = 12;
const AT_COUNT: usize = 16;
/** The label has one of the values. */
export const OPERATOR_IN: u32 = 0;
/** The label is missing, or has none of the values. */
export const OPERATOR_NOT_IN: u32 = 1;
export const OPERATOR_EXISTS: u32 = 2;
export const OPERATOR_DOES_NOT_EXIST: u32 = 3;
/** The label is missing, or has one of the values: by-label with allowsNoLabel. */
export const OPERATOR_IN_OR_ABSENT: u32 = 4;

/** Writes the requirement at `at`. `values` = { u32 ptr, u32 bytes }[count]; all stay where they are. */
export function requirementSet(
  at: usize,
  op: u32,
  key: usize,
  keyBytes: u32,
  values: usize,
  count: u32,
): void {
  store<u32>(at, op);
  store<u32>(at, <u32>key, AT_KEY);
  store<u32>(at, keyBytes, AT_KEY_BYTES);
  store<u32>(at, <u32>values, AT_VALUES);
  store<u32>(at, count, AT_COUNT);
}

// Direct-mapped: two (instance, pool) pairs that share a place evict each other and cost time only.
//   ┌ entry, 48 bytes: 0 u32 serial (0 = empty)  4 u32 pool  8 u32 labels version  16 u64 mask[4] ┐
const CACHE_ENTRIES: u32 = 128;
const CACHE_ENTRY_BYTES: usize = 48;
const cache: usize = memory.data(128 * 48, 8);

/** Keeps the candidates that meet the instance's requirements. */
export function filterLabelSelector(instance: usize, pool: u32): void {
  const mask = maskOf(instance, pool);
  let kept: u32 = 0;
  for (let i: u32 = 0, count = candidateCount(); i < count; i++) {
    const row = candidateRow(i);
    const slot = row % POOL_ENDPOINTS_MAX;
    const word = load<u64>(mask + ((<usize>(slot >> 6)) << 3));
    if (((word >> (slot & 63)) & 1) != 0) candidateSet(kept++, row);
  }
  candidatesKeep(kept);
}

function maskOf(instance: usize, pool: u32): usize {
  const serial = load<u32>(instance, INSTANCE_AT_SERIAL);
  const version = labelsVersion(pool);
  const entry = cache + <usize>((serial * 31 + pool) % CACHE_ENTRIES) * CACHE_ENTRY_BYTES;
  if (load<u32>(entry) == serial && load<u32>(entry, 4) == pool && load<u32>(entry, 8) == version)
    return entry + 16;
  store<u32>(entry, serial);
  store<u32>(entry, pool, 4);
  store<u32>(entry, version, 8);
  memory.fill(entry + 16, 0, 32);
  for (let slot: u32 = 0; slot < <u32>POOL_ENDPOINTS_MAX; slot++) {
    const row = rowOf(pool, slot);
    if (rowRecord(row) == 0 || !meetsAll(instance, row)) continue;
    const word = entry + 16 + ((<usize>(slot >> 6)) << 3);
    store<u64>(word, load<u64>(word) | ((<u64>1) << (slot & 63)));
  }
  return entry + 16;
}

function meetsAll(instance: usize, row: u32): bool {
  let requirement = <usize>load<u32>(instance, INSTANCE_AT_LIST);
  for (let i: u32 = 0, count = load<u32>(instance, INSTANCE_AT_COUNT); i < count; i++) {
    if (!meets(requirement, row)) return false;
    requirement += REQUIREMENT_BYTES;
  }
  return true;
}

function meets(requirement: usize, row: u32): bool {
  const found = labelFind(row, <usize>load<u32>(requirement, AT_KEY), load<u32>(requirement, AT_KEY_BYTES));
  switch (load<u32>(requirement)) {
    case OPERATOR_IN:
      return found && listed(requirement);
    case OPERATOR_NOT_IN:
      return !found || !listed(requirement);
    case OPERATOR_EXISTS:
      return found;
    case OPERATOR_DOES_NOT_EXIST:
      return !found;
    default:
      return !found || listed(requirement);
  }
}

// Whether the label found last has one of the requirement's values.
function listed(requirement: usize): bool {
  const ptr = labelValuePtr();
  const bytes = labelValueLen();
  let value = <usize>load<u32>(requirement, AT_VALUES);
  for (let i: u32 = 0, count = load<u32>(requirement, AT_COUNT); i < count; i++, value += 8) {
    if (load<u32>(value, 4) == bytes && memory.compare(<usize>load<u32>(value), ptr, bytes) == 0) return true;
  }
  return false;
}
