// Requests on their way: which replica has which leg of each, from its arrival to its end.
import {
  type EngineListener,
  type EngineRequest,
  type EngineSubmission,
  type FinishReason,
  SequenceTooLongError,
} from "../model-server/engine-types.ts";
import type { RequestBlocks } from "./blocks.ts";
import { checkChoice } from "./check-choice.ts";
import { endingOf, type Failure, type Flight, type Leg, NONE, recordOf } from "./flight.ts";
import { Handovers } from "./handovers.ts";
import { Replica } from "./replica.ts";
import type {
  CacheChange,
  Choice,
  Ending,
  FleetRequest,
  Gateway,
  PrefillOutcome,
  ReplicaSpec,
  RequestRecord,
} from "./types.ts";

const STATUS_OK = 200;
const STATUS_TOO_LONG = 400;
const STATUS_NO_BLOCKS = 500;
const STATUS_UNAVAILABLE = 503;

/** Whom requests are served for, and who hears of it. */
export interface Served {
  readonly policy: string;
  readonly specs: readonly ReplicaSpec[];
  /** Complete before the first request arrives. */
  readonly gateways: readonly Gateway[];
  readonly blocks: RequestBlocks;
  /** The engine of a replica may have something to do at another time than before. */
  engineChanged(replica: number): void;
  /** A gateway was called. */
  gatewayChanged(gateway: number): void;
  /** A request has come to its end. */
  ended(record: RequestRecord): void;
}

/**
 * Takes requests from gateways to engines and their ends back. A prompt that is computed elsewhere takes these steps:
 *
 * ```
 * prefill leg: one token, blocks held ─► decode leg: blocks allocated ─► pulled ─► hold released ─► tokens
 *   by "decoder": the answering replica is connected before the leg, by "gateway" after it
 * ```
 *
 * Only the decode leg's tokens are the client's. A leg or a pull whose replica dies fails at once; blocks whose decoder
 * died stay held until they expire, as nobody tells the prefiller.
 */
export class Serving {
  /** Requests that have not ended, by index. */
  private readonly flights = new Map<number, Flight>();
  private readonly handovers: Handovers;
  /** By index; without processes at first. */
  readonly replicas: readonly Replica[];

  constructor(private readonly served: Served) {
    this.replicas = served.specs.map((spec, replica) => new Replica(spec, this.listener(replica)));
    this.handovers = new Handovers(this.replicas, (replica) => served.engineChanged(replica));
  }

  /** Next time that decoders extend leases, ms; Infinity: nobody waits for blocks. */
  get nextLeaseMs(): number {
    return this.handovers.nextLeaseMs;
  }

  /** The decoders whose requests wait for blocks have the prefillers hold them for longer. */
  extendLeases(nowMs: number): void {
    this.handovers.extendLeases(nowMs);
  }

  /** A request comes to a gateway, which chooses. */
  arrive(request: FleetRequest, gateway: number, nowMs: number): void {
    const choice = this.served.gateways[gateway]!.route(request, nowMs);
    const legs = { leg: undefined, expectedBy: NONE, prompt: undefined, prefillLegs: 0, failedPrefills: 0 };
    const flight: Flight = { request, gateway, choice, ...legs };
    this.flights.set(request.index, flight);
    this.proceed(flight, choice, nowMs);
    this.served.gatewayChanged(gateway);
  }

  /** See `GatewayContext.giveUpPrefill`. Nothing happens when no prefill leg of the gateway's runs. */
  giveUpPrefill(request: FleetRequest, choice: Choice, nowMs: number): void {
    const flight = this.flights.get(request.index);
    if (flight?.leg?.kind !== "prefill" || flight.choice.prefillBy !== "gateway") return;
    this.abortPrefill(flight, nowMs);
    flight.failedPrefills++;
    this.proceed(flight, choice, nowMs);
  }

  /** The process of a replica dies: every leg that it had ends, and every pull from it. */
  die(replica: number, nowMs: number): void {
    const dead = this.replicas[replica]!.process;
    this.replicas[replica]!.fail(nowMs);
    if (dead === undefined) return;
    for (const flight of [...this.flights.values()]) {
      const { leg, prompt } = flight;
      if (leg?.engine === dead) {
        if (leg.kind === "decode") this.fail(flight, replica, STATUS_UNAVAILABLE, "died", nowMs);
        else this.prefillFailed(flight, "died", nowMs);
      } else if (flight.expectedBy === replica) {
        flight.expectedBy = NONE;
        this.abortPrefill(flight, nowMs);
        this.fail(flight, replica, STATUS_UNAVAILABLE, "died", nowMs);
      } else if (prompt?.engine === dead && leg?.engineRequest?.state === "pulling") {
        this.handovers.fail(flight, nowMs);
      }
    }
  }

  private listener(replica: number): EngineListener {
    return {
      token: (request, nowMs) => this.onToken(request, nowMs),
      allocated: (request, nowMs) => this.handovers.begin(this.flightOf(request), request, nowMs),
      pulled: (request, nowMs) => this.handovers.end(this.flightOf(request), nowMs),
      finished: (request, reason, nowMs) => this.onFinished(request, reason, nowMs),
      stored: (request, from, to) => {
        const { blockHashes: hashes } = request;
        const stored = this.flights.get(Number.parseInt(request.id, 10))?.request;
        if (stored !== undefined)
          this.cacheChanged(replica, { kind: "stored", request: stored, hashes, from, to });
      },
      evicted: (hash) => this.cacheChanged(replica, { kind: "evicted", hash }),
      cleared: () => this.cacheChanged(replica, { kind: "emptied" }),
    };
  }

  private cacheChanged(replica: number, change: CacheChange): void {
    for (const gateway of this.served.gateways) gateway.cacheChanged?.(replica, change);
  }

  // Goes where a gateway says. A prompt that was computed for nobody stays held until it expires.
  private proceed(flight: Flight, choice: Choice, nowMs: number): void {
    const { served } = this;
    const { request, prompt } = flight;
    const computed = prompt !== undefined && choice.prefill === prompt.replica;
    const gateway = served.gateways[flight.gateway]!;
    const legs = computed ? 0 : flight.prefillLegs;
    checkChoice({ policy: served.policy, gateway, request, choice, legs }, served.specs);
    flight.choice = choice;
    flight.leg = undefined;
    if (!computed) flight.prompt = undefined;
    if (choice.prefill !== undefined && !computed) this.sendPrefill(flight, choice.prefill, nowMs);
    else if (choice.endpoint < 0) this.end(flight, NONE, "refused", nowMs);
    else {
      const endpoint = this.connect(flight, nowMs);
      if (endpoint !== NONE) this.sendDecode(flight, endpoint, nowMs);
    }
  }

  // The first replica of the list that takes the connection; NONE: none did, and the request has ended.
  private connect(flight: Flight, nowMs: number): number {
    const { gateways } = this.served;
    const { request, choice } = flight;
    const endpoints = [choice.endpoint, ...(choice.fallbacks ?? [])];
    for (const endpoint of endpoints) {
      if (this.replicas[endpoint]!.accepting !== undefined) return endpoint;
      gateways[flight.gateway]!.connectFailed?.(request, endpoint, nowMs);
    }
    this.fail(flight, endpoints.at(-1)!, STATUS_UNAVAILABLE, "connect", nowMs);
    return NONE;
  }

  private sendPrefill(flight: Flight, replica: number, nowMs: number): void {
    if (flight.choice.prefillBy !== "gateway") {
      const decoder = this.connect(flight, nowMs);
      // Its sidecar needs no other replica when the list has led to the prefill replica itself.
      if (decoder === replica) this.sendDecode(flight, decoder, nowMs);
      if (decoder === replica || decoder === NONE) return;
      this.replicas[decoder]!.expect();
      flight.expectedBy = decoder;
    }
    const id = `${flight.request.index}/${flight.prefillLegs++}`;
    const engine = this.replicas[replica]!.accepting;
    if (engine === undefined) this.prefillFailed(flight, "connect", nowMs);
    else {
      const leg: Leg = { kind: "prefill", replica, engine };
      const extra = { id, outputTokens: 1, holdBlocks: true };
      if (!this.submit(flight, leg, extra, nowMs)) this.prefillFailed(flight, "too-long", nowMs);
    }
    this.served.engineChanged(replica);
  }

  private sendDecode(flight: Flight, endpoint: number, nowMs: number): void {
    const { request, prompt } = flight;
    const replica = this.replicas[endpoint]!;
    const leg: Leg = { kind: "decode", replica: endpoint, engine: replica.process! };
    let remotePrefill = prompt !== undefined;
    if (prompt?.replica === endpoint) {
      // It fell back to the replica that computed the prompt, which finds it in its own cache.
      this.handovers.release(prompt, nowMs);
      remotePrefill = false;
    } else if (prompt !== undefined) this.handovers.expect(prompt, nowMs);
    const extra = { id: String(request.index), outputTokens: request.outputTokens, remotePrefill };
    if (!this.submit(flight, leg, extra, nowMs)) {
      this.fail(flight, endpoint, STATUS_TOO_LONG, "too-long", nowMs);
    } else if (this.flights.has(request.index)) {
      this.served.gateways[flight.gateway]!.connected?.(request, endpoint, nowMs);
    }
    this.served.engineChanged(endpoint);
  }

  // False: longer than the engine's cache.
  private submit(
    flight: Flight,
    leg: Leg,
    extra: Pick<EngineSubmission, "id" | "outputTokens" | "holdBlocks" | "remotePrefill">,
    nowMs: number,
  ): boolean {
    const { promptTokens, lora } = flight.request;
    const { blockSize } = this.served.specs[leg.replica]!.engine;
    const blockHashes = this.served.blocks.all(flight.request, blockSize);
    flight.leg = leg;
    try {
      leg.engineRequest = leg.engine.submit({ promptTokens, lora, blockHashes, ...extra }, nowMs);
      return true;
    } catch (error) {
      if (!(error instanceof SequenceTooLongError)) throw error;
      flight.leg = undefined;
      return false;
    }
  }

  private onToken(engineRequest: EngineRequest, nowMs: number): void {
    const { request, gateway: index, leg } = this.flightOf(engineRequest);
    if (leg!.kind === "prefill") return;
    const gateway = this.served.gateways[index]!;
    const { generatedTokens } = engineRequest;
    if (generatedTokens === 1) {
      gateway.firstToken?.(request, leg!.replica, nowMs);
      this.served.gatewayChanged(index);
    } else if (gateway.tokensEvery !== undefined && generatedTokens % gateway.tokensEvery === 0) {
      gateway.tokens?.(request, leg!.replica, generatedTokens, nowMs);
    }
  }

  private onFinished(engineRequest: EngineRequest, reason: FinishReason, nowMs: number): void {
    if (reason === "aborted") return;
    const flight = this.flightOf(engineRequest);
    const { leg } = flight;
    if (reason === "failed") this.fail(flight, leg!.replica, STATUS_NO_BLOCKS, "transfer", nowMs);
    else if (leg!.kind === "prefill") this.prefilled(flight, engineRequest, nowMs);
    else this.finish(flight, leg!.replica, endingOf(flight, STATUS_OK), "", nowMs);
  }

  private prefilled(flight: Flight, engineRequest: EngineRequest, nowMs: number): void {
    const { replica, engine } = flight.leg!;
    const { id: holdId, cachedTokens } = engineRequest;
    const prompt = { replica, engine, holdId, cachedTokens, prefilledMs: nowMs };
    flight.prompt = { ...prompt, pulledMs: Number.NaN, pulledTokens: 0 };
    if (flight.choice.prefillBy === "gateway") this.askAgain(flight, "", cachedTokens, nowMs);
    else {
      const decoder = flight.expectedBy;
      flight.expectedBy = NONE;
      this.sendDecode(flight, decoder, nowMs);
      this.replicas[decoder]!.unexpect(nowMs);
      this.served.engineChanged(decoder);
    }
  }

  private prefillFailed(flight: Flight, failure: "connect" | "died" | "too-long", nowMs: number): void {
    flight.leg = undefined;
    flight.failedPrefills++;
    if (flight.choice.prefillBy === "gateway") this.askAgain(flight, failure, 0, nowMs);
    else {
      const decoder = flight.expectedBy;
      flight.expectedBy = NONE;
      const status = failure === "too-long" ? STATUS_TOO_LONG : STATUS_UNAVAILABLE;
      this.fail(flight, decoder, status, failure === "too-long" ? failure : "prefill", nowMs);
      this.replicas[decoder]!.unexpect(nowMs);
      this.served.engineChanged(decoder);
    }
  }

  private askAgain(
    flight: Flight,
    failure: PrefillOutcome["failure"],
    cachedTokens: number,
    nowMs: number,
  ): void {
    const { request, gateway, choice } = flight;
    const outcome = { failure, promptTokens: request.promptTokens, cachedTokens };
    const next = this.served.gateways[gateway]!.prefillEnded!(request, choice.prefill!, outcome, nowMs);
    this.proceed(flight, next, nowMs);
    this.served.gatewayChanged(gateway);
  }

  // A request whose client goes away is aborted, as in vLLM. Engines come before all else that happens at one time, so
  // that it has not just ended.
  private abortPrefill(flight: Flight, nowMs: number): void {
    const { engine, engineRequest, replica } = flight.leg!;
    flight.leg = undefined;
    engine.abort(engineRequest!, nowMs);
    this.served.engineChanged(replica);
  }

  private flightOf({ id }: EngineRequest): Flight {
    return this.flights.get(Number.parseInt(id, 10))!;
  }

  private fail(flight: Flight, endpoint: number, status: number, failure: Failure, nowMs: number): void {
    this.finish(flight, endpoint, endingOf(flight, status), failure, nowMs);
  }

  private finish(flight: Flight, endpoint: number, ending: Ending, failure: Failure, nowMs: number): void {
    this.flights.delete(flight.request.index);
    this.served.gateways[flight.gateway]!.finished?.(flight.request, endpoint, ending, nowMs);
    this.served.gatewayChanged(flight.gateway);
    this.end(flight, endpoint, failure, nowMs, ending);
  }

  private end(flight: Flight, endpoint: number, failure: Failure, nowMs: number, ending?: Ending): void {
    const { request, prompt } = flight;
    this.flights.delete(request.index);
    if (prompt !== undefined) this.handovers.giveUp(prompt);
    this.served.blocks.release(request);
    this.served.ended(recordOf(flight, endpoint, failure, nowMs, ending));
  }
}
