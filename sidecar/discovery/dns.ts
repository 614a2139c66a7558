// Endpoints from DNS: all addresses of a name (A, AAAA), or the targets of a service (SRV).
import { lookup, Resolver } from "node:dns/promises";
import { POOL_ENDPOINTS_MAX } from "../../assembly/wire/limits.ts";
import { ResolveError } from "../errors.ts";
import { collectEndpoints, type Discovery, type DiscoverySink, type EndpointInput } from "./endpoint.ts";

/** Shortest pause between two queries, whatever the TTL says. */
const DNS_INTERVAL_MIN_MS = 1_000;
/** SRV targets that are resolved; those beyond are left out, like endpoints beyond the pool's limit. */
const SRV_TARGETS_MAX = POOL_ENDPOINTS_MAX;

/** An address and how long it may be kept, seconds. */
export interface ResolvedAddress {
  readonly address: string;
  readonly ttl: number;
}

/** One SRV record. */
export interface ResolvedService {
  readonly name: string;
  readonly port: number;
  readonly priority: number;
}

/** What DNS discovery needs of a resolver; rejects when a name does not exist or no server answers. */
export interface NameResolver {
  addresses(host: string, family: 0 | 4 | 6): Promise<readonly ResolvedAddress[]>;
  services(name: string): Promise<readonly ResolvedService[]>;
}

/** Settings of a DNS source. */
export interface DnsSettings {
  readonly kind: "dns" | "srv";
  /** Host name, or the service name with kind srv (`_http._tcp.vllm.default.svc.cluster.local`). */
  readonly host: string;
  /** Port of the endpoints; SRV records bring their own. */
  readonly port: number;
  /** 0 = IPv4 and IPv6. */
  readonly family: 0 | 4 | 6;
  /** Longest pause between two queries, ms; a shorter TTL shortens it. */
  readonly intervalMs: number;
  /** Labels that each endpoint gets. */
  readonly labels: Readonly<Record<string, string>>;
}

/** The timer, to be replaced in tests. */
export interface DnsTiming {
  readonly intervalMinMs: number;
}

/** Queries over and over; a failed query leaves the last list in force. */
export class DnsDiscovery implements Discovery {
  readonly kind: string;
  private timer: NodeJS.Timeout | null = null;
  private stopped = false;
  private last = "";

  constructor(
    private readonly settings: DnsSettings,
    private readonly resolver: NameResolver = new SystemResolver(),
    private readonly timing: DnsTiming = { intervalMinMs: DNS_INTERVAL_MIN_MS },
  ) {
    this.kind = settings.kind;
  }

  start(sink: DiscoverySink): void {
    void this.query(sink);
  }

  stop(): void {
    this.stopped = true;
    if (this.timer !== null) clearTimeout(this.timer);
  }

  private async query(sink: DiscoverySink): Promise<void> {
    let delayMs = this.timing.intervalMinMs;
    try {
      const found = this.settings.kind === "dns" ? await this.queryHost() : await this.queryService();
      if (this.stopped) return;
      delayMs = Math.max(
        this.timing.intervalMinMs,
        Math.min(this.settings.intervalMs, found.ttlSeconds * 1_000),
      );
      this.report(found.inputs, sink);
    } catch (error) {
      if (this.stopped) return;
      sink.failed(error instanceof ResolveError ? error : new ResolveError(this.settings.host, error));
    }
    this.timer = setTimeout(() => void this.query(sink), delayMs);
  }

  /** Answers rotate: only another set of addresses is a change. */
  private report(inputs: readonly EndpointInput[], sink: DiscoverySink): void {
    const { endpoints, drops } = collectEndpoints(inputs);
    const sorted = [...endpoints].sort((a, b) => (a.address < b.address ? -1 : 1));
    const list = JSON.stringify(sorted);
    if (list === this.last) return;
    this.last = list;
    sink.apply(sorted, { ...drops, duplicates: 0 });
  }

  private async queryHost(): Promise<Answer> {
    const addresses = await this.resolver.addresses(this.settings.host, this.settings.family);
    return {
      inputs: addresses.map((found) => this.input(found.address, this.settings.port)),
      ttlSeconds: shortestTtl(addresses),
    };
  }

  /**
   * RFC 2782: the targets of the lowest priority are meant; the others are for when none of those is
   * reachable.
   */
  private async queryService(): Promise<Answer> {
    const records = await this.resolver.services(this.settings.host);
    const priority = Math.min(...records.map((record) => record.priority));
    const targets = records
      .filter((record) => record.priority === priority)
      .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.port - b.port))
      .slice(0, SRV_TARGETS_MAX);
    const answers = await Promise.all(
      targets.map((target) => this.resolver.addresses(target.name, this.settings.family)),
    );
    const inputs = targets.flatMap((target, index) =>
      answers[index]!.map((found) => this.input(found.address, target.port, target.name)),
    );
    return { inputs, ttlSeconds: shortestTtl(answers.flat()) };
  }

  private input(address: string, port: number, name?: string): EndpointInput {
    return { address, port, name, labels: this.settings.labels };
  }
}

interface Answer {
  readonly inputs: readonly EndpointInput[];
  readonly ttlSeconds: number;
}

function shortestTtl(addresses: readonly ResolvedAddress[]): number {
  return addresses.reduce((shortest, found) => Math.min(shortest, found.ttl), Number.POSITIVE_INFINITY);
}

/** Asks the DNS servers for addresses with their TTL; names only the hosts file knows come from there. */
export class SystemResolver implements NameResolver {
  private readonly resolver = new Resolver({ timeout: 2_000, tries: 2 });

  async addresses(host: string, family: 0 | 4 | 6): Promise<readonly ResolvedAddress[]> {
    const queries: Promise<readonly ResolvedAddress[]>[] = [];
    if (family !== 6) queries.push(this.resolver.resolve4(host, { ttl: true }));
    if (family !== 4) queries.push(this.resolver.resolve6(host, { ttl: true }));
    const answers = await Promise.allSettled(queries);
    const found = answers.flatMap((answer) => (answer.status === "fulfilled" ? [...answer.value] : []));
    // One family may have no records, but a server that did not answer must not look like an empty answer.
    const failed = answers.find((answer) => answer.status === "rejected" && !isNoData(answer.reason));
    if (failed !== undefined && found.length > 0)
      throw new ResolveError(host, (failed as PromiseRejectedResult).reason);
    if (found.length > 0) return found;
    const fromHosts = await lookup(host, { all: true, family });
    return fromHosts.map(({ address }) => ({ address, ttl: Number.POSITIVE_INFINITY }));
  }

  async services(name: string): Promise<readonly ResolvedService[]> {
    return this.resolver.resolveSrv(name);
  }
}

function isNoData(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === "ENODATA" || code === "ENOTFOUND";
}
