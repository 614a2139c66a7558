// Draws a built-in workload: requests, events and the fleet they are meant for.
import { defaultEngineConfig } from "../../model-server/engine.ts";
import type { EngineConfig } from "../../model-server/engine-types.ts";
import { Random } from "../../workload/random.ts";
import { REPLICAS_MAX, REQUESTS_MAX } from "../check-run.ts";
import type { FleetRequest, ReplicaSpec, Workload } from "../types.ts";
import { arrivalTimes, RAMPED } from "./arrivals.ts";
import { SourceOptionsError } from "./errors.ts";
import { checkInteger, checkPositive, checkSeed, DEFAULT_MODEL } from "./options.ts";
import { SpanMaker, type Turn } from "./turns.ts";
import { GENERATORS } from "./workloads/index.ts";

/** Replicas that the default rates are meant for. */
export const DEFAULT_REPLICAS = 16;
/** Arrivals before the first request that are drawn at most; at higher rates the warm-up is shorter. */
export const WARM_UP_REQUESTS_MAX = 100_000;

/** How a workload is drawn. All have defaults. */
export interface GeneratorOptions {
  /** 0 to 2^32 − 1; 1 unless given. */
  readonly seed?: number;
  /** 1 to REQUESTS_MAX. */
  readonly requests?: number;
  /** Mean arrivals a second; the generator's own, in proportion to the replicas, unless given. */
  readonly ratePerSecond?: number;
  /** Multiplies that rate; 1 unless given. */
  readonly rateFactor?: number;
  /** Size of the fleet, DEFAULT_REPLICAS unless given. */
  readonly replicas?: number;
  /** Engine of a replica, where all are equal. */
  readonly engine?: EngineConfig;
  /** Model that the requests name. */
  readonly model?: string;
}

/** A workload with the fleet that it is meant for. */
export interface Generated {
  readonly workload: Workload;
  readonly replicas: readonly ReplicaSpec[];
  /** Mean rate, arrivals a second. */
  readonly ratePerSecond: number;
}

/**
 * Draws the workload of a name (one of GENERATORS). Equal options give equal results.
 *
 * A higher rate means more clients, not faster ones: pauses stay as they are. When a turn arrives depends on
 * the nominal duration of the answers before it and never on a run. Throws SourceOptionsError.
 */
export function generate(name: string, options: GeneratorOptions = {}): Generated {
  const generator = GENERATORS.find((candidate) => candidate.name === name);
  if (generator === undefined) {
    const names = GENERATORS.map((candidate) => candidate.name).join(", ");
    throw new SourceOptionsError("workload", name, `one of ${names}`);
  }
  const { seed = 1, requests = generator.requests, replicas = DEFAULT_REPLICAS, rateFactor = 1 } = options;
  const { engine = defaultEngineConfig(), model = DEFAULT_MODEL } = options;
  checkSeed(seed);
  checkInteger("requests", requests, 1, REQUESTS_MAX);
  checkInteger("replicas", replicas, generator.replicasMin ?? 1, REPLICAS_MAX);
  checkPositive("rateFactor", rateFactor);
  const baseRate = options.ratePerSecond ?? (generator.ratePerSecond * replicas) / DEFAULT_REPLICAS;
  checkPositive("ratePerSecond", baseRate);
  const ratePerSecond = baseRate * rateFactor;

  const random = new Random(seed);
  const arrivals = random.fork();
  const profile = generator.profile?.(random.fork()) ?? RAMPED;
  const durationMs = (requests / ratePerSecond) * 1000;
  const context = { random: random.fork(), make: new SpanMaker(), durationMs, replicas };
  const source = generator.source(context);
  const warmUp = Math.min(WARM_UP_REQUESTS_MAX, Math.round((generator.warmUpMs / 1000) * ratePerSecond));
  const warmUpMs = (warmUp / ratePerSecond) * 1000;
  for (const atMs of arrivalTimes(arrivals, warmUp, ratePerSecond)) source.next(atMs - warmUpMs);
  const times = arrivalTimes(arrivals, requests, ratePerSecond, profile);
  const drawn = Array.from(times, (atMs, index) => fleetRequest(index, atMs, source.next(atMs), model));
  const events = generator.events?.(context);
  return {
    workload: { name, requests: drawn, ...(events === undefined ? {} : { events }) },
    replicas:
      generator.fleet?.(engine, replicas) ??
      Array.from({ length: replicas }, (): ReplicaSpec => ({ engine, role: "both" })),
    ratePerSecond,
  };
}

function fleetRequest(index: number, arrivalMs: number, turn: Turn, model: string): FleetRequest {
  const promptTokens = turn.spans.reduce((sum, { tokens }) => sum + tokens, 0);
  return { index, arrivalMs, ...turn, promptTokens, model };
}
