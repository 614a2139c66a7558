// Blocks that an engine keeps after their request has ended, until another engine has pulled them.
import type { KvCache } from "./kv-cache.ts";

/** Share of the hold's duration that an extension grants from now on (vLLM: `kv_lease_duration * 2 // 3`). */
const EXTENSION_SHARE = 2 / 3;

/** The blocks of one ended request. */
export interface Hold {
  readonly id: string;
  /** KV blocks in order, referenced. */
  readonly blocks: readonly number[];
  /** Tokens whose KV is in them. */
  readonly tokens: number;
  /** When they are released unless someone comes for them, ms. */
  readonly expiresMs: number;
}

/**
 * The holds of one engine, after vLLM's NixlConnector (nixl/pull_scheduler.py, v0.32.0): a lease a request, which
 * a waiting decoder extends. Their number is bounded by the cache, as each has at least one of its blocks.
 */
export class HeldBlocks {
  private readonly cache: KvCache;
  private readonly holdMs: number;
  private readonly holds = new Map<string, Hold>();
  private nextMs = Number.POSITIVE_INFINITY;

  constructor(cache: KvCache, holdMs: number) {
    this.cache = cache;
    this.holdMs = holdMs;
  }

  /** All holds, oldest first. */
  get all(): Iterable<Hold> {
    return this.holds.values();
  }

  /** First expiry in ms, Infinity without holds. */
  get nextExpiryMs(): number {
    return this.nextMs;
  }

  get(id: string): Hold | undefined {
    return this.holds.get(id);
  }

  /** Takes over the references of `blocks`. */
  add(id: string, blocks: readonly number[], tokens: number, nowMs: number): void {
    this.holds.set(id, { id, blocks, tokens, expiresMs: nowMs + this.holdMs });
    this.nextMs = Math.min(this.nextMs, nowMs + this.holdMs);
  }

  /** Puts the expiry off, never forward. False: no such hold. */
  extend(id: string, nowMs: number): boolean {
    const hold = this.holds.get(id);
    if (hold === undefined) return false;
    const expiresMs = Math.max(hold.expiresMs, nowMs + this.holdMs * EXTENSION_SHARE);
    this.holds.set(id, { ...hold, expiresMs });
    this.findNext();
    return true;
  }

  /** Frees the blocks of a hold. False: no such hold. */
  release(id: string): boolean {
    const hold = this.holds.get(id);
    if (hold === undefined) return false;
    this.holds.delete(id);
    this.cache.releaseAll(hold.blocks);
    this.findNext();
    return true;
  }

  /** Frees every hold whose time is up. @returns their ids, oldest first. */
  expire(nowMs: number): string[] {
    if (this.nextMs > nowMs) return [];
    const ids = [...this.holds.values()].filter((hold) => hold.expiresMs <= nowMs).map((hold) => hold.id);
    for (const id of ids) this.release(id);
    return ids;
  }

  private findNext(): void {
    this.nextMs = Number.POSITIVE_INFINITY;
    for (const { expiresMs } of this.holds.values()) this.nextMs = Math.min(this.nextMs, expiresMs);
  }
}
