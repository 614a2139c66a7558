// What a client saw of one request.
import type { RequestKind } from "./types.ts";

/** Ways in which a request can go wrong, as far as a client can tell them apart. */
export type FailureKind =
  | "connect"
  | "reset"
  | "timeout"
  | "http-4xx"
  | "http-5xx"
  | "stream-error"
  | "incomplete"
  | "wrong-answer"
  | "overload";

/** Outcome of one request. Times are milliseconds. */
export interface RequestResult {
  readonly index: number;
  readonly kind: RequestKind;
  readonly session: string;
  readonly turn: number;
  /** When it was sent, and by how much later than planned. */
  readonly sentMs: number;
  readonly lateMs: number;
  /** Sent until the first `data:` that carries text; NaN if none came. */
  readonly timeToFirstTokenMs: number;
  /** Sent until the end of the response; NaN if it failed. */
  readonly endToEndMs: number;
  /** Mean time between tokens after the first; NaN for less than two. */
  readonly timePerTokenMs: number;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly outputTokens: number;
  /** Replica that answered (`x-served-by`, else `system_fingerprint`), "" if unknown. */
  readonly servedBy: string;
  readonly status: number;
  readonly failure: FailureKind | null;
  readonly failureDetail: string;
}
