// The exact index in GET /status: a pool's, and each endpoint's behind kvGather() of its pool.
import { inboxMark, inboxReset } from "../abi/inbox";
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { poolCount } from "../pool/table";
import { exactEntries } from "../prefix/exact-rows";
import { writeF64, writeLiteral, writeU64 } from "../text/text";
import {
  kvEntriesMost,
  kvGather,
  kvHeadSequence,
  kvLeastSequence,
  kvSlotDegraded,
  kvSlotExact,
  kvSlotWanted,
  kvWorkers,
} from "./kv-positions";
import { headSequence, headSession, readHead } from "./kv-ring";
import { isWorkerVm } from "./worker";

/** Reads all pools' figures; before the status is begun, as that uses the text writer too. */
export function readKvIndex(nowMs: f64): void {
  for (let pool: u32 = 0; pool < poolCount(); pool++) {
    const mark = inboxMark();
    readHead(pool);
    inboxReset(mark);
    kvGather(pool, headSession(), headSequence(), nowMs);
  }
}

/**
 * Writes `,"kvIndex":{…}`: the last batch taken and the last that all live workers applied, the entries of the worker
 * that has most, endpoints that are exact in all workers, and those that some worker lacks.
 */
export function writeKvIndex(pool: u32): void {
  let exact: u32 = 0;
  let wanted: u32 = 0;
  for (let slot: u32 = 0; slot < <u32>POOL_ENDPOINTS_MAX; slot++) {
    if (kvSlotExact(pool, slot)) exact++;
    if (kvSlotWanted(pool, slot)) wanted++;
  }
  writeLiteral(',"kvIndex":{"sequence":');
  writeU64(kvHeadSequence(pool));
  writeLiteral(',"appliedSequence":');
  writeU64(min(kvLeastSequence(pool), kvHeadSequence(pool)));
  writeLiteral(',"workers":');
  writeU64(kvWorkers(pool));
  writeLiteral(',"entries":');
  writeU64(kvEntriesMost(pool));
  writeLiteral(',"exactEndpoints":');
  writeU64(exact);
  writeLiteral(',"wantedEndpoints":');
  writeU64(wanted);
  writeLiteral("}");
}

/** Writes `,"kv":"exact"|"degraded"|"unknown","kvEntries":n`; the entries are this worker's, null where it is none. */
export function writeKv(row: u32): void {
  const pool = row / POOL_ENDPOINTS_MAX;
  const slot = row % POOL_ENDPOINTS_MAX;
  writeLiteral(',"kv":"');
  writeLiteral(kvSlotExact(pool, slot) ? "exact" : kvSlotDegraded(pool, slot) ? "degraded" : "unknown");
  writeLiteral('","kvEntries":');
  writeF64(isWorkerVm() ? <f64>exactEntries(row) : NaN);
}
