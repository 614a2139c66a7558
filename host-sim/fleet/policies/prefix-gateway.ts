// Gateways that remember which blocks they sent to which replica.
import type { FleetRequest, GatewayContext } from "../types.ts";
import { PolicyGateway } from "./gateway.ts";
import { LruBlocks } from "./lru-blocks.ts";

/**
 * A gateway with one LruBlocks a replica, of the size of the replica's KV cache as it was first scraped. It
 * is filled from this gateway's own choices alone, and forgotten when the process behind the replica is
 * another one.
 */
export abstract class PrefixGateway<Kept = undefined> extends PolicyGateway<Kept> {
  private readonly caches: (LruBlocks | undefined)[];

  constructor(
    protected readonly context: GatewayContext,
    policy: string,
  ) {
    super(context, policy);
    this.caches = context.replicas.map(() => undefined);
  }

  /** Tokens of one block of this router. */
  protected abstract blockTokens(): number;

  protected blocksOf(replica: number): LruBlocks {
    const { kvCapacityTokens } = this.scrapes[replica]!;
    const capacity = Math.max(1, Math.floor(kvCapacityTokens / this.blockTokens()));
    return (this.caches[replica] ??= new LruBlocks(capacity));
  }

  protected hashesOf(request: FleetRequest): ArrayLike<number> {
    return this.context.blockHashes(request, this.blockTokens());
  }

  /** Leading tokens of a prompt that the replica should have, 0…promptTokens. */
  protected cachedTokens(replica: number, hashes: ArrayLike<number>): number {
    return this.blocksOf(replica).prefixLength(hashes) * this.blockTokens();
  }

  protected override replaced(replica: number): void {
    this.caches[replica]?.clear();
  }
}
