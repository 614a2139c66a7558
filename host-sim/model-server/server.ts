// A simulated vLLM replica over HTTP: the engines on a real clock behind the APIs of `vllm serve`.
import { createServer, type Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { ReplicaApi } from "./api.ts";
import { createConnector, engineConfigOf } from "./disaggregation/create.ts";
import type { DisaggregationStatus, KvConnector } from "./disaggregation/leg.ts";
import { type Clock, monotonicMs } from "./driver.ts";
import { GenerationService } from "./generation.ts";
import { createEvents, type ReplicaEvents } from "./kv-events/replica-events.ts";
import { type Faults, noFaults, type ReplicaConfig } from "./replica-types.ts";

/**
 * One replica. It listens from `start` to `stop`; in between it can be told to misbehave.
 *
 * Beyond what vLLM sends, every answer carries `x-served-by` with the replica's name, also through a proxy:
 * measurements need to know who answered. The last part of `system_fingerprint` differs by replica as well.
 */
export class SimulatedReplica {
  readonly config: ReplicaConfig;
  readonly faults: Faults = noFaults();
  /** Calls since its start by the model that they named, "" where they named none; UNKNOWN_MODEL for all it does not serve. */
  readonly callsByModel = new Map<string, number>();
  private readonly clock: Clock;
  private readonly sockets = new Set<Socket>();
  private server: Server | undefined;
  private portInUse = 0;
  private sideOpen = false;
  private events: ReplicaEvents | undefined;
  private service: GenerationService;
  private connector: KvConnector | undefined;
  private api: ReplicaApi;

  constructor(config: ReplicaConfig, clock: Clock = monotonicMs) {
    this.config = config;
    this.clock = clock;
    this.events = createEvents(config);
    this.service = this.createService();
    this.connector = createConnector(this.config, this.sidePort, this.service);
    this.api = this.createApi();
  }

  /** "host:port" while listening, and the last one used after. */
  get address(): string {
    return `${this.config.host}:${this.portInUse}`;
  }

  get url(): string {
    return `http://${this.address}`;
  }

  /** The engines, for tests and for utilisation figures. */
  get generation(): GenerationService {
    return this.service;
  }

  /** What its connector did; null = it has none. */
  get disaggregation(): DisaggregationStatus | null {
    return this.connector?.status() ?? null;
  }

  /** Its publishers of KV events; undefined: it has none. */
  get kvEvents(): ReplicaEvents | undefined {
    return this.events;
  }

  /** Starts listening; after the first time on the port it had. @throws the listen error */
  async start(): Promise<void> {
    const server = createServer({ keepAliveTimeout: this.config.keepAliveTimeoutMs }, (request, response) => {
      void this.api.serve(request, response);
    });
    server.on("connection", (socket) => {
      this.sockets.add(socket);
      socket.on("close", () => this.sockets.delete(socket));
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(this.portInUse || this.config.port, this.config.host, resolve);
    });
    this.portInUse = (server.address() as AddressInfo).port;
    this.server = server;
    await this.events?.start();
    if (!this.sideOpen) await this.connector?.start(this.config.host);
    this.sideOpen = true;
  }

  /** Closes the port and every connection, as a process that is killed: connections are reset. */
  async kill(): Promise<void> {
    this.service.stop();
    await this.closePort(true);
  }

  /** Closes the port; requests in flight are cut off, silently. */
  async stop(): Promise<void> {
    this.service.stop();
    await this.closePort(false);
  }

  /** Refuses new connections and keeps those that are open. `start` accepts again. */
  refuseConnections(): void {
    this.server?.close();
    this.server = undefined;
  }

  /** Kills the replica and starts it anew on the same port: counters at 0, cache empty, faults gone. */
  async restart(): Promise<void> {
    await this.kill();
    this.events = createEvents(this.config, this.events?.sources);
    this.service = this.createService();
    this.connector = createConnector(this.config, this.sidePort, this.service);
    this.api = this.createApi();
    this.callsByModel.clear();
    Object.assign(this.faults, noFaults());
    await this.start();
  }

  /** The engine dies and the API server lives on: streams end with an error event, health turns 503. */
  killEngine(): void {
    this.service.die();
    void this.events?.stop();
  }

  /** Changes some faults. */
  inject(faults: Partial<Faults>): void {
    Object.assign(this.faults, faults);
    this.service.slowDown(this.faults.slowdown);
    this.events?.inject(faults);
  }

  private createService(): GenerationService {
    const options = { ...this.config, engine: engineConfigOf(this.config) };
    return new GenerationService(options, this.clock, this.events?.recorders);
  }

  private createApi(): ReplicaApi {
    const { config, clock, service, connector, events, faults, callsByModel } = this;
    return new ReplicaApi({ config, clock, service, connector, events, faults, callsByModel });
  }

  // After a restart the side channel is where it was, as the server is.
  private get sidePort(): number {
    const used = Number(this.disaggregation?.sideChannel.split(":").at(-1) ?? 0);
    return used || this.config.disaggregation.sidePort;
  }

  private async closePort(reset: boolean): Promise<void> {
    await this.events?.stop();
    if (this.sideOpen) await this.connector?.stop();
    this.sideOpen = false;
    const server = this.server;
    this.server = undefined;
    const closed = server === undefined ? undefined : new Promise((resolve) => server.close(resolve));
    for (const socket of this.sockets) {
      if (reset) socket.resetAndDestroy();
      else socket.destroy();
    }
    await closed;
  }
}
