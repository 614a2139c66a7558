// Brings one pool's exact index to the gateway: batches in order, again after failures, all anew where they got lost.
import { randomBytes } from "node:crypto";
import { KV_HEARTBEAT_MS } from "../../assembly/wire/kv-deltas.ts";
import { codeOf, ControlRefusedError, StandbyError } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { ControlListener, KvAnswer } from "../push/control-client.ts";
import type { Ticker, Ticking } from "../scrape/ticker.ts";
import type { SlotPlace } from "./batch-writer.ts";
import { BatchComposer } from "./composer.ts";
import type { KvIndex } from "./kv-index.ts";
import {
  BATCH_INTERVAL_MS,
  BUSY_PAUSE_MS,
  REFUSED_PAUSE_MS,
  RETRY_FIRST_MS,
  RETRY_LAST_MS,
} from "./limits.ts";

const SESSION_UNKNOWN = 409;
const BUSY = 503;
const SEQUENCE_MAX = 0xffffffff;

/** The snapshots of a pool, as far as the gateway has them. */
export interface SnapshotsTaken {
  /** Slots by address in the last snapshot that was taken. */
  readonly takenSlots: ReadonlyMap<string, SlotPlace>;
  /** When it was, monotonic ms; -Infinity = never. */
  readonly acceptedAtMs: number;
}

/** Batch counts since start, for metrics. */
export interface KvPushCounts {
  accepted: number;
  /** Offered too early: a worker was too far behind. */
  busy: number;
  /** Read and answered with an error, an unknown session among them. */
  refused: number;
  /** Not read: no connection, no answer. */
  failed: number;
  /** Times that all was told from the beginning. */
  sessions: number;
}

/** The pusher of one pool's index. */
export class KvPush implements Ticking {
  dueAtMs = 0;
  readonly counts: KvPushCounts = { accepted: 0, busy: 0, refused: 0, failed: 0, sessions: 0 };
  readonly composer: BatchComposer;
  /** Why the last batch was not taken; null = it was. */
  lastError: Error | null = null;
  private session: Buffer | null = null;
  private sequence = 0;
  /** The batch that is to be taken next; null = none is written. */
  private batch: Buffer | null = null;
  /** The gateway had no session that it knew of at this time. */
  private lostAtMs = Number.NEGATIVE_INFINITY;
  private startedAtMs = Number.NEGATIVE_INFINITY;
  private heartbeatAtMs = Number.NEGATIVE_INFINITY;
  /** When the first change came that the gateway does not have; null = it has all. */
  private behindSinceMs: number | null = null;
  private lastLagMs = Number.NaN;
  private failures = 0;
  private pauseMs = 0;
  private isPushing = false;
  private isStopped = false;
  private reportedError = "";

  /** @param pool its name */
  constructor(
    readonly pool: string,
    readonly index: KvIndex,
    private readonly snapshots: SnapshotsTaken,
    private readonly control: Pick<ControlListener, "pushKv">,
    private readonly ticker: Ticker,
    private readonly log: Logger,
  ) {
    this.composer = new BatchComposer(index);
    index.onChange = () => this.plan();
    this.dueAtMs = ticker.now();
    ticker.add(this);
  }

  stop(): void {
    this.isStopped = true;
    this.ticker.remove(this);
  }

  /** The gateway took all that the index was told; its workers may not have read it yet. */
  get isCurrent(): boolean {
    return this.batch === null && this.index.changedAtMs === null && this.behindSinceMs === null;
  }

  /** From a change to the answer of the batch that told it, the last time or as long as one waits, seconds; NaN = never. */
  lagSeconds(nowMs: number): number {
    const waitingMs = this.behindSinceMs === null ? Number.NaN : nowMs - this.behindSinceMs;
    return (waitingMs > this.lastLagMs || Number.isNaN(this.lastLagMs) ? waitingMs : this.lastLagMs) / 1_000;
  }

  /** To be called when the gateway took a snapshot with other slots. */
  slotsChanged(): void {
    this.heartbeatAtMs = Number.NEGATIVE_INFINITY;
    this.plan();
  }

  tick(nowMs: number): void {
    this.dueAtMs = Number.POSITIVE_INFINITY;
    if (this.isPushing) return;
    this.startedAtMs = nowMs;
    this.isPushing = true;
    this.pushAll().then(
      () => this.onDone(null),
      (error: Error) => this.onDone(error),
    );
  }

  /** Sends what there is, as many batches as it takes. */
  private async pushAll(): Promise<void> {
    do {
      const nowMs = this.ticker.now();
      this.batch ??= this.write(nowMs);
      if (this.batch === null) return;
      this.onAnswer(await this.control.pushKv(this.pool, this.batch));
    } while (this.composer.hasMore && !this.isStopped);
  }

  /** null = there is nothing to tell, or nobody to tell it. */
  private write(nowMs: number): Buffer | null {
    // A gateway that lost the session may have lost the pool too: slots mean nothing to it before its snapshot.
    if (this.session === null) {
      if (this.snapshots.acceptedAtMs <= this.lostAtMs) return null;
      this.beginSession();
    }
    const { changedAtMs } = this.index;
    this.index.changedAtMs = null;
    const isHeartbeat = nowMs - this.heartbeatAtMs >= KV_HEARTBEAT_MS;
    if (!this.composer.compose(this.snapshots.takenSlots, nowMs, isHeartbeat)) return null;
    if (isHeartbeat) this.heartbeatAtMs = nowMs;
    this.behindSinceMs ??= changedAtMs;
    this.sequence += 1;
    return this.composer.finish(this.session!, this.sequence);
  }

  private beginSession(): void {
    let session = randomBytes(8);
    while (session.every((byte) => byte === 0)) session = randomBytes(8);
    this.session = session;
    this.sequence = 0;
    this.heartbeatAtMs = Number.NEGATIVE_INFINITY;
    this.counts.sessions += 1;
    this.composer.forget();
  }

  private onAnswer({ sequence, wanted }: KvAnswer): void {
    if (sequence !== this.sequence) {
      throw new ControlRefusedError(200, "sequence", `${sequence}, expected ${this.sequence}`);
    }
    const nowMs = this.ticker.now();
    this.batch = null;
    this.counts.accepted += 1;
    this.failures = 0;
    this.lastError = null;
    if (this.reportedError !== "") this.log.info("gateway takes the exact index again");
    this.reportedError = "";
    if (!this.composer.hasMore && this.behindSinceMs !== null) {
      this.lastLagMs = nowMs - this.behindSinceMs;
      this.behindSinceMs = null;
    }
    this.composer.want(wanted, nowMs);
    if (this.sequence === SEQUENCE_MAX) this.loseSession();
  }

  private onDone(error: Error | null): void {
    this.isPushing = false;
    if (this.isStopped) return;
    this.pauseMs = error === null ? 0 : this.onError(error);
    this.plan();
  }

  /** @returns the pause before the next batch, ms */
  private onError(error: Error): number {
    const status = error instanceof ControlRefusedError ? error.status : null;
    if (status === BUSY) {
      this.counts.busy += 1;
      return BUSY_PAUSE_MS;
    }
    if (error instanceof StandbyError) {
      // The session is over; the next begins when the gateway has taken this sidecar's snapshots again.
      this.loseSession();
      this.lastError = null;
      this.reportedError = "";
      return 0;
    }
    this.lastError = error;
    if (this.reportedError !== error.message) this.log.warn({ code: codeOf(error) }, error.message);
    this.reportedError = error.message;
    if (status === null) {
      // It may have been taken and the answer lost: it comes again as it is.
      this.counts.failed += 1;
      this.failures += 1;
      return Math.min(RETRY_LAST_MS, RETRY_FIRST_MS * 2 ** Math.min(10, this.failures - 1));
    }
    this.counts.refused += 1;
    this.loseSession();
    return status === SESSION_UNKNOWN ? 0 : REFUSED_PAUSE_MS;
  }

  private loseSession(): void {
    this.session = null;
    this.batch = null;
    this.lostAtMs = this.ticker.now();
  }

  /** Sets the time of the next push by what is known now. */
  private plan(): void {
    if (this.isPushing || this.isStopped) return;
    const isWaiting = this.batch !== null || this.index.changedAtMs !== null || this.composer.hasMore;
    const interval = Math.max(this.pauseMs, isWaiting || this.session === null ? BATCH_INTERVAL_MS : 0);
    const heartbeatAtMs = this.heartbeatAtMs + KV_HEARTBEAT_MS;
    const now = this.ticker.now();
    this.dueAtMs = interval > 0 ? Math.max(now, this.startedAtMs + interval) : Math.max(now, heartbeatAtMs);
    this.ticker.schedule(this);
  }
}
