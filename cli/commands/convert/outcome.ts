// What became of each part of a deployment that is converted: nothing is left without an entry.

/**
 * kept: it is in the new files. not-needed: nothing of ours needs it, and nothing changes for want of it.
 * dropped: it did something that does not happen any more.
 */
export type Verdict = "kept" | "not-needed" | "dropped";

/** The fate of one field, flag or object. */
export interface Outcome {
  readonly verdict: Verdict;
  /** Where it stood: "plugins[2] latency-scorer", "--grpc-port", "Service llm-epp". */
  readonly what: string;
  readonly why: string;
}

/** Collects outcomes in the order in which parts are met. */
export class Outcomes {
  readonly all: Outcome[] = [];

  add(what: string, verdict: Verdict, why: string): void {
    this.all.push({ verdict, what, why });
  }
  kept(what: string, why: string): void {
    this.add(what, "kept", why);
  }
  notNeeded(what: string, why: string): void {
    this.add(what, "not-needed", why);
  }
  dropped(what: string, why: string): void {
    this.add(what, "dropped", why);
  }
}

/** The input holds nothing that can be converted. */
export class ConversionError extends Error {
  readonly code = "nothing_to_convert";
}

/** Why a selector is refused, and what comes nearest. */
export const SETS_REFUSED =
  "sets of several values, != and existence are not supported; the nearest is one label that says it, given to the pods";
