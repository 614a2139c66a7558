// What a router thinks one replica has cached: block hashes, the least recently used given up first.

const NONE = -1;

/**
 * A bounded set of block hashes in order of use.
 *
 * ```
 * oldest ─► … ─► newest      touch() moves a hash to the right or adds it there
 * └ given up when `capacity` is exceeded
 * ```
 */
export class LruBlocks {
  readonly capacity: number;
  private readonly slots = new Map<number, number>();
  private readonly hashes: Float64Array;
  private readonly older: Int32Array;
  private readonly newer: Int32Array;
  private oldest = NONE;
  private newest = NONE;

  /** @param capacity blocks, an integer ≥ 1 */
  constructor(capacity: number) {
    this.capacity = capacity;
    this.hashes = new Float64Array(capacity);
    this.older = new Int32Array(capacity);
    this.newer = new Int32Array(capacity);
  }

  get size(): number {
    return this.slots.size;
  }

  has(hash: number): boolean {
    return this.slots.has(hash);
  }

  /** How many of the leading hashes are there, up to the first that is not. */
  prefixLength(hashes: ArrayLike<number>): number {
    let length = 0;
    while (length < hashes.length && this.slots.has(hashes[length]!)) length++;
    return length;
  }

  /** Uses the hashes in order, so that the head of a chain is given up before its tail. */
  touch(hashes: ArrayLike<number>): void {
    for (let i = 0; i < hashes.length; i++) this.touchOne(hashes[i]!);
  }

  /** Uses the hashes from the last to the first, so that a chain is given up from its tail, as engines do. */
  touchTailFirst(hashes: ArrayLike<number>): void {
    for (let i = hashes.length - 1; i >= 0; i--) this.touchOne(hashes[i]!);
  }

  /** Calls `visit` with the `count` least recently used hashes, or all if there are fewer, oldest first. */
  visitOldest(count: number, visit: (hash: number) => void): void {
    let slot = this.oldest;
    for (let i = 0; i < count && slot !== NONE; i++) {
      visit(this.hashes[slot]!);
      slot = this.newer[slot]!;
    }
  }

  clear(): void {
    this.slots.clear();
    this.oldest = NONE;
    this.newest = NONE;
  }

  private touchOne(hash: number): void {
    const known = this.slots.get(hash);
    if (known !== undefined) {
      if (known === this.newest) return;
      this.unlink(known);
      this.append(known);
      return;
    }
    let slot = this.slots.size;
    if (slot === this.capacity) {
      slot = this.oldest;
      this.unlink(slot);
      this.slots.delete(this.hashes[slot]!);
    }
    this.hashes[slot] = hash;
    this.slots.set(hash, slot);
    this.append(slot);
  }

  private append(slot: number): void {
    this.older[slot] = this.newest;
    this.newer[slot] = NONE;
    if (this.newest === NONE) this.oldest = slot;
    else this.newer[this.newest] = slot;
    this.newest = slot;
  }

  private unlink(slot: number): void {
    const older = this.older[slot]!;
    const newer = this.newer[slot]!;
    if (older === NONE) this.oldest = newer;
    else this.newer[older] = newer;
    if (newer === NONE) this.newest = older;
    else this.older[newer] = older;
  }
}
