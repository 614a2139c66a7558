// What GET /status says, as types, and the two questions the tests ask it: who is where, and is everything given back.
import { request } from "undici";
import { type Gateway, until } from "./harness.ts";

export interface EndpointStatus {
  readonly address: string;
  readonly name: string;
  readonly generation: number;
  readonly ready: boolean;
  readonly draining: boolean;
  readonly setAside: boolean;
  readonly failures: number;
  readonly inflightRequests: number;
  readonly inflightTokens: number;
  /** Null: never published, or ignored for its age. */
  readonly waiting: number | null;
  readonly running: number | null;
  readonly kvUsage: number | null;
}

export interface PoolStatus {
  readonly name: string;
  readonly snapshotAgeMs: number | null;
  readonly loadIgnored: boolean;
  readonly readyEndpoints: number;
  readonly bytesPerToken: number;
  /** Of the worker that answers; null before its first request. */
  readonly meanUncachedTokens: number | null;
  readonly endpoints: readonly EndpointStatus[];
}

export interface Status {
  readonly version: number;
  readonly workers: number;
  readonly counters: Readonly<Record<string, number>>;
  readonly pools: readonly PoolStatus[];
  readonly truncated: boolean;
}

/** Figures of the present that are zero when no request is in the gateway. */
export const HELD = ["streams", "inflightRequests", "inflightTokens", "chainPages"] as const;

/** The first pool's endpoint of that address or name. */
export async function endpointStatus(gateway: Gateway, name: string): Promise<EndpointStatus> {
  const { pools } = await gateway.status<Status>();
  const endpoint = pools[0]?.endpoints.find((one) => one.name === name || one.address === name);
  if (endpoint === undefined) throw new Error(`GET /status knows no endpoint ${name}`);
  return endpoint;
}

/** Requests that Envoy itself counted on the inference listener; a listener that was replaced and drained takes its own away. */
async function requestsOfEnvoy(gateway: Gateway): Promise<number> {
  const filter = "^http.inference(_\\d%2B)?.downstream_rq_total$";
  const { body } = await request(`${gateway.envoy.adminUrl}/stats?filter=${filter}`);
  return [...(await body.text()).matchAll(/: (\d+)/g)].reduce((sum, [, count]) => sum + Number(count), 0);
}

/**
 * Waits until the workers' figures cover every request that Envoy has seen, and nothing is held any more.
 * Fails with the last status when something stays held. Returns that status.
 */
export async function settled(gateway: Gateway): Promise<Status> {
  let status: Status | undefined;
  const isSettled = async (): Promise<Status | undefined> => {
    const seen = await requestsOfEnvoy(gateway);
    status = await gateway.status<Status>();
    const { counters } = status;
    return counters["requests"]! >= seen && HELD.every((name) => counters[name] === 0) ? status : undefined;
  };
  try {
    return await until("every request counted and nothing held", isSettled);
  } catch (error) {
    throw new Error(`still held: ${JSON.stringify(status?.counters)}`, { cause: error });
  }
}
