// Items in order of the time at which they become ready: a binary heap.

interface Entry<T> {
  readonly readyMs: number;
  /** Earlier ones first among equal times, so that the order does not depend on the heap. */
  readonly order: number;
  readonly item: T;
}

/** Holds items until their time. */
export class ReadyQueue<T> {
  private readonly heap: Entry<T>[] = [];
  private pushed = 0;

  get size(): number {
    return this.heap.length;
  }

  push(readyMs: number, item: T): void {
    const entry = { readyMs, order: this.pushed++, item };
    let at = this.heap.length;
    for (let parent = (at - 1) >> 1; at > 0 && before(entry, this.heap[parent]!); parent = (at - 1) >> 1) {
      this.heap[at] = this.heap[parent]!;
      at = parent;
    }
    this.heap[at] = entry;
  }

  /** The item that has been ready longest at `nowMs`, or undefined. */
  take(nowMs: number): T | undefined {
    const first = this.heap[0];
    if (first === undefined || first.readyMs > nowMs) return undefined;
    const last = this.heap.pop()!;
    if (last !== first) this.sink(last);
    return first.item;
  }

  private sink(entry: Entry<T>): void {
    const { heap } = this;
    let at = 0;
    for (let child = 1; child < heap.length; child = 2 * at + 1) {
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, entry)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = entry;
  }
}

function before<T>(a: Entry<T>, b: Entry<T>): boolean {
  return a.readyMs < b.readyMs || (a.readyMs === b.readyMs && a.order < b.order);
}
