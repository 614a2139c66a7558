// Do the turns of a conversation reach the replica that has its cache, also when each comes on a new
// connection?
import { runLoad } from "./client.ts";
import { generateWorkload } from "./generate.ts";
import type { RequestResult } from "./result.ts";
import type { PlannedRequest } from "./types.ts";

/** What `conversationStickiness` found. */
export interface StickinessReport {
  /** Turns after the first of their conversation that were answered. */
  readonly laterTurns: number;
  /** Of those, the share that the replica of the turn before answered. */
  readonly stayedShare: number;
  /** Replicas that answered at all. */
  readonly replicas: number;
  readonly failures: number;
  readonly results: readonly RequestResult[];
}

/** A chat-only load of a few conversations. */
export interface StickinessOptions {
  readonly url: string;
  readonly seed: number;
  readonly requests: number;
  readonly ratePerSecond: number;
  readonly model: string;
}

/**
 * Sends chats through a gateway, every turn on a connection of its own, so that with several worker threads
 * consecutive turns are usually decided by different workers.
 */
export async function conversationStickiness(options: StickinessOptions): Promise<StickinessReport> {
  const { url, ...rest } = options;
  const plan = generateWorkload({ ...rest, shares: { chat: 1, agent: 0, document: 0, "one-off": 0 } });
  const results = await runLoad(plan, { url, freshConnections: true });
  return measureStickiness(plan, results);
}

/** The report on results of a plan. */
export function measureStickiness(
  plan: readonly PlannedRequest[],
  results: readonly RequestResult[],
): StickinessReport {
  const lastReplica = new Map<string, string>();
  const replicas = new Set<string>();
  let laterTurns = 0;
  let stayed = 0;
  for (const { index, session } of plan) {
    const result = results[index]!;
    if (result.failure !== null) continue;
    replicas.add(result.servedBy);
    const before = lastReplica.get(session);
    if (before !== undefined) {
      laterTurns++;
      if (before === result.servedBy) stayed++;
    }
    lastReplica.set(session, result.servedBy);
  }
  return {
    laterTurns,
    stayedShare: laterTurns === 0 ? Number.NaN : stayed / laterTurns,
    replicas: replicas.size,
    failures: results.filter(({ failure }) => failure !== null).length,
    results,
  };
}
