// The exact index of one pool: follows what its engines' caches hold, cell by cell.
import type { BlockSink, CachedBlock, ReplicaKey } from "../kv-events/block-sink.ts";
import type { Tier } from "../kv-events/events.ts";
import type { DegradedReason } from "../kv-events/replica-state.ts";
import { EndpointIndex } from "./endpoint-index.ts";
import type { EntryBudget } from "./entry-budget.ts";

/** Is told blocks, keeps cells; `KvPush` brings them to the gateway. */
export class KvIndex implements BlockSink {
  /** By address. */
  readonly endpoints = new Map<string, EndpointIndex>();
  /** When the first of the changes came that were not looked at since; null = there are none. */
  changedAtMs: number | null = null;
  /** Called when `changedAtMs` is set. */
  onChange: () => void = () => undefined;
  /** Followers give the same key object with each block. */
  private lastReplica: ReplicaKey | null = null;
  private lastEndpoint: EndpointIndex | null = null;

  /** @param now monotonic ms */
  constructor(
    readonly budget: EntryBudget,
    private readonly now: () => number,
  ) {}

  /** Bytes of memory of all tables. */
  get bytes(): number {
    let sum = 0;
    for (const endpoint of this.endpoints.values()) sum += endpoint.bytes;
    return sum;
  }

  followed(replica: ReplicaKey): void {
    let endpoint = this.endpoints.get(replica.address);
    if (endpoint === undefined) {
      endpoint = new EndpointIndex(replica.address, () => this.changed());
      this.endpoints.set(replica.address, endpoint);
      this.budget.join(endpoint);
    }
    endpoint.followed(replica.rank);
    this.changed();
  }

  left(replica: ReplicaKey): void {
    const endpoint = this.endpointOf(replica);
    if (endpoint === null) return;
    endpoint.left(replica.rank);
    this.lastReplica = null;
    if (!endpoint.hasEngines) {
      this.budget.leave(endpoint);
      this.endpoints.delete(replica.address);
    }
    this.changed();
  }

  stored(replica: ReplicaKey, block: CachedBlock, tier: Tier): void {
    this.endpointOf(replica)?.stored(replica, block, tier);
    if (this.changedAtMs === null) this.changed();
  }

  removed(replica: ReplicaKey, block: CachedBlock, tier: Tier): void {
    this.endpointOf(replica)?.removed(replica, block, tier);
    if (this.changedAtMs === null) this.changed();
  }

  cleared(replica: ReplicaKey): void {
    this.endpointOf(replica)?.cleared(replica.rank);
    this.changed();
  }

  state(replica: ReplicaKey, degraded: DegradedReason | null): void {
    this.endpointOf(replica)?.setState(replica.rank, degraded);
    this.changed();
  }

  private changed(): void {
    if (this.changedAtMs !== null) return;
    this.changedAtMs = this.now();
    this.onChange();
  }

  /** null = it is not followed: a subscription that ends may still tell something. */
  private endpointOf(replica: ReplicaKey): EndpointIndex | null {
    if (replica === this.lastReplica) return this.lastEndpoint;
    const endpoint = this.endpoints.get(replica.address) ?? null;
    if (endpoint === null || !endpoint.follows(replica.rank)) return null;
    this.lastReplica = replica;
    this.lastEndpoint = endpoint;
    return endpoint;
  }
}
