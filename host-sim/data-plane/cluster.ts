// The hosts of the upstream cluster: override_host's list, and the policies that choose without one.
import { Agent } from "node:http";
import { isIP } from "node:net";
import { EndpointError } from "./errors.ts";

/** Who chooses when there is no list, or it is used up. */
export type LoadPolicy = "round_robin" | "least_request";

/** Idle connections live shorter than the servers' keep-alive (uvicorn closes after 5 s), or a request races it. */
const IDLE_CONNECTION_MS = 4_000;
/** Choices among which least_request takes the idlest (Envoy's `choice_count` default). */
const LEAST_REQUEST_CHOICES = 2;
/** Tries to find a host that no earlier attempt used (`host_selection_retry_max_attempts`). */
const RESELECT_ATTEMPTS = 3;

/** One host with its connections. */
export class UpstreamHost {
  /** Requests sent and not yet answered to the end. */
  active = 0;
  readonly agent = new Agent({ keepAlive: true, timeout: IDLE_CONNECTION_MS });

  constructor(
    /** "ip:port", IPv6 in brackets. */
    readonly address: string,
    readonly hostname: string,
    readonly port: number,
  ) {}
}

/** Splits "host:port" or "[ipv6]:port". @throws EndpointError */
export function parseAddress(text: string): { hostname: string; port: number } {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]\s/]+)):(\d{1,5})$/.exec(text);
  const hostname = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (hostname === undefined || port < 1 || port > 65_535) throw new EndpointError(text);
  if (match?.[1] !== undefined && isIP(hostname) !== 6) throw new EndpointError(text);
  return { hostname, port };
}

/** The hosts, in the order they were given. */
export class Cluster {
  private hosts: UpstreamHost[] = [];
  private readonly byAddress = new Map<string, UpstreamHost>();
  private next = 0;

  /** @param random for least_request's choices, in [0, 1) */
  constructor(
    addresses: readonly string[],
    private readonly policy: LoadPolicy,
    private readonly random: () => number = Math.random,
  ) {
    this.set(addresses);
  }

  /** Replaces the hosts; those that stay keep their connections and counts. @throws EndpointError */
  set(addresses: readonly string[]): void {
    const wanted = addresses.map((address) => ({ address, ...parseAddress(address) }));
    this.hosts = wanted.map(
      ({ address, hostname, port }) =>
        this.byAddress.get(address) ?? new UpstreamHost(address, hostname, port),
    );
    const kept = new Set(this.hosts);
    for (const host of this.byAddress.values()) if (!kept.has(host)) host.agent.destroy();
    this.byAddress.clear();
    for (const host of this.hosts) this.byAddress.set(host.address, host);
  }

  /** Number of hosts. */
  get size(): number {
    return this.hosts.length;
  }

  /** The host of an address, undefined when the cluster does not have it. */
  find(address: string): UpstreamHost | undefined {
    return this.byAddress.get(address);
  }

  /** Chooses by policy, preferring a host that is not in `tried`. Undefined when there are no hosts. */
  choose(tried: ReadonlySet<UpstreamHost>): UpstreamHost | undefined {
    let host = this.chooseOnce();
    for (let again = 0; again < RESELECT_ATTEMPTS && host !== undefined && tried.has(host); again++) {
      host = this.chooseOnce();
    }
    return host;
  }

  /** Ends all idle connections. */
  close(): void {
    for (const host of this.hosts) host.agent.destroy();
  }

  private chooseOnce(): UpstreamHost | undefined {
    if (this.hosts.length === 0) return undefined;
    if (this.policy === "round_robin") return this.hosts[this.next++ % this.hosts.length];
    let best: UpstreamHost | undefined;
    for (let choice = 0; choice < LEAST_REQUEST_CHOICES; choice++) {
      const host = this.hosts[Math.floor(this.random() * this.hosts.length)] as UpstreamHost;
      if (best === undefined || host.active < best.active) best = host;
    }
    return best;
  }
}

/**
 * The list a header gives, consumed entry by entry: one attempt takes the next entry that the cluster knows; when
 * none is left the policy chooses (Envoy source/extensions/load_balancing_policies/override_host).
 */
export class OverrideList {
  private readonly entries: readonly string[];
  private position = 0;

  /** @param header first value of the header, undefined when absent */
  constructor(header: string | undefined) {
    this.entries = header === undefined ? [] : header.split(",").map((entry) => entry.trim());
  }

  /** The host of the next attempt; undefined when the cluster has no host at all. */
  take(cluster: Cluster, tried: ReadonlySet<UpstreamHost>): UpstreamHost | undefined {
    while (this.position < this.entries.length) {
      const host = cluster.find(this.entries[this.position++] as string);
      if (host !== undefined) return host;
    }
    return cluster.choose(tried);
  }
}
