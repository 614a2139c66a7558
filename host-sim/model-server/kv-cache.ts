// The paged KV cache of one engine: reference-counted blocks, prefix lookup by block hash, LRU eviction.
import { BlockMap } from "./block-map.ts";

/** No block, or the end of a list. */
const NONE = -1;

/** A block that holds no cacheable content. Hashes of content are never 0 (see block-hash.ts). */
const NO_HASH = 0;

/** Is told when content is lost. */
export interface KvCacheListener {
  evicted?(hash: number): void;
  cleared?(): void;
}

/**
 * Block pool after vLLM's BlockPool (vllm/v1/core/block_pool.py, v0.32.0): a block with references is in use;
 * one without stays findable by its hash, in least-recently-used order, until it is handed out again.
 *
 * ```
 * free list:  head ─► blocks without content, newest first ─► cached blocks, least recently used first ─►
 * tail             allocate() takes here                                             release() appends here
 * ```
 * Two blocks may hold the same content (the recomputed last block of a fully cached prompt does): they are
 * chained under one hash, and the content stays findable while one of them lives.
 */
export class KvCache {
  readonly blockCount: number;
  private readonly listener: KvCacheListener;
  private readonly references: Int32Array;
  private readonly hashes: Float64Array;
  private readonly freePrevious: Int32Array;
  private readonly freeNext: Int32Array;
  private readonly twinPrevious: Int32Array;
  private readonly twinNext: Int32Array;
  private readonly byHash: BlockMap;
  private freeHead = NONE;
  private freeTail = NONE;
  private freeBlocks = 0;
  private evictedBlocks = 0;

  /** @param blockCount usable blocks, > 0. */
  constructor(blockCount: number, listener: KvCacheListener = {}) {
    this.blockCount = blockCount;
    this.listener = listener;
    this.byHash = new BlockMap(blockCount);
    this.references = new Int32Array(blockCount);
    this.hashes = new Float64Array(blockCount);
    this.freePrevious = new Int32Array(blockCount).fill(NONE);
    this.freeNext = new Int32Array(blockCount).fill(NONE);
    this.twinPrevious = new Int32Array(blockCount).fill(NONE);
    this.twinNext = new Int32Array(blockCount).fill(NONE);
    for (let block = 0; block < blockCount; block++) this.appendFree(block);
  }

  /** Blocks without references: empty ones and cached ones that may be evicted. */
  get freeCount(): number {
    return this.freeBlocks;
  }

  /** Blocks whose content can be found by hash. */
  get cachedCount(): number {
    let count = 0;
    for (let block = 0; block < this.blockCount; block++) if (this.hashes[block] !== NO_HASH) count++;
    return count;
  }

  /** Cached blocks that were given up for new content since construction. */
  get evictions(): number {
    return this.evictedBlocks;
  }

  /** Share of blocks with references, 0–1. Cached blocks nobody uses count as free, as in vLLM's gauge. */
  get usage(): number {
    return 1 - this.freeBlocks / this.blockCount;
  }

  /**
   * Blocks that hold the longest cached prefix of a hash chain.
   * @param hashes chained hashes, one a full block. @param blocksMax how many to look at most.
   * @returns block indices in order; not referenced yet, see `acquire`.
   */
  findPrefix(hashes: ArrayLike<number>, blocksMax: number): number[] {
    const found: number[] = [];
    const limit = Math.min(blocksMax, hashes.length);
    for (let i = 0; i < limit; i++) {
      const block = this.byHash.get(hashes[i]!);
      if (block === NONE) break;
      found.push(block);
    }
    return found;
  }

  /** How many of these blocks nobody references: acquiring them uses up that many free blocks. */
  countFree(blocks: readonly number[]): number {
    let count = 0;
    for (const block of blocks) if (this.references[block] === 0) count++;
    return count;
  }

  /** Adds a reference to a cached block, taking it off the free list if it was the first. */
  acquire(block: number): void {
    if (this.references[block] === 0) this.removeFree(block);
    this.references[block] = this.references[block]! + 1;
  }

  /** Hands out a block with one reference, evicting the least recently used content. −1 when none is free. */
  allocate(): number {
    const block = this.freeHead;
    if (block === NONE) return NONE;
    this.removeFree(block);
    if (this.hashes[block] !== NO_HASH) {
      this.listener.evicted?.(this.hashes[block]!);
      this.forget(block);
      this.evictedBlocks++;
    }
    this.references[block] = 1;
    return block;
  }

  /** Makes a full block findable by the hash of its content and everything before it. */
  publish(block: number, hash: number): void {
    if (this.hashes[block] !== NO_HASH) return;
    this.hashes[block] = hash;
    const first = this.byHash.get(hash);
    if (first === NONE) {
      this.byHash.set(hash, block);
      return;
    }
    const second = this.twinNext[first]!;
    this.twinPrevious[block] = first;
    this.twinNext[block] = second;
    this.twinNext[first] = block;
    if (second !== NONE) this.twinPrevious[second] = block;
  }

  /**
   * Drops one reference from each block of a sequence, last block first, so that the tail of a prompt is
   * evicted before its head. Blocks without content are reused first.
   */
  releaseAll(blocks: readonly number[]): void {
    for (let i = blocks.length - 1; i >= 0; i--) {
      const block = blocks[i]!;
      const left = this.references[block]! - 1;
      if (left < 0) throw new Error(`KV block ${block} was released more often than acquired`);
      this.references[block] = left;
      if (left > 0) continue;
      if (this.hashes[block] === NO_HASH) this.prependFree(block);
      else this.appendFree(block);
    }
  }

  /** Forgets all cached content. False, and nothing done, while a block is in use (as vLLM's reset). */
  reset(): boolean {
    if (this.freeBlocks !== this.blockCount) return false;
    for (let block = 0; block < this.blockCount; block++) {
      if (this.hashes[block] !== NO_HASH) this.forget(block);
    }
    this.listener.cleared?.();
    return true;
  }

  /** Calls `visit` with the hash of each block whose content can be found; twins are visited each. */
  forEachCached(visit: (hash: number) => void): void {
    for (const hash of this.hashes) if (hash !== NO_HASH) visit(hash);
  }

  /**
   * Checks list and reference invariants; throws with what is wrong. For tests, linear in the block count.
   */
  verify(): void {
    let listed = 0;
    for (let block = this.freeHead; block !== NONE; block = this.freeNext[block]!) {
      if (this.references[block] !== 0) throw new Error(`KV block ${block} is free with references`);
      if (++listed > this.blockCount) throw new Error("the free list has a cycle");
    }
    if (listed !== this.freeBlocks)
      throw new Error(`free list has ${listed} blocks, counted ${this.freeBlocks}`);
    let referenced = 0;
    for (const count of this.references) if (count > 0) referenced++;
    if (referenced + listed !== this.blockCount) throw new Error("KV blocks are neither free nor in use");
    this.byHash.forEach((hash, block) => {
      if (this.hashes[block] !== hash) throw new Error(`KV block ${block} is listed under a foreign hash`);
    });
  }

  private forget(block: number): void {
    const hash = this.hashes[block]!;
    const previous = this.twinPrevious[block]!;
    const next = this.twinNext[block]!;
    if (previous !== NONE) this.twinNext[previous] = next;
    else if (next !== NONE) this.byHash.set(hash, next);
    else this.byHash.delete(hash);
    if (next !== NONE) this.twinPrevious[next] = previous;
    this.twinPrevious[block] = NONE;
    this.twinNext[block] = NONE;
    this.hashes[block] = NO_HASH;
  }

  private appendFree(block: number): void {
    this.freePrevious[block] = this.freeTail;
    this.freeNext[block] = NONE;
    if (this.freeTail === NONE) this.freeHead = block;
    else this.freeNext[this.freeTail] = block;
    this.freeTail = block;
    this.freeBlocks++;
  }

  private prependFree(block: number): void {
    this.freePrevious[block] = NONE;
    this.freeNext[block] = this.freeHead;
    if (this.freeHead === NONE) this.freeTail = block;
    else this.freePrevious[this.freeHead] = block;
    this.freeHead = block;
    this.freeBlocks++;
  }

  private removeFree(block: number): void {
    const previous = this.freePrevious[block]!;
    const next = this.freeNext[block]!;
    if (previous === NONE) this.freeHead = next;
    else this.freeNext[previous] = next;
    if (next === NONE) this.freeTail = previous;
    else this.freePrevious[next] = previous;
    this.freeBlocks--;
  }
}
