// Keeps the gateway's view of one pool fresh: pushes on change, on a heartbeat, and again after failures.
import { codeOf, ControlRefusedError, SnapshotTooLargeError, StandbyError } from "../errors.ts";
import type { SlotPlace } from "../kv-index/batch-writer.ts";
import type { Logger } from "../log.ts";
import type { PoolPolicy } from "../policy.ts";
import { encodePolicy } from "../policy-encoder.ts";
import { DETAIL_LEVELS, type Pool } from "../pool.ts";
import type { EncodedPrompts } from "../prompts/encode.ts";
import type { Ticker, Ticking } from "../scrape/ticker.ts";
import { SnapshotEncoder } from "../snapshot-encoder.ts";
import type { ControlListener } from "./control-client.ts";
import { type DocumentKind, DocumentPush } from "./document-push.ts";

/** Shortest time between two pushes of a pool. */
export const PUSH_INTERVAL_MIN_MS = 50;
/** Longest time between two pushes: the gateway counts a snapshot's age from its receipt. */
export const HEARTBEAT_INTERVAL_MS = 500;
/** First pause after the listener could not be reached; doubled up to RETRY_MAX_MS. */
const RETRY_FIRST_MS = 50;
/**
 * With it, a gateway that restarted has its state back within a second: 250 ms, or a heartbeat if it was not
 * missed.
 */
const RETRY_MAX_MS = 250;
/** A pool that was not taken over for this long is not ready: four heartbeats. */
export const PUSH_AGE_MAX_MS = 2_000;

/** Push counts since start, for metrics. */
export interface PushCounts {
  accepted: number;
  /** Read and answered with an error. */
  refused: number;
  /** Not read: no connection, no answer. */
  failed: number;
  /** Not taken because another sidecar brings the pool. */
  standby: number;
  /** Snapshots that did not fit with all labels and names. */
  shortened: number;
  /** Bytes of the last snapshot. */
  bytes: number;
}

/** The pusher of one pool. */
export class Pusher implements Ticking {
  dueAtMs = 0;
  readonly counts: PushCounts = { accepted: 0, refused: 0, failed: 0, standby: 0, shortened: 0, bytes: 0 };
  /** Why the last push was not accepted; null = it was. */
  lastError: Error | null = null;
  /** The sidecar that brings the pool instead of this one; null = none, as far as is known. */
  standbyBehind: string | null = null;
  /** When a push was last accepted, monotonic ms; -Infinity = never. */
  acceptedAtMs = Number.NEGATIVE_INFINITY;
  /** The pool's policy in the gateway. */
  readonly policy: DocumentPush<PoolPolicy>;
  /** The pool's prompt programs in the gateway. */
  readonly prompts: DocumentPush<EncodedPrompts>;
  /** Slots by address in the last snapshot that was taken. */
  takenSlots: ReadonlyMap<string, SlotPlace> = new Map();
  /** Called when these became others. */
  onSlotsTaken: () => void = () => undefined;
  private encodedSlots: ReadonlyMap<string, SlotPlace> = new Map();
  private readonly encoder = new SnapshotEncoder();
  private startedAtMs = Number.NEGATIVE_INFINITY;
  private pushedRevision = -1;
  private pushing = false;
  private stopped = false;
  private failures = 0;
  private reportedError = "";

  /**
   * @param nextId gives each snapshot its id, ascending over all pools
   */
  constructor(
    readonly pool: Pool,
    private readonly control: ControlListener,
    private readonly ticker: Ticker,
    private readonly nextId: () => number,
    private readonly log: Logger,
  ) {
    const now = (): number => ticker.now();
    this.policy = new DocumentPush(policyKind(pool.name, control), now, log);
    this.prompts = new DocumentPush(promptsKind(pool.name, control), now, log);
    pool.onChange = () => this.plan();
    this.dueAtMs = ticker.now();
    ticker.add(this);
  }

  /** Whether the gateway has a snapshot of this pool that is not too old. */
  upToDate(nowMs: number): boolean {
    return nowMs - this.acceptedAtMs <= PUSH_AGE_MAX_MS;
  }

  stop(): void {
    this.stopped = true;
    this.ticker.remove(this);
  }

  tick(nowMs: number): void {
    if (!this.pool.settled(nowMs)) {
      this.dueAtMs = nowMs + PUSH_INTERVAL_MIN_MS;
      return;
    }
    this.startedAtMs = nowMs;
    const revision = this.pool.revision;
    this.pushing = true;
    this.dueAtMs = Number.POSITIVE_INFINITY;
    this.push(nowMs).then(
      () => this.onAccepted(revision),
      (error: Error) => this.onError(error),
    );
  }

  private async push(nowMs: number): Promise<void> {
    // The documents first, so that a gateway that starts does not serve the pool without them.
    await this.bringDocuments();
    const snapshot = this.encode(nowMs);
    this.counts.bytes = snapshot.length;
    const held = await this.control.push(this.pool.name, snapshot);
    this.takeSlots();
    this.policy.noteHeld(held.policy);
    this.prompts.noteHeld(held.prompts);
    // A gateway that restarted between two pushes has lost them, and serves the pool from now on.
    await this.bringDocuments();
  }

  private async bringDocuments(): Promise<void> {
    await this.policy.bring(this.pool.policy);
    await this.prompts.bring(this.pool.prompts?.document ?? null);
  }

  /** A pool too large for a snapshot loses labels and names before it loses endpoints and their figures. */
  private encode(nowMs: number): Buffer {
    let tooLarge: SnapshotTooLargeError | null = null;
    for (const detail of DETAIL_LEVELS) {
      try {
        const rows = this.pool.rows(nowMs, detail);
        const snapshot = this.encoder.encode(rows, this.nextId());
        this.encodedSlots = new Map(
          rows.map(({ address, slot, generation }) => [address, { slot, generation }] as const),
        );
        if (tooLarge !== null) this.counts.shortened += 1;
        return snapshot;
      } catch (error) {
        if (!(error instanceof SnapshotTooLargeError)) throw error;
        tooLarge = error;
      }
    }
    throw tooLarge!;
  }

  private takeSlots(): void {
    const before = this.takenSlots;
    this.takenSlots = this.encodedSlots;
    const isSame =
      before.size === this.takenSlots.size &&
      [...before].every(([address, { slot, generation }]) => {
        const now = this.takenSlots.get(address);
        return now?.slot === slot && now.generation === generation;
      });
    if (!isSame) this.onSlotsTaken();
  }

  private onAccepted(revision: number): void {
    this.pushing = false;
    if (this.stopped) return;
    this.counts.accepted += 1;
    this.acceptedAtMs = this.ticker.now();
    this.pushedRevision = revision;
    this.failures = 0;
    this.lastError = null;
    if (this.reportedError !== "") this.log.info("gateway takes snapshots again");
    this.reportedError = "";
    if (this.standbyBehind !== null) this.log.info("this sidecar brings the pool from now on");
    this.standbyBehind = null;
    this.plan();
  }

  private onError(error: Error): void {
    this.pushing = false;
    if (this.stopped) return;
    if (error instanceof StandbyError) {
      this.standBy(error);
      return;
    }
    this.standbyBehind = null;
    this.lastError = error;
    if (error instanceof ControlRefusedError) {
      this.counts.refused += 1;
      this.failures = 0;
    } else {
      this.counts.failed += 1;
      this.failures += 1;
      this.policy.forget();
      this.prompts.forget();
    }
    if (this.reportedError !== error.message) this.log.error({ code: codeOf(error) }, error.message);
    this.reportedError = error.message;
    this.plan();
  }

  /** Another sidecar brings the pool: each heartbeat asks whether it still does. */
  private standBy({ holder }: StandbyError): void {
    this.counts.standby += 1;
    this.failures = 0;
    this.lastError = null;
    this.reportedError = "";
    // What the gateway has by then is the other's.
    this.policy.forget();
    this.prompts.forget();
    if (this.standbyBehind !== holder)
      this.log.info({ holder }, "another sidecar brings the pool; this one stands by");
    this.standbyBehind = holder;
    this.plan();
  }

  /** Sets the time of the next push by what is known now. */
  private plan(): void {
    if (this.pushing || this.stopped) return;
    this.dueAtMs = this.startedAtMs + this.pauseMs();
    this.ticker.schedule(this);
  }

  private pauseMs(): number {
    if (this.failures > 0)
      return Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(10, this.failures - 1));
    if (this.standbyBehind !== null) return HEARTBEAT_INTERVAL_MS;
    // A snapshot that was refused will be refused again until something changes: no hurry.
    const isChanged =
      this.pool.revision !== this.pushedRevision ||
      this.policy.isDue(this.pool.policy) ||
      this.prompts.isDue(this.pool.prompts?.document ?? null);
    if (this.lastError === null && isChanged) return PUSH_INTERVAL_MIN_MS;
    return HEARTBEAT_INTERVAL_MS;
  }
}

function policyKind(pool: string, control: ControlListener): DocumentKind<PoolPolicy> {
  return {
    name: "policy",
    encode: encodePolicy,
    send: async (bytes) => (await control.pushPolicy(pool, bytes)).policy,
    figures: ({ objectives, rewrites }) => ({ objectives: objectives.length, rewrites: rewrites.length }),
  };
}

function promptsKind(pool: string, control: ControlListener): DocumentKind<EncodedPrompts> {
  return {
    name: "prompt programs",
    encode: (prompts) => prompts,
    send: async (bytes) => (await control.pushPrompts(pool, bytes)).prompts,
    figures: ({ programs, models }) => ({ programs, models }),
  };
}
