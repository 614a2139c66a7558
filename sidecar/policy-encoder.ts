// Encodes a pool's policy as the binary policy of assembly/wire/policy.ts.
import * as wire from "../assembly/wire/policy.ts";
import { PolicyTooLargeError } from "./errors.ts";
import type { PoolPolicy } from "./policy.ts";
import { snapshotChecksum } from "./snapshot-encoder.ts";
import { contentId, type EncodedDocument, sortedByBytes, Texts } from "./wire-document.ts";

/**
 * @param policy that satisfies poolPolicySchema
 * @throws PolicyTooLargeError when it needs more than POLICY_BYTES_MAX
 */
export function encodePolicy(policy: PoolPolicy): EncodedDocument {
  const objectives = sortedByBytes(policy.objectives, ({ name }) => name);
  const exact = policy.rewrites.filter(({ model }) => model !== null);
  const any = policy.rewrites.filter(({ model }) => model === null);
  const rules = [...sortedByBytes(exact, ({ model }) => model!), ...any];
  const targets = rules.flatMap((rule) => rule.targets);
  const recordsEnd =
    wire.POLICY_HEADER_BYTES + (objectives.length + rules.length + targets.length) * wire.POLICY_RECORD_BYTES;
  const texts = new Texts(recordsEnd);
  const records = Buffer.alloc(recordsEnd);
  let at = wire.POLICY_HEADER_BYTES;
  const record = (text: string, third: (at: number) => void): void => {
    const { offset, bytes } = texts.place(text);
    records.writeUInt32LE(offset, at + wire.POLICY_RECORD_AT_TEXT);
    records.writeUInt32LE(bytes.length, at + wire.POLICY_RECORD_AT_TEXT_BYTES);
    third(at);
    at += wire.POLICY_RECORD_BYTES;
  };
  for (const { name, priority } of objectives) {
    record(name, (start) => records.writeInt32LE(priority, start + wire.OBJECTIVE_AT_PRIORITY));
  }
  let firstTarget = 0;
  for (const rule of rules) {
    record(rule.model ?? "", (start) => {
      records.writeUInt32LE(firstTarget, start + wire.RULE_AT_FIRST_TARGET);
      records.writeUInt32LE(rule.targets.length, start + wire.RULE_AT_TARGETS);
    });
    firstTarget += rule.targets.length;
  }
  for (const { model, weight } of targets) {
    record(model, (start) => records.writeUInt32LE(weight, start + wire.TARGET_AT_WEIGHT));
  }
  if (texts.end > wire.POLICY_BYTES_MAX) throw new PolicyTooLargeError(texts.end, wire.POLICY_BYTES_MAX);
  const bytes = Buffer.concat([records, ...texts.list], texts.end);
  const counts = [objectives.length, rules.length, targets.length];
  return { id: writeHeader(bytes, counts), bytes };
}

/** @returns the id */
function writeHeader(bytes: Buffer, [objectives, rules, targets]: readonly number[]): number {
  bytes.writeUInt32LE(wire.POLICY_MAGIC, wire.POLICY_AT_MAGIC);
  bytes.writeUInt16LE(wire.POLICY_WIRE_VERSION, wire.POLICY_AT_VERSION);
  bytes.writeUInt16LE(wire.POLICY_HEADER_BYTES, wire.POLICY_AT_HEADER_BYTES);
  bytes.writeUInt32LE(bytes.length, wire.POLICY_AT_TOTAL_BYTES);
  bytes.writeUInt32LE(objectives!, wire.POLICY_AT_OBJECTIVES);
  bytes.writeUInt32LE(rules!, wire.POLICY_AT_RULES);
  bytes.writeUInt32LE(targets!, wire.POLICY_AT_TARGETS);
  const id = contentId(bytes);
  bytes.writeBigUInt64LE(BigInt(id), wire.POLICY_AT_ID);
  bytes.writeUInt32LE(snapshotChecksum(bytes), wire.POLICY_AT_CHECKSUM);
  return id;
}
