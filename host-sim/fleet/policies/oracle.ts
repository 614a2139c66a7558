// Policy "oracle": greedy on the truth, every replica's cache, queue and rates as they are at this moment.
import type { EngineRequest } from "../../model-server/engine-types.ts";
import type { Engine } from "../../model-server/engine.ts";
import type { FleetRequest, GatewayContext, Policy } from "../types.ts";
import { cheapest } from "./choose.ts";
import { PolicyGateway } from "./gateway.ts";
import { prefillMs } from "./prefill-time.ts";

const NAME = "oracle";

/** What a waiting request has cached is looked up again after so many steps of its engine. */
const LOOKUP_STEPS = 8;

interface Lookup {
  readonly step: number;
  readonly uncachedTokens: number;
}

/** Prompt tokens that the engine would compute of a request that came now, ≥ 1: the last token always is. */
export function uncachedTokens(
  engine: Engine,
  { promptTokens, blockHashes }: Pick<EngineRequest, "promptTokens" | "blockHashes">,
): number {
  const { blockSize, prefixCaching } = engine.config;
  if (!prefixCaching) return promptTokens;
  const found = engine.cache.findPrefix(blockHashes, Math.floor((promptTokens - 1) / blockSize));
  return promptTokens - found.length * blockSize;
}

/** Prompt tokens that wait in engines. */
export class Backlog {
  private readonly lookups = new WeakMap<EngineRequest, Lookup>();

  /** Prompt tokens of running and waiting requests that are left when the present step has ended. */
  tokens(engine: Engine): number {
    let tokens = 0;
    for (const request of engine.requests("running")) {
      const left = request.promptTokens - request.computedTokens - request.scheduledTokens;
      tokens += Math.max(0, left);
    }
    for (const request of engine.requests("waiting")) tokens += this.waitingTokens(engine, request);
    return tokens;
  }

  private waitingTokens(engine: Engine, request: EngineRequest): number {
    const { steps } = engine.counters;
    const known = this.lookups.get(request);
    if (known !== undefined && steps - known.step < LOOKUP_STEPS) return known.uncachedTokens;
    const tokens = uncachedTokens(engine, request);
    this.lookups.set(request, { step: steps, uncachedTokens: tokens });
    return tokens;
  }
}

/**
 * Milliseconds to the first token of a request that the engine gets now: the rest of its present step, then
 * steps for the backlog and this prompt, each with the decodes that run now.
 */
export function predictTtftMs(engine: Engine, promptTokens: number, nowMs: number): number {
  const stepMs = engine.runningCount === 0 ? 0 : Math.max(0, engine.nextEventMs() - nowMs);
  let sequences = 0;
  let contextTokens = 0;
  for (const request of engine.requests("running")) {
    if (request.generatedTokens === 0) continue;
    sequences++;
    contextTokens += request.computedTokens;
  }
  return stepMs + prefillMs(engine.config, promptTokens, { sequences, contextTokens }) * engine.slowdown;
}

class OracleGateway extends PolicyGateway {
  private readonly backlog = new Backlog();

  constructor(private readonly context: GatewayContext) {
    super(context, NAME);
  }

  protected order(request: FleetRequest, ready: readonly number[], nowMs: number): number[] {
    return cheapest(ready, (replica) => this.ttftMs(request, replica, nowMs), this.random);
  }

  protected assigned(): undefined {
    return undefined;
  }

  private ttftMs(request: FleetRequest, replica: number, nowMs: number): number {
    const engine = this.context.truth(replica);
    if (engine === undefined) return Number.POSITIVE_INFINITY;
    const blockHashes = this.context.blockHashes(request, engine.config.blockSize);
    const own = uncachedTokens(engine, { promptTokens: request.promptTokens, blockHashes });
    return predictTtftMs(engine, this.backlog.tokens(engine) + own, nowMs);
  }
}

/** The least predicted TTFT of this request, with no regard for the next ones. */
export const ORACLE: Policy = {
  name: NAME,
  source:
    "argmin of the predicted TTFT from the engines' true caches, queues and rates at the moment of the" +
    " decision; no router can know as much, and it is still greedy: it does not price what a miss costs" +
    " later requests.",
  create: (context) => new OracleGateway(context),
};
