// The KV events of one replica process: a recorder and a publisher for each of its engines.
import type { EventSource, KvEventsConfig, KvEventsFaults } from "./config.ts";
import { EventPublisher } from "./publisher.ts";
import { EventRecorder } from "./recorder.ts";

/** What is asked of a replica's configuration. */
export interface EventsOwner {
  readonly kvEvents: KvEventsConfig | null;
  readonly host: string;
  readonly dataParallelSize: number;
  readonly loraModules: readonly string[];
  readonly engine: { readonly blockSize: number };
}

/** Events from `start` to `stop`. A process that starts anew has new ones, at the sockets of the one before. */
export class ReplicaEvents {
  readonly recorders: readonly EventRecorder[];
  private readonly publishers: readonly EventPublisher[];
  private open = false;

  /** @param places of the process before, by rank; none = as configured */
  constructor(
    config: KvEventsConfig,
    { host, dataParallelSize, loraModules, engine }: EventsOwner,
    places: readonly EventSource[] = [],
  ) {
    const ranks = Array.from({ length: dataParallelSize }, (_, rank) => rank);
    this.publishers = ranks.map((rank) => new EventPublisher(config, host, rank, places[rank]));
    this.recorders = this.publishers.map(
      (publisher) => new EventRecorder(engine.blockSize, loraModules, (events) => publisher.publish(events)),
    );
  }

  /** Where each rank publishes, or will. */
  get sources(): readonly EventSource[] {
    return this.publishers.map(({ source }) => source);
  }

  async start(): Promise<void> {
    if (this.open) return;
    for (const publisher of this.publishers) await publisher.start();
    this.open = true;
  }

  async stop(): Promise<void> {
    if (this.open) for (const publisher of this.publishers) await publisher.stop();
    this.open = false;
  }

  /** Drops all subscribers, and lets them come back. */
  async reconnect(): Promise<void> {
    if (this.open) for (const publisher of this.publishers) await publisher.reconnect();
  }

  /** Changes some faults of all ranks' publishers. */
  inject(faults: Partial<KvEventsFaults>): void {
    for (const publisher of this.publishers) publisher.inject(faults);
  }
}

/** The events of a replica; undefined: it publishes none. */
export function createEvents(owner: EventsOwner, places?: readonly EventSource[]): ReplicaEvents | undefined {
  return owner.kvEvents === null ? undefined : new ReplicaEvents(owner.kvEvents, owner, places);
}
