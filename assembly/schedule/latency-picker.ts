// epp-wasm-latency-picker (ours, the default): the candidate that costs least by latency-cost.ts.
//
// Of the candidates that meet the wishes, the cheapest; where none does, the cheapest of all. A candidate meets
// them when its predicted TTFT is within the request's, and its predicted time between tokens, this request
// included, is within the request's and the tightest of those in flight there (PolyServe's condition); what is
// not predicted yet breaks no wish.
// Candidates that cost hardly more than the cheapest are taken as equal. Among them the one that holds most
// of the prompt wins, then the highest rendezvous hash of (first part of the prompt that nobody holds, address)
// (Thaler and Ravishankar 1998): workers and gateways that know nothing of one another agree on where a new
// prefix goes, and different ones spread.
//
// Parameters: b = decodePrice, s; c = tieShare, of the request's own prefill; list = objective[count]
// (objective-slos.ts).
import { rowAddressLen, rowAddressPtr } from "../pool/labels";
import { COLUMN_MATCHED_TOKENS, COLUMN_TPOT_SLO_MS } from "../pool/rows";
import { hashBytes, mixPair } from "../text/hash";
import { candidateCount, candidateF64, candidateRow, setTotal, totalOf } from "./candidates";
import { DECODE_PRICE_S, costOf, costPrefillMs, costTpotMs, costWaitMs, costsWork } from "./latency-cost";
import { INSTANCE_AT_B, INSTANCE_AT_C } from "./plan";
import { requestRandom, requestTieKey, requestTpotSloMs, requestTtftSloMs } from "./request";

/** Share of the request's own prefill within which costs count as equal. */
export const TIE_SHARE_DEFAULT: f64 = 0.1;
/** And the ms within which they always do: clocks, networks and engines' steps are no finer. */
export const TIE_LEAST_MS: f64 = 2;
/** Matches that differ by less are the same match, tokens. */
const SAME_MATCH_TOKENS: f64 = 16;
/** What puts candidates that break a wish behind all that meet them, ms. */
const BROKEN_MS: f64 = 1e9;

// Why the candidate at hand was chosen.
export const CHOSEN_ONLY: u32 = 0;
export const CHOSEN_CHEAPEST: u32 = 1;
export const CHOSEN_MATCH: u32 = 2;
export const CHOSEN_HASH: u32 = 3;
/** No candidate meets the wishes: the cheapest of all. */
export const CHOSEN_NONE_MEETS: u32 = 4;
let reason: u32 = 0;

/** CHOSEN_* of the last choice. */
export function latencyReason(): u32 {
  return reason;
}

/** Whether the candidate at `index` meets the wishes of the request in hand and of those in flight there. */
export function meetsSlos(index: u32): bool {
  const ttft = requestTtftSloMs();
  if (ttft > 0 && costWaitMs(index) + costPrefillMs(index) > ttft) return false;
  const tpot = costTpotMs(index);
  if (tpot != tpot) return true;
  const own = requestTpotSloMs();
  if (own > 0 && tpot > own) return false;
  const others = candidateF64(COLUMN_TPOT_SLO_MS, index);
  return !(others > 0 && tpot > others);
}

/**
 * Works out all candidates, sets their totals (−cost, less BROKEN_MS where a wish is broken) for the picker's order,
 * and returns the index of the choice. There is at least one candidate. `instance` 0 = all defaults.
 */
export function latencyChoose(instance: usize, pool: u32): u32 {
  costsWork(pool, instance == 0 ? DECODE_PRICE_S : load<f64>(instance, INSTANCE_AT_B));
  const count = candidateCount();
  let cheapest: u32 = 0;
  let most: f64 = -Infinity;
  for (let i: u32 = 0; i < count; i++) {
    const total = -costOf(i) - (meetsSlos(i) ? 0 : BROKEN_MS);
    setTotal(i, total);
    if (total <= most) continue;
    most = total;
    cheapest = i;
  }
  const share = instance == 0 ? TIE_SHARE_DEFAULT : load<f64>(instance, INSTANCE_AT_C);
  const chosen = amongEquals(cheapest, most, share * costPrefillMs(cheapest) + TIE_LEAST_MS);
  if (count == 1) reason = CHOSEN_ONLY;
  else if (most <= -BROKEN_MS) reason = CHOSEN_NONE_MEETS;
  return chosen;
}

function amongEquals(cheapest: u32, most: f64, tieMs: f64): u32 {
  const least = most - tieMs;
  const count = candidateCount();
  let matched: f64 = -Infinity;
  let equals: u32 = 0;
  let fewest: f64 = Infinity;
  for (let i: u32 = 0; i < count; i++) {
    if (totalOf(i) < least) continue;
    equals++;
    const match = candidateF64(COLUMN_MATCHED_TOKENS, i);
    if (match > matched) matched = match;
    if (match < fewest) fewest = match;
  }
  reason = CHOSEN_CHEAPEST;
  if (equals <= 1) return cheapest;
  reason = matched - fewest > SAME_MATCH_TOKENS ? CHOSEN_MATCH : CHOSEN_HASH;
  const key = requestTieKey() != 0 ? requestTieKey() : requestRandom();
  let chosen = cheapest;
  let highest: u64 = 0;
  for (let i: u32 = 0; i < count; i++) {
    if (totalOf(i) < least || candidateF64(COLUMN_MATCHED_TOKENS, i) < matched - SAME_MATCH_TOKENS) continue;
    const row = candidateRow(i);
    const weight = mixPair(key, hashBytes(rowAddressPtr(row), rowAddressLen(row)));
    if (highest != 0 && weight <= highest) continue;
    highest = weight;
    chosen = i;
  }
  return chosen;
}
