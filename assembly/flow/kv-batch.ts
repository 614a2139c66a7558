// Reads batches of exact-index changes (wire/kv-deltas.ts): each is checked whole, before it is stored and again before it
// is applied.
import {
  KV_AT_CHECKSUM,
  KV_AT_HEADER_BYTES,
  KV_AT_SECTIONS,
  KV_AT_SEQUENCE,
  KV_AT_SESSION,
  KV_AT_TOTAL_BYTES,
  KV_AT_VERSION,
  KV_BATCH_BYTES_MAX,
  KV_DEGRADED,
  KV_ENTRIES_MAX,
  KV_HEADER_BYTES,
  KV_MAGIC,
  KV_REMOVE,
  KV_SECTION_AT_ENTRIES,
  KV_SECTION_AT_GENERATION,
  KV_SECTION_AT_OPERATION,
  KV_SECTION_AT_SLOT,
  KV_SECTION_AT_TIER,
  KV_SECTION_BYTES,
  KV_STORE,
  KV_TIER_DISK,
  KV_TOKENS_MAX,
  KV_WIRE_VERSION,
} from "../wire/kv-deltas";
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { fault } from "../pool/fault";
import { snapshotChecksum } from "../pool/snapshot-check";

const SECTION_AT_RESERVED: usize = 6;
const SECTION_AT_RESERVED_2: usize = 12;

let changes: u32 = 0;

/** Entries that the batch checked last stores or removes. */
export function kvChanges(): u32 {
  return changes;
}
export function kvSession(batch: usize): u64 {
  return load<u64>(batch, KV_AT_SESSION);
}
export function kvSequence(batch: usize): u32 {
  return load<u32>(batch, KV_AT_SEQUENCE);
}
export function kvSections(batch: usize): u32 {
  return load<u32>(batch, KV_AT_SECTIONS);
}
/** The tokens of a KV_STORE section stand behind its keys: u32[entries]. */
export function kvTokensPtr(section: usize): usize {
  return section + KV_SECTION_BYTES + ((<usize>load<u32>(section, KV_SECTION_AT_ENTRIES)) << 3);
}

/** Bytes of a section with its payload, up to 12 bytes an entry; saturates where the entries are absurd. */
export function kvSectionBytes(section: usize): u32 {
  const operation = <u32>load<u8>(section, KV_SECTION_AT_OPERATION);
  if (operation > <u32>KV_REMOVE) return <u32>KV_SECTION_BYTES + (operation == KV_DEGRADED ? 0 : 8);
  const entries = min<u32>(load<u32>(section, KV_SECTION_AT_ENTRIES), KV_BATCH_BYTES_MAX);
  if (operation == KV_REMOVE) return <u32>KV_SECTION_BYTES + entries * 8;
  return <u32>KV_SECTION_BYTES + entries * 8 + ((entries * 4 + 7) & ~7);
}

/** Whether the bytes are a well-formed batch; if not, fault.ts names the field. `ptr` is 8-byte aligned. */
export function kvCheck(ptr: usize, bytes: u32): bool {
  if (bytes < <u32>KV_HEADER_BYTES) return header("totalBytes", <f64>bytes, "at least the 64-byte header");
  if (bytes > <u32>KV_BATCH_BYTES_MAX) return header("totalBytes", <f64>bytes, "at most 65536");
  if (load<u32>(ptr) != KV_MAGIC) return header("magic", load<u32>(ptr), '827019333, "EPK1"');
  const version = load<u16>(ptr, KV_AT_VERSION);
  if (version != KV_WIRE_VERSION) return header("version", version, "1, the version this filter reads");
  const headerBytes = load<u16>(ptr, KV_AT_HEADER_BYTES);
  if (headerBytes != KV_HEADER_BYTES) return header("headerBytes", headerBytes, "64");
  const total = load<u32>(ptr, KV_AT_TOTAL_BYTES);
  if (total != bytes) return header("totalBytes", total, "the number of bytes received");
  if (load<u32>(ptr, KV_AT_CHECKSUM) != snapshotChecksum(ptr, bytes)) {
    return header("checksum", load<u32>(ptr, KV_AT_CHECKSUM), "the checksum of the bytes received");
  }
  if (kvSession(ptr) == 0) return header("session", 0, "a number that is not 0");
  if (kvSequence(ptr) == 0)
    return header("sequence", 0, "1 for the session's first batch, then one more each");
  return checkSections(ptr, bytes);
}

function header(name: string, value: f64, expected: string): bool {
  return fault("", -1, name, value, expected);
}

function checkSections(ptr: usize, bytes: u32): bool {
  const sections = kvSections(ptr);
  let at: u32 = KV_HEADER_BYTES;
  changes = 0;
  for (let i: u32 = 0; i < sections; i++) {
    if (bytes - at < <u32>KV_SECTION_BYTES)
      return header("sections", sections, "no more than there are bytes for");
    const section = ptr + at;
    if (!checkSection(section, <i32>i, bytes - at)) return false;
    at += kvSectionBytes(section);
  }
  return at == bytes || header("totalBytes", bytes, "the end of the last section");
}

function checkSection(section: usize, i: i32, room: u32): bool {
  const operation = <u32>load<u8>(section, KV_SECTION_AT_OPERATION);
  if (operation - KV_STORE > <u32>(KV_DEGRADED - KV_STORE)) return wrong(i, "operation", operation, "1 to 5");
  const tier = <u32>load<u8>(section, KV_SECTION_AT_TIER);
  const tierMax: u32 = operation == KV_STORE ? KV_TIER_DISK : 0;
  if (tier > tierMax) return wrong(i, "tier", tier, "0 to 2 where entries are stored, else 0");
  const slot = <u32>load<u16>(section, KV_SECTION_AT_SLOT);
  if (slot >= <u32>POOL_ENDPOINTS_MAX) return wrong(i, "slot", slot, "0 to 255");
  if (load<u16>(section, KV_SECTION_AT_GENERATION) == 0) return wrong(i, "generation", 0, "1 to 65535");
  const reserved = load<u16>(section, SECTION_AT_RESERVED) | load<u32>(section, SECTION_AT_RESERVED_2);
  if (reserved != 0) return wrong(i, "reserved", reserved, "0");
  const entries = load<u32>(section, KV_SECTION_AT_ENTRIES);
  const needed = kvSectionBytes(section);
  if (needed > room) return wrong(i, "entries", entries, "no more than the batch has bytes for");
  if (operation > <u32>KV_REMOVE) {
    const most: u32 = operation == KV_DEGRADED ? 0 : KV_ENTRIES_MAX;
    return (
      entries <= most || wrong(i, "entries", entries, "at most 1000000, and 0 where the slot is degraded")
    );
  }
  changes += entries;
  return checkEntries(section, i, entries, operation == KV_STORE);
}

function checkEntries(section: usize, i: i32, entries: u32, isStore: bool): bool {
  const keys = section + KV_SECTION_BYTES;
  for (let k: u32 = 0; k < entries; k++) {
    if (load<u64>(keys + ((<usize>k) << 3)) == 0) return wrong(i, "key", 0, "not 0");
  }
  if (!isStore) return true;
  const tokens = kvTokensPtr(section);
  for (let k: u32 = 0; k < entries; k++) {
    const count = load<u32>(tokens + ((<usize>k) << 2));
    if (count - 1 >= <u32>KV_TOKENS_MAX) return wrong(i, "tokens", count, "1 to 1073741823");
  }
  return true;
}

function wrong(section: i32, name: string, value: f64, expected: string): bool {
  return fault("sections", section, name, value, expected);
}
