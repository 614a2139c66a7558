// When a request goes to another host: the route's retry policy together with the x-envoy-* request headers.
import type { HeaderMap } from "../host/index.ts";

/** How an attempt failed before response headers, or the status it answered with. */
export type AttemptFailure = "connect-failure" | "reset" | { readonly status: number };

/** Retry settings of the route. */
export interface RouteRetry {
  /** Conditions, separated by commas. */
  readonly retryOn: string;
  readonly retries: number;
  /** Upper bound of the random wait before the first retry, ms; it doubles up to ten times that. */
  readonly backOffMs: number;
}

/** Retries when nothing says how many. */
const RETRIES_DEFAULT = 1;
/** Envoy's default base of the back-off, ms, and how many times it the back-off may reach. */
const BACK_OFF_MS = 25;
const BACK_OFF_GROWTH_MAX = 10;
/** Request headers that steer retries; the router takes them off (Envoy source/common/router/retry_state_impl.cc). */
const RETRY_HEADERS = ["x-envoy-retry-on", "x-envoy-retry-grpc-on", "x-envoy-max-retries"];

/** The retries one request has left. */
export class RetryBudget {
  private readonly conditions: ReadonlySet<string>;
  private readonly baseMs: number;
  private left: number;
  private retries = 0;

  /** Reads the policy and the request's headers, which it removes. */
  constructor(route: RouteRetry | undefined, headers: HeaderMap) {
    const named = `${route?.retryOn ?? ""},${headers.get("x-envoy-retry-on") ?? ""}`.split(",");
    this.conditions = new Set(named.map((one) => one.trim()).filter((one) => one !== ""));
    const asked = headers.get("x-envoy-max-retries");
    const count =
      asked !== undefined && /^\d+$/.test(asked) ? Number(asked) : (route?.retries ?? RETRIES_DEFAULT);
    this.left = this.conditions.size === 0 ? 0 : count;
    this.baseMs = route?.backOffMs ?? BACK_OFF_MS;
    for (const name of RETRY_HEADERS) headers.remove(name);
  }

  /** True when a condition covers the failure, whether or not a retry is left. */
  covers(failure: AttemptFailure): boolean {
    const has = (condition: string): boolean => this.conditions.has(condition);
    if (failure === "connect-failure")
      return has("connect-failure") || has("reset") || has("5xx") || has("gateway-error");
    if (failure === "reset") return has("reset") || has("5xx") || has("gateway-error");
    if (failure.status >= 500 && has("5xx")) return true;
    return failure.status >= 502 && failure.status <= 504 && has("gateway-error");
  }

  /** Takes a retry for the failure. @returns ms to wait before it, or null when there is none */
  take(failure: AttemptFailure, random: () => number): number | null {
    if (this.left === 0 || !this.covers(failure)) return null;
    this.left--;
    const bound = Math.min(this.baseMs * 2 ** this.retries++, this.baseMs * BACK_OFF_GROWTH_MAX);
    return random() * bound;
  }
}
