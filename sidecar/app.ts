// The running sidecar: starts all parts of a configuration, and stops them in order.
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { type DnsSettings, DnsDiscovery, type NameResolver } from "./discovery/dns.ts";
import type { Discovery } from "./discovery/endpoint.ts";
import { FileDiscovery } from "./discovery/file.ts";
import { accessSource } from "./discovery/kubernetes/credentials.ts";
import { KubernetesDiscovery } from "./discovery/kubernetes/discovery.ts";
import { StaticDiscovery } from "./discovery/static.ts";
import type { DiscoverySettings, PoolSettings, Settings } from "./config/settings.ts";
import type { TransportFactory } from "./endpoint-monitor.ts";
import { type BlockSink, NO_SINK } from "./kv-events/block-sink.ts";
import { EntryBudget } from "./kv-index/entry-budget.ts";
import { KvIndex } from "./kv-index/kv-index.ts";
import { KvPush } from "./kv-index/kv-push.ts";
import { type Logger, makeLogger } from "./log.ts";
import { Pool } from "./pool.ts";
import { ControlClient } from "./push/control-client.ts";
import { Pusher } from "./push/pusher.ts";
import { PageBuffers } from "./scrape/page-buffers.ts";
import { PageClient } from "./scrape/page-client.ts";
import { Ticker } from "./scrape/ticker.ts";
import { makeRegistry } from "./serve/metrics.ts";
import { type Readiness, readinessOf } from "./serve/readiness.ts";
import { StatusServer } from "./serve/server.ts";
import { StatusReader } from "./serve/status-reader.ts";

/** Characters of the host's name in a sidecar's id. */
const ID_HOST_MAX = 40;

/** What may be put in place of the real thing. */
export interface Replacements {
  readonly log?: Logger;
  readonly makeTransport?: TransportFactory;
  readonly resolver?: NameResolver;
  readonly random?: () => number;
  readonly environment?: NodeJS.ProcessEnv;
  /** Within which a request to the control listener ends, well or not. */
  readonly controlTimeoutMs?: number;
  /** Follows what the replicas' caches hold, instead of the index that is brought to the gateway. */
  readonly blockSink?: BlockSink;
  /** A source of another kind, or another timing; undefined = the one of the settings. */
  readonly makeDiscovery?: (settings: DiscoverySettings) => Discovery | undefined;
}

/** Host, process and chance: unique, and readable in a log. */
function sidecarId(): string {
  const host = hostname()
    .replaceAll(/[^\w.-]/g, "_")
    .slice(0, ID_HOST_MAX);
  return `${host}-${process.pid}-${randomBytes(4).toString("hex")}`;
}

/** A sidecar: construct, `start`, `stop`. */
export class Sidecar {
  readonly pools: readonly Pool[];
  readonly pushers: Pusher[] = [];
  /** Of the pools with an exact index. */
  readonly kvPushes: KvPush[] = [];
  /** Names this process before the gateway, which takes a pool from one sidecar at a time. */
  readonly id = sidecarId();
  /** Port of the own HTTP server; 0 = none. */
  httpPort = 0;
  private readonly ticker = new Ticker();
  private readonly control: ControlClient;
  private readonly status: StatusReader;
  private readonly server: StatusServer;
  private readonly log: Logger;
  private readonly budget = new EntryBudget();
  private readonly indexes = new Map<Pool, KvIndex>();
  private stopping = false;
  private snapshotId = Date.now();

  /** @throws FileReadError, ConfigError for tokens and certificates */
  constructor(
    private readonly settings: Settings,
    private readonly replacements: Replacements = {},
  ) {
    this.log = replacements.log ?? makeLogger(settings.logLevel);
    const buffers = new PageBuffers();
    const makeTransport: TransportFactory =
      replacements.makeTransport ?? ((target, sink) => new PageClient(target, sink, buffers));
    this.control = new ControlClient(
      settings.control,
      () => this.ticker.now(),
      this.id,
      replacements.controlTimeoutMs,
    );
    this.status = new StatusReader(this.control, settings.control.statusIntervalMs, this.log);
    this.pools = settings.pools.map((pool) => this.makePool(pool, makeTransport));
    const source = {
      pools: this.pools,
      pushers: this.pushers,
      kvPushes: this.kvPushes,
      status: this.status,
      now: () => this.ticker.now(),
    };
    this.server = new StatusServer(makeRegistry(source), () => this.readiness());
  }

  /** Rejects when the own HTTP server cannot listen; nothing runs then. */
  async start(): Promise<void> {
    for (const note of this.settings.notes) this.log.info(note);
    const { http, control } = this.settings;
    if (http !== null) this.httpPort = await this.server.listen(http.host, http.port);
    for (const pool of this.pools) {
      const log = this.log.child({ pool: pool.name });
      const pusher = new Pusher(pool, this.control, this.ticker, () => this.nextSnapshotId(), log);
      this.pushers.push(pusher);
      this.startIndex(pusher, log);
      pool.start();
    }
    this.status.start();
    const target = control.socketPath ?? control.origin;
    this.log.info(
      { pools: this.pools.map(({ name }) => name), control: target, httpPort: this.httpPort },
      "started",
    );
  }

  /** Ends everything; the gateway goes on with what it was told last, and another sidecar may take over at once. */
  async stop(): Promise<void> {
    if (this.stopping) return;
    this.stopping = true;
    this.status.stop();
    for (const push of [...this.pushers, ...this.kvPushes]) push.stop();
    for (const pool of this.pools) pool.stop();
    await this.release();
    await this.control.close();
    if (this.httpPort !== 0) await this.server.close();
    this.log.info("stopped");
  }

  readiness(): Readiness {
    return readinessOf(this.pushers, this.kvPushes, this.stopping, this.ticker.now());
  }

  /** Of pools that others bring the gateway takes no notice. */
  private async release(): Promise<void> {
    const held = this.pushers.filter(({ acceptedAtMs }) => Number.isFinite(acceptedAtMs));
    // A gateway that does not answer, or knows no such request, waits for the lease to lapse.
    await Promise.allSettled(held.map(({ pool }) => this.control.release(pool.name)));
  }

  private makePool(settings: PoolSettings, makeTransport: TransportFactory): Pool {
    const { replacements } = this;
    const isIndexed = settings.kvEvents !== null && replacements.blockSink === undefined;
    const index = isIndexed ? new KvIndex(this.budget, () => this.ticker.now()) : null;
    const pool = new Pool(settings, {
      ticker: this.ticker,
      discovery: replacements.makeDiscovery?.(settings.discovery) ?? this.makeDiscovery(settings),
      makeTransport,
      random: replacements.random ?? Math.random,
      log: this.log.child({ pool: settings.name }),
      environment: replacements.environment ?? process.env,
      blockSink: index ?? replacements.blockSink ?? NO_SINK,
    });
    if (index !== null) this.indexes.set(pool, index);
    return pool;
  }

  private startIndex(pusher: Pusher, log: Logger): void {
    const index = this.indexes.get(pusher.pool);
    if (index === undefined) return;
    const push = new KvPush(pusher.pool.name, index, pusher, this.control, this.ticker, log);
    pusher.onSlotsTaken = () => push.slotsChanged();
    this.kvPushes.push(push);
  }

  private makeDiscovery({ name, discovery: settings }: PoolSettings): Discovery {
    switch (settings.kind) {
      case "static":
        return new StaticDiscovery(settings.endpoints);
      case "file":
        return new FileDiscovery(settings.path, settings.watch);
      case "dns":
      case "srv":
        return new DnsDiscovery(settings satisfies DnsSettings, this.replacements.resolver);
      case "kubernetes": {
        const access = accessSource(settings, this.replacements.environment);
        return new KubernetesDiscovery(settings, { pool: name, access });
      }
    }
  }

  private nextSnapshotId(): number {
    this.snapshotId += 1;
    return this.snapshotId;
  }
}
