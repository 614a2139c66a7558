// Small fleets, hand-made workloads and policies whose choices are known, for tests of the fleet simulator.
import { runFleet } from "../../../host-sim/fleet/run.ts";
import type {
  Choice,
  Ending,
  FleetRequest,
  Gateway,
  GatewayContext,
  Policy,
  PrefillOutcome,
  ReplicaRole,
  ReplicaSpec,
  RunOptions,
  RunRecord,
  Scrape,
  Span,
  Workload,
} from "../../../host-sim/fleet/types.ts";
import type { EngineConfig } from "../../../host-sim/model-server/engine-types.ts";
import { Random } from "../../../host-sim/workload/random.ts";
import { smallConfig } from "./engine.ts";

/** Replicas of the small engine: a step is 10 ms, a prefill token beyond 5 ms of weights 1 ms. */
export function fleetOf(count: number, overrides: Partial<EngineConfig> = {}): ReplicaSpec[] {
  return Array.from({ length: count }, () => ({ engine: smallConfig(overrides), role: "both" }));
}

/** Replicas of the small engine with roles, from "prefill,decode,both". */
export function fleetOfRoles(roles: string, overrides: Partial<EngineConfig> = {}): ReplicaSpec[] {
  const engine = smallConfig(overrides);
  return roles.split(",").map((role) => ({ engine, role: role as ReplicaRole }));
}

/** A stretch of a user's prompt. */
export function span(id: number, tokens: number): Span {
  return { id, tokens, role: "user" };
}

/** A request of `promptTokens` tokens that nobody shares, unless `fields` gives it spans. */
export function fleetRequest(
  index: number,
  arrivalMs: number,
  promptTokens: number,
  outputTokens: number,
  fields: Partial<FleetRequest> = {},
): FleetRequest {
  const spans = fields.spans ?? [span(1_000_000 + index, promptTokens)];
  const tokens = spans.reduce((sum, one) => sum + one.tokens, 0);
  const common = { index, arrivalMs, session: `s${index}`, model: "m", outputTokens };
  return { ...common, ...fields, spans, promptTokens: tokens };
}

/** A drawn workload of sessions that share prefixes, with adapters and answers that come back. */
export function randomWorkload(seed: number, count: number, gapMs: number): Workload {
  const random = new Random(seed);
  const histories: Span[][] = Array.from({ length: 6 }, (_, i) => [span(i, random.integer(5, 40))]);
  let nextId = 100;
  let arrivalMs = 0;
  const requests = Array.from({ length: count }, (_, index): FleetRequest => {
    arrivalMs += random.exponential(gapMs);
    const session = random.integer(0, histories.length - 1);
    const history = histories[session]!;
    const outputTokens = random.integer(1, 12);
    const answerSpan = nextId++;
    history.push(span(nextId++, random.integer(1, 30)));
    const fields = {
      spans: [...history],
      session: String(session),
      answerSpan,
      ...(session < 2 ? { lora: `a${session}` } : {}),
    };
    history.push({ id: answerSpan, tokens: outputTokens, role: "assistant" });
    if (history.length > 6) histories[session] = [history[0]!];
    return fleetRequest(index, arrivalMs, 0, outputTokens, fields);
  });
  return { name: "random", requests };
}

/** One call of a gateway. */
export interface Call {
  readonly name:
    | "scraped"
    | "route"
    | "prefillEnded"
    | "connectFailed"
    | "connected"
    | "firstToken"
    | "tokens"
    | "finished";
  readonly nowMs: number;
  readonly gateway: number;
  readonly request?: number;
  readonly endpoint?: number;
  readonly ending?: Ending;
  readonly outcome?: PrefillOutcome;
  readonly scrapes?: readonly Scrape[];
}

/** What a gateway chooses when a prefill leg of its own has ended. */
export type ChooseAgain = (outcome: PrefillOutcome, replica: number, request: FleetRequest) => Choice;

/** A policy that asks `choose`, and `again` after prefill legs, and writes down every call. */
export function recordingPolicy(
  choose: (request: FleetRequest, context: GatewayContext) => Choice,
  extra: Partial<Gateway> = {},
  again?: ChooseAgain,
): { policy: Policy; calls: Call[] } {
  const calls: Call[] = [];
  const create = (context: GatewayContext): Gateway => {
    const { gateway } = context;
    const note = (name: Call["name"], nowMs: number, fields: Partial<Call>): void => {
      calls.push({ name, nowMs, gateway, ...fields });
    };
    return {
      scraped: (scrapes, nowMs) => note("scraped", nowMs, { scrapes }),
      route: (request, nowMs) => {
        note("route", nowMs, { request: request.index });
        return choose(request, context);
      },
      ...(again === undefined
        ? {}
        : {
            prefillEnded: (request, endpoint, outcome, nowMs) => {
              note("prefillEnded", nowMs, { request: request.index, endpoint, outcome });
              return again(outcome, endpoint, request);
            },
          }),
      connectFailed: ({ index: request }, endpoint, nowMs) =>
        note("connectFailed", nowMs, { request, endpoint }),
      connected: ({ index: request }, endpoint, nowMs) => note("connected", nowMs, { request, endpoint }),
      firstToken: ({ index: request }, endpoint, nowMs) => note("firstToken", nowMs, { request, endpoint }),
      tokens: ({ index: request }, endpoint, _count, nowMs) => note("tokens", nowMs, { request, endpoint }),
      finished: ({ index: request }, endpoint, ending, nowMs) =>
        note("finished", nowMs, { request, endpoint, ending }),
      ...extra,
    };
  };
  return { policy: { name: "recording", source: "this test", create }, calls };
}

/** A policy that sends request i to replica i modulo the fleet, with the next two as fallbacks. */
export function inTurn(replicas: number): Policy {
  const choose = ({ index }: FleetRequest): Choice => ({
    endpoint: index % replicas,
    fallbacks: [(index + 1) % replicas, (index + 2) % replicas],
  });
  return recordingPolicy(choose).policy;
}

/** Runs with defaults: one gateway, scrapes every 20 ms, samples every 50 ms, seed 1. */
export function run(
  options: Pick<RunOptions, "replicas" | "policy" | "workload"> & Partial<RunOptions>,
): Promise<RunRecord> {
  return runFleet({ seed: 1, gateways: 1, scrapeMs: 20, sampleMs: 50, ...options });
}

/** The record without what the run itself took. */
export function timeless(record: RunRecord): Omit<RunRecord, "wallMs"> {
  const { wallMs: _wallMs, ...rest } = record;
  return rest;
}
