// KV events of the simulated replicas on their way to the filter: gathered by a sidecar's index, posted in batches.
import { FilterError } from "./errors.ts";
import type { CacheChange } from "./types.ts";

/** A sidecar's index of what replicas hold, one a gateway. Slots are the replicas' indices. */
export interface KvFeed {
  /** Body of POST …/prompts: how the replicas' template renders messages. */
  readonly prompts: Uint8Array;
  /** A replica's cache has changed. */
  apply(replica: number, change: CacheChange): void;
  /** The processes behind the replicas, as the snapshot that follows says them. */
  scraped(generations: readonly number[]): void;
  /** Body of POST …/kv that is due; undefined: none. */
  next(nowMs: number): Uint8Array | undefined;
  /** What was answered to it. */
  answered(status: number, body: string): void;
}

/** From an event to its batch at most, and between two batches at least: the sidecar's own period, ms. */
export const KV_PERIOD_MS = 20;
/** Batches at one time at most; the others are posted a period later. */
const BATCHES_AT_ONCE = 16;
const PROMPTS_ACCEPTED = 204;
const BATCH_ACCEPTED = 200;

/** Posts to `/v1/pools/<the pool>/<what>` of a gateway's control listener. @returns what it answers */
export type PostToGateway = (
  what: string,
  body: Uint8Array,
) => { readonly status: number; readonly text: string };

/** Posts what a feed has to one gateway, every KV_PERIOD_MS. */
export class EppKvEvents {
  nextMs = 0;

  constructor(
    private readonly feed: KvFeed,
    private readonly post: PostToGateway,
  ) {}

  /** A snapshot was taken: the first time the template is told. */
  scraped(generations: readonly number[], isFirst: boolean): void {
    this.feed.scraped(generations);
    if (!isFirst) return;
    const { status, text } = this.post("prompts", this.feed.prompts);
    if (status !== PROMPTS_ACCEPTED) throw new FilterError(`answered ${status} to a template: ${text}`);
  }

  apply(replica: number, change: CacheChange): void {
    this.feed.apply(replica, change);
  }

  /** Posts what is due. */
  advance(nowMs: number): void {
    if (nowMs < this.nextMs) return;
    this.nextMs = nowMs + KV_PERIOD_MS;
    for (let i = 0; i < BATCHES_AT_ONCE; i++) {
      const batch = this.feed.next(nowMs);
      if (batch === undefined) return;
      const { status, text } = this.post("kv", batch);
      this.feed.answered(status, text);
      if (status !== BATCH_ACCEPTED) return;
    }
  }
}
