// Options that readers and generators have in common, and their limits.
import { REQUESTS_MAX } from "../check-run.ts";
import { SourceOptionsError } from "./errors.ts";

/** Tokens of one prompt, and of one answer. */
export const REQUEST_TOKENS_MAX = 10_000_000;
/** What a request asks for unless a source says otherwise. */
export const DEFAULT_MODEL = "meta-llama/Llama-3.3-70B-Instruct";

/** How a trace is replayed. */
export interface TraceOptions {
  /** Of all that is drawn; 1 unless given. */
  readonly seed?: number;
  /** Times as many requests a second as recorded: times are divided by it. 1 unless given, > 0. */
  readonly rateFactor?: number;
  /** Only the first so many rows; REQUESTS_MAX, which no run exceeds, unless given. */
  readonly requests?: number;
  /** Model that the requests name. */
  readonly model?: string;
}

/** The options with defaults filled in. Throws SourceOptionsError. */
export function checkedTraceOptions(options: TraceOptions): Required<TraceOptions> {
  const { seed = 1, rateFactor = 1, requests = REQUESTS_MAX, model = DEFAULT_MODEL } = options;
  checkSeed(seed);
  checkPositive("rateFactor", rateFactor);
  checkInteger("requests", requests, 1, REQUESTS_MAX);
  return { seed, rateFactor, requests, model };
}

export function checkSeed(seed: number): void {
  checkInteger("seed", seed, 0, 0xffff_ffff);
}

export function checkInteger(option: string, value: number, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new SourceOptionsError(option, value, `an integer from ${min} to ${max}`);
}

export function checkPositive(option: string, value: number): void {
  if (!(value > 0 && Number.isFinite(value))) throw new SourceOptionsError(option, value, "a number > 0");
}
