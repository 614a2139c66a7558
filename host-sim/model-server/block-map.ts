// Which KV block holds a hash: a table of fixed size without an object per entry.

/** No block has this hash. */
const NONE = -1;

/** An empty place. Hashes of content are never 0 (see block-hash.ts). */
const EMPTY = 0;

/** Fibonacci hashing: the golden ratio's share of 2^32. */
const SPREAD = 0x9e3779b1;

/**
 * Hash (an integer in 1…2^53−1) → block, for at most `entriesMax` hashes at a time. Open addressing with linear
 * probing at a load of at most one half; a removed entry's successors move up, so there are no tombstones.
 */
export class BlockMap {
  private readonly keys: Float64Array;
  private readonly blocks: Int32Array;
  private readonly mask: number;
  private readonly shift: number;

  /** @param entriesMax ≥ 0; more entries at once are the caller's fault and would never end a search */
  constructor(entriesMax: number) {
    const bits = Math.max(2, Math.ceil(Math.log2(2 * entriesMax + 2)));
    this.keys = new Float64Array(2 ** bits);
    this.blocks = new Int32Array(2 ** bits);
    this.mask = 2 ** bits - 1;
    this.shift = 32 - bits;
  }

  /** The block of a hash, −1 without. */
  get(hash: number): number {
    const place = this.find(hash);
    return this.keys[place] === EMPTY ? NONE : this.blocks[place]!;
  }

  /** Sets the block of a hash, new or known. */
  set(hash: number, block: number): void {
    const place = this.find(hash);
    this.keys[place] = hash;
    this.blocks[place] = block;
  }

  /** Forgets a hash; nothing happens when it is unknown. */
  delete(hash: number): void {
    const { keys, blocks, mask } = this;
    let hole = this.find(hash);
    if (keys[hole] === EMPTY) return;
    for (let place = (hole + 1) & mask; keys[place] !== EMPTY; place = (place + 1) & mask) {
      // An entry may move up to the hole unless its own first place lies behind the hole.
      const distance = (place - this.home(keys[place]!)) & mask;
      if (distance < ((place - hole) & mask)) continue;
      keys[hole] = keys[place]!;
      blocks[hole] = blocks[place]!;
      hole = place;
    }
    keys[hole] = EMPTY;
  }

  /** Calls `visit` with each hash and its block, in no order. */
  forEach(visit: (hash: number, block: number) => void): void {
    for (let place = 0; place <= this.mask; place++) {
      if (this.keys[place] !== EMPTY) visit(this.keys[place]!, this.blocks[place]!);
    }
  }

  /** Place of a hash, or the empty one where it would go. */
  private find(hash: number): number {
    const { keys, mask } = this;
    let place = this.home(hash);
    while (keys[place] !== hash && keys[place] !== EMPTY) place = (place + 1) & mask;
    return place;
  }

  private home(hash: number): number {
    return Math.imul((hash >>> 0) ^ ((hash / 0x100000000) >>> 0), SPREAD) >>> this.shift;
  }
}
