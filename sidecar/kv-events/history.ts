// Brings one engine's batches into order: what to apply, what is missing, when the engine is another process.
import { BadEventError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { decodeBatch } from "./decode.ts";
import type { KvEventBatch } from "./events.ts";
import { type LoopShare, PROCESS_LOOP } from "./loop-share.ts";
import { StreamPosition } from "./position.ts";
import type { ReplayedMessage, ReplayEnd, TakeReplayed } from "./replay.ts";
import type { ReplicaBlocks } from "./replica-blocks.ts";
import type { ReplicaState } from "./replica-state.ts";

/** Replays that bring no new batch, after which nobody answers. */
const REPLAY_ATTEMPTS_MAX = 3;

/** What a history works with. */
export interface HistoryContext {
  readonly blocks: ReplicaBlocks;
  readonly state: ReplicaState;
  readonly log: Logger;
  /** The publisher's address, for messages. */
  readonly publisher: string;
  /** Makes the tokens of a batch known before it is applied, never rejects; null = nothing is to be learnt. */
  readonly learn: ((batch: KvEventBatch) => Promise<void>) | null;
  readonly signal: AbortSignal;
  /** By default the process's own. */
  readonly loop?: LoopShare;
}

/**
 * Why batches are asked for: the connection is new, nothing came for a while, or something is known to be missing.
 */
export type Cause = "connected" | "idle" | "missing";

/** Asks the engine for its batches from a number on. */
export type AskReplay = (start: number, take: TakeReplayed, cause: Cause) => Promise<ReplayEnd>;

/** A batch that cannot be applied yet. */
export interface SeenBatch {
  readonly sequence: number;
  readonly batch: KvEventBatch;
}

/** Counts since start, for metrics. */
export interface HistoryCounts {
  /** Batches applied, live or replayed. */
  batches: number;
  /** Messages that could not be read. */
  bad: number;
  /** Batches that came again, or late from a process that is gone. */
  duplicates: number;
  gaps: number;
  replays: number;
  replayedBatches: number;
  /** Replays that were not answered to their end. */
  replayFailures: number;
  /** Times that the engine was another process than before. */
  restarts: number;
  /** Times that events were missed for good. */
  historiesLost: number;
}

/**
 * The history of one engine as far as it is known. Every replay begins with the last batch that was applied: if the
 * engine has another one under that number it is another process, whose cache was empty when it started.
 */
export class EventHistory {
  readonly counts: HistoryCounts = {
    batches: 0,
    bad: 0,
    duplicates: 0,
    gaps: 0,
    replays: 0,
    replayedBatches: 0,
    replayFailures: 0,
    restarts: 0,
    historiesLost: 0,
  };
  /** From the engine's writing to our applying of the last live batch, by both clocks, seconds; NaN before. */
  lagSeconds = Number.NaN;
  private readonly position = new StreamPosition();
  private readonly loop: LoopShare;
  private reported = "";

  constructor(private readonly context: HistoryContext) {
    this.loop = context.loop ?? PROCESS_LOOP;
  }

  /**
   * Takes a live message.
   * @param sequence null = the message has no number that can be read
   * @param isReplayable what cannot be read may be asked for again
   * @returns "done"; "missing" = batches are to be recovered; a batch = those before it are
   */
  async takeLive(
    sequence: number | null,
    payload: Uint8Array | undefined,
    isReplayable: boolean,
  ): Promise<"done" | "missing" | SeenBatch> {
    if (sequence === null || payload === undefined) {
      this.countBad(new BadEventError("message", "malformed", "the frames topic, sequence number, batch"));
      return "missing";
    }
    await this.loop.rest();
    const batch = this.decode(payload);
    if (batch === null) {
      // An engine that writes what cannot be read is not asked for each of it: the view is none until it is emptied.
      const isFutile = sequence === this.position.next && this.context.state.has("bad-event");
      if (isReplayable && !isFutile) return "missing";
      if (sequence === this.position.next) this.passOver(sequence);
      return "done";
    }
    switch (this.position.judge({ sequence, timeSeconds: batch.timeSeconds })) {
      case "next":
        await this.apply(sequence, batch);
        this.lagSeconds = Date.now() / 1_000 - batch.timeSeconds;
        return "done";
      case "duplicate":
        this.counts.duplicates += 1;
        return "done";
      case "restart":
        this.restart();
        return { sequence, batch };
      case "gap":
        if (this.position.anchor !== null) this.counts.gaps += 1;
        return { sequence, batch };
    }
  }

  /**
   * Applies all that the engine still has from the last known batch on.
   * @param ask null = the engine cannot be asked
   * @param seen the batch whose predecessors are missing
   * @returns the engine told all that it has
   */
  async recover(ask: AskReplay | null, cause: Cause, seen?: SeenBatch): Promise<boolean> {
    const isAnswered = ask !== null && (await this.replayAll(ask, cause));
    if (this.context.signal.aborted) return false;
    if (!isAnswered) this.goOnUnanswered(cause);
    if (seen !== undefined) await this.applySeen(seen);
    return isAnswered;
  }

  private async applySeen({ sequence, batch }: SeenBatch): Promise<void> {
    const verdict = this.position.judge({ sequence, timeSeconds: batch.timeSeconds });
    if (verdict === "duplicate") return;
    if (verdict !== "next") this.loseHistory(sequence);
    await this.apply(sequence, batch);
  }

  /**
   * Over a new connection nobody knows what was missed, nor whether it is the same engine: another one's numbers may go
   * on where the old one's ended. Over the old connection the numbers tell.
   */
  private goOnUnanswered(cause: Cause): void {
    if (this.position.anchor === null) this.context.state.fault("history-lost");
    else if (cause === "connected") this.loseHistory(this.position.next);
  }

  /** @returns false: nobody answered */
  private async replayAll(ask: AskReplay, cause: Cause): Promise<boolean> {
    for (let attempt = 0; attempt < REPLAY_ATTEMPTS_MAX;) {
      if (this.context.signal.aborted) return false;
      const { next } = this.position;
      const outcome = await this.replayOnce(ask, cause);
      if (outcome === "complete") return true;
      if (outcome === "unanswered") this.counts.replayFailures += 1;
      attempt = this.position.next > next || outcome === "other-engine" ? 0 : attempt + 1;
    }
    return false;
  }

  /**
   * "complete": all that the engine had is applied. "incomplete": some in the middle did not arrive. "other-engine":
   * the last known batch is not the engine's; nothing is known now, and there may be more to ask for.
   */
  private async replayOnce(
    ask: AskReplay,
    cause: Cause,
  ): Promise<"complete" | "incomplete" | "other-engine" | "unanswered"> {
    const { anchor } = this.position;
    this.counts.replays += 1;
    let isEmpty = true;
    let isOther = false;
    const take: TakeReplayed = (message) => {
      const isFirst = isEmpty;
      isEmpty = false;
      if (!isFirst) return this.takeReplayed(message);
      if (anchor !== null && message.sequence <= anchor.sequence) {
        if (this.isAnchor(message)) return "go on";
        isOther = true;
        return "stop";
      }
      // The first that the engine has is later than what is asked for.
      if (message.sequence !== this.position.next || anchor !== null) this.loseHistory(message.sequence);
      return this.takeReplayed(message);
    };
    const end = await ask(anchor?.sequence ?? 0, take, cause);
    if (isOther) {
      this.restart();
      return "other-engine";
    }
    if (end === "timeout") return "unanswered";
    if (!isEmpty) return end === "end" ? "complete" : "incomplete";
    return this.takeEmpty(cause);
  }

  /**
   * The engine has nothing to tell. A new process has published nothing and holds nothing; the one that we know must
   * have lost what it published.
   */
  private takeEmpty(cause: Cause): "complete" | "other-engine" {
    if (this.position.anchor !== null) {
      if (cause === "connected") this.restart();
      else this.loseHistory(0);
      return "other-engine";
    }
    if (this.position.next === 0 && cause === "connected") this.context.state.emptied();
    return "complete";
  }

  private isAnchor({ sequence, payload }: ReplayedMessage): boolean {
    const { anchor } = this.position;
    return anchor?.sequence === sequence && this.decode(payload)?.timeSeconds === anchor.timeSeconds;
  }

  private async takeReplayed({ sequence, payload }: ReplayedMessage): Promise<"go on" | "stop"> {
    await this.loop.rest();
    if (this.context.signal.aborted) return "stop";
    if (sequence < this.position.next) return "go on";
    if (sequence > this.position.next) return "stop";
    const batch = this.decode(payload);
    if (batch === null) {
      this.passOver(sequence);
    } else {
      await this.apply(sequence, batch);
      this.counts.replayedBatches += 1;
    }
    return this.context.signal.aborted ? "stop" : "go on";
  }

  private async apply(sequence: number, batch: KvEventBatch): Promise<void> {
    const { learn, blocks, signal } = this.context;
    if (learn !== null) await learn(batch);
    if (signal.aborted) return;
    // Before its first batch an engine's cache is empty.
    if (sequence === 0) this.empty();
    this.position.accept(sequence, batch.timeSeconds);
    this.counts.batches += 1;
    for (const event of batch.events) {
      for (const _ of blocks.applyInParts(event)) {
        const rest = this.loop.rest();
        if (rest !== null) await rest;
        // The view is cleared then, and told of no more.
        if (signal.aborted) return;
      }
    }
  }

  private passOver(sequence: number): void {
    this.position.accept(sequence, null);
    this.context.state.fault("bad-event");
  }

  private restart(): void {
    this.counts.restarts += 1;
    this.position.reset();
    this.empty();
  }

  private empty(): void {
    if (this.context.blocks.size > 0) this.context.blocks.clear();
    this.context.state.emptied();
  }

  /** Batches before number `next` cannot be had: what the engine holds of them is not known. */
  private loseHistory(next: number): void {
    this.counts.historiesLost += 1;
    this.position.reset(next);
    this.context.blocks.clear();
    this.context.state.fault("history-lost");
  }

  private decode(payload: Uint8Array): KvEventBatch | null {
    try {
      return decodeBatch(payload);
    } catch (error) {
      if (!(error instanceof BadEventError)) throw error;
      this.countBad(error);
      return null;
    }
  }

  /** Logs the first of messages that are bad in the same field. */
  private countBad(error: BadEventError): void {
    this.counts.bad += 1;
    if (error.field === this.reported) return;
    this.reported = error.field;
    this.context.log.warn({ publisher: this.context.publisher, code: error.code }, error.message);
  }
}
