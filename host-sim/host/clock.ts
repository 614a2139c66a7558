// Time for the host: a virtual clock that a simulation drives, and one on Node's timers.

/** A pending timer. */
export interface Timer {
  cancel(): void;
}

/** What the host needs of time. Everything asynchronous in the host goes through it. */
export interface Clock {
  /** Milliseconds since an arbitrary start; never goes back. */
  monotonicMs(): number;
  /** Nanoseconds since 1970 as the filter sees them. */
  wallNs(): bigint;
  /** Runs `callback` once, `delayMs` from now. */
  after(delayMs: number, callback: () => void): Timer;
  /** Runs `callback` soon, after what runs now: the analogue of Envoy's `dispatcher.post`. */
  post(callback: () => void): void;
}

interface Entry extends Timer {
  atMs: number;
  order: number;
  callback: (() => void) | null;
}

/** Where virtual time starts by default: 2024-01-01T00:00:00Z, so that timestamps look real and never vary. */
export const VIRTUAL_START_NS = 1_704_067_200_000_000_000n;

/** A clock that stands still until told to advance; timers fire in order of time, then of creation. */
export class VirtualClock implements Clock {
  private nowMs = 0;
  private nextOrder = 0;
  private heap: Entry[] = [];
  private posted: (() => void)[] = [];

  constructor(private readonly startNs: bigint = VIRTUAL_START_NS) {}

  monotonicMs(): number {
    return this.nowMs;
  }

  wallNs(): bigint {
    return this.startNs + BigInt(Math.round(this.nowMs * 1e6));
  }

  after(delayMs: number, callback: () => void): Timer {
    const entry: Entry = {
      atMs: this.nowMs + Math.max(0, delayMs),
      order: this.nextOrder++,
      callback,
      cancel() {
        entry.callback = null;
      },
    };
    this.push(entry);
    return entry;
  }

  post(callback: () => void): void {
    this.posted.push(callback);
  }

  /** Runs everything posted, including what that posts in turn. */
  flush(): void {
    for (let callback = this.posted.shift(); callback; callback = this.posted.shift()) callback();
  }

  /** Time of the next timer in milliseconds, or Infinity. */
  nextTimerMs(): number {
    while (this.heap.length > 0 && this.heap[0]?.callback === null) this.pop();
    return this.heap[0]?.atMs ?? Infinity;
  }

  /** Moves time forward by `deltaMs`, firing every timer on the way. */
  advance(deltaMs: number): void {
    this.advanceTo(this.nowMs + deltaMs);
  }

  /** Moves time forward to `targetMs`, firing every timer on the way; a target in the past only flushes. */
  advanceTo(targetMs: number): void {
    this.flush();
    while (this.nextTimerMs() <= targetMs) {
      const entry = this.pop();
      this.nowMs = Math.max(this.nowMs, entry.atMs);
      entry.callback?.();
      this.flush();
    }
    this.nowMs = Math.max(this.nowMs, targetMs);
  }

  private before(a: Entry, b: Entry): boolean {
    return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
  }

  private push(entry: Entry): void {
    const heap = this.heap;
    let index = heap.length;
    heap.push(entry);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!this.before(entry, heap[parent] as Entry)) break;
      heap[index] = heap[parent] as Entry;
      index = parent;
    }
    heap[index] = entry;
  }

  private pop(): Entry {
    const heap = this.heap;
    const top = heap[0] as Entry;
    const last = heap.pop() as Entry;
    if (heap.length === 0) return top;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && this.before(heap[child + 1] as Entry, heap[child] as Entry)) child++;
      if (!this.before(heap[child] as Entry, last)) break;
      heap[index] = heap[child] as Entry;
      index = child;
    }
    heap[index] = last;
    return top;
  }
}

/** A clock on Node's timers, for the data plane. Its timers do not keep the process alive. */
export class RealClock implements Clock {
  private readonly originNs = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint();

  monotonicMs(): number {
    return performance.now();
  }

  wallNs(): bigint {
    return this.originNs + process.hrtime.bigint();
  }

  after(delayMs: number, callback: () => void): Timer {
    const timer = setTimeout(callback, delayMs);
    timer.unref();
    return { cancel: () => clearTimeout(timer) };
  }

  post(callback: () => void): void {
    setImmediate(callback);
  }
}
