// Knows how a pool's replicas turn conversations into prompts, and makes of it what the gateway is told.
import { codeOf, messageOf, TokenizerError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { type EncodedPrompts, encodePrompts, type PromptModel } from "./encode.ts";
import type { Learnt } from "./learn.ts";
import { meet, type PromptProgram, programKey, renderChat } from "./program.ts";
import type { PromptReason } from "./reasons.ts";
import type { Renderer } from "./render-server.ts";
import {
  type ModelPrompts,
  type ProbeCounts,
  type PromptReplica,
  ReplicaPrompts,
  unknownProgram,
} from "./replica-prompts.ts";
import { SIMPLEST } from "./shapes.ts";

/** Changes that come together are looked at together. */
const SETTLE_MS = 100;
/** A replica that could not be asked is asked again after this, doubled up to RETRY_MAX_MS. */
const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 60_000;

/** What a pool lends its prompts. */
export interface PromptContext {
  /** Each replica is looked at again after this. */
  readonly checkMs: number;
  readonly rendererOf: (address: string, model: string) => Renderer;
  readonly random: () => number;
  readonly log: Logger;
  /** Monotonic ms. */
  readonly now: () => number;
  /** ms since 1970. */
  readonly wallNow: () => number;
  /** `document` is another one. */
  readonly changed: () => void;
}

/** What is known of one model over all replicas that serve it. */
export interface PoolModel extends Learnt {
  readonly name: string;
  readonly isAdapter: boolean;
}

/** Looks at replicas one after the other: at new and restarted ones at once, at all of them on a period. */
export class PromptMonitor {
  /** What the gateway is to hold; null until a replica was looked at. */
  document: EncodedPrompts | null = null;
  /** By name. */
  models: readonly PoolModel[] = [];
  readonly counts: ProbeCounts = { held: 0, learnt: 0, failed: 0 };
  private readonly replicas = new Map<string, ReplicaPrompts>();
  private timer: NodeJS.Timeout | null = null;
  private noticeTimer: NodeJS.Timeout | null = null;
  private isLooking = false;
  private stopped = false;

  constructor(private readonly context: PromptContext) {}

  /** The pool changed, which it may do hundreds of times a second: `read` is called soon, once for many calls. */
  notice(read: () => void): void {
    if (this.stopped || this.noticeTimer !== null) return;
    this.noticeTimer = setTimeout(() => {
      this.noticeTimer = null;
      read();
    }, SETTLE_MS);
  }

  /**
   * Makes these the replicas.
   * @param replicas those that answer now
   * @param isKnown whether an address is one of the pool, though it may not answer
   */
  update(replicas: readonly PromptReplica[], isKnown: (address: string) => boolean): void {
    let changed = false;
    for (const replica of replicas) {
      const known = this.replicas.get(replica.address);
      if (known === undefined) this.replicas.set(replica.address, new ReplicaPrompts(replica));
      else if (known.describe(replica)) this.renew(known);
      else continue;
      changed = true;
    }
    let removed = false;
    for (const address of this.replicas.keys()) {
      if (!isKnown(address)) removed = this.replicas.delete(address) || removed;
    }
    if (removed) this.conclude();
    if (changed) this.plan();
  }

  stop(): void {
    this.stopped = true;
    if (this.timer !== null) clearTimeout(this.timer);
    if (this.noticeTimer !== null) clearTimeout(this.noticeTimer);
  }

  private renew(prompts: ReplicaPrompts): void {
    prompts.dueAtMs = Number.NEGATIVE_INFINITY;
    prompts.failures = 0;
  }

  private plan(): void {
    if (this.isLooking || this.stopped) return;
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    let dueAtMs = Number.POSITIVE_INFINITY;
    for (const replica of this.replicas.values()) dueAtMs = Math.min(dueAtMs, replica.dueAtMs);
    if (dueAtMs === Number.POSITIVE_INFINITY) return;
    const delayMs = Math.max(0, dueAtMs - this.context.now());
    this.timer = setTimeout(() => void this.lookAtDue(), delayMs);
  }

  private async lookAtDue(): Promise<void> {
    this.isLooking = true;
    for (const replica of [...this.replicas.values()]) {
      if (this.stopped) return;
      const isGone = this.replicas.get(replica.replica.address) !== replica;
      if (!isGone && replica.dueAtMs <= this.context.now()) await this.look(replica);
    }
    this.isLooking = false;
    this.plan();
  }

  private async look(replica: ReplicaPrompts): Promise<void> {
    const { rendererOf, random, wallNow, now, log, checkMs } = this.context;
    const { address } = replica.replica;
    const known = new Map<string, Learnt>();
    for (const other of this.replicas.values()) {
      for (const learnt of other.results?.values() ?? []) known.set(programKey(learnt.program), learnt);
    }
    // While it is looked at it may become due again.
    replica.dueAtMs = Number.POSITIVE_INFINITY;
    let waitMs = checkMs;
    try {
      const renderer = (model: string): Renderer => rendererOf(address, model);
      await replica.look(renderer, [...known.values()], { random, now: wallNow }, this.counts);
      replica.error = null;
      replica.failures = 0;
    } catch (error) {
      this.counts.failed += 1;
      waitMs = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(10, replica.failures));
      replica.failures += 1;
      const isNew = replica.error === null || codeOf(replica.error) !== codeOf(error);
      replica.error = error instanceof Error ? error : new Error(messageOf(error));
      if (isNew) log.warn({ endpoint: address, code: codeOf(error) }, `prompts: ${messageOf(error)}`);
    }
    replica.dueAtMs = Math.min(replica.dueAtMs, now() + waitMs);
    if (!this.stopped) this.conclude();
  }

  /** Makes one program a model of what its replicas do, and the document of all of them. */
  private conclude(): void {
    const names = new Set<string>();
    for (const { replica, results } of this.replicas.values()) {
      for (const name of results?.keys() ?? replica.models) names.add(name);
    }
    const models = [...names].map((name) => this.united(name));
    const isAsked = [...this.replicas.values()].some(({ results }) => results !== null);
    const document = isAsked ? encodePrompts(models.filter(rendersAny)) : this.document;
    const omitted = new Set(document?.omitted);
    const before = new Map(this.models.map((model) => [model.name, model.reason]));
    this.models = models.map((model) =>
      omitted.has(model.name) ? { ...model, ...unknownProgram(model, "no-room") } : model,
    );
    for (const { name, reason, unknown } of this.models) {
      if (before.has(name) && before.get(name) === reason) continue;
      const fields = { model: name, reason, unknownLiterals: unknown.size };
      const says = reason === null ? "prompts are rendered" : `prompts are not rendered: ${reason}`;
      if (reason === null) this.context.log.info(fields, says);
      else if (reason !== "starting") this.context.log.warn(fields, says);
    }
    if (document === null || document.id === this.document?.id) return;
    this.document = document;
    this.context.changed();
  }

  private united(name: string): PoolModel {
    const found: ModelPrompts[] = [];
    let error: Error | null = null;
    for (const replica of this.replicas.values()) {
      const one = replica.results?.get(name);
      if (one !== undefined) found.push(one);
      error ??= replica.error;
    }
    const [first] = found;
    if (first === undefined) {
      const asked = error instanceof TokenizerError ? "unknown-token" : "unreachable";
      const reason = error === null ? "starting" : asked;
      const program = { flags: 0, literals: [] };
      return { name, isAdapter: false, ...unknownProgram({ program, unknown: new Map(), reason }, reason) };
    }
    return { name, ...unite(first, found) };
  }
}

/** What all replicas render alike. */
function unite(first: ModelPrompts, all: readonly ModelPrompts[]): ModelPrompts {
  const isMixed = all.some(({ isAdapter }) => isAdapter !== first.isAdapter);
  const unknown = new Map<number, PromptReason>();
  let program: PromptProgram | null = isMixed ? null : first.program;
  // Replicas on which one program holds share its object.
  for (const one of new Set(all.map((found) => found.program))) {
    if (program !== null) program = meet(program, one);
  }
  for (const one of new Set(all.map((found) => found.unknown))) {
    for (const [index, reason] of one) unknown.set(index, reason);
  }
  if (program === null) return { ...first, ...unknownProgram(first, "replicas-differ") };
  const isSure = rendersChat(program);
  // Where each of them has a reason of its own, the first one's is as good as any.
  const reasons = new Set(all.map(({ reason }) => reason));
  const reason: PromptReason | null = isSure ? null : reasons.has(null) ? "replicas-differ" : first.reason;
  return { program, unknown, reason, isAdapter: first.isAdapter };
}

function rendersChat(program: PromptProgram): boolean {
  return SIMPLEST.some(
    (roles) =>
      renderChat(
        program,
        roles.map((role) => ({ role, content: "x" })),
      ) !== null,
  );
}

function rendersAny({ program }: PromptModel): boolean {
  return program.literals.some((literal) => literal !== null);
}
