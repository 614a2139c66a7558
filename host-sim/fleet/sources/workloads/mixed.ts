// Everything at once, by share.
import { Conversations } from "../conversations.ts";
import { Mix, WithSlo } from "../mix.ts";
import { agentStyle } from "./agents.ts";
import { chats } from "./chats.ts";
import { LongDocuments } from "./long.ts";
import { DocumentQuestions } from "./rag.ts";
import { ShortPrompts } from "./short.ts";
import type { Generator, SourceContext } from "./workload.ts";

function everything(context: SourceContext): Mix {
  const { random, make } = context;
  const agents = new Conversations(agentStyle(random, make), make);
  return new Mix(random, [
    { share: 0.35, source: new WithSlo(chats(context), random.fork(), 0.5, 2000, 60) },
    { share: 0.3, source: agents },
    { share: 0.18, source: new DocumentQuestions(context) },
    { share: 0.15, source: new ShortPrompts(context) },
    { share: 0.02, source: new WithSlo(new LongDocuments(context), random.fork(), 0.5, 15_000, 100) },
  ]);
}

export const MIXED: Generator = {
  name: "mixed",
  summary: "Chats, agents, documents, short prompts and long cold ones together; some clients send SLOs.",
  requests: 8000,
  ratePerSecond: 43,
  warmUpMs: 300_000,
  source: everything,
};
