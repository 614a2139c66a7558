// The gateway's GET /status as plain lists: what is understood of it, bounded; the rest is left out.
import { POOL_ENDPOINTS_MAX, POOLS_MAX } from "../../assembly/wire/limits.ts";
import { STATUS_COUNTERS_MAX } from "../limits.ts";

/** Numeric fields of one pool, and of one endpoint, that are taken over. */
const FIELDS_MAX = 32;
/** Characters of a name. */
const NAME_MAX = 253;

/** Fields that only repeat what the sidecar pushed. */
const ECHOES = new Set([
  "generation",
  "ready",
  "draining",
  "waiting",
  "running",
  "kvUsage",
  "gpuUtilization",
  "gpuMemory",
]);

/** One figure of a pool, or of one of its endpoints, as the gateway counts it. */
export interface StatusFigure {
  readonly pool: string;
  /** "" = of the pool. */
  readonly endpoint: string;
  /** The status field's name, such as `inflightRequests`. */
  readonly field: string;
  /** true and false are 1 and 0. */
  readonly value: number;
}

/** What a status says. */
export interface GatewayStatus {
  readonly figures: readonly StatusFigure[];
  /** Sums over all workers: totals since start, and some figures of the present. */
  readonly counters: readonly { readonly name: string; readonly value: number }[];
  /** Entries that did not fit the limits or were not understood. */
  readonly dropped: number;
}

/**
 * Reads `{pools: [{name, <field>…, endpoints: [{address, <field>…}]}], counters: {name: number}}`. Unknown
 * parts, of a newer gateway say, are left out; so are values that are neither finite numbers nor booleans.
 */
export function readGatewayStatus(status: unknown): GatewayStatus {
  const drops = { count: 0 };
  const figures: StatusFigure[] = [];
  for (const pool of listOf(field(status, "pools"), POOLS_MAX, drops)) {
    const name = nameOf(field(pool, "name"));
    figures.push(...figuresOf(pool, name, name, "", drops));
    for (const endpoint of listOf(field(pool, "endpoints"), POOL_ENDPOINTS_MAX, drops)) {
      const address = nameOf(field(endpoint, "address"));
      figures.push(...figuresOf(endpoint, name === "" ? "" : address, name, address, drops));
    }
  }
  return { figures, counters: readCounters(field(status, "counters"), drops), dropped: drops.count };
}

interface Drops {
  count: number;
}

/** @param key "" = the entry has no name, so its figures would belong to nothing */
function figuresOf(
  entry: unknown,
  key: string,
  pool: string,
  endpoint: string,
  drops: Drops,
): StatusFigure[] {
  if (key === "") {
    drops.count += 1;
    return [];
  }
  const fields = Object.entries(entry as object).flatMap(([name, value]: [string, unknown]) => {
    const number = typeof value === "boolean" ? Number(value) : value;
    return isNumber(number) && name.length <= NAME_MAX && !ECHOES.has(name) ? [{ name, number }] : [];
  });
  drops.count += Math.max(0, fields.length - FIELDS_MAX);
  return fields
    .slice(0, FIELDS_MAX)
    .map(({ name, number }) => ({ pool, endpoint, field: name, value: number }));
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
