// Policy "mooncake": the least predicted time of queue and prefill.
import type { Ending, FleetRequest, GatewayContext, Policy } from "../types.ts";
import { cheapest } from "./choose.ts";
import { prefillMs } from "./prefill-time.ts";
import { PrefixGateway } from "./prefix-gateway.ts";

const NAME = "mooncake";

/** Mooncake's KV blocks. */
export const BLOCK_TOKENS = 512;

class MooncakeGateway extends PrefixGateway<number> {
  /** Predicted prefill times of the own requests without a first token, ms, f64[replicaCount]. */
  private readonly queueMs: Float64Array;

  constructor(context: GatewayContext) {
    super(context, NAME);
    this.queueMs = new Float64Array(context.replicas.length);
  }

  protected blockTokens(): number {
    return BLOCK_TOKENS;
  }

  protected order(request: FleetRequest, ready: readonly number[]): number[] {
    const hashes = this.hashesOf(request);
    const costOf = (replica: number): number =>
      this.queueMs[replica]! + this.prefillMs(request, replica, hashes);
    return cheapest(ready, costOf, this.random);
  }

  protected assigned(request: FleetRequest, endpoint: number): number {
    const hashes = this.hashesOf(request);
    const ms = this.prefillMs(request, endpoint, hashes);
    this.blocksOf(endpoint).touchTailFirst(hashes);
    this.queueMs[endpoint]! += ms;
    return ms;
  }

  protected override started(_request: FleetRequest, endpoint: number, ms: number): void {
    this.unqueue(endpoint, ms);
  }

  protected override ended(
    _request: FleetRequest,
    endpoint: number,
    ms: number,
    started: boolean,
    _ending: Ending | undefined,
  ): void {
    if (!started) this.unqueue(endpoint, ms);
  }

  private prefillMs(request: FleetRequest, replica: number, hashes: ArrayLike<number>): number {
    const tokens = request.promptTokens - this.cachedTokens(replica, hashes);
    return prefillMs(this.replicas[replica]!.engine, tokens);
  }

  // Sums of fractions do not always come back to 0.
  private unqueue(endpoint: number, ms: number): void {
    this.queueMs[endpoint] = Math.max(0, this.queueMs[endpoint]! - ms);
  }
}

/**
 * T_queue is the sum of the predicted prefills of the own requests that wait for their first token, T_prefill
 * the prediction for what the replica has not got. Nothing is transferred between replicas here and nothing
 * refused, so the paper's T_transfer, cache migration and early rejection are left out.
 */
export const MOONCAKE: Policy = {
  name: NAME,
  source:
    "argmin T_queue + T_prefill over 512-token blocks of own history: Qin et al., Mooncake, arXiv" +
    " 2407.00079, section 6.1 and algorithm 1, without transfers between replicas.",
  create: (context) => new MooncakeGateway(context),
};
