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
import { indexInsert, indexLookup, matchedBytes } from "../../../assembly/prefix/index";
import { indexEntries as entries } from "../../../assembly/prefix/holders";
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

/** Ready endpoints with some load, rows 0…count−1. */
export function setEndpoints(count: u32): void {
  for (let row: u32 = 0; row < count; row++) {
    setRowU32(COLUMN_FLAGS, row, 3);
    setRowU32(COLUMN_GENERATION, row, 1);
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
  return indexLookup(chainAt(index), ROOT, 0, 256);
}

/** Decides once for each chain from `first` on, `times` in all, in turns over `count` chains. Returns a sum of the picks. */
export function decide(first: u32, count: u32, endpoints: u32, times: u32): u32 {
  let sum: u32 = 0;
  for (let i: u32 = 0; i < times; i++) sum += decideOnce(chainAt(first + (i % count)), endpoints, i);
  return sum;
}

function decideOnce(chain: usize, endpoints: u32, entropy: u64): u32 {
  requestReset(0, entropy);
  candidatesReset();
  for (let row: u32 = 0; row < endpoints; row++) candidatesAdd(row);
  const keys = chainKeyCount(chain);
  const tokens = <f64>chainTextBytes(chain) / BYTES_PER_TOKEN;
  indexLookup(chain, ROOT, 0, candidateCount());
  requestSetTokens(tokens, keys == 0 ? 0 : <f64>chainDepthBytes(chain, keys - 1) / BYTES_PER_TOKEN, tokens);
  for (let i: u32 = 0; i < candidateCount(); i++) {
    const row = candidateRow(i);
    const matched = <f64>matchedBytes(chain, row) / BYTES_PER_TOKEN;
    setRowF64(COLUMN_MATCHED_TOKENS, row, matched);
    setRowF64(COLUMN_UNCACHED_TOKENS, row, tokens - matched);
  }
  return schedule(configPlan(config), 0) == 0 ? 0 : resultRow(0) + 1;
}
