// A run of the fleet simulator: requests arrive at gateways, engines compute, sidecars scrape, things break.
import type { Engine } from "../model-server/engine.ts";
import { Random } from "../workload/random.ts";
import { RequestBlocks } from "./blocks.ts";
import { checkRun, checkScaling } from "./check-run.ts";
import { StalledError } from "./errors.ts";
import type { Replica } from "./replica.ts";
import { Serving } from "./serving.ts";
import { Timeline } from "./timeline.ts";
import type {
  Choice,
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

/**
 * Runs a workload under a policy, in simulated time. Equal options give equal records, `wallMs` apart, as long as
 * the policy draws on nothing but its context.
 *
 * Of what happens at one time, engines come first, then the workload's events, leases on held blocks, scrapes,
 * gateways' timers, the scaler, load samples, and arrivals last. Connecting takes no time, nor does anything on the
 * network but KV blocks. Every gateway is scraped for at time 0 and then every `scrapeMs` at a phase of its own; it is
 * delivered at once, so what a gateway knows is up to `scrapeMs` old. A request whose replica dies has failed, also
 * before its first token: vLLM has sent its response headers by then, after which no proxy tries another replica.
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
  private readonly serving: Serving;
  private readonly blocks = new RequestBlocks();
  private readonly gateways: Gateway[] = [];
  private readonly records: RequestRecord[];
  private readonly samples: LoadSample[] = [];
  private readonly timeline: Timeline;
  private readonly arrivals: Random;
  private readonly phases: Random;
  /** What happens to replicas, in order of time. */
  private readonly events: FleetEvent[];
  private nextRequest = 0;
  private nextEvent = 0;
  private endedCount = 0;
  private endMs = 0;

  constructor(private readonly options: RunOptions) {
    const random = new Random(options.seed);
    this.arrivals = random.fork();
    this.phases = random.fork();
    this.events = [...(options.workload.events ?? [])];
    this.serving = new Serving({
      policy: options.policy.name,
      specs: options.replicas,
      gateways: this.gateways,
      blocks: this.blocks,
      engineChanged: (replica) => this.engineChanged(replica),
      gatewayChanged: (gateway) => this.gatewayChanged(gateway),
      ended: (record) => this.ended(record),
    });
    this.records = new Array<RequestRecord>(options.workload.requests.length);
    this.timeline = new Timeline(this.arrivalSlot + 1);
  }

  private get replicas(): readonly Replica[] {
    return this.serving.replicas;
  }

  // Slots of the timeline; of equal times the lower slot is first.
  private get eventSlot(): number {
    return this.replicas.length;
  }
  private get leaseSlot(): number {
    return this.replicas.length + 1;
  }
  private get scrapeSlots(): number {
    return this.replicas.length + 2;
  }
  private get timerSlots(): number {
    return this.scrapeSlots + this.options.gateways;
  }
  private get scalerSlot(): number {
    return this.timerSlots + this.options.gateways;
  }
  private get sampleSlot(): number {
    return this.scalerSlot + 1;
  }
  private get arrivalSlot(): number {
    return this.sampleSlot + 1;
  }

  /** Starts replicas and gateways; the first scrape of each gateway is done. */
  async start(): Promise<void> {
    const { options, timeline } = this;
    const { policy, gateways, workload, scaler } = options;
    this.replicas.forEach((replica, index) => {
      const joinsLater = this.events.find((event) => event.replica === index)?.kind === "join";
      if (!joinsLater && scaler?.absent(index) !== true) replica.join(0);
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
        giveUpPrefill: (request: FleetRequest, choice: Choice, nowMs: number) => {
          this.serving.giveUpPrefill(request, choice, nowMs);
        },
      };
      this.gateways.push(await policy.create(context));
      this.scrape(gateway, 0);
      timeline.set(this.scrapeSlots + gateway, this.phases.uniform() * options.scrapeMs);
    }
    this.armEvents();
    timeline.set(this.scalerSlot, scaler?.everyMs ?? Number.POSITIVE_INFINITY);
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
      else if (slot === this.leaseSlot) this.serving.extendLeases(nowMs);
      else if (slot < this.timerSlots) this.scrapeDue(slot - this.scrapeSlots, nowMs);
      else if (slot < this.scalerSlot) this.runTimers(slot - this.timerSlots, nowMs);
      else if (slot === this.scalerSlot) this.scale(nowMs);
      else if (slot === this.sampleSlot) this.sample(nowMs);
      else this.arrive(nowMs);
      timeline.set(this.leaseSlot, this.serving.nextLeaseMs);
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
      totals: this.replicas.map((replica) => replica.totals(this.endMs)),
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

  private armEvents(): void {
    this.timeline.set(this.eventSlot, this.events[this.nextEvent]?.atMs ?? Number.POSITIVE_INFINITY);
  }

  private applyEvent(nowMs: number): void {
    const event = this.events[this.nextEvent++]!;
    this.armEvents();
    const replica = this.replicas[event.replica]!;
    if (event.kind === "slow") replica.slow(event.factor);
    else if (event.kind === "join") replica.join(nowMs, event.takenMs);
    else if (event.kind === "drain") replica.drain(nowMs);
    else this.serving.die(event.replica, nowMs);
    this.engineChanged(event.replica);
  }

  // What the scaler decides takes its place among the events, behind those of the same time.
  private scale(nowMs: number): void {
    const { scaler } = this.options;
    const scrapes = this.replicas.map((replica) => replica.scrape());
    const truth = (replica: number): Engine | undefined => this.replicas[replica]?.process;
    for (const event of scaler!.decide({ scrapes, truth }, nowMs)) {
      checkScaling(this.options, event, nowMs);
      let at = this.nextEvent;
      while (at < this.events.length && this.events[at]!.atMs <= event.atMs) at++;
      this.events.splice(at, 0, event);
    }
    this.armEvents();
    this.timeline.set(this.scalerSlot, nowMs + scaler!.everyMs);
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
    this.serving.arrive(request, this.arrivals.integer(0, this.gateways.length - 1), nowMs);
  }

  private ended(record: RequestRecord): void {
    this.records[record.index] = record;
    this.endMs = Math.max(this.endMs, record.endMs);
    this.endedCount++;
    if (this.endedCount % PROGRESS_EVERY === 0 || this.endedCount === this.records.length)
      this.options.onProgress?.(this.endedCount, this.records.length);
  }
}

function modelsOf(requests: readonly FleetRequest[]): readonly string[] {
  const models = new Set<string>();
  for (const { model, lora } of requests) {
    models.add(model);
    if (lora !== undefined) models.add(lora);
  }
  return [...models];
}
