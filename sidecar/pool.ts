// One pool: joins discovery, slots, monitors and GPU figures into the rows of a snapshot.
import { POOL_ENDPOINTS_MAX } from "../assembly/wire/limits.ts";
import * as wire from "../assembly/wire/snapshot.ts";
import { CredentialStore } from "./config/credentials.ts";
import type { PoolSettings } from "./config/settings.ts";
import {
  type Discovery,
  type DiscoveryDrops,
  type Endpoint,
  labelOf,
  sameEndpoint,
} from "./discovery/endpoint.ts";
import { EndpointMonitor, type MonitorContext, type TransportFactory } from "./endpoint-monitor.ts";
import { codeOf } from "./errors.ts";
import { GpuMonitor } from "./gpu-monitor.ts";
import type { BlockSink } from "./kv-events/block-sink.ts";
import { KvEventsMonitor } from "./kv-events/monitor.ts";
import type { Logger } from "./log.ts";
import type { PoolPolicy } from "./policy.ts";
import type { PromptMonitor } from "./prompts/monitor.ts";
import { makePrompts, updatePrompts } from "./prompts/pool-prompts.ts";
import { addCounts, emptyCounts, type PollCounts } from "./scrape/poller.ts";
import type { Ticker } from "./scrape/ticker.ts";
import { SlotTable } from "./slot-table.ts";
import type { SnapshotEndpoint } from "./snapshot-encoder.ts";

/**
 * The first snapshot waits until each endpoint was tried once, at most this long beyond the scrape timeout: a
 * snapshot in which nothing is ready would make the gateway refuse requests that its fallback could serve.
 */
const SETTLE_EXTRA_MS = 200;
/**
 * How much of each row is kept when a snapshot does not fit, fullest first. The last always fits: a pool of
 * addresses and names of full length needs 122,176 bytes. An endpoint without a list of models counts as
 * serving any.
 */
export const DETAIL_LEVELS = ["full", "own-labels", "no-labels", "no-names"] as const;
export type Detail = (typeof DETAIL_LEVELS)[number];

/** What a pool needs from outside. */
export interface PoolContext {
  readonly ticker: Ticker;
  readonly discovery: Discovery;
  readonly makeTransport: TransportFactory;
  readonly random: () => number;
  readonly log: Logger;
  readonly environment: NodeJS.ProcessEnv;
  /** Is told what the replicas' caches hold. */
  readonly blockSink: BlockSink;
}

/** Things left out since start, or in the present list, for metrics. */
export interface PoolDrops {
  surplusEndpoints: number;
  duplicateEndpoints: number;
  labels: number;
}

/** A pool at work. */
export class Pool {
  readonly monitors = new Map<string, EndpointMonitor>();
  readonly drops: PoolDrops = { surplusEndpoints: 0, duplicateEndpoints: 0, labels: 0 };
  /** Raised by every change that a snapshot or the policy shows. */
  revision = 0;
  /** Lists taken over from discovery since start. */
  discoveryUpdates = 0;
  /** Failures of discovery since start. */
  discoveryFailures = 0;
  /** Why the present list may be out of date; null = it is not. */
  discoveryError: Error | null = null;
  /** What the pool's owner decided; null = the source of the endpoints knows no policy. */
  policy: PoolPolicy | null = null;
  /** Why the policy may be out of date; null = it is not. */
  policyError: Error | null = null;
  /** Called after each raise of `revision`. */
  onChange: () => void = () => undefined;
  readonly gpus: GpuMonitor | null;
  readonly kvEvents: KvEventsMonitor | null;
  /** How the replicas render prompts; null where no KV events are followed. */
  readonly prompts: PromptMonitor | null;
  /** Scrapes of endpoints that are no longer known, so that totals never fall. */
  readonly retiredPolls: PollCounts = emptyCounts();
  private readonly slots = new SlotTable(POOL_ENDPOINTS_MAX);
  private readonly credentials: CredentialStore;
  private readonly gpuCredentials: CredentialStore | null;
  private listed = false;
  private settleByMs = Number.POSITIVE_INFINITY;

  /** @throws FileReadError, ConfigError from the credentials, TokenizerError */
  constructor(
    readonly settings: PoolSettings,
    private readonly context: PoolContext,
  ) {
    this.credentials = new CredentialStore(settings.scrape, context.environment);
    const { dcgm } = settings;
    this.gpuCredentials = dcgm === null ? null : new CredentialStore(dcgm, context.environment);
    this.gpus =
      dcgm === null || this.gpuCredentials === null
        ? null
        : new GpuMonitor({ ...context, settings: dcgm, credentials: this.gpuCredentials });
    this.kvEvents =
      settings.kvEvents === null
        ? null
        : new KvEventsMonitor({
            settings: settings.kvEvents,
            credentials: () => this.credentials.current,
            sink: context.blockSink,
            log: context.log,
          });
    this.prompts =
      this.kvEvents === null
        ? null
        : makePrompts({
            ...context,
            checkMs: settings.kvEvents!.promptCheckMs,
            kvEvents: this.kvEvents,
            credentials: () => this.credentials.current,
            changed: () => this.announce(),
          });
  }

  get name(): string {
    return this.settings.name;
  }

  start(): void {
    const unreadable = (error: Error): void => {
      this.context.log.error({ code: codeOf(error) }, error.message);
    };
    this.credentials.watch(() => {
      for (const monitor of this.monitors.values()) monitor.renewTransports();
    }, unreadable);
    this.gpuCredentials?.watch(() => this.gpus?.renewTransports(), unreadable);
    this.context.discovery.start({
      apply: (endpoints, drops) => this.apply(endpoints, drops),
      failed: (error) => {
        this.discoveryFailures += 1;
        this.discoveryError = error;
        this.context.log.error({ code: codeOf(error), kept: this.monitors.size }, error.message);
      },
      policy: (policy, error) => {
        this.policy = policy ?? this.policy;
        if (error !== null) this.context.log.error({ code: codeOf(error) }, error.message);
        this.policyError = error;
        this.changed();
      },
    });
  }

  stop(): void {
    this.context.discovery.stop();
    this.credentials.stop();
    this.gpuCredentials?.stop();
    this.gpus?.stop();
    this.kvEvents?.stop();
    this.prompts?.stop();
    for (const monitor of this.monitors.values()) monitor.stop();
  }

  /** Whether a snapshot would show the pool as it is, and not only as it starts. */
  settled(nowMs: number): boolean {
    if (!this.listed) return false;
    if (nowMs >= this.settleByMs) return true;
    if (this.policy === null && this.context.discovery.hasPolicy === true) return false;
    for (const monitor of this.monitors.values()) if (!monitor.tried) return false;
    this.settleByMs = Number.NEGATIVE_INFINITY;
    return true;
  }

  /** What the source of the endpoints counts. */
  get discoveryFigures(): ReadonlyMap<string, number> {
    return this.context.discovery.figures?.() ?? new Map();
  }

  get readyEndpoints(): number {
    let count = 0;
    for (const monitor of this.monitors.values()) if (monitor.usable) count += 1;
    return count;
  }

  /** Slot and generation of a known address. */
  slotOf(address: string): { readonly index: number; readonly generation: number } | undefined {
    return this.slots.get(address);
  }

  /** The endpoints as snapshot rows, slots ascending. */
  rows(nowMs: number, detail: Detail): SnapshotEndpoint[] {
    const rows: SnapshotEndpoint[] = [];
    for (const monitor of this.monitors.values()) rows.push(this.row(monitor, nowMs, detail));
    return rows.sort((a, b) => a.slot - b.slot);
  }

  private row(monitor: EndpointMonitor, nowMs: number, detail: Detail): SnapshotEndpoint {
    const { description: endpoint, reading } = monitor;
    const slot = this.slots.get(endpoint.address)!;
    const gpu = monitor.gpuFigures(nowMs);
    const named = detail !== "no-names";
    const hasGpu = !Number.isNaN(gpu.utilization) || !Number.isNaN(gpu.memory);
    return {
      slot: slot.index,
      generation: slot.generation,
      flags:
        (monitor.usable && !endpoint.draining ? wire.ENDPOINT_READY : 0) |
        (endpoint.draining ? wire.ENDPOINT_DRAINING : 0) |
        (monitor.hasLoad ? wire.ENDPOINT_HAS_LOAD : 0) |
        (hasGpu ? wire.ENDPOINT_HAS_GPU : 0) |
        (reading.hasLora && named ? wire.ENDPOINT_HAS_LORA : 0),
      roles: endpoint.roles,
      address: endpoint.address,
      name: endpoint.name,
      waiting: reading.waiting,
      running: reading.running,
      kvUsage: reading.kvUsage,
      gpuUtilization: gpu.utilization,
      gpuMemory: gpu.memory,
      metricsAgeMs: monitor.loadAgeMs(nowMs),
      kvCapacityTokens: reading.kvCapacityTokens,
      blockTokens: reading.blockTokens,
      loraMax: reading.loraMax,
      rank: endpoint.rank,
      models: named ? monitor.models : [],
      labels: labelsAt(endpoint, detail),
      loraActive: named ? reading.loraActive : [],
      loraWaiting: named ? reading.loraWaiting : [],
      preemptions: reading.preemptions,
      promptTokens: reading.promptTokens,
      generationTokens: reading.generationTokens,
    };
  }

  private apply(endpoints: readonly Endpoint[], drops: DiscoveryDrops): void {
    const change = this.slots.update(endpoints.map(({ address }) => address));
    for (const address of change.removed) {
      this.retire(this.monitors.get(address));
      this.monitors.delete(address);
    }
    let changed = change.added.length + change.removed.length > 0 || !this.listed;
    for (const endpoint of endpoints) {
      if (this.slots.get(endpoint.address) !== undefined && this.describe(endpoint)) changed = true;
    }
    this.noteDrops(change.surplus, drops);
    const monitors = [...this.monitors.values()];
    this.gpus?.update(monitors);
    this.kvEvents?.update(monitors.map(({ description }) => description));
    this.discoveryUpdates += 1;
    this.discoveryError = null;
    if (!this.listed) {
      this.listed = true;
      this.settleByMs = this.context.ticker.now() + this.settings.scrape.timeoutMs + SETTLE_EXTRA_MS;
    }
    if (!changed) return;
    const fields = {
      added: change.added.length,
      removed: change.removed.length,
      endpoints: this.monitors.size,
    };
    this.context.log.info(fields, "endpoints changed");
    this.changed();
  }

  /** Starts or corrects the watch on an endpoint. @returns whether anything changed */
  private describe(endpoint: Endpoint): boolean {
    const monitor = this.monitors.get(endpoint.address);
    if (monitor !== undefined && sameEndpoint(monitor.description, endpoint)) return false;
    const { label } = this.settings.engines;
    if (monitor !== undefined && labelOf(monitor.description, label) === labelOf(endpoint, label)) {
      monitor.describe(endpoint);
      return true;
    }
    this.retire(monitor);
    this.monitors.set(endpoint.address, new EndpointMonitor(endpoint, this.monitorContext()));
    return true;
  }

  private retire(monitor: EndpointMonitor | undefined): void {
    if (monitor === undefined) return;
    monitor.stop();
    addCounts(this.retiredPolls, monitor.poller.counts);
  }

  private noteDrops(surplus: number, drops: DiscoveryDrops): void {
    if (surplus > 0 && surplus !== this.drops.surplusEndpoints) {
      this.context.log.error({ surplus, limit: POOL_ENDPOINTS_MAX }, "more endpoints than a pool can have");
    }
    this.drops.surplusEndpoints = surplus;
    this.drops.duplicateEndpoints = drops.duplicates;
    this.drops.labels = drops.labels;
  }

  private monitorContext(): MonitorContext {
    return {
      ...this.context,
      settings: this.settings,
      credentials: this.credentials,
      changed: () => this.changed(),
      replaced: (endpoint, identity) => {
        this.slots.restarted(endpoint.address, identity);
        this.changed();
      },
    };
  }

  private changed(): void {
    const { prompts } = this;
    if (prompts !== null) prompts.notice(() => updatePrompts(prompts, this.monitors, this.slots));
    this.announce();
  }

  private announce(): void {
    this.revision += 1;
    this.onChange();
  }
}

function labelsAt(endpoint: Endpoint, detail: Detail): readonly (readonly [string, string])[] {
  if (detail === "full") return endpoint.labels;
  if (detail !== "own-labels") return [];
  return endpoint.labels.filter(([key]) => key.startsWith("llm-d.ai/"));
}
