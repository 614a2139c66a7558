// Policy "priced-pd": for each request the cheapest pair of replicas to compute its prompt and to answer it.
import { pullDurationMs } from "../../model-server/kv-pulls.ts";
import { stepDurationMs } from "../../model-server/rates.ts";
import type { Ending, FleetRequest, GatewayContext, Policy, PrefillOutcome } from "../types.ts";
import type { PrefillChoice } from "./gateway.ts";
import { cheapest } from "./choose.ts";
import { prefillMs } from "./prefill-time.ts";
import { PrefixGateway } from "./prefix-gateway.ts";

const NAME = "priced-pd";

/** The router's own granularity. */
export const BLOCK_TOKENS = 64;
/** Fewer uncached tokens are never computed elsewhere. */
export const DISAGGREGATED_TOKENS_MIN = 1024;
/** Price of a second of prefill for each answer that is generated beside it, s. */
export const DECODE_PRICE = 0.1;
/** Time between tokens that answers are kept below, ms. */
export const TPOT_LIMIT_MS = 40;
/**
 * Price of giving a replica without answers its first one, ms: it will compute fewer prompts. The n-th answer costs an
 * n-th of it, so that answers gather where there are some, up to the limit on TPOT, and leave the others to prompts.
 */
export const FIRST_ANSWER_PRICE_MS = 1500;
/** Share of a replica's KV cache that its answers' prompts should not exceed. */
export const KV_SHARE_MAX = 0.95;
/** Price of exceeding it, ms: more than any other reason. */
const KV_FULL_PRICE_MS = 1e6;
/** Price of a millisecond by which a decoder's steps exceed the limit, ms: TTFT 4 s against TPOT 50 ms. */
export const TPOT_PRICE = 80;

/** What one replica has to do, as far as this gateway knows. */
interface Work {
  /** Predicted prefills that have not ended, ms. */
  queueMs: number;
  /** Answers that are being generated or will be, and the tokens of their prompts. */
  sequences: number;
  contextTokens: number;
}

/** A request's part of it. */
interface Plan {
  /** Where the prompt is being computed, and its predicted time. */
  prefill: { readonly replica: number; readonly ms: number } | undefined;
  /** Another replica has computed it. */
  prefilled: boolean;
  /** Prefill replicas that have failed it. */
  readonly failed: number[];
}

class PricedPdGateway extends PrefixGateway {
  private readonly work: readonly Work[];
  private readonly plans = new Map<number, Plan>();

  constructor(context: GatewayContext) {
    super(context, NAME);
    this.work = context.replicas.map(() => ({ queueMs: 0, sequences: 0, contextTokens: 0 }));
  }

  protected blockTokens(): number {
    return BLOCK_TOKENS;
  }

  protected order(request: FleetRequest, ready: readonly number[]): number[] {
    const costs = new Map(ready.map((replica) => [replica, this.cost(request, replica)]));
    return cheapest(ready, (replica) => costs.get(replica)!, this.random);
  }

  protected assigned(request: FleetRequest, endpoint: number): undefined {
    const known = this.plans.get(request.index);
    const plan = known ?? { prefill: undefined, prefilled: false, failed: [] };
    this.plans.set(request.index, plan);
    if (known === undefined) this.enqueue(request, plan, this.prefillerFor(request, endpoint, []));
    else if (!plan.prefilled) this.enqueue(request, plan, endpoint);
    this.work[endpoint]!.sequences++;
    this.work[endpoint]!.contextTokens += request.promptTokens;
    if (plan.prefilled) this.blocksOf(endpoint).touchTailFirst(this.hashesOf(request));
    return undefined;
  }

  protected override prefillAt({ index }: FleetRequest, endpoint: number): PrefillChoice | undefined {
    const { replica: prefill } = this.plans.get(index)!.prefill!;
    return prefill === endpoint ? undefined : { prefill, prefillBy: "gateway" };
  }

  // One other prefill replica is tried, then the decoder computes the prompt.
  protected override prefillNext(
    request: FleetRequest,
    replica: number,
    outcome: PrefillOutcome,
  ): PrefillChoice | undefined {
    const plan = this.plans.get(request.index)!;
    this.dequeue(plan);
    plan.prefilled = outcome.failure === "";
    const endpoint = this.endpointOf(request);
    if (plan.prefilled) {
      this.blocksOf(endpoint).touchTailFirst(this.hashesOf(request));
      return { prefill: replica, prefillBy: "gateway" };
    }
    plan.failed.push(replica);
    const next = plan.failed.length > 1 ? endpoint : this.prefillerFor(request, endpoint, plan.failed);
    this.enqueue(request, plan, next);
    return next === endpoint ? undefined : { prefill: next, prefillBy: "gateway" };
  }

  protected override started(request: FleetRequest): void {
    this.dequeue(this.plans.get(request.index)!);
  }

  protected override ended(
    request: FleetRequest,
    endpoint: number,
    _kept: undefined,
    _started: boolean,
    ending: Ending | undefined,
  ): void {
    this.work[endpoint]!.sequences--;
    this.work[endpoint]!.contextTokens -= request.promptTokens;
    this.dequeue(this.plans.get(request.index)!);
    if (ending !== undefined) this.plans.delete(request.index);
  }

  // Cost of answering at a replica with the cheapest way to have the prompt there, ms.
  private cost(request: FleetRequest, endpoint: number): number {
    const prefiller = this.prefillerFor(request, endpoint, []);
    return this.prefillCost(request, endpoint, prefiller) + this.decodeCost(request, endpoint);
  }

  // Who computes a prompt that is answered at `endpoint`; that replica itself, or another one.
  private prefillerFor(request: FleetRequest, endpoint: number, failed: readonly number[]): number {
    const uncached = request.promptTokens - this.cachedTokens(endpoint, this.hashesOf(request));
    if (uncached < DISAGGREGATED_TOKENS_MIN) return endpoint;
    const others = this.prefillers(endpoint).filter((replica) => !failed.includes(replica));
    return cheapest(
      [endpoint, ...others],
      (one) => this.prefillCost(request, endpoint, one),
      this.random,
      1,
    )[0]!;
  }

  private prefillCost(request: FleetRequest, endpoint: number, prefiller: number): number {
    const { queueMs, sequences } = this.work[prefiller]!;
    const ownMs = this.ownPrefillMs(request, prefiller);
    const priced = ownMs * (1 + this.meanBacklogS() + DECODE_PRICE * sequences);
    return queueMs + priced + (prefiller === endpoint ? 0 : this.transferMs(request, endpoint));
  }

  private decodeCost({ promptTokens }: FleetRequest, endpoint: number): number {
    const { queueMs, sequences, contextTokens } = this.work[endpoint]!;
    const { rates } = this.replicas[endpoint]!.engine;
    const decodes = { decodeSequences: sequences + 1, contextTokens: contextTokens + promptTokens };
    const stepMs = stepDurationMs(rates, { prefillTokens: 0, ...decodes });
    const kvTokens = this.scrapes[endpoint]!.kvCapacityTokens * KV_SHARE_MAX;
    return (
      FIRST_ANSWER_PRICE_MS / (1 + sequences) +
      TPOT_PRICE * Math.max(0, stepMs - TPOT_LIMIT_MS) +
      DECODE_PRICE * queueMs +
      (decodes.contextTokens > kvTokens ? KV_FULL_PRICE_MS : 0)
    );
  }

  private ownPrefillMs(request: FleetRequest, replica: number): number {
    const tokens = request.promptTokens - this.cachedTokens(replica, this.hashesOf(request));
    return prefillMs(this.replicas[replica]!.engine, Math.max(1, tokens), this.work[replica]!);
  }

  private transferMs(request: FleetRequest, endpoint: number): number {
    const { engine } = this.replicas[endpoint]!;
    const tokens = request.promptTokens - this.cachedTokens(endpoint, this.hashesOf(request));
    return pullDurationMs(engine, Math.ceil(tokens / engine.blockSize));
  }

  // Mean over the replicas that compute prompts.
  private meanBacklogS(): number {
    let sumMs = 0;
    let count = 0;
    for (const [replica, { role }] of this.replicas.entries()) {
      if (role === "decode") continue;
      sumMs += this.work[replica]!.queueMs;
      count++;
    }
    return count === 0 ? 0 : sumMs / count / 1000;
  }

  private enqueue(request: FleetRequest, plan: Plan, replica: number): void {
    const ms = this.ownPrefillMs(request, replica);
    plan.prefill = { replica, ms };
    this.work[replica]!.queueMs += ms;
    this.blocksOf(replica).touchTailFirst(this.hashesOf(request));
  }

  // Sums of fractions do not always come back to 0.
  private dequeue(plan: Plan): void {
    if (plan.prefill === undefined) return;
    const work = this.work[plan.prefill.replica]!;
    work.queueMs = Math.max(0, work.queueMs - plan.prefill.ms);
    plan.prefill = undefined;
  }
}

/**
 * Over all pairs of a replica that computes the prompt and one that answers (the same one: no transfer), the least sum
 * of the wait and the prefill there, priced by the fleet's mean backlog and by the answers that it delays, of the
 * transfer of what the answering replica lacks, and of what one more answer does to the answering replica. Any fleet:
 * with roles a static split; without them each request decides, and the fleet splits itself by the load.
 */
export const PRICED_PD: Policy = {
  name: NAME,
  source:
    "argmin of queue + prefill × (1 + mean backlog + price × answers beside it) + transfer + price of the" +
    " answer, from the router's own requests and the engines' rates: a sketch of this project for prefill/decode" +
    " fleets. Answers that gather up to a TPOT limit are PolyServe's idea (highest load that still keeps it).",
  create: (context) => new PricedPdGateway(context),
};
