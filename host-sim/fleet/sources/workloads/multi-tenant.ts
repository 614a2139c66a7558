// A few tenants, each with a very long system prompt.
import { Conversations, type ConversationStyle } from "../conversations.ts";
import { messageTokens } from "./chats.ts";
import type { Generator, SourceContext } from "./workload.ts";

const TENANTS = 10;

/** Short conversations behind system prompts of 8,000 to 30,000 tokens; large tenants have most of them. */
function tenantStyle({ random, make }: SourceContext): ConversationStyle {
  const tenants = Array.from({ length: TENANTS }, () => make.span("system", random.integer(8000, 30_000)));
  return {
    name: "tenant",
    open: () => ({ spans: [tenants[random.zipf(tenants.length)]!], turns: random.integer(1, 4) }),
    say: () => [make.span("user", messageTokens(random))],
    outputTokens: () => random.logNormal(180, 0.5, 20, 600),
    pauseMs: () => 2000 + random.exponential(6000),
  };
}

export const MULTI_TENANT: Generator = {
  name: "multi-tenant",
  summary:
    "Ten system prompts of 8,000–30,000 tokens carry all traffic: affinity alone would crowd few replicas.",
  requests: 12_000,
  ratePerSecond: 130,
  warmUpMs: 60_000,
  source: (context) => new Conversations(tenantStyle(context), context.make),
};
