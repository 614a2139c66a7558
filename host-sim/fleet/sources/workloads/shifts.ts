// A load that moves from generation to prompts and back: what a fixed split of a fleet is wrong for half of the time.
import type { Random } from "../../../workload/random.ts";
import type { Stretch } from "../arrivals.ts";
import type { SpanMaker, Turn, TurnSource } from "../turns.ts";
import type { Generator, SourceContext } from "./workload.ts";

/** Questions and documents a second at the least and at the most; documents are at their most half a run later. */
const QUESTIONS = { least: 15, most: 100 };
const DOCUMENTS = { least: 1.25, most: 15 };
/** Stretches of constant intensity that the curves are made of. */
const STRETCHES = 48;

function intensityAt(phase: number, { least, most }: typeof QUESTIONS): number {
  return least + ((most - least) * (1 - Math.cos(2 * Math.PI * phase))) / 2;
}

/** Share of documents among the requests at a part of the run, 0–1. */
export function documentShareAt(phase: number): number {
  const documents = intensityAt(phase + 0.5, DOCUMENTS);
  return documents / (documents + intensityAt(phase, QUESTIONS));
}

function profile(): Stretch[] {
  return Array.from({ length: STRETCHES }, (_, i) => {
    const phase = (i + 0.5) / STRETCHES;
    return {
      length: 1,
      intensity: intensityAt(phase, QUESTIONS) + intensityAt(phase + 0.5, DOCUMENTS),
    };
  });
}

/** Short questions with long answers, and cold documents with short ones. */
class QuestionsAndDocuments implements TurnSource {
  private readonly random: Random;
  private readonly make: SpanMaker;
  private readonly durationMs: number;
  private sent = 0;

  constructor({ random, make, durationMs }: SourceContext) {
    this.random = random;
    this.make = make;
    this.durationMs = durationMs;
  }

  next(atMs: number): Turn {
    const { random, make } = this;
    const session = `${this.sent++}`;
    if (random.uniform() < documentShareAt(atMs / this.durationMs)) {
      const spans = [make.span("user", random.integer(6000, 16_000))];
      return { session: `document-${session}`, spans, outputTokens: random.logNormal(120, 0.5, 20, 500) };
    }
    const spans = [make.span("user", random.integer(100, 800))];
    return { session: `question-${session}`, spans, outputTokens: random.logNormal(900, 0.5, 100, 3000) };
  }
}

export const SHIFTS: Generator = {
  name: "shifts",
  summary:
    "Questions with long answers by day, cold documents with short ones by night: decode is short of GPUs, then prefill.",
  requests: 12_000,
  ratePerSecond: 65,
  warmUpMs: 0,
  profile,
  source: (context) => new QuestionsAndDocuments(context),
};
