// Values of cells, tier << 30 | tokens: which of two is better, and lists of them with counts, best first.

/** No list, no entry. */
export const NONE = -1;
const TOKENS_MASK = 0x3fffffff;
const FIRST = 1_024;
const NODE_BYTES = 12;

/** Whether `left` has more tokens than `right`, or as many in a faster tier. */
export function isBetter(left: number, right: number): boolean {
  const leftTokens = left & TOKENS_MASK;
  const rightTokens = right & TOKENS_MASK;
  return leftTokens > rightTokens || (leftTokens === rightTokens && left >>> 30 < right >>> 30);
}

/** Many lists of (value, count) in shared arrays, each named by its first node; NONE = empty. Grows by doubling. */
export class ValueLists {
  private value = new Int32Array(0);
  private refs = new Int32Array(0);
  private next = new Int32Array(0);
  private used = 0;
  private free = NONE;

  /** Bytes of all arrays. */
  get bytes(): number {
    return this.value.length * NODE_BYTES;
  }

  valueOf(node: number): number {
    return this.value[node]!;
  }

  refsOf(node: number): number {
    return this.refs[node]!;
  }

  /** The list without its first node, which stays. */
  rest(list: number): number {
    return this.next[list]!;
  }

  /** The tokens of `best`, and the fastest tier of it and of a list. */
  withFastestTier(best: number, list: number): number {
    let tier = best >>> 30;
    for (let at = list; at !== NONE && tier > 0; at = this.next[at]!) {
      tier = Math.min(tier, this.value[at]! >>> 30);
    }
    return (tier << 30) | (best & TOKENS_MASK);
  }

  /** Puts a value before a list, than all of which it is better. @returns the list */
  prepend(list: number, value: number, refs: number): number {
    let node = this.free;
    if (node !== NONE) {
      this.free = this.next[node]!;
    } else {
      node = this.used++;
      if (node === this.value.length) this.grow(Math.max(FIRST, 2 * node));
    }
    this.value[node] = value;
    this.refs[node] = refs;
    this.next[node] = list;
    return node;
  }

  /** Takes the first node away. @returns the list */
  shift(list: number): number {
    const rest = this.rest(list);
    this.next[list] = this.free;
    this.free = list;
    return rest;
  }

  /** Counts a value once more. @returns the list */
  add(list: number, value: number): number {
    const before = this.lastBetter(list, value);
    const at = before === NONE ? list : this.next[before]!;
    if (at !== NONE && this.value[at] === value) {
      this.refs[at]! += 1;
      return list;
    }
    const node = this.prepend(at, value, 1);
    if (before === NONE) return node;
    this.next[before] = node;
    return list;
  }

  /** Counts a value once less. @returns the list. @throws Error when the value is not there */
  remove(list: number, value: number): number {
    const before = this.lastBetter(list, value);
    const at = before === NONE ? list : this.next[before]!;
    if (at === NONE || this.value[at] !== value) {
      throw new Error("a cell was removed with a value that it does not have");
    }
    this.refs[at]! -= 1;
    if (this.refs[at]! > 0) return list;
    const rest = this.shift(at);
    if (before === NONE) return rest;
    this.next[before] = rest;
    return list;
  }

  /** The last node that is better than `value`; NONE = the list's first is not. */
  private lastBetter(list: number, value: number): number {
    let before = NONE;
    for (let at = list; at !== NONE && isBetter(this.value[at]!, value); at = this.next[at]!) before = at;
    return before;
  }

  private grow(size: number): void {
    this.value = enlarged(this.value, size);
    this.refs = enlarged(this.refs, size);
    this.next = enlarged(this.next, size);
  }
}

/** A copy of `old` with zeros behind it. */
export function enlarged(old: Int32Array, size: number): Int32Array<ArrayBuffer> {
  const fresh = new Int32Array(size);
  fresh.set(old);
  return fresh;
}
