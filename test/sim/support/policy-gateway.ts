// One gateway of a policy, without a run around it: scrapes, requests and engines made by hand.
import { hashRequestBlocks } from "../../../host-sim/fleet/blocks.ts";
import type {
  Choice,
  FleetRequest,
  Gateway,
  GatewayContext,
  Policy,
  Scrape,
  Span,
} from "../../../host-sim/fleet/types.ts";
import { defaultEngineConfig, Engine } from "../../../host-sim/model-server/engine.ts";
import { fleetRequest } from "./fleet-records.ts";

/** A ready, idle replica of 460,000 KV tokens in blocks of 16. */
export function scrape(more: Partial<Scrape> = {}): Scrape {
  return {
    ready: true,
    waiting: 0,
    running: 0,
    kvUsage: 0,
    kvCapacityTokens: 460_000,
    blockTokens: 16,
    promptTokens: 0,
    generationTokens: 0,
    preemptions: 0,
    generation: 1,
    loras: [],
    role: "both",
    ...more,
  };
}

/** A request of spans of user text, written [id, tokens]. */
export function prompt(
  index: number,
  spans: readonly (readonly [id: number, tokens: number])[],
  more: Partial<FleetRequest> = {},
): FleetRequest {
  const texts = spans.map(([id, tokens]): Span => ({ id, tokens, role: "user" }));
  const promptTokens = spans.reduce((sum, [, tokens]) => sum + tokens, 0);
  return fleetRequest(index, { spans: texts, promptTokens, ...more });
}

/** A gateway with what surrounds it. */
export class PolicyRig {
  readonly engines: readonly Engine[];
  readonly gateway: Gateway;
  private readonly scrapes: Scrape[];

  private constructor(gateway: Gateway, engines: readonly Engine[]) {
    this.gateway = gateway;
    this.engines = engines;
    this.scrapes = engines.map(() => scrape());
    gateway.scraped([...this.scrapes], 0);
  }

  static async of(policy: Policy, replicas: number, more: Partial<GatewayContext> = {}): Promise<PolicyRig> {
    const engine = defaultEngineConfig();
    const engines = Array.from({ length: replicas }, () => new Engine(engine));
    const gateway = await policy.create({
      replicas: engines.map(() => ({ engine, role: "both" })),
      gateway: 0,
      gateways: 1,
      seed: 1,
      truth: (replica) => engines[replica],
      blockHashes: (request, blockTokens) =>
        hashRequestBlocks(request, blockTokens).subarray(0, Math.floor(request.promptTokens / blockTokens)),
      ...more,
    });
    return new PolicyRig(gateway, engines);
  }

  /** Scrapes anew; `changes` by replica. */
  scrape(changes: Readonly<Record<number, Partial<Scrape>>>, nowMs = 0): void {
    for (const [replica, more] of Object.entries(changes)) {
      this.scrapes[Number(replica)] = scrape(more);
    }
    this.gateway.scraped([...this.scrapes], nowMs);
  }

  choose(request: FleetRequest, nowMs = 0): Choice {
    return this.gateway.route(request, nowMs);
  }

  route(request: FleetRequest, nowMs = 0): number {
    return this.choose(request, nowMs).endpoint;
  }

  firstToken(request: FleetRequest, endpoint: number, nowMs = 0): void {
    this.gateway.firstToken?.(request, endpoint, nowMs);
  }

  /** Ends a request, by default with 11 tokens. */
  finish(request: FleetRequest, endpoint: number, nowMs = 0, outputTokens = 11): void {
    const { promptTokens } = request;
    this.gateway.finished?.(
      request,
      endpoint,
      { status: 200, promptTokens, outputTokens, cachedTokens: 0 },
      nowMs,
    );
  }

  /** Routes and ends a request at once: it leaves its prefix, but no load. */
  serve(request: FleetRequest, nowMs = 0): number {
    const endpoint = this.route(request, nowMs);
    this.firstToken(request, endpoint, nowMs);
    this.finish(request, endpoint, nowMs);
    return endpoint;
  }
}
