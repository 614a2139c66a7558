// Policy "lmetric": the least product of new prefill tokens and batch size.
import type { FleetRequest, GatewayContext, Policy } from "../types.ts";
import { cheapest } from "./choose.ts";
import { PrefixGateway } from "./prefix-gateway.ts";

const NAME = "lmetric";

/** The router's own granularity: a finer one would count at most so many tokens more as cached. */
export const BLOCK_TOKENS = 64;

/**
 * @param newTokens prompt tokens to compute, ≥ 0 @param batchSize requests in the engine, this one not
 * counted
 */
export function lmetricScore(newTokens: number, batchSize: number): number {
  return newTokens * (batchSize + 1);
}

class LmetricGateway extends PrefixGateway {
  constructor(context: GatewayContext) {
    super(context, NAME);
  }

  protected blockTokens(): number {
    return BLOCK_TOKENS;
  }

  protected order(request: FleetRequest, ready: readonly number[]): number[] {
    const hashes = this.hashesOf(request);
    const costOf = (replica: number): number => {
      const newTokens = request.promptTokens - this.cachedTokens(replica, hashes);
      return lmetricScore(newTokens, this.requestsInEngine(replica));
    };
    return cheapest(ready, costOf, this.random);
  }

  protected assigned(request: FleetRequest, endpoint: number): undefined {
    this.blocksOf(endpoint).touchTailFirst(this.hashesOf(request));
    return undefined;
  }
}

/**
 * New prefill tokens by the router's own history, the batch as scraped and corrected by own requests since.
 * Equal products by chance.
 */
export const LMETRIC: Policy = {
  name: NAME,
  source:
    "argmin (new prefill tokens) × (batch size + 1): Zhang et al., LMetric, arXiv 2603.15202; also" +
    " sgl-project/sglang, sgl-model-gateway/src/policies/lmetric.rs at acaa759a.",
  create: (context) => new LmetricGateway(context),
};
