// The pure part of one decision as a small module: what the benchmark of scheduling times from Node.
import "../../../assembly/abi/abort";
import {
  candidateCount,
  candidateRow,
  candidatesAdd,
  candidatesReset,
} from "../../../assembly/schedule/candidates";
import {
  chainKey,
  chainKeyCount,
  chainReset,
  chainDepthBytes,
  chainTextBytes,
} from "../../../assembly/prefix/chain";
import { CHAIN_BYTES, chainRelease } from "../../../assembly/prefix/chain";
import { configLoad, configPlan } from "../../../assembly/schema/settings";
import {
  COLUMN_FLAGS,
  COLUMN_GENERATION,
  COLUMN_INFLIGHT_REQUESTS,
  COLUMN_INFLIGHT_TOKENS,
  COLUMN_KV_CAPACITY_TOKENS,
  COLUMN_KV_USAGE,
  COLUMN_MATCHED_TOKENS,
  COLUMN_RUNNING,
  COLUMN_UNCACHED_TOKENS,
  COLUMN_WAITING,
  setRowF64,
  setRowU32,
} from "../../../assembly/pool/rows";
import { inFlightKeys, indexInsert, indexLookup, matchedBytes } from "../../../assembly/prefix/index";
import { cellKey, cellsCount, cellsOpen, cellsReset, cellsText } from "../../../assembly/prefix/cells";
import { CELLS_BYTES } from "../../../assembly/prefix/cells";
import { exactEntriesTotal, exactRemove, exactStore } from "../../../assembly/prefix/exact";
import { exactBytes, exactLookup, exactTokens } from "../../../assembly/prefix/exact-lookup";
import {
  EXACT_AGREES,
  EXACT_FOLLOWS,
  setExactFlags,
  setExactGeneration,
} from "../../../assembly/prefix/exact-rows";
import { POOL_ENDPOINTS_MAX } from "../../../assembly/wire/limits";
import { KV_TIER_GPU } from "../../../assembly/wire/kv-deltas";
import { indexEntries as entries } from "../../../assembly/prefix/entries";
import { mixPair } from "../../../assembly/text/hash";
import { PROMPT_BYTES, promptBegin, promptEnd, promptFeed } from "../../../assembly/prompt/record";
import { API_CHAT } from "../../../assembly/prompt/api";
import { requestReset, requestSetTokens } from "../../../assembly/schedule/request";
import { resultRow } from "../../../assembly/schedule/pickers";
import { schedule } from "../../../assembly/schedule/schedule";

const BODY_BYTES: u32 = 16777216;
const CHAINS: u32 = 512;
const body: usize = memory.data(16777216, 16);
const record: usize = memory.data(2048, 16);
const chains: usize = memory.data(512 * 256, 16);
const scratchChain: usize = memory.data(256, 16);
const ROOT: u64 = 0x5eed;
const BYTES_PER_TOKEN: f64 = 4;

/** Where a body of at most bodyBytesMax() bytes is laid. */
export function bodyPtr(): usize {
  return body;
}
export function bodyBytesMax(): u32 {
  return BODY_BYTES;
}
export function chainsMax(): u32 {
  return CHAINS;
}
export function indexEntries(): u32 {
  return entries();
}

function chainAt(index: u32): usize {
  return chains + ((<usize>index) << 8);
}

/**
 * Reads chat bodies in turns, `times` in all: scan, validation, key chain. `count` bodies lie `stride` bytes
 * apart, each as u32 length and, 16 bytes on, its text. 0 = all valid.
 */
export function readBodies(stride: u32, count: u32, times: u32): u32 {
  assert(PROMPT_BYTES <= 2048 && CHAIN_BYTES <= 256);
  let status: u32 = 0;
  for (let i: u32 = 0; i < times; i++) {
    const at = body + (i % count) * stride;
    chainReset(scratchChain);
    promptBegin(record, API_CHAT, scratchChain);
    status |= promptFeed(record, at + 16, load<u32>(at));
    status |= promptEnd(record);
    chainRelease(scratchChain);
  }
  return status;
}

/** Reads the body at bodyPtr() and keeps its chain as number `index`; returns its keys. */
export function keepChain(index: u32, bytes: u32): u32 {
  const chain = chainAt(index);
  chainReset(chain);
  promptBegin(record, API_CHAT, chain);
  promptFeed(record, body, bytes);
  promptEnd(record);
  return chainKeyCount(chain);
}

/** Notes the first `keys` keys of a chain as held by a row, or all of them. */
export function holdChain(index: u32, row: u32, keys: u32): void {
  const chain = chainAt(index);
  const count = min(keys, chainKeyCount(chain));
  for (let i: u32 = 0; i < count; i++) indexInsert(chainKey(chain, i, ROOT), row);
}

/** Fills the index with keys of prompts that nobody asks about until it has `wanted` entries. */
export function fillIndex(wanted: u32, endpoints: u32): void {
  for (let i: u32 = 0; entries() < wanted; i++) indexInsert(mixPair(0xf111, i), i % endpoints);
}

/** A pool of `count` ready endpoints with some load, rows 0…count−1. */
export function setEndpoints(count: u32): void {
  for (let row: u32 = 0; row < <u32>POOL_ENDPOINTS_MAX; row++) {
    setRowU32(COLUMN_GENERATION, row, row < count ? 1 : 0);
    setRowU32(COLUMN_FLAGS, row, 3);
    setRowF64(COLUMN_WAITING, row, row % 5);
    setRowF64(COLUMN_RUNNING, row, row % 16);
    setRowF64(COLUMN_KV_USAGE, row, <f64>(row % 10) / 10);
    setRowF64(COLUMN_KV_CAPACITY_TOKENS, row, 4e9);
    setRowF64(COLUMN_INFLIGHT_REQUESTS, row, row % 7);
    setRowF64(COLUMN_INFLIGHT_TOKENS, row, (row * 331) % 9000);
  }
}

/** Loads the default configuration; false: refused. */
export function configure(): bool {
  config = configLoad(0, 0);
  return config != 0;
}
let config: u32 = 0;

/** Endpoints that hold some of a chain. */
export function holders(index: u32): u32 {
  return indexLookup(chainAt(index), ROOT, 0);
}

/** Decides once for each chain from `first` on, `times` in all, in turns over `count` chains. Returns a sum of the picks. */
export function decide(first: u32, count: u32, endpoints: u32, times: u32): u32 {
  let sum: u32 = 0;
  for (let i: u32 = 0; i < times; i++) sum += decideOnce(chainAt(first + (i % count)), endpoints, i);
  return sum;
}

// The exact index: the same bodies, taken as rendered prompts.
const cells: usize = memory.data(512 * 88, 16);
const CELLS_ROOT: u64 = 0xce11;

function cellsAt(index: u32): usize {
  return cells + <usize>index * CELLS_BYTES;
}

/** Marks rows 0…count−1 as exactly known. */
export function setExact(count: u32): void {
  for (let row: u32 = 0; row < count; row++) {
    setExactGeneration(row, 1);
    setExactFlags(row, EXACT_FOLLOWS | EXACT_AGREES);
  }
}

/** Keeps the cells of the `bytes` bytes at bodyPtr() as number `index`; returns how many. */
export function keepCells(index: u32, bytes: u32): u32 {
  cellsReset(cellsAt(index));
  cellsText(cellsAt(index), body, bytes);
  return cellsCount(cellsAt(index));
}

/** Notes the first `count` cells of a prompt as held by a row. */
export function holdCells(index: u32, row: u32, count: u32): void {
  const held = min(count, cellsOpen(cellsAt(index)));
  for (let i: u32 = 0; i < held; i++) exactStore(cellKey(i, CELLS_ROOT), row, (i + 1) * 16, KV_TIER_GPU);
}

/** Fills the index with exact entries that nobody asks about until there are `wanted`; returns how many it took. */
export function fillExact(wanted: u32, endpoints: u32): u32 {
  let filled: u32 = 0;
  for (; exactEntriesTotal() < wanted; filled++) {
    exactStore(mixPair(0xf222, filled), filled % endpoints, 16, KV_TIER_GPU);
  }
  return filled;
}

/** Removes `count` of the entries that fillExact stored and stores them again: what changes in batches cost. */
export function replaceExact(first: u32, count: u32, endpoints: u32): void {
  for (let i = first; i < first + count; i++) {
    exactRemove(mixPair(0xf222, i), i % endpoints);
    exactStore(mixPair(0xf222, i), i % endpoints, 32, KV_TIER_GPU);
  }
}

/** Endpoints that hold some of a prompt's cells. */
export function exactHolders(index: u32): u32 {
  return exactLookup(cellsAt(index), CELLS_ROOT, 0);
}

/** Like decide(), with the prompts' cells looked up at exact rows and what is in flight there beside. */
export function decideExact(first: u32, count: u32, endpoints: u32, times: u32): u32 {
  let sum: u32 = 0;
  for (let i: u32 = 0; i < times; i++) sum += decideExactOnce(first + (i % count), endpoints, i);
  return sum;
}

// Keys of the chain that stand for no more than `bytes` bytes.
function keysWithin(chain: usize, bytes: u32): u32 {
  let from: u32 = 0;
  let to = chainKeyCount(chain);
  while (from < to) {
    const middle = (from + to) >> 1;
    if (chainDepthBytes(chain, middle) <= bytes) from = middle + 1;
    else to = middle;
  }
  return from;
}

function decideExactOnce(index: u32, endpoints: u32, entropy: u64): u32 {
  const chain = chainAt(index);
  requestReset(0, entropy);
  candidatesReset();
  for (let row: u32 = 0; row < endpoints; row++) candidatesAdd(row);
  const tokens = <f64>chainTextBytes(chain) / BYTES_PER_TOKEN;
  indexLookup(chain, ROOT, 0);
  exactLookup(cellsAt(index), CELLS_ROOT, 0);
  requestSetTokens(tokens, tokens, tokens);
  for (let i: u32 = 0; i < candidateCount(); i++) {
    const row = candidateRow(i);
    const from = keysWithin(chain, exactBytes(row));
    const inFlight = inFlightKeys(chain, ROOT, row, from);
    const noted = inFlight > from ? <f64>chainDepthBytes(chain, inFlight - 1) / BYTES_PER_TOKEN : 0;
    const matched = Math.min(Math.max(exactTokens(row), noted), tokens);
    setRowF64(COLUMN_MATCHED_TOKENS, row, matched);
    setRowF64(COLUMN_UNCACHED_TOKENS, row, tokens - matched);
  }
  return schedule(configPlan(config), 0) == 0 ? 0 : resultRow(0) + 1;
}

function decideOnce(chain: usize, endpoints: u32, entropy: u64): u32 {
  requestReset(0, entropy);
  candidatesReset();
  for (let row: u32 = 0; row < endpoints; row++) candidatesAdd(row);
  const keys = chainKeyCount(chain);
  const tokens = <f64>chainTextBytes(chain) / BYTES_PER_TOKEN;
  indexLookup(chain, ROOT, 0);
  requestSetTokens(tokens, keys == 0 ? 0 : <f64>chainDepthBytes(chain, keys - 1) / BYTES_PER_TOKEN, tokens);
  for (let i: u32 = 0; i < candidateCount(); i++) {
    const row = candidateRow(i);
    const matched = <f64>matchedBytes(chain, row) / BYTES_PER_TOKEN;
    setRowF64(COLUMN_MATCHED_TOKENS, row, matched);
    setRowF64(COLUMN_UNCACHED_TOKENS, row, tokens - matched);
  }
  return schedule(configPlan(config), 0) == 0 ? 0 : resultRow(0) + 1;
}
