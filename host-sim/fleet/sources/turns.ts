// What a generator's clients say: turns, made of spans with ids of their own.
import type { Span, SpanRole } from "../types.ts";

/** The next request of some client, without its place in the workload. */
export interface Turn {
  readonly session: string;
  readonly spans: readonly Span[];
  readonly outputTokens: number;
  readonly answerSpan?: number;
  readonly lora?: string;
  readonly sloTtftMs?: number;
  readonly sloTpotMs?: number;
}

/** Gives a request for each arrival. Arrival times do not decrease. */
export interface TurnSource {
  next(atMs: number): Turn;
}

/** Makes spans; ids are unique over one workload, because all its sources share one of these. */
export class SpanMaker {
  private count = 0;

  /** Content that was never seen before; tokens ≥ 1. */
  span(role: SpanRole, tokens: number): Span {
    return { id: this.nextId(), tokens, role };
  }

  nextId(): number {
    return this.count++;
  }
}

/** Time to the first token that pauses are counted after, and from token to token: a server under load. */
const NOMINAL_FIRST_TOKEN_MS = 500;
const NOMINAL_TOKEN_MS = 30;

/** How long an answer takes as far as clients are concerned, ms; no run changes when requests arrive. */
export function nominalAnswerMs(outputTokens: number): number {
  return NOMINAL_FIRST_TOKEN_MS + outputTokens * NOMINAL_TOKEN_MS;
}
