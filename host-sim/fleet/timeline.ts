// What happens next: a fixed number of clocks, each with one time, and the earliest of them.

/**
 * A tournament over `count` slots, each with the time of its next event (Infinity: none). Of equal times the lower
 * slot is first. `set` costs O(log count), `first` nothing.
 */
export class Timeline {
  private readonly leaves: number;
  private readonly times: Float64Array;
  /** winners[1] is the earliest slot of all; winners[i] that of 2i and 2i + 1. */
  private readonly winners: Int32Array;

  /** @param count slots, ≥ 1 */
  constructor(count: number) {
    this.leaves = 2 ** Math.ceil(Math.log2(Math.max(2, count)));
    this.times = new Float64Array(this.leaves).fill(Number.POSITIVE_INFINITY);
    this.winners = new Int32Array(2 * this.leaves);
    for (let slot = 0; slot < this.leaves; slot++) this.winners[this.leaves + slot] = slot;
    for (let node = this.leaves - 1; node >= 1; node--) this.winners[node] = this.winners[2 * node]!;
  }

  /** Slot of the earliest event. */
  get first(): number {
    return this.winners[1]!;
  }

  /** Time of the earliest event, ms; Infinity: nothing will ever happen. */
  get firstMs(): number {
    return this.times[this.winners[1]!]!;
  }

  /** Gives a slot another time. */
  set(slot: number, timeMs: number): void {
    if (this.times[slot] === timeMs) return;
    this.times[slot] = timeMs;
    for (let node = (this.leaves + slot) >> 1; node >= 1; node >>= 1) {
      const left = this.winners[2 * node]!;
      const right = this.winners[2 * node + 1]!;
      this.winners[node] = this.times[right]! < this.times[left]! ? right : left;
    }
  }
}
