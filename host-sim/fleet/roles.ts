// Fleets of prefill, decode and elastic replicas: how many of each, in words and as replicas.
import { REPLICAS_MAX } from "./check-run.ts";
import type { ReplicaRole, ReplicaSpec } from "./types.ts";

/** Replicas by role. All 0: every replica of whatever fleet does both. */
export interface Split {
  readonly prefill: number;
  readonly decode: number;
  readonly both: number;
}

/** Every replica computes prompts and answers. */
export const ALL_BOTH: Split = { prefill: 0, decode: 0, both: 0 };
const ALL_BOTH_TEXT = "both";

/** What `parseSplit` takes. */
export const SPLIT_SYNTAX = `PREFILL:DECODE, PREFILL:DECODE:BOTH, each from 0 and 1 to ${REPLICAS_MAX} in all, or both`;

/** Reads "4:12", "4:4:8" or "both". Undefined: it is none, or nobody would answer. */
export function parseSplit(text: string): Split | undefined {
  if (text === ALL_BOTH_TEXT) return ALL_BOTH;
  const match = /^(\d{1,3}):(\d{1,3})(?::(\d{1,3}))?$/.exec(text);
  if (match === null) return undefined;
  const split = { prefill: Number(match[1]), decode: Number(match[2]), both: Number(match[3] ?? 0) };
  const answering = split.decode + split.both;
  return answering > 0 && replicasOf(split) <= REPLICAS_MAX ? split : undefined;
}

/** As `parseSplit` reads it. */
export function splitText(split: Split): string {
  const { prefill, decode, both } = split;
  if (replicasOf(split) === 0) return ALL_BOTH_TEXT;
  return both === 0 ? `${prefill}:${decode}` : `${prefill}:${decode}:${both}`;
}

/** Replicas in all; 0 where the split leaves their number open. */
export function replicasOf({ prefill, decode, both }: Split): number {
  return prefill + decode + both;
}

/** The replicas with roles: prefill first, then decode, then both. @param replicas as many as the split has */
export function withRoles(replicas: readonly ReplicaSpec[], split: Split): ReplicaSpec[] {
  const roleOf = (index: number): ReplicaRole => {
    if (index < split.prefill) return "prefill";
    return index < split.prefill + split.decode ? "decode" : "both";
  };
  return replicas.map(({ engine }, index) => ({ engine, role: roleOf(index) }));
}
