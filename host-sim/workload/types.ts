// A planned load: what is sent when, and what is expected back.

/** Sorts of clients in a workload. */
export const REQUEST_KINDS = ["chat", "agent", "document", "one-off"] as const;
export type RequestKind = (typeof REQUEST_KINDS)[number];

/**
 * One request of a plan. Equal for every policy that is compared: also its arrival does not depend on
 * answers.
 */
export interface PlannedRequest {
  /** Position in the plan, from 0. */
  readonly index: number;
  /** Milliseconds from the start of the load. */
  readonly atMs: number;
  readonly kind: RequestKind;
  /** Requests of one conversation, agent task or document share it. */
  readonly session: string;
  /** Position in its session, from 0. */
  readonly turn: number;
  readonly path: "/v1/chat/completions";
  /** JSON. */
  readonly body: string;
  readonly promptTokens: number;
  readonly outputTokens: number;
  /**
   * What a simulated server generates; later turns carry it. An answer that differs was damaged on its way.
   */
  readonly answer: string;
}

/** How a workload is drawn. Shares are of requests and add up to 1. */
export interface WorkloadOptions {
  readonly seed: number;
  readonly requests: number;
  /** Mean arrivals a second of the Poisson process. */
  readonly ratePerSecond: number;
  readonly model: string;
  readonly shares: Readonly<Record<RequestKind, number>>;
}
