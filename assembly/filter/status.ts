// GET /status on the control listener: pools, endpoints and counters over all workers, as one JSON object.
//
// Workers publish their cells at least every CELL_HEARTBEAT_MS, so the figures are at most that old.
import { STATUS_OK } from "../abi/constants";
import { inboxMark, inboxReset } from "../abi/inbox";
import { sharedGet, valueBytes, valuePtr } from "../abi/host";
import {
  writeBegin,
  writeCut,
  writeF64,
  writeJsonInner,
  writeLength,
  writeLiteral,
  writeText,
  writeU64,
} from "../text/text";
import { CELL_AT_COUNTERS, CELL_LAPSE_MS } from "../wire/cell";
import { POOL_ENDPOINTS_MAX, WORKERS_MAX } from "../wire/limits";
import {
  COLUMN_FLAGS,
  COLUMN_FOREIGN_REQUESTS,
  COLUMN_GENERATION,
  COLUMN_GPU_MEMORY,
  COLUMN_GPU_UTILIZATION,
  COLUMN_INFLIGHT_REQUESTS,
  COLUMN_INFLIGHT_TOKENS,
  COLUMN_KV_USAGE,
  COLUMN_PREFILLING,
  COLUMN_RUNNING,
  COLUMN_WAITING,
  rowF64,
  rowOf,
  rowU32,
} from "../pool/rows";
import { rowAddressLen, rowAddressPtr, rowNameLen, rowNamePtr } from "../pool/labels";
import { poolMeanTokens } from "../pool/means";
import { policyId, policyKnown, policyObjectives, policyReceivedMs, policyRules } from "../pool/policy";
import {
  promptModelCount,
  promptProgramCount,
  promptProgramsId,
  promptProgramsReceivedMs,
} from "../pool/prompt-programs";
import {
  prefillBaseMs,
  prefillSamples,
  prefillTokenMs,
  ratesOf,
  tpotBaseMs,
  tpotRequestMs,
  tpotSamples,
} from "../pool/rates";
import { transferSamples, transferTokenMs } from "../pool/transfer";
import { readyEndpoints } from "../pool/snapshot";
import {
  poolCount,
  poolHasSnapshot,
  poolLoadIgnored,
  poolName,
  poolNameBytes,
  poolBytesPerToken,
  poolReceivedMs,
} from "../pool/table";
import { failuresInARow, isSetAside } from "../pool/health";
import { cellAdd, cellCheck, cellHeartbeatMs, cellsBegin, cellsEnd } from "../flow/cell";
import { COUNTERS_NAMED, counterName } from "./counters";
import { K_CELL } from "./names";
import { readKvIndex, writeKv, writeKvIndex } from "./kv-status";
import { readLeases, writeLease } from "./lease";
import { exchangeRates, numberedKey, numberedKeyPtr, ownCell, publish } from "./worker";
import { ENDPOINT_DRAINING, ENDPOINT_READY } from "../wire/snapshot";
import { refreshPools } from "./pools";

/** Bytes of the answer; endpoints that do not fit are left out and `truncated` says so. */
const STATUS_BYTES: u32 = 524288;
const json: usize = memory.data(524288);
/** Bytes kept free for what follows the endpoints. */
const TAIL_BYTES: u32 = 4096;
const totals: usize = memory.data(72 * 8, 8);

export function statusPtr(): usize {
  return json;
}

/** Writes the status; returns its length. */
export function statusWrite(now: f64): u32 {
  publish(now);
  refreshPools(now);
  exchangeRates(now, true);
  const workers = sumCells(now);
  readKvIndex(now);
  readLeases();
  writeBegin(json, STATUS_BYTES);
  writeLiteral('{"version":1,"workers":');
  writeU64(workers);
  writeLiteral(',"counters":{');
  for (let i: u32 = 0; i < COUNTERS_NAMED; i++) {
    if (i > 0) writeLiteral(",");
    writeLiteral('"');
    writeText(counterName(i));
    writeLiteral('":');
    writeU64(load<u64>(totals + ((<usize>i) << 3)));
  }
  writeLiteral('},"pools":[');
  let isTruncated = false;
  for (let pool: u32 = 0; pool < poolCount(); pool++) {
    if (pool > 0) writeLiteral(",");
    if (!writePool(pool, now)) isTruncated = true;
  }
  writeLiteral(isTruncated ? '],"truncated":true}' : '],"truncated":false}');
  return writeLength();
}

// All live cells. Our own work stands in the rows already, so only the others' is added there.
function sumCells(now: f64): u32 {
  memory.fill(totals, 0, 72 * 8);
  let workers: u32 = 0;
  cellsBegin();
  for (let n: u32 = 0; n < <u32>WORKERS_MAX; n++) {
    const mark = inboxMark();
    if (sharedGet(numberedKeyPtr(), numberedKey(K_CELL, n)) != STATUS_OK) break;
    const cell = valuePtr();
    if (cellCheck(cell, valueBytes()) && now - cellHeartbeatMs(cell) <= <u32>CELL_LAPSE_MS) {
      workers++;
      for (let i: u32 = 0; i < COUNTERS_NAMED; i++) {
        const total = totals + ((<usize>i) << 3);
        store<u64>(total, load<u64>(total) + load<u64>(cell + CELL_AT_COUNTERS + ((<usize>i) << 3)));
      }
      if (n != ownCell()) cellAdd(cell);
    }
    inboxReset(mark);
  }
  cellsEnd();
  return workers;
}

function writePool(pool: u32, now: f64): bool {
  writeLiteral('{"name":"');
  writeJsonInner(poolName(pool), poolNameBytes(pool));
  writeLiteral('","snapshotAgeMs":');
  writeF64(poolHasSnapshot(pool) ? Math.max(0, now - poolReceivedMs(pool)) : NaN);
  writeLiteral(',"loadIgnored":');
  writeLiteral(poolLoadIgnored(pool) ? "true" : "false");
  writeLiteral(',"readyEndpoints":');
  writeU64(readyEndpoints(pool));
  writeLiteral(',"bytesPerToken":');
  writeF64(poolBytesPerToken(pool));
  // Of this worker's latest requests.
  figure("meanUncachedTokens", poolMeanTokens(pool, NaN));
  writeTransfer(pool);
  writeLease(pool, now);
  writePolicy(pool, now);
  writePromptPrograms(pool, now);
  writeKvIndex(pool);
  writeLiteral(',"endpoints":[');
  let isFirst = true;
  let isWhole = true;
  for (let slot: u32 = 0; slot < <u32>POOL_ENDPOINTS_MAX; slot++) {
    const row = rowOf(pool, slot);
    if (rowU32(COLUMN_GENERATION, row) == 0) continue;
    if (writeLength() + TAIL_BYTES > STATUS_BYTES) {
      isWhole = false;
      break;
    }
    if (!isFirst) writeLiteral(",");
    isFirst = false;
    writeEndpoint(row, now);
    writeKv(row);
    writeLiteral("}");
  }
  writeLiteral("]}");
  return isWhole && !writeCut();
}

// What was learnt of KV transfers between the pool's endpoints; null while nothing is.
function writeTransfer(pool: u32): void {
  const samples = transferSamples(pool);
  figure("transferTokenMs", samples > 0 ? transferTokenMs(pool, NaN) : NaN);
  figure("transferSamples", samples);
}

// The policy in force; its id is the sidecar's, its age counts from receipt.
function writePolicy(pool: u32, now: f64): void {
  writeLiteral(',"policyId":');
  writeU64(policyId(pool));
  writeLiteral(',"policyAgeMs":');
  writeF64(policyKnown(pool) ? Math.max(0, now - policyReceivedMs(pool)) : NaN);
  writeLiteral(',"objectives":');
  writeU64(policyObjectives(pool));
  writeLiteral(',"rewriteRules":');
  writeU64(policyRules(pool));
}

// The prompt programs in force, likewise.
function writePromptPrograms(pool: u32, now: f64): void {
  writeLiteral(',"promptProgramsId":');
  writeU64(promptProgramsId(pool));
  figure("promptProgramsAgeMs", Math.max(0, now - promptProgramsReceivedMs(pool)));
  writeLiteral(',"promptPrograms":');
  writeU64(promptProgramCount(pool));
  writeLiteral(',"promptModels":');
  writeU64(promptModelCount(pool));
}

function writeEndpoint(row: u32, now: f64): void {
  const flags = rowU32(COLUMN_FLAGS, row);
  writeLiteral('{"address":"');
  writeJsonInner(rowAddressPtr(row), rowAddressLen(row));
  writeLiteral('","name":"');
  writeJsonInner(rowNamePtr(row), rowNameLen(row));
  writeLiteral('","generation":');
  writeU64(rowU32(COLUMN_GENERATION, row));
  writeLiteral(',"ready":');
  writeLiteral((flags & ENDPOINT_READY) != 0 ? "true" : "false");
  writeLiteral(',"draining":');
  writeLiteral((flags & ENDPOINT_DRAINING) != 0 ? "true" : "false");
  writeLiteral(',"setAside":');
  writeLiteral(isSetAside(row, now) ? "true" : "false");
  writeLiteral(',"failures":');
  writeU64(failuresInARow(row));
  column("inflightRequests", COLUMN_INFLIGHT_REQUESTS, row);
  column("inflightTokens", COLUMN_INFLIGHT_TOKENS, row);
  column("waiting", COLUMN_WAITING, row);
  column("running", COLUMN_RUNNING, row);
  column("kvUsage", COLUMN_KV_USAGE, row);
  column("gpuUtilization", COLUMN_GPU_UTILIZATION, row);
  column("gpuMemory", COLUMN_GPU_MEMORY, row);
  column("prefilling", COLUMN_PREFILLING, row);
  column("foreignRequests", COLUMN_FOREIGN_REQUESTS, row);
  writeRates(row, now);
}

// What was learnt of the endpoint's speed; null while nothing is.
function writeRates(row: u32, now: f64): void {
  ratesOf(row, now);
  const isKnown = prefillSamples() > 0;
  figure("prefillTokensPerSecond", isKnown ? 1000 / prefillTokenMs() : NaN);
  figure("prefillBaseMs", isKnown ? prefillBaseMs() : NaN);
  figure("prefillSamples", prefillSamples());
  const isPaced = tpotSamples() > 0;
  figure("tpotBaseMs", isPaced ? tpotBaseMs() : NaN);
  figure("tpotRequestMs", isPaced ? tpotRequestMs() : NaN);
  figure("tpotSamples", tpotSamples());
}

function figure(name: string, value: f64): void {
  writeLiteral(',"');
  writeLiteral(name);
  writeLiteral('":');
  writeF64(value);
}

function column(name: string, column: u32, row: u32): void {
  figure(name, rowF64(column, row));
}
