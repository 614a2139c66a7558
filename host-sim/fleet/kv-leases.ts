// Leases on held blocks: decoders whose requests wait for room have their prefillers hold on.
import type { Engine } from "../model-server/engine.ts";
import type { ReplicaSpec } from "./types.ts";

/** Heartbeats a lease (vLLM's NixlConnector: `kv_lease_duration // 6`). */
const HEARTBEATS_PER_LEASE = 6;

/** Blocks that an engine holds for a request that another one has. */
export interface Lease {
  readonly replica: number;
  readonly engine: Engine;
  readonly holdId: string;
}

/**
 * Extends the holds of requests that decoders have taken and not begun to pull. One beat for the whole fleet stands
 * for those of its decoders, and goes on as long as a request waits. A hold that is gone is not brought back.
 */
export class KvLeases {
  private readonly waiting = new Set<Lease>();
  private readonly beatMs: number;
  private beatAtMs = Number.POSITIVE_INFINITY;

  /** @param specs at least one replica; the shortest hold sets the beat */
  constructor(specs: readonly ReplicaSpec[]) {
    this.beatMs = Math.min(...specs.map(({ engine }) => engine.holdMs)) / HEARTBEATS_PER_LEASE;
  }

  /** Next beat, ms; Infinity: nobody waits. */
  get nextMs(): number {
    return this.beatAtMs;
  }

  add(lease: Lease, nowMs: number): void {
    if (this.waiting.size === 0) this.beatAtMs = nowMs + this.beatMs;
    this.waiting.add(lease);
  }

  remove(lease: Lease): void {
    this.waiting.delete(lease);
    if (this.waiting.size === 0) this.beatAtMs = Number.POSITIVE_INFINITY;
  }

  /** One beat. @returns the replicas whose engines were called */
  extend(nowMs: number): Set<number> {
    this.beatAtMs = nowMs + this.beatMs;
    const replicas = new Set<number>();
    for (const { replica, engine, holdId } of this.waiting) {
      engine.extendHold(holdId, nowMs);
      replicas.add(replica);
    }
    return replicas;
  }
}
