// Decodes a pool policy (assembly/wire/policy.ts) back into what the sidecar encoded, for fakes and round trips.
import * as wire from "../../assembly/wire/policy.ts";
import { snapshotChecksum } from "../../sidecar/snapshot-encoder.ts";

export interface DecodedPolicy {
  readonly id: number;
  readonly objectives: readonly { readonly name: string; readonly priority: number }[];
  readonly rewrites: readonly {
    /** Null = any. */
    readonly model: string | null;
    readonly targets: readonly { readonly model: string; readonly weight: number }[];
  }[];
}

/** @throws Error when magic, version, length or checksum are wrong */
export function decodePolicy(bytes: Buffer): DecodedPolicy {
  const header = [
    [bytes.readUInt32LE(wire.POLICY_AT_MAGIC), wire.POLICY_MAGIC],
    [bytes.readUInt16LE(wire.POLICY_AT_VERSION), wire.POLICY_WIRE_VERSION],
    [bytes.readUInt32LE(wire.POLICY_AT_TOTAL_BYTES), bytes.length],
    [bytes.readUInt32LE(wire.POLICY_AT_CHECKSUM), snapshotChecksum(bytes)],
  ];
  if (header.some(([is, expected]) => is !== expected)) throw new Error("not a policy");
  const counts = [wire.POLICY_AT_OBJECTIVES, wire.POLICY_AT_RULES, wire.POLICY_AT_TARGETS];
  const [objectives, rules, targets] = counts.map((at) => bytes.readUInt32LE(at)) as [number, number, number];
  const record = (index: number): number => wire.POLICY_HEADER_BYTES + index * wire.POLICY_RECORD_BYTES;
  const text = (at: number): string => {
    const offset = bytes.readUInt32LE(at + wire.POLICY_RECORD_AT_TEXT);
    return bytes.toString("utf8", offset, offset + bytes.readUInt32LE(at + wire.POLICY_RECORD_AT_TEXT_BYTES));
  };
  const times = <T>(count: number, from: number, make: (at: number) => T): T[] =>
    Array.from({ length: count }, (_, index) => make(record(from + index)));
  const allTargets = times(targets, objectives + rules, (at) => ({
    model: text(at),
    weight: bytes.readUInt32LE(at + wire.TARGET_AT_WEIGHT),
  }));
  return {
    id: Number(bytes.readBigUInt64LE(wire.POLICY_AT_ID)),
    objectives: times(objectives, 0, (at) => ({
      name: text(at),
      priority: bytes.readInt32LE(at + wire.OBJECTIVE_AT_PRIORITY),
    })),
    rewrites: times(rules, objectives, (at) => {
      const first = bytes.readUInt32LE(at + wire.RULE_AT_FIRST_TARGET);
      return {
        model: text(at) || null,
        targets: allTargets.slice(first, first + bytes.readUInt32LE(at + wire.RULE_AT_TARGETS)),
      };
    }),
  };
}
