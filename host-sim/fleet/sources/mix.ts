// Several sources as one, and wishes that some clients send.
import type { Random } from "../../workload/random.ts";
import type { Turn, TurnSource } from "./turns.ts";

/** A source and its share of the arrivals. Shares add up to 1. */
interface Part {
  readonly share: number;
  readonly source: TurnSource;
}

/** Draws for each arrival which of several sources it comes from. */
export class Mix implements TurnSource {
  private readonly random: Random;
  private readonly parts: readonly Part[];

  constructor(random: Random, parts: readonly Part[]) {
    this.random = random;
    this.parts = parts;
  }

  next(atMs: number): Turn {
    let left = this.random.uniform();
    for (const { share, source } of this.parts) {
      left -= share;
      if (left < 0) return source.next(atMs);
    }
    return this.parts.at(-1)!.source.next(atMs);
  }
}

/** Gives a share of the requests service level objectives. */
export class WithSlo implements TurnSource {
  private readonly source: TurnSource;
  private readonly random: Random;
  private readonly share: number;
  private readonly slo: Pick<Turn, "sloTtftMs" | "sloTpotMs">;

  constructor(source: TurnSource, random: Random, share: number, sloTtftMs: number, sloTpotMs: number) {
    this.source = source;
    this.random = random;
    this.share = share;
    this.slo = { sloTtftMs, sloTpotMs };
  }

  next(atMs: number): Turn {
    const turn = this.source.next(atMs);
    return this.random.uniform() < this.share ? { ...turn, ...this.slo } : turn;
  }
}
