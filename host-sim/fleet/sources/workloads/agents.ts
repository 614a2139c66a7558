// Agents that loop over tool calls: long shared instructions, fast turns, prompts that grow.
import type { Random } from "../../../workload/random.ts";
import { Conversations, type ConversationStyle } from "../conversations.ts";
import type { SpanMaker } from "../turns.ts";
import type { Generator } from "./workload.ts";

/** Sorts of agents, each with instructions and tool definitions of its own. */
const KINDS = 12;

/** Tasks of 4 to 24 steps; a step answers with a tool call, whose result comes a second or two later. */
export function agentStyle(random: Random, make: SpanMaker, name = "agent"): ConversationStyle {
  const kinds = Array.from({ length: KINDS }, () => make.span("system", random.integer(3000, 12_000)));
  return {
    name,
    open: () => ({ spans: [random.pick(kinds)], turns: random.integer(4, 24) }),
    say: (turn) => {
      return turn === 0
        ? [make.span("user", random.logNormal(250, 0.7, 40, 2000))]
        : [make.span("tool", random.logNormal(500, 0.9, 30, 8000))];
    },
    outputTokens: () => random.logNormal(90, 0.7, 16, 800),
    pauseMs: () => random.logNormal(800, 1, 50, 30_000),
  };
}

export const AGENTS: Generator = {
  name: "agents",
  summary: "Agents in tool loops: shared instructions of 3,000–12,000 tokens, turns seconds apart.",
  requests: 12_000,
  ratePerSecond: 82,
  warmUpMs: 240_000,
  source: ({ random, make }) => new Conversations(agentStyle(random, make), make),
};
