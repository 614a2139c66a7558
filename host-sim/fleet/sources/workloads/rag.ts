// Questions about documents that others ask about too.
import type { Random } from "../../../workload/random.ts";
import type { Span } from "../../types.ts";
import type { SpanMaker, Turn, TurnSource } from "../turns.ts";
import type { Generator, SourceContext } from "./workload.ts";

const DOCUMENTS = 1500;
/** Topics of the variant with passages, passages of a topic, and how many of them a prompt has. */
const TOPICS = 300;
const TOPIC_PASSAGES = 6;
const PROMPT_PASSAGES = 4;

function question(random: Random, make: SpanMaker): Span {
  return make.span("user", random.integer(15, 80));
}

function answerTokens(random: Random): number {
  return random.logNormal(150, 0.5, 20, 500);
}

/** A document, then the question: popular documents stay in caches. */
export class DocumentQuestions implements TurnSource {
  private readonly random: Random;
  private readonly make: SpanMaker;
  private readonly system: Span;
  private readonly documents: readonly Span[];

  constructor({ random, make }: Pick<SourceContext, "random" | "make">, documents = DOCUMENTS) {
    this.random = random;
    this.make = make;
    this.system = make.span("system", 200);
    this.documents = Array.from({ length: documents }, () => {
      return make.span("user", random.logNormal(7000, 0.5, 2000, 30_000));
    });
  }

  next(): Turn {
    const index = this.random.zipf(this.documents.length);
    return {
      session: `document-${index}`,
      spans: [this.system, this.documents[index]!, question(this.random, this.make)],
      outputTokens: answerTokens(this.random),
    };
  }
}

/** Four of the six passages of a topic in any order: two prompts seldom begin with more than one in common. */
class PassageQuestions implements TurnSource {
  private readonly random: Random;
  private readonly make: SpanMaker;
  private readonly system: Span;
  private readonly topics: readonly (readonly Span[])[];

  constructor({ random, make }: SourceContext) {
    this.random = random;
    this.make = make;
    this.system = make.span("system", 400);
    this.topics = Array.from({ length: TOPICS }, () => {
      return Array.from({ length: TOPIC_PASSAGES }, () => {
        return make.span("user", random.logNormal(1500, 0.4, 500, 4000));
      });
    });
  }

  next(): Turn {
    const index = this.random.zipf(this.topics.length);
    const left = [...this.topics[index]!];
    const passages = Array.from({ length: PROMPT_PASSAGES }, () => {
      return left.splice(this.random.integer(0, left.length - 1), 1)[0]!;
    });
    return {
      session: `topic-${index}`,
      spans: [this.system, ...passages, question(this.random, this.make)],
      outputTokens: answerTokens(this.random),
    };
  }
}

export const RAG: Generator = {
  name: "rag",
  summary: "Questions behind shared documents whose popularity follows Zipf's law.",
  requests: 12_000,
  ratePerSecond: 67,
  warmUpMs: 0,
  source: (context) => new DocumentQuestions(context),
};

export const RAG_SHUFFLED: Generator = {
  name: "rag-shuffled",
  summary: "Retrieved passages that come in another order each time: the same content, another prefix.",
  requests: 6000,
  ratePerSecond: 30,
  warmUpMs: 0,
  source: (context) => new PassageQuestions(context),
};
