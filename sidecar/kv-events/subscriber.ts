// Follows the KV events of one engine over ZeroMQ: a live subscription, and replays of what it missed.
import type { Subscriber as SubscriberSocket } from "zeromq";
import { type AskReplay, type Cause, EventHistory, type HistoryContext, type SeenBatch } from "./history.ts";
import { LIVE_MESSAGES_MAX, LONG_REPLAYS_MAX, MESSAGE_BYTES_MAX } from "./limits.ts";
import { requestReplay } from "./replay.ts";
import { Turns } from "./turns.ts";
import { isNothingReceived, loadZeromq, readSequence, type ZeromqLibrary } from "./zeromq.ts";

/** How often a subscription without messages looks whether it has something else to do. */
const POLL_MS = 50;
/** From a connection, or a message that cannot be read, to the replay: the engine learns of a subscription late. */
const SETTLE_MS = 50;
/** Pauses between attempts to connect, ms: the first, doubled until the last. */
const RECONNECT_FIRST_MS = 100;
const RECONNECT_LAST_MS = 5_000;
/** A peer that does not answer ZeroMQ's own pings for this long is gone. */
const HEARTBEAT_MS = 5_000;

/** A sidecar that starts asks every engine for all that it keeps, which may be hundreds of MB each. */
const LONG_REPLAYS = new Turns(LONG_REPLAYS_MAX);

/** Where an engine publishes, and how patient to be. */
export interface SubscriberSettings {
  /** "tcp://host:port" of the PUB socket. */
  readonly endpoint: string;
  /** The same of the replay ROUTER; null = it has none. */
  readonly replayEndpoint: string | null;
  /** Start of the topics to subscribe to; "" = all. */
  readonly topic: string;
  /** Wait for each answer of a replay. */
  readonly replayTimeoutMs: number;
  /** After this long without a message the engine is asked whether there were any. */
  readonly idleCheckMs: number;
}

/**
 * One subscription. It starts with a replay of everything, and asks again whenever a number is missing, a message
 * cannot be read, the connection was down, or nothing came for a while.
 *
 * Nothing is read while batches are applied or asked for: what comes meanwhile waits in the socket, up to
 * LIVE_MESSAGES_MAX, then in the engine, which drops at its own limit; then a number is missing.
 */
export class Subscriber {
  readonly history: EventHistory;
  private readonly stopping: AbortController;
  private socket: SubscriberSocket | undefined;
  private connected = false;
  /** When the engine was last heard of, by the clock of `performance.now`. */
  private heardAtMs = 0;
  /** Why the engine is to be asked, and from when on; null = all is known. */
  private check: { readonly cause: Cause; readonly atMs: number } | null = null;

  constructor(
    private readonly settings: SubscriberSettings,
    private readonly context: Omit<HistoryContext, "publisher" | "signal">,
  ) {
    this.stopping = new AbortController();
    this.history = new EventHistory({
      ...context,
      publisher: settings.endpoint,
      signal: this.stopping.signal,
    });
  }

  /** Runs until `stop`. @throws ZeromqMissingError */
  async run(): Promise<void> {
    const zeromq = await loadZeromq();
    if (this.stopping.signal.aborted) return;
    const socket = this.open(zeromq);
    const ask = this.asker(zeromq);
    while (!this.stopping.signal.aborted) {
      const frames = await this.receive(socket);
      if (frames !== null) await this.take(ask, socket, frames);
      else if (this.connected) await this.askIfDue(ask);
    }
  }

  stop(): void {
    this.stopping.abort();
    this.socket?.close();
  }

  private open(zeromq: ZeromqLibrary): SubscriberSocket {
    const socket = new zeromq.Subscriber({
      linger: 0,
      receiveTimeout: POLL_MS,
      receiveHighWaterMark: LIVE_MESSAGES_MAX,
      maxMessageSize: MESSAGE_BYTES_MAX,
      reconnectInterval: RECONNECT_FIRST_MS,
      reconnectMaxInterval: RECONNECT_LAST_MS,
      heartbeatInterval: HEARTBEAT_MS,
      heartbeatTimeout: HEARTBEAT_MS,
      ipv6: true,
    });
    this.socket = socket;
    socket.events.on("handshake", () => this.onConnection(true));
    socket.events.on("disconnect", () => this.onConnection(false));
    socket.connect(this.settings.endpoint);
    socket.subscribe(this.settings.topic);
    return socket;
  }

  private onConnection(connected: boolean): void {
    this.connected = connected;
    this.check = { cause: "connected", atMs: performance.now() + SETTLE_MS };
    this.context.state.setProgress(connected ? "catching-up" : "unreachable");
  }

  private asker(zeromq: ZeromqLibrary): AskReplay | null {
    const { replayEndpoint: endpoint, replayTimeoutMs: timeoutMs } = this.settings;
    if (endpoint === null) return null;
    const target = { endpoint, timeoutMs, signal: this.stopping.signal };
    return (start, take, cause) => {
      const isLong = start === 0 || cause === "connected";
      return requestReplay(zeromq, { ...target, turns: isLong ? LONG_REPLAYS : null }, start, take);
    };
  }

  /** null = nothing came within POLL_MS, or the subscription ends. */
  private async receive(socket: SubscriberSocket): Promise<readonly Uint8Array[] | null> {
    try {
      return await socket.receive();
    } catch (error) {
      if (isNothingReceived(error) || this.stopping.signal.aborted) return null;
      throw error;
    }
  }

  private async take(
    ask: AskReplay | null,
    socket: SubscriberSocket,
    frames: readonly Uint8Array[],
  ): Promise<void> {
    if (this.check?.cause !== "connected") return this.takeLive(ask, frames);
    const waiting = [frames];
    while (socket.readable && waiting.length < LIVE_MESSAGES_MAX) {
      const more = await this.receive(socket);
      if (more !== null) waiting.push(more);
    }
    // What came before the engine was asked is in what it tells, or of the process before it, which is gone.
    if (await this.recover(ask, "connected")) this.history.counts.duplicates += waiting.length;
    else for (const each of waiting) await this.takeLive(ask, each);
  }

  private async takeLive(ask: AskReplay | null, frames: readonly Uint8Array[]): Promise<void> {
    if (this.check !== null) await this.recover(ask, this.check.cause);
    const sequence = frames.length === 3 ? readSequence(frames[1]) : null;
    const found = await this.history.takeLive(sequence, frames[2], ask !== null);
    this.heardAtMs = performance.now();
    if (found === "done") return;
    if (found !== "missing") return void (await this.recover(ask, "missing", found));
    // Garbage may come in floods: one replay answers for all of it that comes in a while.
    this.check ??= { cause: "missing", atMs: performance.now() + SETTLE_MS };
    this.context.state.setProgress("catching-up");
  }

  private async askIfDue(ask: AskReplay | null): Promise<void> {
    const nowMs = performance.now();
    if (this.check !== null) {
      if (nowMs >= this.check.atMs) await this.recover(ask, this.check.cause);
    } else if (ask !== null && nowMs - this.heardAtMs >= this.settings.idleCheckMs) {
      await this.recover(ask, "idle");
    }
  }

  /** @returns the engine told all that it has */
  private async recover(ask: AskReplay | null, cause: Cause, seen?: SeenBatch): Promise<boolean> {
    this.check = null;
    if (seen !== undefined) this.context.state.setProgress("catching-up");
    const isTold = await this.history.recover(ask, cause, seen);
    this.heardAtMs = performance.now();
    if (this.connected && this.check === null) this.context.state.setProgress(null);
    return isTold;
  }
}
