// A run of the fleet simulator: requests arrive at gateways, engines compute, sidecars scrape, things break.
import { type EngineRequest, SequenceTooLongError } from "../model-server/engine-types.ts";
import { Random } from "../workload/random.ts";
import { RequestBlocks } from "./blocks.ts";
import { checkRun } from "./check-run.ts";
import { ChoiceError, StalledError } from "./errors.ts";
import { Replica } from "./replica.ts";
import { Timeline } from "./timeline.ts";
import type {
  Choice,
  Ending,
  FleetEvent,
  FleetRequest,
  Gateway,
  LoadSample,
  RequestRecord,
  RunOptions,
  RunRecord,
} from "./types.ts";

/** Ended requests between two reports of progress. */
const PROGRESS_EVERY = 500;

const STATUS_OK = 200;
const STATUS_TOO_LONG = 400;
const STATUS_UNAVAILABLE = 503;

/** A request that a replica serves. */
interface Flight {
  readonly request: FleetRequest;
  /** Index of its gateway. */
  readonly gateway: number;
  readonly endpoint: number;
  readonly engineRequest: EngineRequest;
}

/**
 * Runs a workload under a policy, in simulated time. Equal options give equal records, `wallMs` apart, as long as
 * the policy draws on nothing but its context.
 *
 * Of what happens at one time, engines come first, then the workload's events, scrapes, gateways' timers, load
 * samples, and arrivals last. Connecting, and everything on the network, takes no time. Every gateway is scraped for
 * at time 0 and then every `scrapeMs` at a phase of its own; it is delivered at once, so what a gateway knows is up
 * to `scrapeMs` old. A request whose replica dies has failed, also before its first token: vLLM has sent its response
 * headers by then, after which no proxy tries another replica.
 * @throws RunOptionError, WorkloadError before the run; ChoiceError, StalledError and what the policy throws in it
 */
export async function runFleet(options: RunOptions): Promise<RunRecord> {
  checkRun(options);
  const startMs = performance.now();
  const run = new FleetRun(options);
  try {
    await run.start();
    run.play();
    return run.record(performance.now() - startMs);
  } finally {
    run.close();
  }
}

class FleetRun {
  private readonly replicas: readonly Replica[];
  private readonly blocks = new RequestBlocks();
  private readonly flights = new Map<EngineRequest, Flight>();
  private readonly gateways: Gateway[] = [];
  private readonly records: RequestRecord[];
  private readonly samples: LoadSample[] = [];
  private readonly timeline: Timeline;
  private readonly arrivals: Random;
  private readonly phases: Random;
  private nextRequest = 0;
  private nextEvent = 0;
  private endedCount = 0;
  private endMs = 0;

  constructor(private readonly options: RunOptions) {
    const random = new Random(options.seed);
    this.arrivals = random.fork();
    this.phases = random.fork();
    const listener = {
      token: (request: EngineRequest, nowMs: number) => this.onToken(request, nowMs),
      finished: (request: EngineRequest, reason: string, nowMs: number) => {
        if (reason === "done") this.onDone(request, nowMs);
      },
    };
    this.replicas = options.replicas.map((spec) => new Replica(spec, listener));
    this.records = new Array<RequestRecord>(options.workload.requests.length);
    this.timeline = new Timeline(this.replicas.length + 2 * options.gateways + 3);
  }

  // Slots of the timeline; of equal times the lower slot is first.
  private get eventSlot(): number {
    return this.replicas.length;
  }
  private get scrapeSlots(): number {
    return this.replicas.length + 1;
  }
  private get timerSlots(): number {
    return this.scrapeSlots + this.options.gateways;
  }
  private get sampleSlot(): number {
    return this.timerSlots + this.options.gateways;
  }
  private get arrivalSlot(): number {
    return this.sampleSlot + 1;
  }

  /** Starts replicas and gateways; the first scrape of each gateway is done. */
  async start(): Promise<void> {
    const { options, timeline } = this;
    const { policy, gateways, workload } = options;
    const events = workload.events ?? [];
    this.replicas.forEach((replica, index) => {
      if (events.find((event) => event.replica === index)?.kind !== "join") replica.join();
    });
    const models = modelsOf(workload.requests);
    for (let gateway = 0; gateway < gateways; gateway++) {
      const context = {
        replicas: options.replicas,
        gateway,
        gateways,
        seed: options.seed,
        models,
        truth: (replica: number) => this.replicas[replica]?.process,
        blockHashes: (request: FleetRequest, blockTokens: number) => this.blocks.prompt(request, blockTokens),
      };
      this.gateways.push(await policy.create(context));
      this.scrape(gateway, 0);
      timeline.set(this.scrapeSlots + gateway, this.phases.uniform() * options.scrapeMs);
    }
    timeline.set(this.eventSlot, events[0]?.atMs ?? Number.POSITIVE_INFINITY);
    timeline.set(this.sampleSlot, 0);
    timeline.set(this.arrivalSlot, workload.requests[0]?.arrivalMs ?? Number.POSITIVE_INFINITY);
  }

  /** Plays until every request has ended. */
  play(): void {
    const { timeline } = this;
    while (this.endedCount < this.records.length) {
      const nowMs = timeline.firstMs;
      const slot = timeline.first;
      if (slot < this.eventSlot) this.step(slot, nowMs);
      else if (slot === this.eventSlot) this.applyEvent(nowMs);
      else if (slot < this.timerSlots) this.scrapeDue(slot - this.scrapeSlots, nowMs);
      else if (slot < this.sampleSlot) this.runTimers(slot - this.timerSlots, nowMs);
      else if (slot === this.sampleSlot) this.sample(nowMs);
      else this.arrive(nowMs);
    }
  }

  record(wallMs: number): RunRecord {
    const { policy, workload } = this.options;
    return {
      policy: policy.name,
      workload: workload.name,
      requests: this.records,
      samples: this.samples,
      replicas: this.replicas.length,
      totals: this.replicas.map((replica) => replica.totals()),
      endMs: this.endMs,
      wallMs,
    };
  }

  close(): void {
    for (const gateway of this.gateways) gateway.close?.();
  }

  private step(replica: number, nowMs: number): void {
    this.replicas[replica]!.advance(nowMs);
    this.engineChanged(replica);
  }

  private engineChanged(replica: number): void {
    this.timeline.set(replica, this.replicas[replica]!.nextEventMs());
  }

  private gatewayChanged(gateway: number): void {
    const nextMs = this.gateways[gateway]!.nextTimerMs?.() ?? Number.POSITIVE_INFINITY;
    this.timeline.set(this.timerSlots + gateway, nextMs);
  }

  private applyEvent(nowMs: number): void {
    const events = this.options.workload.events ?? [];
    const event = events[this.nextEvent++]!;
    this.timeline.set(this.eventSlot, events[this.nextEvent]?.atMs ?? Number.POSITIVE_INFINITY);
    const replica = this.replicas[event.replica]!;
    if (event.kind === "slow") replica.slow(event.factor);
    else if (event.kind === "join") replica.join();
    else if (event.kind === "drain") replica.drain();
    else this.fail(event, nowMs);
    this.engineChanged(event.replica);
  }

  private fail(event: FleetEvent, nowMs: number): void {
    this.replicas[event.replica]!.fail();
    for (const flight of [...this.flights.values()]) {
      if (flight.endpoint === event.replica) this.endFlight(flight, "died", nowMs);
    }
  }

  private scrapeDue(gateway: number, nowMs: number): void {
    this.scrape(gateway, nowMs);
    this.timeline.set(this.scrapeSlots + gateway, nowMs + this.options.scrapeMs);
    this.stopIfStalled(nowMs);
  }

  private scrape(gateway: number, nowMs: number): void {
    const scrapes = this.replicas.map((replica) => replica.scrape());
    this.gateways[gateway]!.scraped(scrapes, nowMs);
    this.gatewayChanged(gateway);
  }

  private runTimers(gateway: number, nowMs: number): void {
    this.gateways[gateway]!.advance?.(nowMs);
    this.gatewayChanged(gateway);
  }

  private sample(nowMs: number): void {
    this.replicas.forEach(({ process }, replica) => {
      if (process === undefined) return;
      const { waitingCount: waiting, runningCount: running, cache } = process;
      this.samples.push({ atMs: nowMs, replica, waiting, running, kvUsage: cache.usage });
    });
    this.timeline.set(this.sampleSlot, nowMs + this.options.sampleMs);
  }

  // Scrapes go on for ever, so that they are where a run without end is noticed.
  private stopIfStalled(nowMs: number): void {
    if (this.nextRequest < this.records.length) return;
    if (this.replicas.some((replica) => replica.nextEventMs() !== Number.POSITIVE_INFINITY)) return;
    throw new StalledError(this.options.policy.name, this.records.length - this.endedCount, nowMs);
  }

  private arrive(nowMs: number): void {
    const { requests } = this.options.workload;
    const request = requests[this.nextRequest++]!;
    this.timeline.set(this.arrivalSlot, requests[this.nextRequest]?.arrivalMs ?? Number.POSITIVE_INFINITY);
    const gateway = this.arrivals.integer(0, this.gateways.length - 1);
    const choice = this.gateways[gateway]!.route(request, nowMs);
    this.checkChoice(choice, request);
    if (choice.endpoint < 0) this.endUnserved(request, -1, "refused", nowMs);
    else this.connect(request, gateway, [choice.endpoint, ...(choice.fallbacks ?? [])], nowMs);
    this.gatewayChanged(gateway);
  }

  private checkChoice(choice: Choice, request: FleetRequest): void {
    const { policy, replicas } = this.options;
    const check = (field: string, value: number, from: number): void => {
      if (Number.isInteger(value) && value >= from && value < replicas.length) return;
      const expected = `a whole number from ${from} to ${replicas.length - 1}`;
      throw new ChoiceError(policy.name, request.index, field, value, expected);
    };
    check("endpoint", choice.endpoint, -1);
    for (const [i, fallback] of (choice.fallbacks ?? []).entries()) check(`fallbacks[${i}]`, fallback, 0);
    if (choice.prefill !== undefined) {
      const expected = "none: the answering replica computes the prompt";
      throw new ChoiceError(policy.name, request.index, "prefill", choice.prefill, expected);
    }
  }

  // The first replica of the list that takes the connection serves the request.
  private connect(request: FleetRequest, gateway: number, endpoints: readonly number[], nowMs: number): void {
    for (const endpoint of endpoints) {
      if (this.replicas[endpoint]!.accepting !== undefined) {
        this.submit(request, gateway, endpoint, nowMs);
        return;
      }
      this.gateways[gateway]!.connectFailed?.(request, endpoint, nowMs);
    }
    const last = endpoints.at(-1)!;
    this.gateways[gateway]!.finished?.(request, last, unanswered(STATUS_UNAVAILABLE, request), nowMs);
    this.endUnserved(request, last, "connect", nowMs);
  }

  private submit(request: FleetRequest, gateway: number, endpoint: number, nowMs: number): void {
    const replica = this.replicas[endpoint]!;
    const { promptTokens, outputTokens, lora } = request;
    const blockHashes = this.blocks.all(request, replica.spec.engine.blockSize);
    const submission = { id: String(request.index), promptTokens, outputTokens, blockHashes, lora };
    try {
      const engineRequest = replica.accepting!.submit(submission, nowMs);
      this.flights.set(engineRequest, { request, gateway, endpoint, engineRequest });
      this.gateways[gateway]!.connected?.(request, endpoint, nowMs);
    } catch (error) {
      if (!(error instanceof SequenceTooLongError)) throw error;
      this.gateways[gateway]!.finished?.(request, endpoint, unanswered(STATUS_TOO_LONG, request), nowMs);
      this.endUnserved(request, endpoint, "too-long", nowMs);
    }
    this.engineChanged(endpoint);
  }

  private onToken(engineRequest: EngineRequest, nowMs: number): void {
    const { generatedTokens } = engineRequest;
    const { request, gateway: index, endpoint } = this.flights.get(engineRequest)!;
    const gateway = this.gateways[index]!;
    if (generatedTokens === 1) {
      gateway.firstToken?.(request, endpoint, nowMs);
      this.gatewayChanged(index);
    } else if (gateway.tokensEvery !== undefined && generatedTokens % gateway.tokensEvery === 0) {
      gateway.tokens?.(request, endpoint, generatedTokens, nowMs);
    }
  }

  private onDone(engineRequest: EngineRequest, nowMs: number): void {
    this.endFlight(this.flights.get(engineRequest)!, "", nowMs);
  }

  private endFlight(flight: Flight, failure: "" | "died", nowMs: number): void {
    const { request, gateway, endpoint, engineRequest } = flight;
    const outputTokens = engineRequest.generatedTokens;
    const cachedTokens = Math.max(0, engineRequest.cachedTokens);
    const { promptTokens } = request;
    const status = failure === "" ? STATUS_OK : STATUS_UNAVAILABLE;
    const ending: Ending = { status, promptTokens, outputTokens, cachedTokens };
    this.flights.delete(engineRequest);
    this.gateways[gateway]!.finished?.(request, endpoint, ending, nowMs);
    this.gatewayChanged(gateway);
    const { firstTokenMs } = engineRequest;
    this.end(request, { endpoint, firstTokenMs, outputTokens, cachedTokens, failure }, nowMs);
  }

  private endUnserved(
    request: FleetRequest,
    endpoint: number,
    failure: RequestRecord["failure"],
    nowMs: number,
  ): void {
    const fields = { endpoint, firstTokenMs: Number.NaN, outputTokens: 0, cachedTokens: 0, failure };
    this.end(request, fields, nowMs);
  }

  private end(
    request: FleetRequest,
    fields: Pick<RequestRecord, "endpoint" | "firstTokenMs" | "outputTokens" | "cachedTokens" | "failure">,
    nowMs: number,
  ): void {
    const { index, arrivalMs, promptTokens } = request;
    this.records[index] = { index, arrivalMs, prefill: -1, endMs: nowMs, promptTokens, ...fields };
    this.blocks.release(request);
    this.endMs = Math.max(this.endMs, nowMs);
    this.endedCount++;
    if (this.endedCount % PROGRESS_EVERY === 0 || this.endedCount === this.records.length)
      this.options.onProgress?.(this.endedCount, this.records.length);
  }
}

function unanswered(status: number, request: FleetRequest): Ending {
  return { status, promptTokens: request.promptTokens, outputTokens: 0, cachedTokens: 0 };
}

function modelsOf(requests: readonly FleetRequest[]): readonly string[] {
  const models = new Set<string>();
  for (const { model, lora } of requests) {
    models.add(model);
    if (lora !== undefined) models.add(lora);
  }
  return [...models];
}
