// People who chat with a few applications: turns with pauses, each prompt the conversation so far.
import type { Random } from "../../../workload/random.ts";
import { Conversations, type ConversationStyle } from "../conversations.ts";
import type { SpanMaker } from "../turns.ts";
import type { Generator, SourceContext } from "./workload.ts";

/** Applications, each with a system prompt of its own. */
const APPS = 8;
/** One message in so many brings something pasted in. */
const PASTED_SHARE = 0.25;

/** Conversations of 2 to 14 turns; a reader takes 3 s and more, 12 s on average, to go on. */
export function chatStyle(random: Random, make: SpanMaker, name = "chat"): ConversationStyle {
  const systemPrompts = Array.from({ length: APPS }, () => make.span("system", random.integer(300, 1500)));
  return {
    name,
    open: () => ({ spans: [random.pick(systemPrompts)], turns: random.integer(2, 14) }),
    say: () => [make.span("user", messageTokens(random))],
    outputTokens: () => random.logNormal(200, 0.6, 20, 1000),
    pauseMs: () => 3000 + random.exponential(9000),
  };
}

/** Length of what a person writes, with what is pasted in. */
export function messageTokens(random: Random): number {
  return random.uniform() < PASTED_SHARE ? random.logNormal(900, 0.6, 200, 4000) : random.integer(15, 120);
}

export function chats({ random, make }: SourceContext): Conversations {
  return new Conversations(chatStyle(random, make), make);
}

export const CHATS: Generator = {
  name: "chats",
  summary: "Multi-turn chats with think times; every answer is part of the next prompt.",
  requests: 12_000,
  ratePerSecond: 80,
  warmUpMs: 300_000,
  source: chats,
};
