// Cuts the blocks that one engine holds into cells of prompt text, and counts them in its endpoint's table.
import { KV_CELL_BYTES, KV_TOKENS_MAX } from "../../assembly/wire/kv-deltas.ts";
import type { CachedBlock, ChainRoot } from "../kv-events/block-sink.ts";
import type { CellTable } from "./cell-table.ts";
import * as hash from "./hash64.ts";
import { enlarged, NONE } from "./value-lists.ts";

/** A block counts for a cell that ends at most this many bytes before the block does. */
const MIDPOINT_BYTES = KV_CELL_BYTES / 2;
/** Reach of a block that no tier holds, or that stands behind such a one. Smaller ones are tiers. */
const OUT_OF_REACH = 3;
/** Reach of a block whose hash is not known yet. */
const UNKNOWN_REACH = 4;
/** Fastest tier of a set of bits, tier 0 in the lowest. */
const FASTEST = Uint8Array.of(OUT_OF_REACH, 0, 1, 0, 2, 0, 1, 0);
const NODES_FIRST = 256;
const NODE_BYTES = 26;

// The cell at hand. Words are read as the machine has them, little-endian on all that Node runs on here.
const cellBytes = new Uint8Array(KV_CELL_BYTES);
const cellWords = new Int32Array(cellBytes.buffer);

/** Hashes of roots, by the objects that chains share. */
const rootHashes = new WeakMap<ChainRoot, hash.Hash64>();

/** Adapters that an engine numbers and does not name: no request can be told to be theirs. */
export function isUnnamedAdapter({ lora }: ChainRoot): boolean {
  return lora !== null && /^#\d+$/.test(lora);
}

/**
 * The blocks of one engine as trees, with the hash of each block's text up to its last whole cell. A block reaches a
 * tier if it and all blocks before it are held there or faster: an engine finds no block behind one that is missing.
 *
 * Each block in reach counts for the keys of the cells that end within it: with the tokens up to its own end where that
 * is at most half a cell behind, else with those up to its start. One that ends within half a cell behind a cell of the
 * blocks before it counts for that one. So a key's best value is what the engine has cached of a prompt that agrees up
 * to there, to within what ends half a cell before or behind.
 *
 * ```
 * node  parent, first child, next and previous sibling, hash (2 words), tiers held, reach; its block in `blocks`
 * ```
 */
export class EngineCells {
  private parent = new Int32Array(NODES_FIRST);
  private firstChild = new Int32Array(NODES_FIRST);
  private nextSibling = new Int32Array(NODES_FIRST);
  private previousSibling = new Int32Array(NODES_FIRST);
  private hashHigh = new Int32Array(NODES_FIRST);
  private hashLow = new Int32Array(NODES_FIRST);
  private tiers = new Uint8Array(NODES_FIRST);
  private reach = new Uint8Array(NODES_FIRST);
  private readonly blocks: (CachedBlock | null)[] = [];
  /** First of the nodes that are free again, chained by `parent`. */
  private free = NONE;
  private live = 0;
  /** Nodes from the first on that `takeOut` looked at. */
  private takenOut = 0;

  constructor(private readonly table: CellTable) {}

  /** Blocks known, those that are only remembered for their descendants among them. */
  get size(): number {
    return this.live;
  }

  /** Bytes of all arrays. */
  get bytes(): number {
    return this.parent.length * NODE_BYTES + this.blocks.length * 8;
  }

  /** @param tier 0 = the fastest */
  stored(block: CachedBlock, tier: number): void {
    const node = (block.mark as number | undefined) ?? this.make(block);
    this.tiers[node]! |= 1 << tier;
    this.settle(node);
  }

  /** @throws Error when the block is not held in the tier */
  removed(block: CachedBlock, tier: number): void {
    const node = block.mark as number | undefined;
    if (node === undefined || (this.tiers[node]! & (1 << tier)) === 0) {
      throw new Error("a block was removed that is not there");
    }
    this.tiers[node]! &= ~(1 << tier);
    this.settle(node);
    this.forgetUnused(node);
  }

  /**
   * Takes what it counts out of the table, in as many calls as it takes; nothing else may be called from the first on.
   * @param max blocks of one call
   * @returns blocks that were looked at, less than `max` = that was all
   */
  takeOut(max: number): number {
    const from = this.takenOut;
    this.takenOut = Math.min(this.blocks.length, from + max);
    for (let node = from; node < this.takenOut; node++) {
      if (this.blocks[node] !== null && this.reach[node]! < OUT_OF_REACH) {
        this.recount(node, this.reach[node]!, OUT_OF_REACH);
      }
    }
    return this.takenOut - from;
  }

  /** Makes a block's node, after those of the blocks before it that nobody holds. */
  private make(block: CachedBlock): number {
    const missing: CachedBlock[] = [];
    for (let at = block.parent; at !== null && at.mark === undefined; at = at.parent) missing.push(at);
    for (let i = missing.length - 1; i >= 0; i--) this.settle(this.makeOne(missing[i]!));
    return this.makeOne(block);
  }

  private makeOne(block: CachedBlock): number {
    const node = this.takeNode(block);
    const parent = block.parent === null ? NONE : (block.parent.mark as number);
    this.parent[node] = parent;
    this.firstChild[node] = NONE;
    this.previousSibling[node] = NONE;
    this.nextSibling[node] = NONE;
    this.tiers[node] = 0;
    this.reach[node] = UNKNOWN_REACH;
    if (parent !== NONE) {
      const sibling = this.firstChild[parent]!;
      if (sibling !== NONE) this.previousSibling[sibling] = node;
      this.nextSibling[node] = sibling;
      this.firstChild[parent] = node;
    }
    return node;
  }

  private takeNode(block: CachedBlock): number {
    let node = this.free;
    if (node !== NONE) {
      this.free = this.parent[node]!;
      this.blocks[node] = block;
    } else {
      node = this.blocks.length;
      if (node === this.parent.length) this.grow();
      this.blocks.push(block);
    }
    block.mark = node;
    this.live += 1;
    return node;
  }

  private grow(): void {
    const size = 2 * this.parent.length;
    this.parent = enlarged(this.parent, size);
    this.firstChild = enlarged(this.firstChild, size);
    this.nextSibling = enlarged(this.nextSibling, size);
    this.previousSibling = enlarged(this.previousSibling, size);
    this.hashHigh = enlarged(this.hashHigh, size);
    this.hashLow = enlarged(this.hashLow, size);
    const tiers = new Uint8Array(size);
    tiers.set(this.tiers);
    this.tiers = tiers;
    const reach = new Uint8Array(size);
    reach.set(this.reach);
    this.reach = reach;
  }

  /** Forgets a block that no tier holds and no block descends from, and then those before it likewise. */
  private forgetUnused(node: number): void {
    for (let at = node; at !== NONE && this.tiers[at] === 0 && this.firstChild[at] === NONE;) {
      const parent = this.parent[at]!;
      const previous = this.previousSibling[at]!;
      const next = this.nextSibling[at]!;
      if (next !== NONE) this.previousSibling[next] = previous;
      if (previous !== NONE) this.nextSibling[previous] = next;
      else if (parent !== NONE) this.firstChild[parent] = next;
      this.blocks[at]!.mark = undefined;
      this.blocks[at] = null;
      this.parent[at] = this.free;
      this.free = at;
      this.live -= 1;
      at = parent;
    }
  }

  /** Corrects what a block reaches, and then what those behind it do. */
  private settle(top: number): void {
    if (!this.correct(top)) return;
    let at = this.firstChild[top]!;
    if (at === NONE) return;
    for (;;) {
      if (this.correct(at) && this.firstChild[at] !== NONE) {
        at = this.firstChild[at]!;
        continue;
      }
      while (this.nextSibling[at] === NONE) {
        at = this.parent[at]!;
        if (at === top) return;
      }
      at = this.nextSibling[at]!;
    }
  }

  /** @returns whether its reach is another than before */
  private correct(node: number): boolean {
    const parent = this.parent[node]!;
    const own = FASTEST[this.tiers[node]!]!;
    const reach = parent === NONE ? own : Math.max(own, this.reach[parent]!);
    const before = this.reach[node]!;
    if (reach === before) return false;
    this.reach[node] = reach;
    this.recount(node, before, reach);
    return true;
  }

  /** Counts a block's cells for another reach than before, and sets its hash. */
  private recount(node: number, before: number, reach: number): void {
    const block = this.blocks[node]!;
    const { startByte: start, bytes, endTokens } = block;
    const root = rootHashOf(block.root);
    const end = start + bytes.length;
    const parent = this.parent[node]!;
    let high = parent === NONE ? hash.CHAIN_START_HIGH : this.hashHigh[parent]!;
    let low = parent === NONE ? hash.CHAIN_START_LOW : this.hashLow[parent]!;
    // Where the cell ends that the block begins in.
    let boundary = start - (start % KV_CELL_BYTES) + KV_CELL_BYTES;
    const cellBefore = boundary - KV_CELL_BYTES;
    if (boundary > end && cellBefore > 0 && end - cellBefore <= MIDPOINT_BYTES) {
      this.count(high, low, root, endTokens, before, reach);
    }
    const startTokens = block.parent === null ? 0 : block.parent.endTokens;
    let filled = start - cellBefore;
    if (boundary <= end && filled > 0) fillBefore(block, filled);
    for (let at = 0; boundary <= end; boundary += KV_CELL_BYTES) {
      for (; filled < KV_CELL_BYTES; filled++) cellBytes[filled] = bytes[at++]!;
      filled = 0;
      hash.hashCell(high, low, cellWords);
      ({ high, low } = hash);
      const tokens = end - boundary <= MIDPOINT_BYTES ? endTokens : startTokens;
      this.count(high, low, root, tokens, before, reach);
    }
    this.hashHigh[node] = high;
    this.hashLow[node] = low;
  }

  private count(
    high: number,
    low: number,
    root: hash.Hash64,
    tokens: number,
    before: number,
    reach: number,
  ): void {
    if (before >= OUT_OF_REACH && reach >= OUT_OF_REACH) return;
    hash.cellKey(high, low, root);
    const keyHigh = hash.high;
    const keyLow = hash.low;
    // Cells before the end of the first block count too: deeper ones are searched for through them.
    const counted = Math.max(1, Math.min(tokens, KV_TOKENS_MAX));
    // First in, then out: a key that stays never counts for nothing.
    if (reach < OUT_OF_REACH) this.table.add(keyHigh, keyLow, (reach << 30) | counted);
    if (before < OUT_OF_REACH) this.table.remove(keyHigh, keyLow, (before << 30) | counted);
  }
}

/** Puts the last `count` bytes before the block into the cell's beginning. */
function fillBefore(block: CachedBlock, count: number): void {
  let left = count;
  for (let at = block.parent; left > 0 && at !== null; at = at.parent) {
    const { bytes } = at;
    for (let i = bytes.length - 1; i >= 0 && left > 0; i--) cellBytes[--left] = bytes[i]!;
  }
}

function rootHashOf(root: ChainRoot): hash.Hash64 {
  let known = rootHashes.get(root);
  if (known === undefined) {
    known = hash.hashRoot(root.lora, root.cacheSalt);
    rootHashes.set(root, known);
  }
  return known;
}
