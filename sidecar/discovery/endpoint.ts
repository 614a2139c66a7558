// What discovery knows of one endpoint, and what it has in common over all sources.
import { isIPv4, isIPv6, SocketAddress } from "node:net";
import { ROLE_DECODE, ROLE_ENCODE, ROLE_PREFILL } from "../../assembly/wire/snapshot.ts";
import { ADDRESS_BYTES_MAX, LABELS_MAX } from "../../assembly/wire/limits.ts";
import { ENDPOINT_NAME_BYTES_MAX, LABEL_BYTES_MAX } from "../limits.ts";
import type { PoolPolicy } from "../policy.ts";

/** Label whose value is the endpoint's role (llm-d). */
export const ROLE_LABEL = "llm-d.ai/role";

/** One model server. Immutable: a change is another object. */
export interface Endpoint {
  /** "ip:port", IPv6 in brackets: as Envoy writes it, and the key of the endpoint everywhere. */
  readonly address: string;
  readonly ip: string;
  readonly port: number;
  /** Name for people and logs; also the pod name that DCGM's lines are joined by. */
  readonly name: string;
  readonly namespace: string;
  /** IP of the machine it runs on; "" = unknown. */
  readonly nodeAddress: string;
  readonly labels: readonly (readonly [string, string])[];
  /** ROLE_* bits, from the role label. */
  readonly roles: number;
  /** Data-parallel rank; null = none. */
  readonly rank: number | null;
  /** It keeps its streams and gets no new ones. */
  readonly draining: boolean;
}

/** What a source has to say about an endpoint. */
export interface EndpointInput {
  readonly address: string;
  readonly port: number;
  readonly name?: string | undefined;
  readonly namespace?: string | undefined;
  readonly nodeAddress?: string | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
  readonly rank?: number | undefined;
  readonly draining?: boolean | undefined;
}

/** Roles of llm-d's label values; other values have none, and such an endpoint is never picked by role. */
const ROLES: ReadonlyMap<string, number> = new Map([
  ["decode", ROLE_DECODE],
  ["prefill", ROLE_PREFILL],
  ["encode", ROLE_ENCODE],
  ["prefill-decode", ROLE_PREFILL | ROLE_DECODE],
  ["both", ROLE_PREFILL | ROLE_DECODE],
  ["encode-prefill", ROLE_ENCODE | ROLE_PREFILL],
  ["encode-prefill-decode", ROLE_ENCODE | ROLE_PREFILL | ROLE_DECODE],
]);

/** Label values that are roles, for messages. */
export const ROLE_VALUES = [...ROLES.keys()].join(", ");

/**
 * Roles of a label value; without the label, decode (llm-d-router
 * pkg/epp/framework/plugins/scheduling/filter/bylabel).
 */
export function rolesOf(label: string | undefined): number {
  return label === undefined ? ROLE_DECODE : (ROLES.get(label) ?? 0);
}

/**
 * An IP address in the spelling that Envoy uses (inet_ntop); null when the text is not an IP address.
 */
export function canonicalIp(text: string): string | null {
  if (isIPv4(text)) return text;
  if (!isIPv6(text)) return null;
  const zone = text.indexOf("%");
  // The gateway takes no other characters in an address.
  if (zone >= 0 && !/^%[A-Za-z0-9.]+$/.test(text.slice(zone))) return null;
  const bare = zone < 0 ? text : text.slice(0, zone);
  return new SocketAddress({ address: bare, family: "ipv6" }).address + (zone < 0 ? "" : text.slice(zone));
}

/**
 * Checks an endpoint and gives it its key.
 * @returns the endpoint, or what is wrong with it: field, value, expectation
 */
export function makeEndpoint(input: EndpointInput): Endpoint | string {
  const ip = canonicalIp(input.address);
  if (ip === null)
    return `address: ${JSON.stringify(input.address)} is not an IP address (names need DNS discovery)`;
  if (!Number.isInteger(input.port) || input.port < 1 || input.port > 65_535) {
    return `port: ${JSON.stringify(input.port)} is not a whole number from 1 to 65535`;
  }
  const address = ip.includes(":") ? `[${ip}]:${input.port}` : `${ip}:${input.port}`;
  if (address.length > ADDRESS_BYTES_MAX) return `address: ${JSON.stringify(address)} is too long`;
  const name = input.name === undefined || input.name === "" ? address : input.name;
  if (Buffer.byteLength(name) > ENDPOINT_NAME_BYTES_MAX) {
    return `name: ${JSON.stringify(name.slice(0, 40))}… is longer than ${ENDPOINT_NAME_BYTES_MAX} bytes`;
  }
  const labels = input.labels ?? {};
  return {
    address,
    ip,
    port: input.port,
    name,
    namespace: input.namespace ?? "",
    nodeAddress: input.nodeAddress ?? "",
    labels: keptLabels(labels),
    roles: rolesOf(labels[ROLE_LABEL]),
    rank: input.rank ?? null,
    draining: input.draining ?? false,
  };
}

/** The labels that fit: at most LABELS_MAX, llm-d's own first, none longer than LABEL_BYTES_MAX. */
function keptLabels(labels: Readonly<Record<string, string>>): readonly (readonly [string, string])[] {
  const fitting = Object.entries(labels).filter(
    ([key, value]) =>
      Buffer.byteLength(key) <= LABEL_BYTES_MAX && Buffer.byteLength(value) <= LABEL_BYTES_MAX,
  );
  const own = (key: string): number => (key.startsWith("llm-d.ai/") ? 0 : 1);
  fitting.sort(([a], [b]) => own(a) - own(b) || (a < b ? -1 : 1));
  return fitting.slice(0, LABELS_MAX);
}

/** How many of an input's labels `makeEndpoint` leaves out. */
export function droppedLabels(input: EndpointInput, endpoint: Endpoint): number {
  return Object.keys(input.labels ?? {}).length - endpoint.labels.length;
}

/** The value of one label, or undefined. */
export function labelOf(endpoint: Endpoint, key: string): string | undefined {
  for (const [name, value] of endpoint.labels) if (name === key) return value;
  return undefined;
}

/** Whether two descriptions of one address say the same. */
export function sameEndpoint(a: Endpoint, b: Endpoint): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/**
 * A source of endpoints. Static lists, files and DNS are the sources here; Kubernetes informers are another.
 *
 * A source calls `apply` with its whole list whenever that changed, and once at the start even if it is
 * empty; it calls `failed` when it could not learn the present list, in which case the list it gave last
 * stays in force.
 */
export interface Discovery {
  readonly kind: string;
  /** Whether a policy will come: the first snapshot waits for it a moment. */
  readonly hasPolicy?: boolean;
  start(sink: DiscoverySink): void;
  stop(): void;
  /** Counts by name, for metrics, where a source has any. */
  figures?(): ReadonlyMap<string, number>;
}

/** Takes what a source finds. */
export interface DiscoverySink {
  apply(endpoints: readonly Endpoint[], dropped: DiscoveryDrops): void;
  failed(error: Error): void;
  /**
   * The pool's policy, from sources that know it, whenever it changed.
   * @param policy null = it could not be read yet
   * @param error why it may be out of date; null = it is not. Endpoints do not depend on it.
   */
  policy?(policy: PoolPolicy | null, error: Error | null): void;
}

/** What a source left out of its list. */
export interface DiscoveryDrops {
  /** Entries with the address of an earlier one. */
  readonly duplicates: number;
  /** Labels that did not fit. */
  readonly labels: number;
}

/** Makes the endpoints of a list, first come first served by address. */
export function collectEndpoints(inputs: readonly EndpointInput[]): {
  readonly endpoints: readonly Endpoint[];
  readonly drops: DiscoveryDrops;
  readonly issues: readonly string[];
} {
  const endpoints = new Map<string, Endpoint>();
  const issues: string[] = [];
  let duplicates = 0;
  let labels = 0;
  inputs.forEach((input, index) => {
    const endpoint = makeEndpoint(input);
    if (typeof endpoint === "string") {
      issues.push(`endpoints[${index}].${endpoint}`);
    } else if (endpoints.has(endpoint.address)) {
      duplicates += 1;
    } else {
      endpoints.set(endpoint.address, endpoint);
      labels += droppedLabels(input, endpoint);
    }
  });
  return { endpoints: [...endpoints.values()], drops: { duplicates, labels }, issues };
}
