// Policy "llm-d": the picker of llm-d without a configuration, on its approximate prefix index.
import { hashText } from "../../model-server/block-hash.ts";
import type { FleetRequest, GatewayContext, Policy } from "../types.ts";
import { cheapest } from "./choose.ts";
import { PolicyGateway } from "./gateway.ts";
import { kvCacheScore, prefixScore, queueScores, totalScore } from "./llm-d-scorers.ts";
import { LruBlocks } from "./lru-blocks.ts";

const NAME = "llm-d";

/** minBlockSizeTokens: smaller blocks of the engines are raised to this. */
export const BLOCK_TOKENS_MIN = 64;
/** defaultMaxPrefixTokens: what follows in a prompt is not looked at. */
export const PREFIX_TOKENS_MAX = 131_072;
/** defaultLRUCapacityPerServer: entries a replica where its metrics do not tell. */
export const LRU_BLOCKS_DEFAULT = 31_250;
/** podActiveCheckInterval: how often blocks of replicas that are gone are dropped. */
export const CLEAN_UP_MS = 120_000;

const TAIL_SEED = 0x85ebca6b;

/**
 * Hashes of a prompt's blocks, the partial one at its end included, up to PREFIX_TOKENS_MAX. The partial
 * block matches only where a prompt ends in the same way at the same place.
 * @param full hashes of the full blocks
 */
export function promptBlocks(
  { spans, promptTokens }: Pick<FleetRequest, "spans" | "promptTokens">,
  full: ArrayLike<number>,
  blockTokens: number,
): Float64Array {
  const count = Math.min(Math.ceil(promptTokens / blockTokens), Math.floor(PREFIX_TOKENS_MAX / blockTokens));
  const hashes = new Float64Array(count);
  for (let block = 0; block < Math.min(count, full.length); block++) hashes[block] = full[block]!;
  if (count <= full.length) return hashes;
  const tailFrom = full.length * blockTokens;
  let text = `${full[full.length - 1] ?? ""}`;
  let start = 0;
  for (const { id, tokens } of spans) {
    const from = Math.max(0, tailFrom - start);
    if (from < tokens) text += `/${id}:${from}-${tokens}`;
    start += tokens;
  }
  // Full blocks are whole numbers, so that this cannot be one of them.
  hashes[full.length] = hashText(text, TAIL_SEED) + 0.5;
  return hashes;
}

/**
 * How many of a prompt's blocks each replica has: blocks are looked at in order until nobody has one; a
 * replica that lacks an earlier block counts all the same.
 * @param caches by replica, undefined: nothing was sent there yet
 */
export function matchedBlocks(
  caches: readonly (LruBlocks | undefined)[],
  hashes: ArrayLike<number>,
): Int32Array {
  const matched = new Int32Array(caches.length);
  for (let block = 0; block < hashes.length; block++) {
    let found = false;
    for (let replica = 0; replica < caches.length; replica++) {
      if (caches[replica]?.has(hashes[block]!) !== true) continue;
      matched[replica]!++;
      found = true;
    }
    if (!found) break;
  }
  return matched;
}

/** A pick, and what it would have to compute of the prompt. */
interface Picked {
  readonly replica: number;
  readonly uncachedTokens: number;
}

/** The gateway of "llm-d"; its choice of one replica serves other profiles too. */
export class LlmDGateway extends PolicyGateway {
  private readonly context: GatewayContext;
  private readonly caches: (LruBlocks | undefined)[];
  private nextCleanUpMs = CLEAN_UP_MS;

  constructor(context: GatewayContext, policy = NAME) {
    super(context, policy);
    this.context = context;
    this.caches = context.replicas.map(() => undefined);
  }

  protected order(request: FleetRequest, ready: readonly number[], nowMs: number): number[] {
    this.cleanUp(nowMs);
    // The pick is one address, without others to fall back on.
    return [this.pick(request, ready).replica];
  }

  /** The candidate with the highest score, equal ones by chance. @param candidates at least one */
  protected pick(request: FleetRequest, candidates: readonly number[]): Picked {
    const hashes = this.blocksOf(request);
    const matched = matchedBlocks(this.caches, hashes);
    const queues = queueScores(candidates.map((replica) => this.scrapes[replica]!.waiting));
    const scores = new Map<number, number>();
    for (const [i, replica] of candidates.entries()) {
      const kvCache = kvCacheScore(this.scrapes[replica]!.kvUsage);
      scores.set(replica, totalScore(queues[i]!, kvCache, prefixScore(matched[replica]!, hashes.length)));
    }
    const [replica] = cheapest(candidates, (one) => -scores.get(one)!, this.random, 1);
    const cachedTokens = matched[replica!]! * this.blockTokens();
    const uncachedTokens = Math.max(0, request.promptTokens - cachedTokens);
    return { replica: replica!, uncachedTokens };
  }

  protected assigned(request: FleetRequest, endpoint: number): undefined {
    this.remember(request, endpoint);
    return undefined;
  }

  /**
   * The replica will have the prompt. The first pick of a replica fixes the size of its LRU. It outlives restarts of
   * the engine behind the address.
   */
  protected remember(request: FleetRequest, replica: number): void {
    this.caches[replica] ??= new LruBlocks(this.capacityOf(replica));
    this.caches[replica].touch(this.blocksOf(request));
  }

  // vLLM's num_gpu_blocks, in the engine's blocks, though the entries are blocks of 64 tokens or more.
  private capacityOf(replica: number): number {
    const { kvCapacityTokens, blockTokens } = this.scrapes[replica]!;
    return Math.floor(kvCapacityTokens / blockTokens) || LRU_BLOCKS_DEFAULT;
  }

  private blocksOf(request: FleetRequest): Float64Array {
    const blockTokens = this.blockTokens();
    return promptBlocks(request, this.context.blockHashes(request, blockTokens), blockTokens);
  }

  private blockTokens(): number {
    return Math.max(BLOCK_TOKENS_MIN, this.scrapes[0]!.blockTokens);
  }

  protected cleanUp(nowMs: number): void {
    if (nowMs < this.nextCleanUpMs) return;
    this.nextCleanUpMs = nowMs + CLEAN_UP_MS;
    for (const [replica, { ready }] of this.scrapes.entries()) {
      if (!ready) this.caches[replica] = undefined;
    }
  }
}

/**
 * Queue 2, KV cache 2, prefix 3 over metrics as old as the last scrape; the highest sum, equal ones by
 * chance, one address. The index is per replica an LRU of as many blocks as the engine has, filled by own
 * choices.
 */
export const LLM_D: Policy = {
  name: NAME,
  source:
    "The default profile of llm-d's endpoint picker: llm-d/llm-d-router at ebab6879, scorers" +
    " pkg/epp/framework/plugins/scheduling/scorer, index" +
    " pkg/epp/framework/plugins/requestcontrol/dataproducer/approximateprefix (types.go at 09a534fc," +
    " indexer.go at 8998b3a5); that the index outlives restarts of an engine is llm-d-router issue 2853.",
  create: (context) => new LlmDGateway(context),
};
