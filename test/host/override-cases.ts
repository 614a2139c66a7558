// Which hosts a request goes to: override_host's list, unknown entries, retries by header and by route.
// Played on host-sim's data plane and on a real Envoy.
import type { ProbeListener } from "./listeners.ts";

/** Hosts of the cluster `pool`; `stranger` is an address that no cluster has. */
export type CaseHost = "good" | "other" | "broken" | "resetting" | "dead" | "stranger";

/** Hosts that belong to the cluster `pool`, in order. */
export const POOL_HOSTS = [
  "good",
  "other",
  "broken",
  "resetting",
  "dead",
] as const satisfies readonly CaseHost[];

/** One request and where it must go. */
export interface OverrideCase {
  readonly name: string;
  /** `bare` and `solo` have no retry policy on the route, `policy` has one; `solo`'s cluster has `good` alone. */
  readonly listener: "bare" | "policy" | "solo";
  /** The list the filter writes; undefined = none. */
  readonly list?: readonly CaseHost[];
  /** x-envoy-retry-on and x-envoy-max-retries, as the filter writes them. */
  readonly retryOn?: string;
  readonly maxRetries?: number;
  /** What the client gets. */
  readonly status: number;
  /** Hosts that received the request, in order; `dead` never receives. */
  readonly received: readonly CaseHost[];
  /** upstream.request_attempt_count in on_log. */
  readonly attempts: number;
}

/** Listeners of the cases. */
export const OVERRIDE_LISTENERS: readonly ProbeListener[] = [
  { name: "bare", stop: true, cluster: "pool" },
  {
    name: "policy",
    stop: true,
    cluster: "pool",
    retry: { retryOn: "connect-failure,refused-stream,reset", retries: 2, backOffMs: 1 },
  },
  { name: "solo", stop: true, cluster: "solo" },
];

export const OVERRIDE_CASES: readonly OverrideCase[] = [
  {
    name: "the first entry is taken",
    listener: "bare",
    list: ["other", "good"],
    status: 200,
    received: ["other"],
    attempts: 1,
  },
  {
    name: "unknown entries are skipped",
    listener: "bare",
    list: ["stranger", "other"],
    status: 200,
    received: ["other"],
    attempts: 1,
  },
  {
    name: "a list of strangers leaves the choice to the fallback",
    listener: "solo",
    list: ["stranger", "stranger"],
    status: 200,
    received: ["good"],
    attempts: 1,
  },
  {
    name: "no list leaves the choice to the fallback",
    listener: "solo",
    status: 200,
    received: ["good"],
    attempts: 1,
  },
  {
    name: "without a retry condition a refused connection is a 503",
    listener: "bare",
    list: ["dead", "good"],
    status: 503,
    received: [],
    attempts: 1,
  },
  {
    name: "connect-failure by header takes the next entry",
    listener: "bare",
    list: ["dead", "other"],
    retryOn: "connect-failure",
    maxRetries: 2,
    status: 200,
    received: ["other"],
    attempts: 2,
  },
  {
    name: "the number of retries by header is one when not given",
    listener: "bare",
    list: ["dead", "dead", "good"],
    retryOn: "connect-failure",
    status: 503,
    received: [],
    attempts: 2,
  },
  {
    name: "three entries, two retries",
    listener: "bare",
    list: ["dead", "dead", "good"],
    retryOn: "connect-failure",
    maxRetries: 2,
    status: 200,
    received: ["good"],
    attempts: 3,
  },
  {
    name: "connect-failure does not cover a 503 of the host",
    listener: "bare",
    list: ["broken", "good"],
    retryOn: "connect-failure",
    maxRetries: 2,
    status: 503,
    received: ["broken"],
    attempts: 1,
  },
  {
    name: "5xx covers it",
    listener: "bare",
    list: ["broken", "good"],
    retryOn: "5xx",
    maxRetries: 2,
    status: 200,
    received: ["broken", "good"],
    attempts: 2,
  },
  {
    name: "gateway-error covers it",
    listener: "bare",
    list: ["broken", "good"],
    retryOn: "gateway-error",
    maxRetries: 1,
    status: 200,
    received: ["broken", "good"],
    attempts: 2,
  },
  {
    name: "connect-failure does not cover a reset",
    listener: "bare",
    list: ["resetting", "good"],
    retryOn: "connect-failure",
    maxRetries: 2,
    status: 503,
    received: ["resetting"],
    attempts: 1,
  },
  {
    name: "reset covers it",
    listener: "bare",
    list: ["resetting", "good"],
    retryOn: "reset",
    maxRetries: 2,
    status: 200,
    received: ["resetting", "good"],
    attempts: 2,
  },
  {
    name: "the route's policy retries",
    listener: "policy",
    list: ["dead", "resetting", "other"],
    status: 200,
    received: ["resetting", "other"],
    attempts: 3,
  },
  {
    name: "max-retries 0 by header switches the route's retries off",
    listener: "policy",
    list: ["dead", "good"],
    maxRetries: 0,
    status: 503,
    received: [],
    attempts: 1,
  },
  {
    name: "conditions of header and route add up",
    listener: "policy",
    list: ["broken", "dead", "other"],
    retryOn: "5xx",
    status: 200,
    received: ["broken", "other"],
    attempts: 3,
  },
  {
    name: "an unknown condition retries nothing",
    listener: "bare",
    list: ["dead", "good"],
    retryOn: "never",
    maxRetries: 2,
    status: 503,
    received: [],
    attempts: 1,
  },
];

/** The probe's script of a case. @param address where a host is */
export function overrideScript(one: OverrideCase, address: (host: CaseHost) => string): string {
  const commands: string[] = [];
  const put = (name: string, value: string): number =>
    commands.push(`rep,0,${name},${value.replaceAll(",", "%2C")}`);
  if (one.list !== undefined) put("x-gateway-destination-endpoint", one.list.map(address).join(","));
  if (one.retryOn !== undefined) put("x-envoy-retry-on", one.retryOn);
  if (one.maxRetries !== undefined) put("x-envoy-max-retries", String(one.maxRetries));
  return `qh=${commands.join(";")}|log=prop,upstream/request_attempt_count`;
}
