// What one replica makes of conversations, for each model that it serves.
import { holds } from "./check.ts";
import { type LearnContext, type Learnt, learnProgram } from "./learn.ts";
import { isEmpty, meet, programKey } from "./program.ts";
import type { PromptReason } from "./reasons.ts";
import type { Renderer } from "./render-server.ts";

/** Base models that are looked at one by one; those beyond are taken for other names of the first. */
const BASES_MAX = 8;

/** A replica as the pool knows it now. Equal generations and names mean that nothing changed. */
export interface PromptReplica {
  /** "ip:port" */
  readonly address: string;
  /** Changes when the engine starts anew. */
  readonly generation: number;
  /** Names of base models and adapters. */
  readonly models: readonly string[];
  /** Adapter → its base model. */
  readonly adapters: ReadonlyMap<string, string>;
}

/** What is known of one model on one replica. */
export interface ModelPrompts extends Learnt {
  readonly isAdapter: boolean;
}

/** Programs were looked at, by what came of it. */
export interface ProbeCounts {
  /** A program that was known before is this replica's. */
  held: number;
  learnt: number;
  /** The replica could not be asked, or told tokens whose bytes are not known. */
  failed: number;
}

/**
 * Looks at one replica. A program that is known, from an earlier look or from another replica, is only held against its
 * rendering; where it does not hold, the template is learnt anew.
 */
export class ReplicaPrompts {
  /** By model; null = not looked at yet. Stays as it is while the replica cannot be asked. */
  results: ReadonlyMap<string, ModelPrompts> | null = null;
  /** Why the last look failed; null = it did not. */
  error: Error | null = null;
  /** When to look next, monotonic ms. */
  dueAtMs = Number.NEGATIVE_INFINITY;
  failures = 0;
  private looks = 0;
  private lookedAt: PromptReplica | null = null;

  constructor(public replica: PromptReplica) {}

  /** Takes over what the pool knows. @returns whether the replica is to be looked at anew */
  describe(replica: PromptReplica): boolean {
    const { generation, models } = this.replica;
    const isSame = generation === replica.generation && sameList(models, replica.models);
    this.replica = replica;
    return !isSame;
  }

  /**
   * @param rendererOf renders as this replica does for a model
   * @param known what to try before learning, likeliest first
   * @throws what the renderer throws; what was known then stays
   */
  async look(
    rendererOf: (model: string) => Renderer,
    known: readonly Learnt[],
    context: LearnContext,
    counts: ProbeCounts,
  ): Promise<void> {
    const { replica } = this;
    const isRestarted = this.lookedAt?.generation !== replica.generation;
    const bases = replica.models.filter((name) => !replica.adapters.has(name));
    const found = new Map<string, ModelPrompts>();
    const candidates = [...known];
    for (const base of bases.slice(0, BASES_MAX)) {
      const before = this.results?.get(base);
      // A text that changed once will change again: only a restart can mend that.
      if (before?.reason === "changing" && !isRestarted) {
        found.set(base, before);
        continue;
      }
      if (before !== undefined) candidates.unshift(before);
      const learnt = await this.learn(rendererOf(base), candidates, context, counts);
      const changes = before !== undefined && !isRestarted && meet(before.program, learnt.program) === null;
      found.set(base, { ...(changes ? unknownProgram(learnt, "changing") : learnt), isAdapter: false });
      candidates.unshift(learnt);
    }
    for (const base of bases.slice(BASES_MAX)) found.set(base, found.get(bases[0]!)!);
    await this.lookAtAdapters(rendererOf, found, context.random);
    this.results = found;
    this.lookedAt = replica;
    this.looks += 1;
  }

  private async learn(
    renderer: Renderer,
    candidates: readonly Learnt[],
    context: LearnContext,
    counts: ProbeCounts,
  ): Promise<Learnt> {
    const tried = new Set<string>();
    for (const { program, unknown, reason } of candidates) {
      const key = programKey(program);
      // What renders no conversations holds anywhere: it says nothing of this replica.
      if (reason !== null || tried.has(key)) continue;
      tried.add(key);
      if (!(await holds(renderer, program, context.random))) continue;
      counts.held += 1;
      return { program, unknown, reason };
    }
    counts.learnt += 1;
    return learnProgram(renderer, context);
  }

  /** One adapter is looked at, another one each time: engines have one template for a model and its adapters. */
  private async lookAtAdapters(
    rendererOf: (model: string) => Renderer,
    found: Map<string, ModelPrompts>,
    random: () => number,
  ): Promise<void> {
    const { models, adapters } = this.replica;
    const names = models.filter((name) => adapters.has(name));
    const baseOf = (name: string): ModelPrompts | undefined =>
      found.get(adapters.get(name)!) ?? [...found.values()][0];
    const name = names[this.looks % Math.max(1, names.length)];
    const base = name === undefined ? undefined : baseOf(name);
    const differs =
      name !== undefined &&
      base !== undefined &&
      !isEmpty(base.program) &&
      !(await holds(rendererOf(name), base.program, random));
    for (const adapter of names) {
      const of = baseOf(adapter);
      if (of === undefined) continue;
      found.set(adapter, { ...(differs ? unknownProgram(of, "adapters-differ") : of), isAdapter: true });
    }
  }
}

/** Nothing is rendered, for this reason. */
export function unknownProgram({ program }: Learnt, reason: PromptReason): Learnt {
  const unknown = new Map<number, PromptReason>();
  for (const index of program.literals.keys()) unknown.set(index, reason);
  return { program: { flags: 0, literals: program.literals.map(() => null) }, unknown, reason };
}

function sameList(a: readonly string[], b: readonly string[]): boolean {
  return a === b || (a.length === b.length && a.every((one, at) => one === b[at]));
}
