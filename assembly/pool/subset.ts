// The subset hint: which endpoints of a pool a request may go to, as the gateway in front of us says.
//
// The metadata value is a list of strings or one comma string (llm-d-router pkg/epp/requestcontrol/candidates.go,
// gateway-api-inference-extension docs/proposals/004-endpoint-picker-protocol). Envoy gives a string as its bytes,
// and a list in its pairs encoding, the items as names with empty values:
//
//   u32 count · count × (u32 item bytes, u32 0) · count × (item, NUL, NUL)
//
// An item is "ip:port". Where the pool has no endpoint of that port it stands for the whole IP, as a bare "ip"
// does: llm-d compares addresses without ports.
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { rowAddressLen, rowAddressPtr } from "./labels";
import { rowOf } from "./rows";

/** Items of one hint that are read; those beyond allow nothing more. */
export const SUBSET_ITEMS_MAX: u32 = 1024;

const COLON: u8 = 58;
const COMMA: u8 = 44;
const SPACE: u8 = 32;
const CLOSING_BRACKET: u8 = 93;

// One byte an endpoint slot: 1 = allowed.
const allowed: usize = memory.data(256);
let isHinted: bool = false;

/** No hint: every endpoint is allowed. */
export function subsetNone(): void {
  isHinted = false;
}

/** Takes the hint of `bytes` bytes at `ptr` for the next decision in `pool`; an empty one allows no endpoint. */
export function subsetTake(pool: u32, ptr: usize, bytes: u32): void {
  isHinted = true;
  memory.fill(allowed, 0, POOL_ENDPOINTS_MAX);
  if (isPairs(ptr, bytes)) takeList(pool, ptr, load<u32>(ptr));
  else takeText(pool, ptr, bytes);
}

/** Whether the hint, if there is one, allows the row. */
export function subsetAllows(row: u32): bool {
  return !isHinted || load<u8>(allowed + (row % POOL_ENDPOINTS_MAX)) != 0;
}

// A text begins with a printable character, so its first four bytes are no count that fits its length.
function isPairs(ptr: usize, bytes: u32): bool {
  if (bytes < 4) return false;
  const count = load<u32>(ptr);
  if (count > bytes / 10) return false;
  let total: u32 = 4 + count * 8;
  for (let i: u32 = 0; i < count; i++) {
    const pair = ptr + 4 + ((<usize>i) << 3);
    const item = load<u32>(pair);
    if (item > bytes || load<u32>(pair, 4) != 0) return false;
    total += item + 2;
    if (total > bytes) return false;
  }
  return total == bytes;
}

function takeList(pool: u32, ptr: usize, count: u32): void {
  let item = ptr + 4 + ((<usize>count) << 3);
  for (let i: u32 = 0; i < min(count, SUBSET_ITEMS_MAX); i++) {
    const bytes = load<u32>(ptr + 4 + ((<usize>i) << 3));
    takeItem(pool, item, bytes);
    item += bytes + 2;
  }
}

function takeText(pool: u32, ptr: usize, bytes: u32): void {
  let start: u32 = 0;
  let items: u32 = 0;
  for (let i: u32 = 0; i <= bytes && items < SUBSET_ITEMS_MAX; i++) {
    if (i < bytes && load<u8>(ptr + i) != COMMA) continue;
    takeItem(pool, ptr + start, i - start);
    start = i + 1;
    items++;
  }
}

function takeItem(pool: u32, ptr: usize, bytes: u32): void {
  while (bytes > 0 && load<u8>(ptr) == SPACE) {
    ptr++;
    bytes--;
  }
  while (bytes > 0 && load<u8>(ptr + bytes - 1) == SPACE) bytes--;
  if (bytes == 0) return;
  if (!allow(pool, ptr, bytes, false)) allow(pool, ptr, hostBytes(ptr, bytes), true);
}

// Allows the endpoints whose address, or host part of it, is the text. False: there is none.
function allow(pool: u32, ptr: usize, bytes: u32, isHost: bool): bool {
  let isFound = false;
  for (let slot: u32 = 0; slot < <u32>POOL_ENDPOINTS_MAX; slot++) {
    const row = rowOf(pool, slot);
    const address = rowAddressPtr(row);
    if (address == 0) continue;
    const addressBytes = isHost ? hostBytes(address, rowAddressLen(row)) : rowAddressLen(row);
    if (addressBytes != bytes || memory.compare(address, ptr, bytes) != 0) continue;
    store<u8>(allowed + slot, 1);
    isFound = true;
  }
  return isFound;
}

// Length of the address less its port: up to the last colon outside of brackets; a bare IPv6 address has brackets too.
function hostBytes(ptr: usize, bytes: u32): u32 {
  for (let i = bytes; i > 0; i--) {
    const char = load<u8>(ptr + i - 1);
    if (char == COLON) return i - 1;
    if (char == CLOSING_BRACKET) return bytes;
  }
  return bytes;
}
