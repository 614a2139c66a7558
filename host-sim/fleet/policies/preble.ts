// Policy "preble": E2, exploit a cached prefix or explore by load, and rebalance.
import type { Ending, FleetRequest, GatewayContext, Policy } from "../types.ts";
import { cheapest } from "./choose.ts";
import { RETRIES_MAX } from "./gateway.ts";
import { prefillMs } from "./prefill-time.ts";
import { PrefixGateway } from "./prefix-gateway.ts";
import { RecentMedian } from "./recent-median.ts";

const NAME = "preble";

/** The router's own granularity. */
export const BLOCK_TOKENS = 128;
/** History H: what was sent in the last three minutes is a replica's load. */
export const WINDOW_MS = 180_000;
/** Requests of that window at most; the oldest leave before their time beyond it. */
export const WINDOW_REQUESTS_MAX = 65_536;
/** The busiest replica hands over what it would exploit while its load is so many times the least. */
export const REBALANCE_FACTOR = 1.5;
/** Requests sent before anything is rebalanced. */
export const REBALANCE_REQUESTS_MIN = 50;
/** Last measurements that medians are taken over, and what they are before the first one. */
const SAMPLES = 200;
const FIRST_TPOT_MS = 150;
const FIRST_OUTPUT_TOKENS = 45;

interface Sent {
  readonly atMs: number;
  readonly replica: number;
  readonly prefillMs: number;
  readonly hashes: ArrayLike<number>;
}

interface Kept {
  firstTokenMs: number;
}

/** Whether a cached prefix is followed: it saves at least as much as it leaves to compute. */
export function exploits(cachedTokens: number, promptTokens: number): boolean {
  return cachedTokens > 0 && cachedTokens >= promptTokens - cachedTokens;
}

class PrebleGateway extends PrefixGateway<Kept> {
  /** What was sent within the window, oldest first from `windowStart` on. */
  private window: Sent[] = [];
  private windowStart = 0;
  /** Predicted prefill of the window's requests by replica, ms. */
  private readonly windowMs: Float64Array;
  /** Requests of the window that have a block. */
  private readonly sharers = new Map<number, number>();
  private readonly tpotMs: readonly RecentMedian[];
  private readonly outputTokens = new RecentMedian(SAMPLES, FIRST_OUTPUT_TOKENS);
  private sentCount = 0;

  constructor(context: GatewayContext) {
    super(context, NAME);
    this.windowMs = new Float64Array(context.replicas.length);
    this.tpotMs = context.replicas.map(() => new RecentMedian(SAMPLES, FIRST_TPOT_MS));
  }

  protected blockTokens(): number {
    return BLOCK_TOKENS;
  }

  protected order(request: FleetRequest, ready: readonly number[], nowMs: number): number[] {
    this.slide(nowMs);
    const hashes = this.hashesOf(request);
    const loads = new Map(ready.map((replica) => [replica, this.loadMs(replica)]));
    const byLoad = cheapest(ready, (replica) => loads.get(replica)!, this.random, ready.length);
    const cached = ready.map((replica) => this.cachedTokens(replica, hashes));
    const most = Math.max(...cached);
    const first = exploits(most, request.promptTokens)
      ? this.rebalanced(
          byLoad.find((replica) => cached[ready.indexOf(replica)] === most)!,
          byLoad,
          loads,
        )
      : this.explore(request, hashes, ready, loads);
    return [first, ...byLoad.filter((replica) => replica !== first)].slice(0, 1 + RETRIES_MAX);
  }

  protected assigned(request: FleetRequest, replica: number, atMs: number): Kept {
    const hashes = this.hashesOf(request);
    const ms = this.missMs(request, replica, hashes);
    this.blocksOf(replica).touchTailFirst(hashes);
    if (this.window.length - this.windowStart >= WINDOW_REQUESTS_MAX) this.forgetOldest();
    this.window.push({ atMs, replica, prefillMs: ms, hashes });
    this.windowMs[replica]! += ms;
    for (let i = 0; i < hashes.length; i++) {
      this.sharers.set(hashes[i]!, (this.sharers.get(hashes[i]!) ?? 0) + 1);
    }
    this.sentCount++;
    return { firstTokenMs: Number.NaN };
  }

  protected override started(_request: FleetRequest, _replica: number, kept: Kept, nowMs: number): void {
    kept.firstTokenMs = nowMs;
  }

  protected override ended(
    _request: FleetRequest,
    replica: number,
    { firstTokenMs }: Kept,
    started: boolean,
    ending: Ending | undefined,
    nowMs: number,
  ): void {
    if (!started || ending === undefined || ending.outputTokens < 2) return;
    this.tpotMs[replica]!.add((nowMs - firstTokenMs) / (ending.outputTokens - 1));
    this.outputTokens.add(ending.outputTokens);
  }

  // L: the window's prefills and the decodes under way.
  private loadMs(replica: number): number {
    const decodeMs = this.outputTokens.value * this.tpotMs[replica]!.value;
    return this.windowMs[replica]! + this.ownRequests[replica]! * decodeMs;
  }

  private explore(
    request: FleetRequest,
    hashes: ArrayLike<number>,
    ready: readonly number[],
    loads: ReadonlyMap<number, number>,
  ): number {
    const costOf = (replica: number): number =>
      loads.get(replica)! + this.evictionMs(replica, hashes) + this.missMs(request, replica, hashes);
    return cheapest(ready, costOf, this.random, 1)[0]!;
  }

  // M: what would be given up for this prompt, each block by the share of the window's requests that have it.
  private evictionMs(replica: number, hashes: ArrayLike<number>): number {
    const blocks = this.blocksOf(replica);
    const missing = hashes.length - blocks.prefixLength(hashes);
    const evicted = Math.max(0, missing - (blocks.capacity - blocks.size));
    const requests = this.window.length - this.windowStart;
    if (evicted === 0 || requests === 0) return 0;
    let shares = 0;
    blocks.visitOldest(evicted, (hash) => {
      shares += (this.sharers.get(hash) ?? 0) / requests;
    });
    return shares * BLOCK_TOKENS * this.replicas[replica]!.engine.rates.prefillMsPerToken;
  }

  // P: what the replica has not got.
  private missMs(request: FleetRequest, replica: number, hashes: ArrayLike<number>): number {
    const missed = request.promptTokens - this.cachedTokens(replica, hashes);
    return prefillMs(this.replicas[replica]!.engine, missed);
  }

  private rebalanced(chosen: number, byLoad: readonly number[], loads: ReadonlyMap<number, number>): number {
    const least = byLoad[0]!;
    if (this.sentCount < REBALANCE_REQUESTS_MIN || chosen !== byLoad.at(-1)) return chosen;
    return loads.get(chosen)! >= REBALANCE_FACTOR * loads.get(least)! ? least : chosen;
  }

  private slide(nowMs: number): void {
    while (this.windowStart < this.window.length) {
      if (this.window[this.windowStart]!.atMs >= nowMs - WINDOW_MS) break;
      this.forgetOldest();
    }
    if (this.windowStart < WINDOW_REQUESTS_MAX) return;
    this.window = this.window.slice(this.windowStart);
    this.windowStart = 0;
  }

  private forgetOldest(): void {
    const { replica, prefillMs: ms, hashes } = this.window[this.windowStart++]!;
    this.windowMs[replica] = Math.max(0, this.windowMs[replica]! - ms);
    for (let i = 0; i < hashes.length; i++) {
      const left = this.sharers.get(hashes[i]!)! - 1;
      if (left === 0) this.sharers.delete(hashes[i]!);
      else this.sharers.set(hashes[i]!, left);
    }
  }
}

/**
 * The replica with the longest match if that is at least half of the prompt, the least loaded of several and
 * not the busiest one by far; else the least sum of load, eviction cost and own prefill.
 */
export const PREBLE: Policy = {
  name: NAME,
  source:
    "E2: Srivatsa et al., Preble, arXiv 2407.00023, section 3.2; what load is made of, the window, and" +
    " the medians of time per token follow WukLab/preble, multi_node/global_scheduler_with_time.py at" +
    " 0c962c4c. Prefix autoscaling and the local scheduler's priorities are left out: engines here serve" +
    " first come, first served.",
  create: (context) => new PrebleGateway(context),
};
