// What the gateways of all policies have in common: who is ready, whose requests are where, and retries.
import { hashText } from "../../model-server/block-hash.ts";
import { Random } from "../../workload/random.ts";
import type {
  Choice,
  Ending,
  FleetRequest,
  Gateway,
  GatewayContext,
  PrefillOutcome,
  ReplicaSpec,
  Scrape,
} from "../types.ts";

/** Replicas that a request is sent to at most after the first one refused the connection. */
export const RETRIES_MAX = 2;

/** The part of a choice that says who computes the prompt. */
export type PrefillChoice = Required<Pick<Choice, "prefill" | "prefillBy">>;

/** One request that this gateway has sent out. */
interface Flight<Kept> {
  endpoint: number;
  fallbacks: readonly number[];
  kept: Kept;
  started: boolean;
}

/**
 * A gateway that knows its own requests and the last scrape. A policy says in which order the ready replicas
 * are tried (`order`), and keeps what it wants to know of a request while that is under way (`assigned`,
 * `Kept`).
 *
 * Replicas that were not ready at the last scrape get nothing, nor do those that only prefill for others; without
 * any left the request is refused. Of one request the hooks come in the order order, assigned, (ended, assigned, …), started, ended.
 */
export abstract class PolicyGateway<Kept = undefined> implements Gateway {
  protected readonly replicas: readonly ReplicaSpec[];
  protected readonly random: Random;
  /** The last scrape of every replica, by index. */
  protected scrapes: readonly Scrape[] = [];
  /** Own requests under way, i32[replicaCount]. */
  protected readonly ownRequests: Int32Array;
  private readonly ownAtScrape: Int32Array;
  private readonly flights = new Map<number, Flight<Kept>>();

  /** @param policy its name: gateways of different policies draw different random numbers from one seed */
  constructor(context: GatewayContext, policy: string) {
    this.replicas = context.replicas;
    this.random = new Random(hashText(`${policy}/${context.gateway}`, context.seed));
    this.ownRequests = new Int32Array(context.replicas.length);
    this.ownAtScrape = new Int32Array(context.replicas.length);
  }

  /**
   * Replicas in the order in which they are tried.
   * @param ready at least one, ascending
   * @returns 1…1 + RETRIES_MAX different ones of `ready`, best first
   */
  protected abstract order(request: FleetRequest, ready: readonly number[], nowMs: number): readonly number[];

  /** Where else the prompt is computed, once `assigned` has been told; undefined: at `endpoint` itself. */
  protected prefillAt(_request: FleetRequest, _endpoint: number, _nowMs: number): PrefillChoice | undefined {
    return undefined;
  }

  /** Where a prompt is computed next whose prefill leg has ended; undefined: where the request is answered. */
  protected prefillNext(
    _request: FleetRequest,
    replica: number,
    { failure }: PrefillOutcome,
    _nowMs: number,
  ): PrefillChoice | undefined {
    return failure === "" ? { prefill: replica, prefillBy: "gateway" } : undefined;
  }

  /** The request goes to `endpoint`. @returns what the policy wants back when it ends */
  protected abstract assigned(request: FleetRequest, endpoint: number, nowMs: number): Kept;

  /** The first token came. */
  protected started(_request: FleetRequest, _endpoint: number, _kept: Kept, _nowMs: number): void {}

  /**
   * The request is no longer at `endpoint`.
   * @param started whether a first token came @param ending absent: the connection was refused
   */
  protected ended(
    _request: FleetRequest,
    _endpoint: number,
    _kept: Kept,
    _started: boolean,
    _ending: Ending | undefined,
    _nowMs: number,
  ): void {}

  /** The process behind a replica is another one than at the scrape before. */
  protected replaced(_replica: number): void {}

  /**
   * Requests in a replica's engine, ≥ 0: running and waiting ones at the last scrape, plus own ones sent and
   * less own ones ended since.
   */
  protected requestsInEngine(replica: number): number {
    const { running, waiting } = this.scrapes[replica]!;
    return Math.max(0, running + waiting + this.ownRequests[replica]! - this.ownAtScrape[replica]!);
  }

  scraped(scrapes: readonly Scrape[], _nowMs: number): void {
    const before = this.scrapes;
    this.scrapes = scrapes;
    this.ownAtScrape.set(this.ownRequests);
    for (const [replica, scrape] of scrapes.entries()) {
      const known = before[replica];
      if (known !== undefined && known.generation !== scrape.generation) this.replaced(replica);
    }
  }

  route(request: FleetRequest, nowMs: number): Choice {
    const ready: number[] = [];
    for (const [replica, { ready: isReady, role }] of this.scrapes.entries()) {
      if (isReady && role !== "prefill") ready.push(replica);
    }
    if (ready.length === 0) return { endpoint: -1 };
    const [endpoint, ...fallbacks] = this.order(request, ready, nowMs);
    this.send(request, endpoint!, fallbacks, nowMs);
    return { endpoint: endpoint!, fallbacks, ...this.prefillAt(request, endpoint!, nowMs) };
  }

  /** Where a request under way is answered. */
  protected endpointOf({ index }: FleetRequest): number {
    return this.flights.get(index)!.endpoint;
  }

  /** Ready replicas that compute prompts for others, `but` not this one; ascending. */
  protected prefillers(but: number): number[] {
    const found: number[] = [];
    for (const [replica, { ready, role }] of this.scrapes.entries()) {
      if (ready && role !== "decode" && replica !== but) found.push(replica);
    }
    return found;
  }

  prefillEnded(request: FleetRequest, replica: number, outcome: PrefillOutcome, nowMs: number): Choice {
    const { endpoint, fallbacks } = this.flights.get(request.index)!;
    return { endpoint, fallbacks, ...this.prefillNext(request, replica, outcome, nowMs) };
  }

  connectFailed(request: FleetRequest, endpoint: number, nowMs: number): void {
    const flight = this.flights.get(request.index);
    if (flight === undefined) return;
    this.take(request, flight, undefined, nowMs);
    const [next, ...fallbacks] = flight.fallbacks;
    if (next !== undefined && flight.endpoint === endpoint) this.send(request, next, fallbacks, nowMs);
  }

  firstToken(request: FleetRequest, endpoint: number, nowMs: number): void {
    const flight = this.flights.get(request.index);
    if (flight === undefined || flight.started) return;
    flight.started = true;
    this.started(request, endpoint, flight.kept, nowMs);
  }

  finished(request: FleetRequest, _endpoint: number, ending: Ending, nowMs: number): void {
    const flight = this.flights.get(request.index);
    if (flight !== undefined) this.take(request, flight, ending, nowMs);
  }

  private send(request: FleetRequest, endpoint: number, fallbacks: readonly number[], nowMs: number): void {
    this.ownRequests[endpoint]!++;
    const kept = this.assigned(request, endpoint, nowMs);
    this.flights.set(request.index, { endpoint, fallbacks, kept, started: false });
  }

  private take(request: FleetRequest, flight: Flight<Kept>, ending: Ending | undefined, nowMs: number): void {
    const { endpoint, kept, started } = flight;
    this.ownRequests[endpoint]!--;
    this.flights.delete(request.index);
    this.ended(request, endpoint, kept, started, ending, nowMs);
  }
}
