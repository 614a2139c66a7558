// The hosts that the override cases send to, and one request through a proxy in front of them.
import { request as httpRequest } from "node:http";
import {
  answer,
  echo,
  refusingAddress,
  reset,
  startUpstream,
  type Behaviour,
  type Received,
  type Upstream,
} from "../envoy/upstream.ts";
import { overrideScript, POOL_HOSTS, type CaseHost, type OverrideCase } from "./override-cases.ts";

const BEHAVIOURS: Readonly<Partial<Record<CaseHost, Behaviour>>> = {
  good: echo,
  other: echo,
  broken: answer(503, "no"),
  resetting: reset("body"),
};

/** Replicas of the cases; `dead` refuses, `stranger` is an address no cluster has. */
export class CaseHosts {
  private readonly servers = new Map<CaseHost, Upstream & { stop(): Promise<void> }>();
  private readonly refusing: { address: string; release(): void }[] = [];
  private readonly addresses = new Map<CaseHost, string>();
  /** Requests on all hosts in the order of their headers. */
  private received: { host: CaseHost; received: Received }[] = [];

  static async start(): Promise<CaseHosts> {
    const hosts = new CaseHosts();
    for (const [name, behaviour] of Object.entries(BEHAVIOURS) as [CaseHost, Behaviour][]) {
      const server = await startUpstream(name, (context) => {
        hosts.received.push({ host: name, received: context.received });
        return behaviour(context);
      });
      hosts.servers.set(name, server);
      hosts.addresses.set(name, server.address);
    }
    for (const name of ["dead", "stranger"] as const) {
      const held = await refusingAddress();
      hosts.refusing.push(held);
      hosts.addresses.set(name, held.address);
    }
    return hosts;
  }

  /** "127.0.0.1:port" of a host. */
  address(host: CaseHost): string {
    return this.addresses.get(host) as string;
  }

  /** Addresses of the cluster `pool`. */
  pool(): string[] {
    return POOL_HOSTS.map((host) => this.address(host));
  }

  /** Hosts that received a request since the last call, in order, and what they saw. */
  takeReceived(): { host: CaseHost; retryHeaders: string[]; body: string }[] {
    const all = this.received;
    this.received = [];
    return all.map(({ host, received }) => ({
      host,
      retryHeaders: Object.keys(received.headers).filter((name) => /^x-envoy-.*retr/.test(name)),
      body: received.body.toString(),
    }));
  }

  async stop(): Promise<void> {
    for (const server of this.servers.values()) await server.stop();
    for (const { release } of this.refusing) release();
  }
}

/** What a case came to. */
export interface CaseOutcome {
  readonly status: number;
  readonly received: readonly CaseHost[];
  /** Bodies the hosts received; each must be whole. */
  readonly bodies: readonly string[];
  /** Retry headers that reached a host; there must be none. */
  readonly retryHeaders: readonly string[];
}

const BODY = "the whole body, again for every attempt";

/** Sends the request of a case through a proxy. */
export async function playCase(
  one: OverrideCase,
  port: number,
  tag: string,
  hosts: CaseHosts,
): Promise<CaseOutcome> {
  const script = overrideScript(one, (host) => hosts.address(host));
  const status = await new Promise<number>((settle, fail) => {
    const request = httpRequest(
      {
        host: "127.0.0.1",
        port,
        method: "POST",
        path: "/probe",
        agent: false,
        headers: { "x-tag": tag, "x-probe": script },
      },
      (response) => {
        response.resume();
        response.on("end", () => settle(response.statusCode ?? 0));
      },
    );
    request.on("error", fail);
    request.end(BODY);
  });
  const received = hosts.takeReceived();
  return {
    status,
    received: received.map(({ host }) => host),
    bodies: received.map(({ body }) => body),
    retryHeaders: received.flatMap(({ retryHeaders }) => retryHeaders),
  };
}

/** What a case must come to. */
export function expectedOutcome(one: OverrideCase): CaseOutcome {
  return {
    status: one.status,
    received: one.received,
    bodies: one.received.map(() => BODY),
    retryHeaders: [],
  };
}

/** The probe's line with the attempt count of a stream. */
export function attemptLine(tag: string, attempts: number): string {
  const bytes = `\\x0${attempts}${"\\x00".repeat(7)}`;
  return `${tag}   prop,upstream/request_attempt_count -> 0 "${bytes}"`;
}
