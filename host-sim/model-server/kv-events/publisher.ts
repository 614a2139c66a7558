// Publishes one engine's batches over ZeroMQ, and replays them, as vLLM's ZmqEventPublisher does.
import type { Publisher, Router } from "zeromq";
import {
  type EventSource,
  type KvEventsConfig,
  type KvEventsFaults,
  noKvEventsFaults,
  QUEUE_MESSAGES_MAX,
} from "./config.ts";
import { encodeBatch, type PublishedEvent } from "./encode.ts";

/** Batches that are sent once more, last first, after the connections were closed. */
const RESENT_BATCHES = 3;
/** A port that was just closed may stay in use for a moment: attempts to have it back, and the pause between. */
const BIND_ATTEMPTS = 50;
const BIND_PAUSE_MS = 20;
const END_MARK = Buffer.alloc(8, 0xff);

interface Kept {
  readonly sequence: Buffer;
  readonly payload: Uint8Array;
}

/** One engine's publisher: `start`, `publish`…, `stop`. A new process begins with another one, at number 0. */
export class EventPublisher {
  private readonly faults: KvEventsFaults = noKvEventsFaults();
  private readonly kept: Kept[] = [];
  private nextSequence = 0;
  private lastSeconds = 0;
  /** Sent after the batch that comes next. */
  private late: readonly Kept[] = [];
  private publisher: Publisher | undefined;
  private router: Router | undefined;
  /** Sends are made one after the other. */
  private sending: Promise<void> = Promise.resolve();

  /** @param where the sockets of the process before; none = as configured */
  constructor(
    private readonly config: KvEventsConfig,
    private readonly host: string,
    private readonly rank: number,
    private where: EventSource = { endpoint: "", replayEndpoint: "" },
  ) {}

  /** Where it publishes, or will. */
  get source(): EventSource {
    return this.where;
  }

  /** Binds; after the first time where it was. */
  async start(): Promise<void> {
    const { Publisher: PublisherSocket, Router: RouterSocket } = (await import("zeromq")).default;
    const { port, replayPort } = this.config;
    const of = (used: string, first: number): string =>
      used !== "" ? used : `tcp://${this.host}:${first === 0 ? "*" : first + this.rank}`;
    const router = new RouterSocket({ linger: 0 });
    this.router = router;
    const replayEndpoint = await bind(router, of(this.where.replayEndpoint, replayPort));
    const publisher = new PublisherSocket({ linger: 0, sendHighWaterMark: QUEUE_MESSAGES_MAX });
    this.publisher = publisher;
    this.where = { endpoint: await bind(publisher, of(this.where.endpoint, port)), replayEndpoint };
    this.serveReplays(router).catch((error: unknown) => {
      // It may be closed while a replay is being answered.
      if (!router.closed) throw error;
    });
  }

  /** Closes both sockets; what is published meanwhile can be replayed after the next `start`. */
  async stop(): Promise<void> {
    const { publisher, router } = this;
    this.publisher = undefined;
    this.router = undefined;
    await this.sending;
    for (const socket of [publisher, router]) socket?.close();
  }

  /** Changes some faults; names that are none of a publisher's are passed over. */
  inject(faults: Partial<KvEventsFaults>): void {
    for (const name of Object.keys(this.faults) as (keyof KvEventsFaults)[]) {
      this.faults[name] = faults[name] ?? this.faults[name];
    }
  }

  /** Closes all connections and comes back; with the next batch some earlier ones are sent again, out of order. */
  async reconnect(): Promise<void> {
    await this.stop();
    await this.start();
    this.late = this.kept.slice(-RESENT_BATCHES).reverse();
  }

  /** Publishes a batch under the next number. */
  publish(events: readonly PublishedEvent[]): void {
    // Two batches never have the same time: with it, an engine and its successor can be told apart.
    this.lastSeconds = Math.max(Date.now() / 1_000, this.lastSeconds + 1e-6);
    const sequence = Buffer.alloc(8);
    sequence.writeBigUInt64BE(BigInt(this.nextSequence++));
    const kept = { sequence, payload: encodeBatch(events, this.lastSeconds, this.rank, this.config) };
    this.kept.push(kept);
    if (this.kept.length > this.config.bufferSteps) this.kept.shift();
    const messages = this.misbehave(kept);
    this.sending = this.sending.then(() => this.send(messages));
  }

  private misbehave(kept: Kept): readonly Kept[] {
    const { faults, late: rest } = this;
    this.late = [];
    if (takeOne(faults, "kvEventsDrop")) return rest;
    if (takeOne(faults, "kvEventsDuplicate")) return [kept, kept, ...rest];
    if (takeOne(faults, "kvEventsGarbage")) {
      const payload = Uint8Array.from(kept.payload, (byte, index) => byte ^ (index * 37 + 0x5a));
      return [{ ...kept, payload }, ...rest];
    }
    if (rest.length === 0 && takeOne(faults, "kvEventsReorder")) {
      this.late = [kept];
      return [];
    }
    return [kept, ...rest];
  }

  private async send(messages: readonly Kept[]): Promise<void> {
    for (const { sequence, payload } of messages) {
      if (this.publisher === undefined) return;
      await this.publisher.send([this.config.topic, sequence, payload]);
    }
  }

  private async serveReplays(router: Router): Promise<void> {
    const topic = this.config.encoding === "map" ? [this.config.topic] : [];
    const noTopic = topic.map(() => "");
    for await (const [client, empty, start] of router) {
      if (client === undefined || empty?.length !== 0 || start?.length !== 8) continue;
      const from = start.readBigUInt64BE();
      for (const { sequence, payload } of [...this.kept]) {
        if (sequence.readBigUInt64BE() < from) continue;
        await router.send([client, "", ...topic, sequence, payload]);
      }
      await router.send([client, "", ...noTopic, END_MARK, ""]);
    }
  }
}

function takeOne(faults: KvEventsFaults, name: keyof KvEventsFaults): boolean {
  if (faults[name] <= 0) return false;
  faults[name] -= 1;
  return true;
}

/** @returns the endpoint with the port that it has */
async function bind(socket: Publisher | Router, endpoint: string): Promise<string> {
  for (let attempt = 1; ; attempt++) {
    try {
      await socket.bind(endpoint);
      return socket.lastEndpoint!;
    } catch (error) {
      if ((error as { code?: unknown }).code !== "EADDRINUSE" || attempt === BIND_ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, BIND_PAUSE_MS));
    }
  }
}
