// Chats beside long documents that nobody has sent before.
import type { Random } from "../../../workload/random.ts";
import type { SpanMaker, Turn, TurnSource } from "../turns.ts";
import { chats } from "./chats.ts";
import { Mix, WithSlo } from "../mix.ts";
import type { Generator, SourceContext } from "./workload.ts";

const DOCUMENT_SHARE = 0.05;

/** A summary of a long document that is sent once: seconds of prefill on one replica. */
export class LongDocuments implements TurnSource {
  private readonly random: Random;
  private readonly make: SpanMaker;
  private sent = 0;

  constructor({ random, make }: Pick<SourceContext, "random" | "make">) {
    this.random = random;
    this.make = make;
  }

  next(): Turn {
    return {
      session: `long-${this.sent++}`,
      spans: [this.make.span("user", this.random.integer(30_000, 110_000))],
      outputTokens: this.random.logNormal(400, 0.5, 50, 1500),
    };
  }
}

/** Chats want their first token within two seconds; documents may take fifteen. */
export const LONG: Generator = {
  name: "long",
  summary:
    "One request in twenty is a cold document of 30,000–110,000 tokens; chats should not wait behind it.",
  requests: 5000,
  ratePerSecond: 27,
  warmUpMs: 300_000,
  source: (context) => {
    const { random } = context;
    return new Mix(random, [
      { share: 1 - DOCUMENT_SHARE, source: new WithSlo(chats(context), random.fork(), 0.5, 2000, 60) },
      {
        share: DOCUMENT_SHARE,
        source: new WithSlo(new LongDocuments(context), random.fork(), 0.5, 15_000, 100),
      },
    ]);
  },
};
