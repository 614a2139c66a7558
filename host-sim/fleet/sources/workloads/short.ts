// Short prompts that have nothing in common.
import type { Random } from "../../../workload/random.ts";
import type { SpanMaker, Turn, TurnSource } from "../turns.ts";
import type { Generator, SourceContext } from "./workload.ts";

/** Share of the requests that say what they want, and what they want. */
const SLO_SHARE = 0.3;
const SLO_TTFT_MS = 500;
const SLO_TPOT_MS = 60;

/** Single prompts of 50 to 300 tokens. */
export class ShortPrompts implements TurnSource {
  private readonly random: Random;
  private readonly make: SpanMaker;
  private sent = 0;

  constructor({ random, make }: Pick<SourceContext, "random" | "make">) {
    this.random = random;
    this.make = make;
  }

  next(): Turn {
    const { random, make } = this;
    return {
      session: `short-${this.sent++}`,
      spans: [make.span("user", random.integer(50, 300))],
      outputTokens: random.logNormal(100, 0.5, 10, 400),
      ...(random.uniform() < SLO_SHARE ? { sloTtftMs: SLO_TTFT_MS, sloTpotMs: SLO_TPOT_MS } : {}),
    };
  }
}

export const SHORT: Generator = {
  name: "short",
  summary: "Prompts of 50–300 tokens that share nothing: only load matters, and decisions must be cheap.",
  requests: 20_000,
  ratePerSecond: 670,
  warmUpMs: 0,
  source: (context) => new ShortPrompts(context),
};
