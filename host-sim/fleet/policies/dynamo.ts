// Policies "dynamo" and "dynamo-events": NVIDIA Dynamo's KV router and its cost in blocks.
import type { Ending, FleetRequest, GatewayContext, Policy } from "../types.ts";
import { cheapest } from "./choose.ts";
import { PrefixGateway } from "./prefix-gateway.ts";

/** `overlap_score_credit`: how much of a cached block's prefill is taken off. */
export const OVERLAP_SCORE_CREDIT = 1;
/** `prefill_load_scale`. */
export const PREFILL_LOAD_SCALE = 1;

/** What the cost of one worker is made of; everything in KV blocks. */
export interface DynamoLoad {
  /**
   * Prompt blocks of this request and of those that wait for their first token there, what they had cached
   * apart.
   */
  readonly prefillBlocks: number;
  /** Blocks of this request that the worker has. */
  readonly overlapBlocks: number;
  /** Different blocks of the worker's requests under way, with this one. */
  readonly decodeBlocks: number;
}

/** prefill_load_scale × max(0, prefill − credit × overlap) + decode; the credit's decay is 0 by default. */
export function dynamoCost({ prefillBlocks, overlapBlocks, decodeBlocks }: DynamoLoad): number {
  const prefill = Math.max(0, prefillBlocks - OVERLAP_SCORE_CREDIT * overlapBlocks);
  return PREFILL_LOAD_SCALE * prefill + decodeBlocks;
}

/** Blocks of the requests under way at one worker, each counted once. */
export class ActiveBlocks {
  private readonly chains: ArrayLike<number>[] = [];
  private fullBlocks = 0;
  /** Last blocks that are not full: nobody shares them. */
  private partialBlocks = 0;

  get count(): number {
    return this.fullBlocks + this.partialBlocks;
  }

  /** Blocks of a chain that no request under way has. */
  countNew(chain: ArrayLike<number>): number {
    let shared = 0;
    for (const other of this.chains) shared = commonLength(chain, other, shared);
    return chain.length - shared;
  }

  add(chain: ArrayLike<number>, partial: boolean): void {
    this.fullBlocks += this.countNew(chain);
    this.chains.push(chain);
    if (partial) this.partialBlocks++;
  }

  /** @param chain one that was added, the very same array */
  remove(chain: ArrayLike<number>, partial: boolean): void {
    const last = this.chains.pop()!;
    if (last !== chain) this.chains[this.chains.indexOf(chain)] = last;
    this.fullBlocks -= this.countNew(chain);
    if (partial) this.partialBlocks--;
  }
}

/**
 * Blocks that two chains have in common, if there are more than `known`, else `known`. Hashes are chained:
 * two chains that agree in one place agree before it.
 */
function commonLength(a: ArrayLike<number>, b: ArrayLike<number>, known: number): number {
  let low = known;
  let high = Math.min(a.length, b.length);
  if (high <= low || a[low] !== b[low]) return known;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (a[middle] === b[middle]) low = middle + 1;
    else high = middle;
  }
  return low;
}

interface Kept {
  readonly hashes: ArrayLike<number>;
  /** Prompt tokens that were to be computed. */
  readonly prefillTokens: number;
}

/** Where a router learns what workers have cached. */
type Overlap = "routed" | "events";

class DynamoGateway extends PrefixGateway<Kept> {
  private readonly active: readonly ActiveBlocks[];
  /** Tokens still to be computed of own requests without a first token, by replica. */
  private readonly prefillTokens: Float64Array;

  constructor(
    context: GatewayContext,
    name: string,
    private readonly overlap: Overlap,
  ) {
    super(context, name);
    this.active = context.replicas.map(() => new ActiveBlocks());
    this.prefillTokens = new Float64Array(context.replicas.length);
  }

  // One block size for all: the router's is that of its workers.
  protected blockTokens(): number {
    return this.scrapes[0]!.blockTokens;
  }

  protected order(request: FleetRequest, ready: readonly number[]): number[] {
    const hashes = this.hashesOf(request);
    const blockTokens = this.blockTokens();
    const partial = isPartial(request, blockTokens) ? 1 : 0;
    const costOf = (replica: number): number => {
      const active = this.active[replica]!;
      return dynamoCost({
        prefillBlocks: (this.prefillTokens[replica]! + request.promptTokens) / blockTokens,
        overlapBlocks: this.overlapBlocks(replica, hashes),
        decodeBlocks: active.count + active.countNew(hashes) + partial,
      });
    };
    return cheapest(ready, costOf, this.random);
  }

  protected assigned(request: FleetRequest, endpoint: number): Kept {
    const hashes = this.hashesOf(request);
    const cached = this.overlapBlocks(endpoint, hashes) * this.blockTokens();
    const prefillTokens = request.promptTokens - cached;
    this.prefillTokens[endpoint]! += prefillTokens;
    this.active[endpoint]!.add(hashes, isPartial(request, this.blockTokens()));
    if (this.overlap === "routed") this.blocksOf(endpoint).touchTailFirst(hashes);
    return { hashes, prefillTokens };
  }

  protected override started(_request: FleetRequest, endpoint: number, { prefillTokens }: Kept): void {
    this.prefillTokens[endpoint]! -= prefillTokens;
  }

  protected override ended(
    request: FleetRequest,
    endpoint: number,
    { hashes, prefillTokens }: Kept,
    started: boolean,
    _ending: Ending | undefined,
  ): void {
    if (!started) this.prefillTokens[endpoint]! -= prefillTokens;
    this.active[endpoint]!.remove(hashes, isPartial(request, this.blockTokens()));
  }

  private overlapBlocks(replica: number, hashes: ArrayLike<number>): number {
    if (this.overlap === "routed") return this.blocksOf(replica).prefixLength(hashes);
    return this.context.truth(replica)?.cache.findPrefix(hashes, hashes.length).length ?? 0;
  }
}

function isPartial({ promptTokens }: FleetRequest, blockTokens: number): boolean {
  return promptTokens % blockTokens !== 0;
}

const SOURCE =
  "argmin max(0, prefill blocks − overlap) + decode blocks at temperature 0, equal ones by chance:" +
  " ai-dynamo/dynamo, lib/kv-router/src/scheduling/selector/default.rs at 07a6c9ce, defaults of" +
  " scheduling/config.rs at 0243c51b; requests are not queued in the router (router_queue_threshold).";

/** The overlap is a radix index of the blocks that this router sent, as large as each worker's cache. */
export const DYNAMO: Policy = {
  name: "dynamo",
  source: `${SOURCE} Overlap: the router's own history, bounded by each worker's KV capacity.`,
  create: (context) => new DynamoGateway(context, "dynamo", "routed"),
};

/** The overlap is what KV events tell, at once and without a gap: the true cache of each worker. */
export const DYNAMO_EVENTS: Policy = {
  name: "dynamo-events",
  source: `${SOURCE} Overlap: the workers' caches, as KV events without delay or loss would tell.`,
  create: (context) => new DynamoGateway(context, "dynamo-events", "events"),
};
