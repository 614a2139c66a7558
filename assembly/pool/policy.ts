// The policy in force in each pool: which priority an objective has, and which model a request goes to.
//
// Matching is the Gateway API Inference Extension's (InferenceModelRewriteSpec, "Precedence and Conflict
// Resolution"): the rule for exactly this model, else the rule for any model, else none. The sidecar has resolved
// which object's rule counts before it pushes.
import {
  OBJECTIVE_AT_PRIORITY,
  POLICY_AT_ID,
  POLICY_AT_OBJECTIVES,
  POLICY_AT_RULES,
  POLICY_BYTES_MAX,
  POLICY_RECORD_AT_TEXT,
  POLICY_RECORD_AT_TEXT_BYTES,
  RULE_AT_FIRST_TARGET,
  RULE_AT_TARGETS,
  TARGET_AT_WEIGHT,
} from "../wire/policy";
import { hashBytes, mixPair } from "../text/hash";
import { compareBytes, policyRecord } from "./policy-check";

//   ┌ place, 32 bytes: 0 u64 sequence seen   8 f64 received ms   16 u32 policy bytes (0 = none) ┐
const PLACE_BYTES: usize = 32;
const AT_SEQUENCE: usize = 0;
const AT_RECEIVED: usize = 8;
const AT_BYTES: usize = 16;
const places: usize = memory.data(16 * 32, 8);
const policies: usize = memory.data(16 * 98304, 16);

function placeOf(pool: u32): usize {
  return places + <usize>pool * PLACE_BYTES;
}
function policyOf(pool: u32): usize {
  return policies + <usize>pool * POLICY_BYTES_MAX;
}

/** Takes a checked policy as the pool's present one. `ptr` may lie anywhere; the bytes are copied. */
export function policyTake(pool: u32, ptr: usize, bytes: u32, sequence: u64, receivedMs: f64): void {
  memory.copy(policyOf(pool), ptr, bytes);
  const place = placeOf(pool);
  store<u64>(place, sequence, AT_SEQUENCE);
  store<f64>(place, receivedMs, AT_RECEIVED);
  store<u32>(place, bytes, AT_BYTES);
}

/** Notes the sequence of a policy that was found to be bad, so that it is not read again. */
export function policySkip(pool: u32, sequence: u64): void {
  store<u64>(placeOf(pool), sequence, AT_SEQUENCE);
}

/** Whether the pool ever had a policy. */
export function policyKnown(pool: u32): bool {
  return load<u32>(placeOf(pool), AT_BYTES) != 0;
}
/** Sequence number of the last policy seen; 0 = none yet. */
export function policySequence(pool: u32): u64 {
  return load<u64>(placeOf(pool), AT_SEQUENCE);
}
/** When the gateway received the policy in force, ms. */
export function policyReceivedMs(pool: u32): f64 {
  return load<f64>(placeOf(pool), AT_RECEIVED);
}
/** Id of the policy in force; 0 = none. */
export function policyId(pool: u32): u64 {
  return policyKnown(pool) ? load<u64>(policyOf(pool), POLICY_AT_ID) : 0;
}
export function policyObjectives(pool: u32): u32 {
  return policyKnown(pool) ? load<u32>(policyOf(pool), POLICY_AT_OBJECTIVES) : 0;
}
/** Rewrite rules in force; 0 = no request of this pool is rewritten by policy. */
export function policyRules(pool: u32): u32 {
  return policyKnown(pool) ? load<u32>(policyOf(pool), POLICY_AT_RULES) : 0;
}

const NONE: u32 = 0xffffffff;

// Index of the record with that text among [from, to), which ascend; NONE.
function search(policy: usize, from: u32, to: u32, text: usize, bytes: u32): u32 {
  while (from < to) {
    const middle = (from + to) >> 1;
    const record = policyRecord(policy, middle);
    const there = policy + load<u32>(record, POLICY_RECORD_AT_TEXT);
    const order = compareBytes(there, load<u32>(record, POLICY_RECORD_AT_TEXT_BYTES), text, bytes);
    if (order == 0) return middle;
    if (order < 0) from = middle + 1;
    else to = middle;
  }
  return NONE;
}

/** The objective of that name in the pool's policy, or 0. */
export function policyObjective(pool: u32, name: usize, bytes: u32): usize {
  const policy = policyOf(pool);
  const found = search(policy, 0, policyObjectives(pool), name, bytes);
  return found == NONE ? 0 : policyRecord(policy, found);
}

/** Priority of an objective; the higher the sooner. */
export function objectivePriority(objective: usize): i32 {
  return load<i32>(objective, OBJECTIVE_AT_PRIORITY);
}

/** The rule for requests of the model named `bytes` bytes at `model` (0 bytes = the request names none), or 0. */
export function policyRule(pool: u32, model: usize, bytes: u32): usize {
  const rules = policyRules(pool);
  if (rules == 0) return 0;
  const policy = policyOf(pool);
  const first = policyObjectives(pool);
  const last = policyRecord(policy, first + rules - 1);
  const hasAny = load<u32>(last, POLICY_RECORD_AT_TEXT_BYTES) == 0;
  const found = bytes == 0 ? NONE : search(policy, first, first + rules - (hasAny ? 1 : 0), model, bytes);
  if (found != NONE) return policyRecord(policy, found);
  return hasAny ? last : 0;
}

/** Whether a rule splits its requests over several targets. */
export function ruleSplits(rule: usize): bool {
  return load<u32>(rule, RULE_AT_TARGETS) > 1;
}

const names: usize = memory.data(16 * 8, 8);

/**
 * The target of a rule for the requests with `key`: weighted rendezvous (Schindelhauer and Schomaker, SPAA 2005), so
 * that over all keys each target gets weight / sum of weights, equal keys always the same one, and a change of
 * weights moves no more keys than it must.
 */
export function ruleTarget(pool: u32, rule: usize, key: u64): usize {
  const policy = policyOf(pool);
  const from = policyObjectives(pool) + policyRules(pool) + load<u32>(rule, RULE_AT_FIRST_TARGET);
  const count = load<u32>(rule, RULE_AT_TARGETS);
  let best: usize = 0;
  let bestScore: f64 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const target = policyRecord(policy, from + i);
    const name = hashBytes(
      policy + load<u32>(target, POLICY_RECORD_AT_TEXT),
      load<u32>(target, POLICY_RECORD_AT_TEXT_BYTES),
    );
    store<u64>(names + ((<usize>i) << 3), name);
    // A model that is named twice draws a lot of its own each time, and so gets both shares.
    let earlier: u64 = 0;
    for (let k: u32 = 0; k < i; k++) if (load<u64>(names + ((<usize>k) << 3)) == name) earlier++;
    const lot = (<f64>(mixPair(key, name + earlier) >> 12) + 0.5) / 4503599627370496;
    const score = <f64>load<u32>(target, TARGET_AT_WEIGHT) / -Math.log(lot);
    if (best != 0 && score <= bestScore) continue;
    best = target;
    bestScore = score;
  }
  return best;
}

/** The model's name of a target, targetModelBytes long; valid until the pool gets another policy. */
export function targetModelPtr(pool: u32, target: usize): usize {
  return policyOf(pool) + load<u32>(target, POLICY_RECORD_AT_TEXT);
}
export function targetModelBytes(target: usize): u32 {
  return load<u32>(target, POLICY_RECORD_AT_TEXT_BYTES);
}
