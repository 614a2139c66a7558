// What one engine counts and measures for its /metrics page.
import type { EngineRequest, StepReport } from "./engine-types.ts";

/** Seconds, of vLLM's request latencies. */
const REQUEST_SECONDS = [
  0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
];
const FIRST_TOKEN_SECONDS = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640,
  2560,
];
const TOKEN_SECONDS = [
  0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
];
const STEP_TOKENS = [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384];
const CHOICES = [1, 2, 5, 10, 20];
const PREEMPTIONS = [1, 2, 3, 4, 5, 10, 20];

/** A Prometheus histogram: counts per upper bound, the sum and the number of values. */
export class Histogram {
  readonly bounds: readonly number[];
  readonly counts: number[];
  sum = 0;
  count = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = bounds.map(() => 0);
  }

  observe(value: number): void {
    this.sum += value;
    this.count++;
    const index = this.bounds.findIndex((bound) => value <= bound);
    if (index >= 0) this.counts[index] = this.counts[index]! + 1;
  }

  /** Values at or below each bound. */
  cumulative(): number[] {
    let total = 0;
    return this.counts.map((count) => (total += count));
  }
}

/** Reasons for which vLLM counts a finished request. */
export const FINISH_REASONS = ["stop", "length", "abort", "error", "repetition"] as const;

/** What the engine does not know of a request. */
export interface RequestFacts {
  readonly finishReason: "stop" | "length";
  readonly choices: number;
  readonly maxTokens: number;
  /** As in the answer's usage. */
  readonly cachedTokens: number;
}

/** Histograms and finish counters of one engine. */
export class EngineMetrics {
  readonly timeToFirstToken = new Histogram(FIRST_TOKEN_SECONDS);
  readonly interTokenLatency = new Histogram(TOKEN_SECONDS);
  readonly timePerOutputToken = new Histogram(TOKEN_SECONDS);
  readonly requestLatency = new Histogram(REQUEST_SECONDS);
  readonly queueTime = new Histogram(REQUEST_SECONDS);
  readonly inferenceTime = new Histogram(REQUEST_SECONDS);
  readonly prefillTime = new Histogram(REQUEST_SECONDS);
  readonly decodeTime = new Histogram(REQUEST_SECONDS);
  readonly preemptionsPerRequest = new Histogram(PREEMPTIONS);
  readonly choicesPerRequest = new Histogram(CHOICES);
  readonly stepTokens = new Histogram(STEP_TOKENS);
  readonly promptTokens: Histogram;
  readonly generatedTokens: Histogram;
  readonly generatedTokensMax: Histogram;
  readonly maxTokensParameter: Histogram;
  readonly computedPromptTokens: Histogram;
  readonly finishes = new Map<string, number>();

  /** @param modelTokensMax the model's context: token histograms have bounds 1, 2, 5, 10, … up to it. */
  constructor(modelTokensMax: number) {
    const bounds = tokenBounds(modelTokensMax);
    this.promptTokens = new Histogram(bounds);
    this.generatedTokens = new Histogram(bounds);
    this.generatedTokensMax = new Histogram(bounds);
    this.maxTokensParameter = new Histogram(bounds);
    this.computedPromptTokens = new Histogram(bounds);
    for (const reason of FINISH_REASONS) this.finishes.set(reason, 0);
  }

  /** One more token of a request; `previousMs` is NaN for the first. */
  token(request: EngineRequest, nowMs: number, previousMs: number): void {
    if (Number.isNaN(previousMs)) this.timeToFirstToken.observe((nowMs - request.arrivalMs) / 1000);
    else this.interTokenLatency.observe((nowMs - previousMs) / 1000);
  }

  step(report: StepReport): void {
    this.stepTokens.observe(report.prefillTokens + report.decodeSequences);
  }

  /** A request ended by itself. Aborted ones are not counted: vLLM 0.32.0 does not either. */
  finished(request: EngineRequest, nowMs: number, facts: RequestFacts): void {
    const firstTokenMs = Number.isNaN(request.firstTokenMs) ? nowMs : request.firstTokenMs;
    this.finishes.set(facts.finishReason, this.finishes.get(facts.finishReason)! + 1);
    this.requestLatency.observe((nowMs - request.arrivalMs) / 1000);
    this.queueTime.observe((request.scheduledMs - request.arrivalMs) / 1000);
    this.inferenceTime.observe((nowMs - request.scheduledMs) / 1000);
    this.prefillTime.observe((firstTokenMs - request.scheduledMs) / 1000);
    this.decodeTime.observe((nowMs - firstTokenMs) / 1000);
    const intervals = request.generatedTokens - 1;
    this.timePerOutputToken.observe(intervals > 0 ? (nowMs - firstTokenMs) / 1000 / intervals : 0);
    this.promptTokens.observe(request.promptTokens);
    this.generatedTokens.observe(request.generatedTokens);
    this.generatedTokensMax.observe(request.generatedTokens);
    this.computedPromptTokens.observe(request.promptTokens - facts.cachedTokens);
    this.preemptionsPerRequest.observe(request.preemptions);
    this.choicesPerRequest.observe(facts.choices);
    this.maxTokensParameter.observe(facts.maxTokens);
  }

  /** The KV of a request's prompt could not be had. */
  failed(): void {
    this.finishes.set("error", this.finishes.get("error")! + 1);
  }
}

/** 1, 2, 5, 10, 20, 50, … up to `max`. */
function tokenBounds(max: number): number[] {
  const bounds: number[] = [];
  for (let decade = 1; decade <= max; decade *= 10) {
    for (const step of [1, 2, 5]) if (decade * step <= max) bounds.push(decade * step);
  }
  return bounds;
}
