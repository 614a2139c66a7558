// Chats on a fleet whose replicas die, stall, leave and arrive.
import type { FleetEvent } from "../../types.ts";
import { chats } from "./chats.ts";
import type { Generator, SourceContext } from "./workload.ts";

/** Times as long that the steps of the slow replica take. */
const SLOW_FACTOR = 3;

/** One of each sort, in one run: the last replica joins late, others die and come back, stall, and drain. */
function events({ durationMs, replicas }: SourceContext): FleetEvent[] {
  const at = (share: number): number => durationMs * share;
  return [
    { atMs: at(0.15), kind: "fail", replica: 0 },
    { atMs: at(0.25), kind: "join", replica: replicas - 1 },
    { atMs: at(0.3), kind: "slow", replica: 1, factor: SLOW_FACTOR },
    { atMs: at(0.4), kind: "join", replica: 0 },
    { atMs: at(0.5), kind: "drain", replica: 2 },
    { atMs: at(0.6), kind: "slow", replica: 1, factor: 1 },
    { atMs: at(0.7), kind: "join", replica: 2 },
    { atMs: at(0.75), kind: "fail", replica: 3 },
  ];
}

export const FAILURES: Generator = {
  name: "failures",
  summary: "Chats while replicas die, come back empty, slow down, drain and join.",
  requests: 10_000,
  ratePerSecond: 75,
  warmUpMs: 300_000,
  replicasMin: 5,
  source: chats,
  events,
};
