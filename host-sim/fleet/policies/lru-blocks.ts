// What a router thinks one replica has cached: block hashes, the least recently used given up first.

const NONE = -1;
/** 2^32 divided by the golden ratio, odd: spreads the low half of a hash over the table. */
const SPREAD = 0x9e3779b1;

/**
 * A bounded set of block hashes in order of use.
 *
 * ```
 * oldest ─► … ─► newest      touch() moves a hash to the right or adds it there
 * └ given up when `capacity` is exceeded
 *
 * table   i32[≥ 2 × capacity]   slot of the hash that belongs here or a little to the left, NONE = free
 * hashes  f64[capacity]         by slot
 * older, newer  i32[capacity]   neighbours in the order of use, by slot
 * ```
 */
export class LruBlocks {
  readonly capacity: number;
  private readonly table: Int32Array;
  private readonly mask: number;
  private readonly hashes: Float64Array;
  private readonly older: Int32Array;
  private readonly newer: Int32Array;
  private count = 0;
  private oldest = NONE;
  private newest = NONE;

  /** @param capacity blocks, an integer ≥ 1 */
  constructor(capacity: number) {
    this.capacity = capacity;
    const places = 2 ** Math.ceil(Math.log2(2 * capacity));
    this.table = new Int32Array(places).fill(NONE);
    this.mask = places - 1;
    this.hashes = new Float64Array(capacity);
    this.older = new Int32Array(capacity);
    this.newer = new Int32Array(capacity);
  }

  get size(): number {
    return this.count;
  }

  has(hash: number): boolean {
    return this.table[this.find(hash)] !== NONE;
  }

  /** How many of the leading hashes are there, up to the first that is not. */
  prefixLength(hashes: ArrayLike<number>): number {
    let length = 0;
    while (length < hashes.length && this.has(hashes[length]!)) length++;
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
    this.table.fill(NONE);
    this.count = 0;
    this.oldest = NONE;
    this.newest = NONE;
  }

  private touchOne(hash: number): void {
    const known = this.table[this.find(hash)]!;
    if (known !== NONE) {
      if (known === this.newest) return;
      this.unlink(known);
      this.append(known);
      return;
    }
    let slot = this.count;
    if (slot < this.capacity) {
      this.count++;
    } else {
      slot = this.oldest;
      this.unlink(slot);
      this.removeAt(this.find(this.hashes[slot]!));
    }
    this.hashes[slot] = hash;
    this.table[this.find(hash)] = slot;
    this.append(slot);
  }

  // Where in the table the hash is, or is to be put. Half of the places are free, so that the search ends.
  private find(hash: number): number {
    let place = this.home(hash);
    for (;;) {
      const slot = this.table[place]!;
      if (slot === NONE || this.hashes[slot] === hash) return place;
      place = (place + 1) & this.mask;
    }
  }

  private home(hash: number): number {
    return Math.imul(hash | 0, SPREAD) >>> Math.clz32(this.mask);
  }

  // Frees a place and moves up what could no longer be found behind the gap.
  private removeAt(place: number): void {
    let gap = place;
    for (let next = (gap + 1) & this.mask; this.table[next] !== NONE; next = (next + 1) & this.mask) {
      const home = this.home(this.hashes[this.table[next]!]!);
      if (((next - home) & this.mask) < ((next - gap) & this.mask)) continue;
      this.table[gap] = this.table[next]!;
      gap = next;
    }
    this.table[gap] = NONE;
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
