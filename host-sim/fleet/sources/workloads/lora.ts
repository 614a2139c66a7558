// Chats with fine-tuned models that are adapters of one base.
import { Conversations, type ConversationStyle } from "../conversations.ts";
import { messageTokens } from "./chats.ts";
import type { Generator, SourceContext } from "./workload.ts";

/** Adapters of a workload, drawn by its seed; an engine has 4 in a batch unless configured otherwise. */
const ADAPTERS_MIN = 4;
const ADAPTERS_MAX = 16;
/** Conversations with the base model. */
const BASE_SHARE = 0.15;

/** Each adapter has a system prompt; popularity follows Zipf's law. */
function loraStyle({ random, make }: SourceContext): ConversationStyle {
  const count = random.integer(ADAPTERS_MIN, ADAPTERS_MAX);
  const base = make.span("system", 500);
  const adapters = Array.from({ length: count }, (_, i) => {
    return { lora: `adapter-${i}`, system: make.span("system", random.integer(300, 2000)) };
  });
  return {
    name: "lora",
    open: () => {
      const turns = random.integer(1, 6);
      if (random.uniform() < BASE_SHARE) return { spans: [base], turns };
      const { lora, system } = adapters[random.zipf(adapters.length)]!;
      return { spans: [system], turns, lora };
    },
    say: () => [make.span("user", messageTokens(random))],
    outputTokens: () => random.logNormal(150, 0.6, 20, 600),
    pauseMs: () => 2000 + random.exponential(6000),
  };
}

export const LORA: Generator = {
  name: "lora",
  summary: "Chats with 4–16 LoRA adapters by Zipf's law: too many in one place must wait for each other.",
  requests: 12_000,
  ratePerSecond: 200,
  warmUpMs: 120_000,
  source: (context) => new Conversations(loraStyle(context), context.make),
};
