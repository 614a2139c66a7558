// Questions and documents whose numbers rise and fall, apart or together: what a fleet of one size or split is wrong for.
import type { Random } from "../../../workload/random.ts";
import type { Stretch } from "../arrivals.ts";
import type { SpanMaker, Turn, TurnSource } from "../turns.ts";
import type { Generator, SourceContext } from "./workload.ts";

/** How many come at the least and at the most, a second. */
interface Range {
  readonly least: number;
  readonly most: number;
}

/** A run is one day, from midnight on. */
interface Day {
  readonly questions: Range;
  readonly documents: Range;
  /** Part of a run from most questions to most documents. */
  readonly lag: number;
}

/** What there is more of changes: first decode is short of GPUs, then prefill. */
const TURNS: Day = { questions: { least: 15, most: 100 }, documents: { least: 1.25, most: 15 }, lag: 0.5 };
/** What there is of both changes. */
const TIDES: Day = { questions: { least: 7, most: 56 }, documents: { least: 1, most: 8 }, lag: 0 };
/** Stretches of constant intensity that the curves are made of. */
const STRETCHES = 48;

function intensityAt(phase: number, { least, most }: Range): number {
  return least + ((most - least) * (1 - Math.cos(2 * Math.PI * phase))) / 2;
}

/** Share of documents among the requests at a part of the run, 0–1. */
function documentShareAt(phase: number, { questions, documents, lag }: Day): number {
  const share = intensityAt(phase + lag, documents);
  return share / (share + intensityAt(phase, questions));
}

function profile({ questions, documents, lag }: Day): Stretch[] {
  return Array.from({ length: STRETCHES }, (_, i) => {
    const phase = (i + 0.5) / STRETCHES;
    return { length: 1, intensity: intensityAt(phase, questions) + intensityAt(phase + lag, documents) };
  });
}

/** Short questions with long answers, and cold documents with short ones. */
class QuestionsAndDocuments implements TurnSource {
  private readonly random: Random;
  private readonly make: SpanMaker;
  private readonly durationMs: number;
  private sent = 0;

  constructor(
    { random, make, durationMs }: SourceContext,
    private readonly day: Day,
  ) {
    this.random = random;
    this.make = make;
    this.durationMs = durationMs;
  }

  next(atMs: number): Turn {
    const { random, make } = this;
    const session = `${this.sent++}`;
    if (random.uniform() < documentShareAt(atMs / this.durationMs, this.day)) {
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
  profile: () => profile(TURNS),
  source: (context) => new QuestionsAndDocuments(context, TURNS),
};

export const DAYS: Generator = {
  name: "days",
  summary:
    "The same requests, eight times as many at noon as at midnight: a fleet for either is wrong for the other.",
  requests: 12_000,
  ratePerSecond: 54,
  warmUpMs: 0,
  profile: () => profile(TIDES),
  source: (context) => new QuestionsAndDocuments(context, TIDES),
};
