// The gateway's GET /status as plain lists: what is understood of it, bounded; the rest is left out.
import { POOL_ENDPOINTS_MAX, POOLS_MAX } from "../../assembly/wire/limits.ts";
import { STATUS_COUNTERS_MAX } from "../limits.ts";

/** Numeric fields of one endpoint that are taken over. */
const ENDPOINT_FIELDS_MAX = 32;
/** Characters of a name. */
const NAME_MAX = 253;

/** One figure of one endpoint, as the gateway counts it. */
export interface EndpointFigure {
  readonly pool: string;
  readonly endpoint: string;
  /** The status field's name, such as `inflightRequests`. */
  readonly field: string;
  readonly value: number;
}

/** What a status says. */
export interface GatewayStatus {
  readonly figures: readonly EndpointFigure[];
  readonly counters: readonly { readonly name: string; readonly value: number }[];
  /** Entries that did not fit the limits or were not understood. */
  readonly dropped: number;
}

/**
 * Reads `{pools: [{name, endpoints: [{address, <field>: number…}]}], counters: {name: number}}`. Unknown parts, of a
 * newer gateway say, are left out; so are values that are not finite numbers.
 */
export function readGatewayStatus(status: unknown): GatewayStatus {
  const drops = { count: 0 };
  const figures: EndpointFigure[] = [];
  const pools = listOf(field(status, "pools"), POOLS_MAX, drops);
  for (const pool of pools) {
    const name = nameOf(field(pool, "name"));
    const endpoints = listOf(field(pool, "endpoints"), POOL_ENDPOINTS_MAX, drops);
    for (const endpoint of endpoints) figures.push(...endpointFigures(name, endpoint, drops));
  }
  return { figures, counters: readCounters(field(status, "counters"), drops), dropped: drops.count };
}

interface Drops {
  count: number;
}

function endpointFigures(pool: string, endpoint: unknown, drops: Drops): EndpointFigure[] {
  const address = nameOf(field(endpoint, "address"));
  if (pool === "" || address === "") {
    drops.count += 1;
    return [];
  }
  const numbers = Object.entries(endpoint as object).filter((entry): entry is [string, number] =>
    isNumber(entry[1]),
  );
  drops.count += Math.max(0, numbers.length - ENDPOINT_FIELDS_MAX);
  return numbers
    .slice(0, ENDPOINT_FIELDS_MAX)
    .map(([name, value]) => ({ pool, endpoint: address, field: name.slice(0, NAME_MAX), value }));
}

function readCounters(counters: unknown, drops: Drops): GatewayStatus["counters"] {
  if (counters === null || typeof counters !== "object") return [];
  const entries = Object.entries(counters);
  const numbers = entries.filter(
    (entry): entry is [string, number] => isNumber(entry[1]) && entry[0].length <= NAME_MAX,
  );
  const kept = numbers.slice(0, STATUS_COUNTERS_MAX);
  drops.count += entries.length - kept.length;
  return kept.map(([name, value]) => ({ name, value }));
}

function field(value: unknown, name: string): unknown {
  return value !== null && typeof value === "object" ? (value as Record<string, unknown>)[name] : undefined;
}

function listOf(value: unknown, max: number, drops: Drops): readonly unknown[] {
  if (!Array.isArray(value)) return [];
  drops.count += Math.max(0, value.length - max);
  return value.slice(0, max);
}

function nameOf(value: unknown): string {
  return typeof value === "string" && value.length <= NAME_MAX ? value : "";
}

function isNumber(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}
