// context-length-aware: endpoints whose labelled range fits the request; a scorer, and a filter if asked.
//
//   label "min-max", n = context tokens
//   in range:  0.3 + 0.7 · (0.7 / (1 + (max − min) / 10000) + 0.3 · (max − n) / (max − min));  max = min → 1
//   outside:   0.3 / (1 + distance / 1000);   no label → 0.5;   unreadable label → 0
//   filter: keeps those in range and those without the label
//
// Parameters: text = label, default llm-d.ai/context-length-range; mode = 1 for enableFiltering.
// Source: llm-d-router pkg/epp/framework/plugins/scheduling/scorer/contextlengthaware @ ebab6879.
import { labelFind, labelValueLen, labelValuePtr, labelsVersion } from "../pool/labels";
import { rowOf } from "../pool/rows";
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { candidateCount, candidateRow, candidateSet, candidatesKeep, setScore } from "./candidates";
import { INSTANCE_AT_SERIAL, INSTANCE_AT_TEXT, INSTANCE_AT_TEXT_BYTES } from "./plan";
import { requestContextTokens } from "./request";

const MAX_FALLBACK_SCORE: f64 = 0.3;
const NO_LABEL_SCORE: f64 = 0.5;

// Ranges are parsed once per (instance, pool) and version of the pool's labels; f64 min, f64 max a slot.
// min = NaN: no label; max = NaN: a label that is no range. Direct-mapped, as in label-selector-filter.ts.
const CACHE_ENTRIES: u32 = 8;
const CACHE_ENTRY_BYTES: usize = 16 + 256 * 16;
const cache: usize = memory.data(8 * (16 + 256 * 16), 8);

/** Scores all candidates. */
export function scoreContextLength(instance: usize, pool: u32): void {
  const ranges = rangesOf(instance, pool);
  const tokens = requestContextTokens();
  for (let i: u32 = 0, count = candidateCount(); i < count; i++) {
    setScore(i, rangeScore(ranges + ((<usize>(candidateRow(i) % POOL_ENDPOINTS_MAX)) << 4), tokens));
  }
}

/** Keeps the candidates whose range holds the request, and those without the label. */
export function filterContextLength(instance: usize, pool: u32): void {
  const ranges = rangesOf(instance, pool);
  const tokens = requestContextTokens();
  let kept: u32 = 0;
  for (let i: u32 = 0, count = candidateCount(); i < count; i++) {
    const row = candidateRow(i);
    const range = ranges + ((<usize>(row % POOL_ENDPOINTS_MAX)) << 4);
    const least = load<f64>(range);
    if (least != least || (tokens >= least && tokens <= load<f64>(range, 8))) candidateSet(kept++, row);
  }
  candidatesKeep(kept);
}

function rangeScore(range: usize, tokens: f64): f64 {
  const least = load<f64>(range);
  const most = load<f64>(range, 8);
  if (least != least) return NO_LABEL_SCORE;
  if (most != most) return 0;
  if (tokens > most) return MAX_FALLBACK_SCORE / (1 + (tokens - most) / 1000);
  if (tokens < least) return MAX_FALLBACK_SCORE / (1 + (least - tokens) / 1000);
  const width = most - least;
  if (width == 0) return 1;
  const raw = 0.7 / (1 + width / 10000) + (0.3 * (most - tokens)) / width;
  return MAX_FALLBACK_SCORE + raw * (1 - MAX_FALLBACK_SCORE);
}

function rangesOf(instance: usize, pool: u32): usize {
  const serial = load<u32>(instance, INSTANCE_AT_SERIAL);
  const version = labelsVersion(pool);
  const entry = cache + <usize>((serial * 31 + pool) % CACHE_ENTRIES) * CACHE_ENTRY_BYTES;
  if (load<u32>(entry) == serial && load<u32>(entry, 4) == pool && load<u32>(entry, 8) == version)
    return entry + 16;
  store<u32>(entry, serial);
  store<u32>(entry, pool, 4);
  store<u32>(entry, version, 8);
  const key = <usize>load<u32>(instance, INSTANCE_AT_TEXT);
  const keyBytes = load<u32>(instance, INSTANCE_AT_TEXT_BYTES);
  for (let slot: u32 = 0; slot < <u32>POOL_ENDPOINTS_MAX; slot++) {
    const range = entry + 16 + ((<usize>slot) << 4);
    store<f64>(range, NaN);
    if (labelFind(rowOf(pool, slot), key, keyBytes)) parseRange(labelValuePtr(), labelValueLen(), range);
  }
  return entry + 16;
}

// "min-max": two whole numbers ≥ 0, spaces around them allowed, min ≤ max.
function parseRange(ptr: usize, bytes: u32, range: usize): void {
  store<f64>(range, 0);
  store<f64>(range, NaN, 8);
  let dash = bytes;
  for (let i: u32 = 0; i < bytes; i++) {
    if (load<u8>(ptr + i) != 45) continue;
    if (dash != bytes) return;
    dash = i;
  }
  if (dash == bytes) return;
  const least = parseWhole(ptr, dash);
  const most = parseWhole(ptr + dash + 1, bytes - dash - 1);
  if (!(least >= 0) || !(most >= least)) return;
  store<f64>(range, least);
  store<f64>(range, most, 8);
}

function parseWhole(ptr: usize, bytes: u32): f64 {
  while (bytes > 0 && load<u8>(ptr) == 32) {
    ptr++;
    bytes--;
  }
  while (bytes > 0 && load<u8>(ptr + bytes - 1) == 32) bytes--;
  if (bytes == 0 || bytes > 18) return NaN;
  let value: f64 = 0;
  for (let i: u32 = 0; i < bytes; i++) {
    const digit = <u32>load<u8>(ptr + i) - 48;
    if (digit > 9) return NaN;
    value = value * 10 + <f64>digit;
  }
  return value;
}
