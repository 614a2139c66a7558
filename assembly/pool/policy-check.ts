// Checks a pool policy (wire/policy.ts) whole, before it is stored and again before it is used.
import {
  OBJECTIVE_AT_PRIORITY,
  POLICY_AT_CHECKSUM,
  POLICY_AT_HEADER_BYTES,
  POLICY_AT_ID,
  POLICY_AT_OBJECTIVES,
  POLICY_AT_RULES,
  POLICY_AT_TARGETS,
  POLICY_AT_TOTAL_BYTES,
  POLICY_AT_VERSION,
  POLICY_BYTES_MAX,
  POLICY_HEADER_BYTES,
  POLICY_MAGIC,
  POLICY_MODEL_BYTES_MAX,
  POLICY_NAME_BYTES_MAX,
  POLICY_OBJECTIVES_MAX,
  POLICY_RECORD_AT_TEXT,
  POLICY_RECORD_AT_TEXT_BYTES,
  POLICY_RECORD_BYTES,
  POLICY_RULES_MAX,
  POLICY_RULE_TARGETS_MAX,
  POLICY_WEIGHT_MAX,
  POLICY_WIRE_VERSION,
  RULE_AT_FIRST_TARGET,
  RULE_AT_TARGETS,
  TARGET_AT_WEIGHT,
} from "../wire/policy";
import { fault, faultText, isInside } from "./fault";
import { snapshotChecksum } from "./snapshot-check";

/** Largest policy id, so that it is exact as a JSON number. */
const ID_MAX: u64 = 281474976710655;

/** Address of the objective, rule or target number `index` of a policy; lists follow each other. */
export function policyRecord(policy: usize, index: u32): usize {
  return policy + POLICY_HEADER_BYTES + <usize>index * POLICY_RECORD_BYTES;
}

/** Orders byte strings: < 0, 0 or > 0. */
export function compareBytes(a: usize, aBytes: u32, b: usize, bBytes: u32): i32 {
  const order = memory.compare(a, b, min(aBytes, bBytes));
  if (order != 0) return order;
  return aBytes < bBytes ? -1 : aBytes > bBytes ? 1 : 0;
}

/** Whether the bytes are a well-formed policy; if not, fault.ts names the field. `ptr` is 8-byte aligned. */
export function policyCheck(ptr: usize, bytes: u32): bool {
  if (bytes < <u32>POLICY_HEADER_BYTES)
    return header("totalBytes", <f64>bytes, "at least the 64-byte header");
  if (bytes > <u32>POLICY_BYTES_MAX) return header("totalBytes", <f64>bytes, "at most 98304");
  if (load<u32>(ptr) != POLICY_MAGIC) return header("magic", load<u32>(ptr), '827084869, "EPL1"');
  const version = load<u16>(ptr, POLICY_AT_VERSION);
  if (version != POLICY_WIRE_VERSION) return header("version", version, "1, the version this filter reads");
  const headerBytes = load<u16>(ptr, POLICY_AT_HEADER_BYTES);
  if (headerBytes != POLICY_HEADER_BYTES) return header("headerBytes", headerBytes, "64");
  const total = load<u32>(ptr, POLICY_AT_TOTAL_BYTES);
  if (total != bytes) return header("totalBytes", total, "the number of bytes received");
  const objectives = load<u32>(ptr, POLICY_AT_OBJECTIVES);
  if (objectives > <u32>POLICY_OBJECTIVES_MAX) return header("objectives", objectives, "at most 1024");
  const rules = load<u32>(ptr, POLICY_AT_RULES);
  if (rules > <u32>POLICY_RULES_MAX) return header("rules", rules, "at most 256");
  const targets = load<u32>(ptr, POLICY_AT_TARGETS);
  if (targets > rules * POLICY_RULE_TARGETS_MAX) return header("targets", targets, "at most 16 a rule");
  if (<u32>POLICY_HEADER_BYTES + (objectives + rules + targets) * POLICY_RECORD_BYTES > bytes) {
    return header("totalBytes", total, "room for all records");
  }
  if (load<u32>(ptr, POLICY_AT_CHECKSUM) != snapshotChecksum(ptr, bytes)) {
    return header("checksum", load<u32>(ptr, POLICY_AT_CHECKSUM), "the checksum of the bytes received");
  }
  const id = load<u64>(ptr, POLICY_AT_ID);
  if (id == 0 || id > ID_MAX) return header("id", <f64>id, "1 to 281474976710655");
  return (
    checkObjectives(ptr, bytes, objectives) &&
    checkRules(ptr, bytes, objectives, rules, targets) &&
    checkTargets(ptr, bytes, objectives + rules, targets)
  );
}

function header(name: string, value: f64, expected: string): bool {
  return fault("", -1, name, value, expected);
}

function textOf(policy: usize, record: usize): usize {
  return policy + load<u32>(record, POLICY_RECORD_AT_TEXT);
}

function checkText(
  bytes: u32,
  record: usize,
  list: string,
  i: u32,
  field: string,
  least: u32,
  most: u32,
  range: string,
): bool {
  const length = load<u32>(record, POLICY_RECORD_AT_TEXT_BYTES);
  if (length < least || length > most) return fault(list, <i32>i, field, length, range);
  if (isInside(bytes, load<u32>(record, POLICY_RECORD_AT_TEXT), length)) return true;
  return fault(list, <i32>i, field, load<u32>(record, POLICY_RECORD_AT_TEXT), "an offset inside the policy");
}

function isAscending(ptr: usize, list: string, i: u32, previous: usize, record: usize, field: string): bool {
  const text = textOf(ptr, record);
  const length = load<u32>(record, POLICY_RECORD_AT_TEXT_BYTES);
  const before = load<u32>(previous, POLICY_RECORD_AT_TEXT_BYTES);
  if (compareBytes(textOf(ptr, previous), before, text, length) < 0) return true;
  return faultText(list, <i32>i, field, text, length, "each once, in ascending order");
}

function checkObjectives(ptr: usize, bytes: u32, count: u32): bool {
  for (let i: u32 = 0; i < count; i++) {
    const record = policyRecord(ptr, i);
    const range = "1 to 253 bytes";
    if (!checkText(bytes, record, "objectives", i, "name", 1, POLICY_NAME_BYTES_MAX, range)) return false;
    if (i > 0 && !isAscending(ptr, "objectives", i, record - POLICY_RECORD_BYTES, record, "name"))
      return false;
    const rest = load<u32>(record, OBJECTIVE_AT_PRIORITY + 4);
    if (rest != 0) return fault("objectives", <i32>i, "reserved", rest, "0");
  }
  return true;
}

function checkRules(ptr: usize, bytes: u32, from: u32, count: u32, targets: u32): bool {
  let next: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const record = policyRecord(ptr, from + i);
    // Only the last rule is for any model.
    const isLast = i == count - 1;
    const least: u32 = isLast ? 0 : 1;
    const range = isLast ? "at most 256 bytes" : "1 to 256 bytes: the rule for any model is the last";
    if (!checkText(bytes, record, "rules", i, "model", least, POLICY_MODEL_BYTES_MAX, range)) return false;
    const isAny = load<u32>(record, POLICY_RECORD_AT_TEXT_BYTES) == 0;
    if (i > 0 && !isAny && !isAscending(ptr, "rules", i, record - POLICY_RECORD_BYTES, record, "model"))
      return false;
    const first = load<u32>(record, RULE_AT_FIRST_TARGET);
    if (first != next) return fault("rules", <i32>i, "firstTarget", first, "the one behind the rule before");
    const own = load<u32>(record, RULE_AT_TARGETS);
    if (own == 0 || own > <u32>POLICY_RULE_TARGETS_MAX || own > targets - next) {
      return fault("rules", <i32>i, "targets", own, "1 to 16, no more than there are");
    }
    next += own;
  }
  return next == targets || header("targets", targets, "as many as the rules have");
}

function checkTargets(ptr: usize, bytes: u32, from: u32, count: u32): bool {
  for (let i: u32 = 0; i < count; i++) {
    const record = policyRecord(ptr, from + i);
    const range = "1 to 256 bytes";
    if (!checkText(bytes, record, "targets", i, "model", 1, POLICY_MODEL_BYTES_MAX, range)) return false;
    const weight = load<u32>(record, TARGET_AT_WEIGHT);
    if (weight == 0 || weight > <u32>POLICY_WEIGHT_MAX) {
      return fault("targets", <i32>i, "weight", weight, "1 to 1000000");
    }
  }
  return true;
}
