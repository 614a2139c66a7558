// The cells that one endpoint holds: what each key counts for, how often, and what of it was told.
import * as hash from "./hash64.ts";
import { PENDING_CHANGES_MIN, TABLE_ENTRIES_MAX } from "./limits.ts";
import { enlarged, isBetter, NONE, ValueLists } from "./value-lists.ts";

const ENTRIES_FIRST = 1_024;
/** Bytes of an entry over all arrays below, its bucket among them. */
const ENTRY_BYTES = 33;

/** Is told cells one by one: the key's halves, and tier << 30 | tokens, 0 = the cell is gone. */
export interface CellWriter {
  cell(keyHigh: number, keyLow: number, value: number): void;
}

/**
 * A table of keys that counts, for each, every value that some block gives it, and tells one: the most tokens and the
 * fastest tier of all. It remembers which was told last (what the gateway has), for changes, copies and digests.
 *
 * ```
 * buckets  i32[capacity]   first entry whose key's low bits are the index
 * entry    keyHigh, keyLow, next in the bucket or the free list,
 *          value (the best, 0 = none), its count, the list of the others, best first, and what was told (0 = nothing)
 * others   value, count, next
 * pending  ring of entries that may differ from what was told, each once
 * ```
 *
 * Numbers of entries are stable. Nothing is allocated per cell; arrays double, up to TABLE_ENTRIES_MAX entries.
 */
export class CellTable {
  /** Whether changes are kept since the last `track`. If not, only a copy can tell what there is. */
  isTracked = false;
  /** `track` has looked at all entries: a copy can be told, and then changes. */
  isReady = false;
  /** There were more entries than the table takes: it holds nothing until it is cleared. */
  isFull = false;
  /** Keys that count for something. */
  count = 0;
  /** Of what was told: entries, and the wire's digest. */
  toldCount = 0;
  toldDigestHigh = 0;
  toldDigestLow = 0;

  private buckets = new Int32Array(ENTRIES_FIRST).fill(NONE);
  private keyHigh = new Int32Array(ENTRIES_FIRST);
  private keyLow = new Int32Array(ENTRIES_FIRST);
  private next = new Int32Array(ENTRIES_FIRST);
  private value = new Int32Array(ENTRIES_FIRST);
  private refs = new Int32Array(ENTRIES_FIRST);
  private others = new Int32Array(ENTRIES_FIRST);
  private told = new Int32Array(ENTRIES_FIRST);
  private isPending = new Uint8Array(ENTRIES_FIRST);
  /** Entries ever used since the last clear, and the first of those that are free again. */
  private used = 0;
  private free = NONE;
  /** Entries from the first on that `track` has looked at. */
  private lookedAt = 0;

  private readonly lists = new ValueLists();

  private pending = new Int32Array(ENTRIES_FIRST);
  private pendingFirst = 0;
  private pendingCount = 0;

  constructor(private readonly entriesMax = TABLE_ENTRIES_MAX) {}

  /** Entries that may differ from what was told. */
  get changes(): number {
    return this.pendingCount;
  }

  /** Bytes of all arrays. */
  get bytes(): number {
    return this.buckets.length * ENTRY_BYTES + this.lists.bytes + this.pending.length * 4;
  }

  /** One more block gives the key this value. */
  add(keyHigh: number, keyLow: number, value: number): void {
    if (this.isFull) return;
    let entry = this.find(keyHigh, keyLow);
    if (entry === NONE) entry = this.insert(keyHigh, keyLow);
    if (entry === NONE) return;
    const best = this.value[entry]!;
    if (best === value) {
      this.refs[entry]! += 1;
    } else if (best === 0) {
      this.count += 1;
      this.setBest(entry, value, 1);
    } else if (isBetter(value, best)) {
      this.others[entry] = this.lists.prepend(this.others[entry]!, best, this.refs[entry]!);
      this.setBest(entry, value, 1);
    } else {
      this.others[entry] = this.lists.add(this.others[entry]!, value);
      if (best >>> 30 > value >>> 30) this.touch(entry);
    }
  }

  /** One block fewer gives the key this value. @throws Error when none did */
  remove(keyHigh: number, keyLow: number, value: number): void {
    if (this.isFull) return;
    const entry = this.find(keyHigh, keyLow);
    if (entry === NONE || this.value[entry] === 0) throw new Error("a cell was removed that is not there");
    const best = this.value[entry]!;
    if (best !== value) {
      this.others[entry] = this.lists.remove(this.others[entry]!, value);
      if (best >>> 30 > value >>> 30) this.touch(entry);
      return;
    }
    const refs = this.refs[entry]! - 1;
    if (refs > 0) {
      this.refs[entry] = refs;
      return;
    }
    const other = this.others[entry]!;
    if (other === NONE) {
      this.count -= 1;
      this.setBest(entry, 0, 0);
      return;
    }
    this.others[entry] = this.lists.rest(other);
    this.setBest(entry, this.lists.valueOf(other), this.lists.refsOf(other));
    this.lists.shift(other);
  }

  /** Forgets all, and returns the memory. */
  clear(): void {
    Object.assign(this, new CellTable(this.entriesMax));
  }

  /**
   * From now on changes are kept; once `isReady`, what was told is what there was when the entry was looked at.
   * @param max entries of one call
   * @returns entries that were looked at
   */
  track(max: number): number {
    if (!this.isTracked) {
      this.isTracked = true;
      this.lookedAt = 0;
      this.toldCount = 0;
      this.toldDigestHigh = 0;
      this.toldDigestLow = 0;
    }
    const from = this.lookedAt;
    this.lookedAt = Math.min(this.used, from + max);
    for (let entry = from; entry < this.lookedAt; entry++) {
      const value = this.shown(entry);
      this.told[entry] = value;
      if (value === 0) continue;
      this.mixDigest(entry, value);
      this.toldCount += 1;
    }
    this.isReady = this.lookedAt === this.used;
    return this.lookedAt - from;
  }

  /** Gives changes up: the next telling is a copy. */
  untrack(): void {
    if (!this.isTracked) return;
    this.isTracked = false;
    this.isReady = false;
    this.toldCount = 0;
    while (this.pendingCount > 0) {
      const entry = this.takePending();
      if (this.value[entry] === 0) this.release(entry);
    }
  }

  /** Tells at most `max` changes, of which those that came to nothing count too. The oldest come first. */
  tellChanges(max: number, writer: CellWriter): void {
    for (let i = 0; i < max && this.pendingCount > 0; i++) {
      const entry = this.takePending();
      const value = this.shown(entry);
      const told = this.told[entry]!;
      if (value !== told) {
        if (told !== 0) this.mixDigest(entry, told);
        if (value !== 0) this.mixDigest(entry, value);
        this.toldCount += (value === 0 ? 0 : 1) - (told === 0 ? 0 : 1);
        this.told[entry] = value;
        writer.cell(this.keyHigh[entry]!, this.keyLow[entry]!, value);
      }
      if (value === 0) this.release(entry);
    }
  }

  /**
   * Tells at most `max` of all that was told before, which does not change while no changes are told.
   * @param from 0, then what was returned
   * @returns where to go on, −1 = that was all
   */
  tellCopy(from: number, max: number, writer: CellWriter): number {
    let left = max;
    for (let entry = from; entry < this.used; entry++) {
      const told = this.told[entry]!;
      if (told === 0) continue;
      if (left === 0) return entry;
      left -= 1;
      writer.cell(this.keyHigh[entry]!, this.keyLow[entry]!, told);
    }
    return -1;
  }

  private find(keyHigh: number, keyLow: number): number {
    let entry = this.buckets[keyLow & (this.buckets.length - 1)]!;
    while (entry !== NONE && (this.keyLow[entry] !== keyLow || this.keyHigh[entry] !== keyHigh)) {
      entry = this.next[entry]!;
    }
    return entry;
  }

  /** An entry of no value. @returns NONE: the table was full and is given up */
  private insert(keyHigh: number, keyLow: number): number {
    if (this.free === NONE && this.used === this.buckets.length) {
      if (this.used >= this.entriesMax) {
        this.clear();
        this.isFull = true;
        return NONE;
      }
      this.grow();
    }
    let entry = this.free;
    if (entry === NONE) entry = this.used++;
    else this.free = this.next[entry]!;
    this.keyHigh[entry] = keyHigh;
    this.keyLow[entry] = keyLow;
    this.others[entry] = NONE;
    this.link(entry);
    return entry;
  }

  private link(entry: number): void {
    const bucket = this.keyLow[entry]! & (this.buckets.length - 1);
    this.next[entry] = this.buckets[bucket]!;
    this.buckets[bucket] = entry;
  }

  private release(entry: number): void {
    const bucket = this.keyLow[entry]! & (this.buckets.length - 1);
    let at = this.buckets[bucket]!;
    if (at === entry) {
      this.buckets[bucket] = this.next[entry]!;
    } else {
      while (this.next[at] !== entry) at = this.next[at]!;
      this.next[at] = this.next[entry]!;
    }
    this.told[entry] = 0;
    this.next[entry] = this.free;
    this.free = entry;
  }

  /** What is told of an entry. */
  private shown(entry: number): number {
    const best = this.value[entry]!;
    return best >>> 30 === 0 ? best : this.lists.withFastestTier(best, this.others[entry]!);
  }

  private setBest(entry: number, value: number, refs: number): void {
    this.value[entry] = value;
    this.refs[entry] = refs;
    if (this.isTracked) this.touch(entry);
    else if (value === 0) this.release(entry);
  }

  /** What is told of the entry may be another than before. */
  private touch(entry: number): void {
    if (!this.isTracked || this.isPending[entry] === 1) return;
    this.putPending(entry);
    if (this.pendingCount > Math.max(this.count, PENDING_CHANGES_MIN)) this.untrack();
  }

  private putPending(entry: number): void {
    const size = this.pending.length;
    if (this.pendingCount === size) {
      const ring = new Int32Array(2 * size);
      ring.set(this.pending.subarray(this.pendingFirst));
      ring.set(this.pending.subarray(0, this.pendingFirst), size - this.pendingFirst);
      this.pending = ring;
      this.pendingFirst = 0;
    }
    this.pending[(this.pendingFirst + this.pendingCount) & (this.pending.length - 1)] = entry;
    this.pendingCount += 1;
    this.isPending[entry] = 1;
  }

  private takePending(): number {
    const entry = this.pending[this.pendingFirst]!;
    this.pendingFirst = (this.pendingFirst + 1) & (this.pending.length - 1);
    this.pendingCount -= 1;
    this.isPending[entry] = 0;
    return entry;
  }

  private mixDigest(entry: number, value: number): void {
    hash.mixPair(this.keyHigh[entry]!, this.keyLow[entry]!, 0, value);
    this.toldDigestHigh ^= hash.high;
    this.toldDigestLow ^= hash.low;
  }

  private grow(): void {
    const size = 2 * this.buckets.length;
    this.keyHigh = enlarged(this.keyHigh, size);
    this.keyLow = enlarged(this.keyLow, size);
    this.next = enlarged(this.next, size);
    this.value = enlarged(this.value, size);
    this.refs = enlarged(this.refs, size);
    this.others = enlarged(this.others, size);
    this.told = enlarged(this.told, size);
    const isPending = new Uint8Array(size);
    isPending.set(this.isPending);
    this.isPending = isPending;
    this.buckets = new Int32Array(size).fill(NONE);
    // No entry is free when the table grows.
    for (let entry = 0; entry < this.used; entry++) this.link(entry);
  }
}
