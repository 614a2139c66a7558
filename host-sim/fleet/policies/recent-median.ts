// The median of the last measurements.

/** Keeps the last `capacity` values. */
export class RecentMedian {
  private readonly ring: number[] = [];
  private readonly sorted: number[] = [];
  private next = 0;

  /** @param capacity an integer ≥ 1 @param first what the median is before the first value */
  constructor(
    private readonly capacity: number,
    private readonly first: number,
  ) {}

  /** The median; the mean of the middle two of an even number. */
  get value(): number {
    const { length } = this.sorted;
    if (length === 0) return this.first;
    const middle = length >> 1;
    return length % 2 === 1 ? this.sorted[middle]! : (this.sorted[middle - 1]! + this.sorted[middle]!) / 2;
  }

  add(value: number): void {
    const oldest = this.ring[this.next];
    if (oldest !== undefined) this.sorted.splice(this.position(oldest), 1);
    this.ring[this.next] = value;
    this.next = (this.next + 1) % this.capacity;
    this.sorted.splice(this.position(value), 0, value);
  }

  // Index of the first sorted value that is not less.
  private position(value: number): number {
    let low = 0;
    let high = this.sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.sorted[middle]! < value) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
