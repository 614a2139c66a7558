// How much of a workload's prompts a cache could serve at best.
import type { FleetRequest, Workload } from "../types.ts";

/** What one cache for all requests would have found. */
export interface Reuse {
  readonly promptTokens: number;
  /** Of those, in spans whose whole prefix was in the cache. */
  readonly reusedTokens: number;
  readonly spans: number;
  readonly reusedSpans: number;
}

/** A span after a certain prefix. */
interface CachedSpan {
  readonly key: string;
  readonly number: number;
  readonly tokens: number;
}

/**
 * Reuse in one cache that sees every request at its arrival, with the answers that later prompts repeat. It is
 * unbounded, or forgets the least recently used spans beyond `capacityTokens`, of a prompt the last ones first.
 * A span counts as a whole. Requests of another model or adapter have another root.
 */
export function reuseOf(workload: Workload, capacityTokens = Number.POSITIVE_INFINITY): Reuse {
  const cache = new SpanCache(capacityTokens);
  let promptTokens = 0;
  let reusedTokens = 0;
  let spans = 0;
  let reusedSpans = 0;
  for (const request of workload.requests) {
    const reused = cache.reusedSpans(request);
    promptTokens += request.promptTokens;
    spans += request.spans.length;
    reusedSpans += reused;
    for (let i = 0; i < reused; i++) reusedTokens += request.spans[i]!.tokens;
  }
  return { promptTokens, reusedTokens, spans, reusedSpans };
}

/** Share of all prompt tokens that the cache of `reuseOf` would have served, 0–1; 0 without requests. */
export function reuseCeiling(workload: Workload, capacityTokens?: number): number {
  const { promptTokens, reusedTokens } = reuseOf(workload, capacityTokens);
  return promptTokens === 0 ? 0 : reusedTokens / promptTokens;
}

class SpanCache {
  private readonly capacityTokens: number;
  /** In order of use, least recent first: a Map keeps the order of insertion. */
  private readonly cached = new Map<string, CachedSpan>();
  private tokens = 0;
  private numbers = 0;

  constructor(capacityTokens: number) {
    this.capacityTokens = capacityTokens;
  }

  /** Leading spans of a prompt that are cached; afterwards all of it is, and its answer. */
  reusedSpans({ model, lora, spans, outputTokens, answerSpan }: FleetRequest): number {
    let parent = `${model}/${lora ?? ""}`;
    let reused = 0;
    let hit = true;
    const path: CachedSpan[] = [];
    const visit = (id: number, tokens: number): void => {
      const key = `${parent}/${id}/${tokens}`;
      const found = this.cached.get(key);
      hit &&= found !== undefined;
      if (hit) reused++;
      const span = found ?? { key, number: this.numbers++, tokens };
      if (found === undefined) this.tokens += tokens;
      parent = String(span.number);
      path.push(span);
    };
    for (const { id, tokens } of spans) visit(id, tokens);
    const reusedOfPrompt = reused;
    if (answerSpan !== undefined) visit(answerSpan, outputTokens);
    this.touch(path);
    return reusedOfPrompt;
  }

  /** The end of the prompt is the first to go: nothing after a missing span could be used. */
  private touch(path: readonly CachedSpan[]): void {
    for (const span of [...path].reverse()) {
      this.cached.delete(span.key);
      this.cached.set(span.key, span);
    }
    for (const span of this.cached.values()) {
      if (this.tokens <= this.capacityTokens) return;
      this.cached.delete(span.key);
      this.tokens -= span.tokens;
    }
  }
}
