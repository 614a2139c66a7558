// Policy "sglang": cache_aware of SGLang's model gateway.
import type { FleetRequest, GatewayContext, Policy } from "../types.ts";
import { PolicyGateway, RETRIES_MAX } from "./gateway.ts";
import { SpanTree } from "./span-tree.ts";

const NAME = "sglang";

/**
 * Defaults of the gateway's command line; those of the library are 0.5, 32, 1.1, 30 s and 10,000 characters.
 */
export const CACHE_THRESHOLD = 0.3;
export const BALANCE_ABS_THRESHOLD = 64;
export const BALANCE_REL_THRESHOLD = 1.5;
export const EVICTION_INTERVAL_MS = 120_000;
/** 67,108,864 characters a replica, four to a token. */
export const TREE_TOKENS_MAX = 67_108_864 / 4;

/** Whether load alone decides: the extremes differ by more than 64 requests and by more than 1.5 times. */
export function isImbalanced(least: number, most: number): boolean {
  return most - least > BALANCE_ABS_THRESHOLD && most > least * BALANCE_REL_THRESHOLD;
}

class SglangGateway extends PolicyGateway {
  private readonly tree = new SpanTree();
  private nextEvictionMs = EVICTION_INTERVAL_MS;

  constructor(context: GatewayContext) {
    super(context, NAME);
    for (const replica of context.replicas.keys()) this.tree.insert([], replica);
  }

  protected order(request: FleetRequest, ready: readonly number[], nowMs: number): number[] {
    if (nowMs >= this.nextEvictionMs) {
      this.tree.evict(TREE_TOKENS_MAX);
      this.nextEvictionMs = nowMs + EVICTION_INTERVAL_MS;
    }
    const byLoad = [...ready].sort((a, b) => this.ownRequests[a]! - this.ownRequests[b]!);
    const first = this.choose(request, ready, byLoad[0]!);
    return [first, ...byLoad.filter((replica) => replica !== first)].slice(0, 1 + RETRIES_MAX);
  }

  protected assigned(request: FleetRequest, endpoint: number): undefined {
    this.tree.insert(request.spans, endpoint);
    return undefined;
  }

  protected override replaced(replica: number): void {
    this.tree.remove(replica);
    this.tree.insert([], replica);
  }

  // The least loaded one is the first among equals, as in the source.
  private choose(request: FleetRequest, ready: readonly number[], leastLoaded: number): number {
    const loads = this.ownRequests;
    if (isImbalanced(Math.min(...loads), Math.max(...loads))) return leastLoaded;
    const { tokens, replica } = this.tree.match(request.spans);
    if (tokens / request.promptTokens <= CACHE_THRESHOLD) return leastLoaded;
    return ready.includes(replica) ? replica : ready[0]!;
  }
}

/**
 * The replica whose history matches more than 30 % of the prompt, else the one with the fewest own requests;
 * that one always while loads are far apart.
 */
export const SGLANG: Policy = {
  name: NAME,
  source:
    "cache_aware: sgl-project/sglang, sgl-model-gateway/src/policies/cache_aware.rs at 053b63ff and" +
    " tree.rs at 03744dbe, with the command line's defaults (src/main.rs at 01f6c92a).",
  create: (context) => new SglangGateway(context),
};
