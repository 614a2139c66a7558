// Chats and documents, until everybody sends the same prompt.
import type { Span } from "../../types.ts";
import type { SourceContext, Generator } from "./workload.ts";
import { chats } from "./chats.ts";
import { DocumentQuestions } from "./rag.ts";
import type { Turn, TurnSource } from "../turns.ts";

/** Share of the traffic that the prompt has in the middle third. */
export const VIRAL_SHARE = 0.5;
const PROMPT_TOKENS = 8000;
const ANSWER_TOKENS = 200;

class Viral implements TurnSource {
  private readonly context: SourceContext;
  private readonly usual: readonly TurnSource[];
  private readonly prompt: readonly Span[];

  constructor(context: SourceContext) {
    this.context = context;
    this.usual = [chats(context), new DocumentQuestions(context)];
    this.prompt = [context.make.span("user", PROMPT_TOKENS)];
  }

  next(atMs: number): Turn {
    const { random, durationMs } = this.context;
    const middle = atMs >= durationMs / 3 && atMs < (durationMs * 2) / 3;
    if (middle && random.uniform() < VIRAL_SHARE) {
      return { session: "viral", spans: this.prompt, outputTokens: ANSWER_TOKENS };
    }
    return random.pick(this.usual).next(atMs);
  }
}

export const VIRAL: Generator = {
  name: "viral",
  summary:
    "One prompt of 8,000 tokens is half of the traffic in the middle third: one replica is not enough for it.",
  requests: 10_000,
  ratePerSecond: 71,
  warmUpMs: 300_000,
  source: (context) => new Viral(context),
};
