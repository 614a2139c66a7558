// Lets a few work at once while others wait for their turn.

/** First come, first served. */
export class Turns {
  private readonly waiting: (() => void)[] = [];

  /** @param free how many may work at once */
  constructor(private free: number) {}

  /** Does `work` when it is its turn, and hands the turn on however that ends. */
  async do<T>(work: () => Promise<T>): Promise<T> {
    if (this.free > 0) this.free -= 1;
    else await new Promise<void>((resolve) => this.waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.waiting.shift();
      if (next === undefined) this.free += 1;
      else next();
    }
  }
}
