// Pools in shared data: the registry of names, each pool's snapshot, policy and prompt programs with their epochs; and
// which pool a request belongs to.
import { CAS_CREATE, STATUS_OK } from "../abi/constants";
import { inboxMark, inboxReset } from "../abi/inbox";
import { property, sharedGet, sharedSet, valueBytes, valueCas, valuePtr } from "../abi/host";
import { textBytes, writeBegin, writeBytes, writeLength, writeText } from "../text/text";
import { POOLS_MAX, POOL_NAME_BYTES_MAX, SNAPSHOT_BYTES_MAX } from "../wire/limits";
import {
  NO_POOL,
  poolAdd,
  poolCount,
  poolFind,
  poolHasSnapshot,
  poolIgnoreLoad,
  poolName,
  poolNameBytes,
  poolReceivedMs,
  poolSequence,
  poolSkip,
  poolTake,
} from "../pool/table";
import { policySequence, policySkip, policyTake } from "../pool/policy";
import { policyCheck } from "../pool/policy-check";
import { promptProgramsSequence, promptProgramsSkip, promptProgramsTake } from "../pool/prompt-programs";
import { promptProgramsCheck } from "../pool/prompt-programs-check";
import { snapshotCheck } from "../pool/snapshot-check";
import { POLICY_BYTES_MAX } from "../wire/policy";
import { PROMPTS_BYTES_MAX } from "../wire/prompt-programs";
import {
  COUNT_POLICIES,
  COUNT_POLICIES_BAD,
  COUNT_PROMPT_PROGRAMS,
  COUNT_PROMPT_PROGRAMS_BAD,
  COUNT_SNAPSHOTS,
  COUNT_SNAPSHOTS_BAD,
  countUp,
} from "./counters";
import {
  K_EPOCH,
  K_POLICY,
  K_POLICY_EPOCH,
  K_POOLS,
  K_PROMPTS,
  K_PROMPTS_EPOCH,
  K_SNAPSHOT,
  P_CLUSTER,
  P_ROUTE_POOL,
} from "./names";

/** The registry of names is read again when the last reading is older than this. */
const REGISTRY_MS: f64 = 250;
/** Attempts to enter a name while other workers do the same; a further failure is the sidecar's to retry. */
const REGISTER_TRIES: u32 = 8;

const keyBuffer: usize = memory.data(320, 8);
const epochBuffer: usize = memory.data(16, 8);
let registryReadMs: f64 = -1e9;
let snapshotAgeMaxMs: f64 = 3000;

/** The limit after which load columns are ignored; the picker's configuration sets it. */
export function setSnapshotAgeMaxMs(ms: f64): void {
  snapshotAgeMaxMs = ms;
}

function namedKey(prefix: usize, name: usize, bytes: u32): u32 {
  writeBegin(keyBuffer, 320);
  writeText(prefix);
  writeBytes(name, bytes);
  return writeLength();
}

// The registry: u32 count, then (u32 bytes, bytes) per name. Names are only ever added.
function readRegistry(): void {
  const mark = inboxMark();
  if (sharedGet(K_POOLS, textBytes(K_POOLS)) == STATUS_OK) {
    const ptr = valuePtr();
    const bytes = valueBytes();
    const count: u32 = bytes < 4 ? 0 : min<u32>(load<u32>(ptr), POOLS_MAX);
    let at: u32 = 4;
    for (let i: u32 = 0; i < count && at + 4 <= bytes; i++) {
      const length = load<u32>(ptr + at);
      if (length > bytes - at - 4) break;
      poolAdd(ptr + at + 4, length);
      at += 4 + length;
    }
  }
  inboxReset(mark);
}

const registry: usize = memory.data(4 + 16 * 257, 8);

/** Enters a pool's name for all workers. False: the table of pools is full. */
export function registerPool(name: usize, bytes: u32): bool {
  if (poolFind(name, bytes) != NO_POOL) return true;
  readRegistry();
  if (poolFind(name, bytes) != NO_POOL) return true;
  for (let attempt: u32 = 0; attempt < REGISTER_TRIES; attempt++) {
    const mark = inboxMark();
    let length: u32 = 4;
    let cas = CAS_CREATE;
    store<u32>(registry, 0);
    if (sharedGet(K_POOLS, textBytes(K_POOLS)) == STATUS_OK && valueBytes() >= 4) {
      length = min<u32>(valueBytes(), 4 + POOLS_MAX * 257);
      memory.copy(registry, valuePtr(), length);
      cas = valueCas();
    }
    inboxReset(mark);
    const count = load<u32>(registry);
    if (count >= <u32>POOLS_MAX || bytes == 0 || bytes > <u32>POOL_NAME_BYTES_MAX) return false;
    store<u32>(registry, count + 1);
    store<u32>(registry + length, bytes);
    memory.copy(registry + length + 4, name, bytes);
    if (sharedSet(K_POOLS, textBytes(K_POOLS), registry, length + 4 + bytes, cas) == STATUS_OK) {
      return poolAdd(name, bytes) != NO_POOL;
    }
    readRegistry();
    if (poolFind(name, bytes) != NO_POOL) return true;
  }
  return false;
}

/** Stores a checked snapshot for all workers, stamped with the time of its receipt. */
export function storeSnapshot(
  name: usize,
  bytes: u32,
  snapshot: usize,
  snapshotBytes: u32,
  nowNs: u64,
): void {
  sharedSet(keyBuffer, namedKey(K_SNAPSHOT, name, bytes), snapshot, snapshotBytes);
  storeEpoch(K_EPOCH, name, bytes, nowNs);
}

/** Stores a checked policy likewise. */
export function storePolicy(name: usize, bytes: u32, policy: usize, policyBytes: u32, nowNs: u64): void {
  sharedSet(keyBuffer, namedKey(K_POLICY, name, bytes), policy, policyBytes);
  storeEpoch(K_POLICY_EPOCH, name, bytes, nowNs);
}

/** Stores checked prompt programs likewise. */
export function storePromptPrograms(
  name: usize,
  bytes: u32,
  programs: usize,
  programsBytes: u32,
  nowNs: u64,
): void {
  sharedSet(keyBuffer, namedKey(K_PROMPTS, name, bytes), programs, programsBytes);
  storeEpoch(K_PROMPTS_EPOCH, name, bytes, nowNs);
}

function storeEpoch(prefix: usize, name: usize, bytes: u32, nowNs: u64): void {
  store<u64>(epochBuffer, nowNs);
  store<f64>(epochBuffer, <f64>nowNs / 1000000, 8);
  sharedSet(keyBuffer, namedKey(prefix, name, bytes), epochBuffer, 16);
}

/** A request goes by what was read this long ago, at most. */
const FRESH_MS: f64 = 2;
let refreshedMs: f64 = -1e9;

/** refreshPools, unless that was done within FRESH_MS. */
export function freshenPools(nowMs: f64): void {
  if (nowMs - refreshedMs > FRESH_MS || nowMs < refreshedMs) refreshPools(nowMs);
}

/** Takes new policies, prompt programs and snapshots in, and lets go of the load figures of those that are too old. */
export function refreshPools(nowMs: f64): void {
  refreshedMs = nowMs;
  if (nowMs - registryReadMs > REGISTRY_MS || nowMs < registryReadMs) {
    registryReadMs = nowMs;
    readRegistry();
  }
  for (let pool: u32 = 0; pool < poolCount(); pool++) {
    const mark = inboxMark();
    // The policy last: it is stored before a pool's first snapshot, so whoever has seen that one sees it too.
    refreshPool(pool);
    refreshPolicy(pool);
    refreshPromptPrograms(pool);
    inboxReset(mark);
    if (poolHasSnapshot(pool) && nowMs - poolReceivedMs(pool) > snapshotAgeMaxMs) poolIgnoreLoad(pool);
  }
}

function refreshPolicy(pool: u32): void {
  const name = poolName(pool);
  const bytes = poolNameBytes(pool);
  if (sharedGet(keyBuffer, namedKey(K_POLICY_EPOCH, name, bytes)) != STATUS_OK || valueBytes() != 16) return;
  const sequence = load<u64>(valuePtr());
  const receivedMs = load<f64>(valuePtr(), 8);
  if (sequence == policySequence(pool)) return;
  if (sharedGet(keyBuffer, namedKey(K_POLICY, name, bytes)) != STATUS_OK) return;
  if (valueBytes() > <u32>POLICY_BYTES_MAX || !policyCheck(valuePtr(), valueBytes())) {
    countUp(COUNT_POLICIES_BAD);
    policySkip(pool, sequence);
    return;
  }
  countUp(COUNT_POLICIES);
  policyTake(pool, valuePtr(), valueBytes(), sequence, receivedMs);
}

function refreshPromptPrograms(pool: u32): void {
  const name = poolName(pool);
  const bytes = poolNameBytes(pool);
  if (sharedGet(keyBuffer, namedKey(K_PROMPTS_EPOCH, name, bytes)) != STATUS_OK || valueBytes() != 16) return;
  const sequence = load<u64>(valuePtr());
  const receivedMs = load<f64>(valuePtr(), 8);
  if (sequence == promptProgramsSequence(pool)) return;
  if (sharedGet(keyBuffer, namedKey(K_PROMPTS, name, bytes)) != STATUS_OK) return;
  if (valueBytes() > <u32>PROMPTS_BYTES_MAX || !promptProgramsCheck(valuePtr(), valueBytes())) {
    countUp(COUNT_PROMPT_PROGRAMS_BAD);
    promptProgramsSkip(pool, sequence);
    return;
  }
  countUp(COUNT_PROMPT_PROGRAMS);
  promptProgramsTake(pool, valuePtr(), valueBytes(), sequence, receivedMs);
}

function refreshPool(pool: u32): void {
  const name = poolName(pool);
  const bytes = poolNameBytes(pool);
  if (sharedGet(keyBuffer, namedKey(K_EPOCH, name, bytes)) != STATUS_OK || valueBytes() != 16) return;
  const sequence = load<u64>(valuePtr());
  const receivedMs = load<f64>(valuePtr(), 8);
  if (sequence == poolSequence(pool)) return;
  if (sharedGet(keyBuffer, namedKey(K_SNAPSHOT, name, bytes)) != STATUS_OK) return;
  // The writer checked it before publishing, the reader checks it on receipt.
  if (valueBytes() > <u32>SNAPSHOT_BYTES_MAX || !snapshotCheck(valuePtr(), valueBytes())) {
    countUp(COUNT_SNAPSHOTS_BAD);
    poolSkip(pool, sequence);
    return;
  }
  countUp(COUNT_SNAPSHOTS);
  poolTake(pool, valuePtr(), valueBytes(), sequence, receivedMs);
}

/**
 * The pool of the request at hand: the one that the route's metadata `epp.pool` names, and no other; where it
 * names none, the pool of the cluster's name, else the configured one, else, with none configured, the only pool
 * there is. NO_POOL: that is not known.
 */
export function resolvePool(configured: usize, configuredBytes: u32): u32 {
  const mark = inboxMark();
  let pool = NO_POOL;
  if (property(P_ROUTE_POOL) == STATUS_OK && valueBytes() > 0) {
    pool = poolFind(valuePtr(), valueBytes());
  } else {
    if (property(P_CLUSTER) == STATUS_OK) pool = poolFind(valuePtr(), valueBytes());
    if (pool == NO_POOL && configuredBytes > 0) pool = poolFind(configured, configuredBytes);
    if (pool == NO_POOL && configuredBytes == 0 && poolCount() == 1) pool = 0;
  }
  inboxReset(mark);
  return pool;
}
