// header-based-testing-filter: keeps the endpoints that a request header names, in the header's order.
//
// For conformance tests. The header is a comma list of addresses: "ip", "ip:port", "[v6]:port" or a bare v6
// address; an address without a port means every endpoint of that host. Header absent → none is kept.
//
// Parameters: header = test-epp-endpoint-selection.
// Source: llm-d-router pkg/epp/framework/plugins/scheduling/test/filter @ ebab6879.
import { rowAddressLen, rowAddressPtr } from "../pool/labels";
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { candidateCount, candidateRow, candidateSet, candidatesKeep } from "./candidates";
import { INSTANCE_AT_HEADER } from "./plan";
import { requestHeaderLen, requestHeaderPtr } from "./request";

const COLON: u8 = 58;
const COMMA: u8 = 44;
const chosen: usize = memory.data(256 * 2, 8);
const taken: usize = memory.data(256);

/** Keeps the named candidates. */
export function filterHeaderBasedTesting(instance: usize): void {
  const header = <u32>load<u8>(instance, INSTANCE_AT_HEADER);
  let ptr = requestHeaderPtr(header);
  const end = ptr + requestHeaderLen(header);
  memory.fill(taken, 0, 256);
  let kept: u32 = 0;
  while (ptr < end) {
    let next = ptr;
    while (next < end && load<u8>(next) != COMMA) next++;
    kept = takeNamed(ptr, next, kept);
    ptr = next + 1;
  }
  for (let i: u32 = 0; i < kept; i++) candidateSet(i, <u32>load<u16>(chosen + ((<usize>i) << 1)));
  candidatesKeep(kept);
}

// Adds the candidates that the part of the header from `ptr` to `end` names; the new count.
function takeNamed(ptr: usize, end: usize, kept: u32): u32 {
  while (ptr < end && load<u8>(ptr) == 32) ptr++;
  while (ptr < end && load<u8>(end - 1) == 32) end--;
  for (let i: u32 = 0, count = candidateCount(); i < count && ptr < end; i++) {
    const row = candidateRow(i);
    const slot = row % POOL_ENDPOINTS_MAX;
    if (load<u8>(taken + slot) != 0 || !isNamed(row, ptr, end)) continue;
    store<u8>(taken + slot, 1);
    store<u16>(chosen + ((<usize>kept) << 1), <u16>row);
    kept++;
  }
  return kept;
}

// Compares without brackets: the whole "ip:port", or the host alone.
function isNamed(row: u32, ptr: usize, end: usize): bool {
  const address = rowAddressPtr(row);
  const addressEnd = address + rowAddressLen(row);
  let port = addressEnd;
  while (port > address && load<u8>(port - 1) != COLON) port--;
  return sameText(ptr, end, address, addressEnd) || (port > address && sameText(ptr, end, address, port - 1));
}

function sameText(a: usize, aEnd: usize, b: usize, bEnd: usize): bool {
  while (true) {
    while (a < aEnd && isBracket(load<u8>(a))) a++;
    while (b < bEnd && isBracket(load<u8>(b))) b++;
    if (a == aEnd || b == bEnd) return a == aEnd && b == bEnd;
    if (load<u8>(a++) != load<u8>(b++)) return false;
  }
}

function isBracket(char: u8): bool {
  return char == 91 || char == 93;
}
