// epp-wasm-latency-picker (ours, the default): the candidate that costs least by latency-cost.ts.
//
// To the cost comes by how much wishes would be broken, in ms over the whole answer: the predicted TTFT beyond the
// request's; the predicted time between tokens, this request included, beyond the request's; and what this request
// adds to it beyond the tightest wish of those in flight there (PolyServe's condition as a price). The second counts
// up to a share of the wish, and less under load (broken-wishes.ts). A candidate that meets all wishes so goes before
// one that breaks them by more than it costs less. It is no hard order: the only replica that meets a wish would get
// all requests until it meets none. What is not predicted yet breaks no wish.
// Candidates that cost hardly more than the cheapest are taken as equal. Among them the one that holds most
// of the prompt wins, then the highest rendezvous hash of (first part of the prompt that nobody holds, address)
// (Thaler and Ravishankar 1998): workers and gateways that know nothing of one another agree on where a new
// prefix goes, and different ones spread.
//
// Parameters: b = contextPrice; c = tieShare, of the request's own prefill; list = objective[count]
// (objective-slos.ts).
import { rowAddressLen, rowAddressPtr } from "../pool/labels";
import { COLUMN_MATCHED_TOKENS } from "../pool/rows";
import { hashBytes, mixPair } from "../text/hash";
import { candidateCount, candidateF64, candidateRow, setTotal, totalOf } from "./candidates";
import { brokenMs } from "./broken-wishes";
import { CONTEXT_PRICE, costOf, costPrefillMs, costsWork } from "./latency-cost";
import { PAIRS_OFF, pairTotal, pairsMeasure, pairsMode } from "./pairs";
import { INSTANCE_AT_B, INSTANCE_AT_C } from "./plan";
import { requestRandom, requestTieKey } from "./request";

/** Share of the request's own prefill within which costs count as equal. */
export const TIE_SHARE_DEFAULT: f64 = 0.1;
/** And the ms within which they always do: clocks, networks and engines' steps are no finer. */
export const TIE_LEAST_MS: f64 = 2;
/** Matches that differ by less are the same match, tokens. */
const SAME_MATCH_TOKENS: f64 = 16;

// Why the candidate at hand was chosen.
export const CHOSEN_ONLY: u32 = 0;
export const CHOSEN_CHEAPEST: u32 = 1;
export const CHOSEN_MATCH: u32 = 2;
export const CHOSEN_HASH: u32 = 3;
/** No candidate meets all wishes. */
export const CHOSEN_NONE_MEETS: u32 = 4;
let reason: u32 = 0;

/** CHOSEN_* of the last choice. */
export function latencyReason(): u32 {
  return reason;
}

/**
 * Works out all candidates, sets their totals (−cost, less by how much wishes are broken) for the picker's order, and
 * returns the index of the choice. There is at least one candidate. `instance` 0 = all defaults.
 */
export function latencyChoose(instance: usize, pool: u32): u32 {
  costsWork(pool, instance == 0 ? CONTEXT_PRICE : load<f64>(instance, INSTANCE_AT_B));
  pairsMeasure(pool);
  const count = candidateCount();
  let cheapest: u32 = 0;
  let meeting: u32 = 0;
  let most: f64 = -Infinity;
  for (let i: u32 = 0; i < count; i++) {
    const broken = brokenMs(i, pool);
    if (broken == 0) meeting++;
    const total = pairsMode() == PAIRS_OFF ? -costOf(i) - broken : pairTotal(i, pool);
    setTotal(i, total);
    if (total <= most) continue;
    most = total;
    cheapest = i;
  }
  const share = instance == 0 ? TIE_SHARE_DEFAULT : load<f64>(instance, INSTANCE_AT_C);
  const chosen = amongEquals(cheapest, most, share * costPrefillMs(cheapest) + TIE_LEAST_MS);
  if (count == 1) reason = CHOSEN_ONLY;
  else if (meeting == 0) reason = CHOSEN_NONE_MEETS;
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
