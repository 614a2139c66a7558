// Which of several sidecars brings a pool: the one that holds its lease in shared data (wire/lease.ts).
import { CAS_CREATE, STATUS_OK } from "../abi/constants";
import { inboxMark, inboxReset } from "../abi/inbox";
import { sharedGet, sharedSet, valueBytes, valueCas, valuePtr } from "../abi/host";
import { poolCount, poolName, poolNameBytes } from "../pool/table";
import { writeBegin, writeBytes, writeJsonInner, writeLength, writeLiteral, writeText } from "../text/text";
import {
  LEASE_AT_HOLDER,
  LEASE_AT_HOLDER_BYTES,
  LEASE_AT_HOLDER_MS,
  LEASE_AT_OTHER,
  LEASE_AT_OTHER_BYTES,
  LEASE_AT_OTHER_MS,
  LEASE_BYTES,
  LEASE_ID_BYTES_MAX,
  LEASE_MS,
} from "../wire/lease";
import { COUNT_LEASES, COUNT_STANDBY_PUSHES, countUp } from "./counters";
import { K_LEASE } from "./names";

/** Attempts while other workers write the same lease; after a further failure the push counts as another's. */
const TRIES: u32 = 8;

const keyBuffer: usize = memory.data(320, 8);
/** The lease read last. */
const lease: usize = memory.data(152, 8);
let cas: u32 = 0;
/** Those of all pools, for the status. */
const leases: usize = memory.data(16 * 152, 8);

function keyOf(name: usize, bytes: u32): u32 {
  writeBegin(keyBuffer, 320);
  writeText(K_LEASE);
  writeBytes(name, bytes);
  return writeLength();
}

function read(name: usize, bytes: u32, to: usize): void {
  memory.fill(to, 0, LEASE_BYTES);
  const mark = inboxMark();
  const isThere = sharedGet(keyBuffer, keyOf(name, bytes)) == STATUS_OK;
  cas = isThere ? valueCas() : CAS_CREATE;
  if (isThere && valueBytes() == LEASE_BYTES) memory.copy(to, valuePtr(), LEASE_BYTES);
  inboxReset(mark);
  // The writer keeps to it; the reader does not rely on that.
  if (
    max(load<u32>(to, LEASE_AT_HOLDER_BYTES), load<u32>(to, LEASE_AT_OTHER_BYTES)) > <u32>LEASE_ID_BYTES_MAX
  )
    memory.fill(to, 0, LEASE_BYTES);
}

function write(name: usize, bytes: u32): bool {
  return sharedSet(keyBuffer, keyOf(name, bytes), lease, LEASE_BYTES, cas) == STATUS_OK;
}

// Clocks of threads differ a little, and a clock that was set back must not keep a lease for hours.
function wasHeard(atMs: f64, nowMs: f64): bool {
  return abs(nowMs - atMs) <= <f64>LEASE_MS;
}

function isHolder(id: usize, idBytes: u32): bool {
  return (
    load<u32>(lease, LEASE_AT_HOLDER_BYTES) == idBytes &&
    memory.compare(lease + LEASE_AT_HOLDER, id, idBytes) == 0
  );
}

function isHeld(at: usize, nowMs: f64): bool {
  return load<u32>(at, LEASE_AT_HOLDER_BYTES) > 0 && wasHeard(load<f64>(at, LEASE_AT_HOLDER_MS), nowMs);
}

/**
 * Whether the sidecar `id` brings the pool of that name, from now on or still. If not, leaseHolder() is who does.
 * Uses the text writer.
 */
export function leaseTake(name: usize, bytes: u32, id: usize, idBytes: u32, nowMs: f64): bool {
  for (let attempt: u32 = 0; attempt < TRIES; attempt++) {
    read(name, bytes, lease);
    const isOwn = isHolder(id, idBytes);
    const isFree = !isHeld(lease, nowMs);
    if (isOwn || isFree) {
      store<f64>(lease, nowMs, LEASE_AT_HOLDER_MS);
      put(LEASE_AT_HOLDER, LEASE_AT_HOLDER_BYTES, id, idBytes);
      if (isFree) store<f64>(lease, 0, LEASE_AT_OTHER_MS);
    } else {
      store<f64>(lease, nowMs, LEASE_AT_OTHER_MS);
      put(LEASE_AT_OTHER, LEASE_AT_OTHER_BYTES, id, idBytes);
    }
    if (!write(name, bytes)) continue;
    if (!isOwn) countUp(isFree ? COUNT_LEASES : COUNT_STANDBY_PUSHES);
    return isOwn || isFree;
  }
  return false;
}

function put(at: usize, bytesAt: usize, id: usize, idBytes: u32): void {
  store<u32>(lease + bytesAt, idBytes);
  memory.copy(lease + at, id, idBytes);
}

/** Gives the lease back if `id` holds it; a failure to write leaves it to lapse. Uses the text writer. */
export function leaseRelease(name: usize, bytes: u32, id: usize, idBytes: u32): void {
  read(name, bytes, lease);
  if (!isHolder(id, idBytes)) return;
  store<u32>(lease, 0, LEASE_AT_HOLDER_BYTES);
  write(name, bytes);
}

/** Who holds the lease that was read last. */
export function leaseHolderPtr(): usize {
  return lease + LEASE_AT_HOLDER;
}
export function leaseHolderBytes(): u32 {
  return load<u32>(lease, LEASE_AT_HOLDER_BYTES);
}

/** Reads all pools' leases; before the status is begun, as that uses the text writer too. */
export function readLeases(): void {
  for (let pool: u32 = 0; pool < poolCount(); pool++)
    read(poolName(pool), poolNameBytes(pool), leases + <usize>pool * LEASE_BYTES);
}

/** Writes `,"sidecar":…,"standbySidecar":…`: who brings the pool, and who wants to; null = nobody of late. */
export function writeLease(pool: u32, nowMs: f64): void {
  const at = leases + <usize>pool * LEASE_BYTES;
  const hasOther =
    load<u32>(at, LEASE_AT_OTHER_BYTES) > 0 && wasHeard(load<f64>(at, LEASE_AT_OTHER_MS), nowMs);
  writeLiteral(',"sidecar":');
  writeId(isHeld(at, nowMs), at + LEASE_AT_HOLDER, load<u32>(at, LEASE_AT_HOLDER_BYTES));
  writeLiteral(',"standbySidecar":');
  writeId(hasOther, at + LEASE_AT_OTHER, load<u32>(at, LEASE_AT_OTHER_BYTES));
}

function writeId(isKnown: bool, id: usize, bytes: u32): void {
  if (!isKnown) return writeLiteral("null");
  writeLiteral('"');
  writeJsonInner(id, bytes);
  writeLiteral('"');
}
