// Which servers to run the gateway over: from --endpoints or from a fleet file.
import { lookup } from "node:dns/promises";
import { readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { dirname, resolve } from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { POOL_ENDPOINTS_MAX } from "../assembly/wire/limits.ts";
import { fields, issueLines } from "../sidecar/config/issues.ts";
import { endpointDetails, poolFields, portConfig } from "../sidecar/config/schema.ts";
import { staticNotes } from "../sidecar/discovery/label-notes.ts";
import { parseEndpoint } from "./envoy-config.ts";

/** One server: address and what the sidecar is told besides. */
export interface FleetEndpoint {
  /** IP address, IPv6 without brackets. */
  readonly address: string;
  readonly port: number;
  readonly labels?: Readonly<Record<string, string>>;
  readonly [field: string]: unknown;
}

/** What a gateway is run over. */
export interface Fleet {
  readonly endpoints: readonly FleetEndpoint[];
  /** EndpointPickerConfig as JSON text; undefined = the filter's default. */
  readonly pickerConfig: string | undefined;
  /** Further fields of the sidecar's pool: scrape, models, engines, dcgm, scaling, kvEvents. */
  readonly sidecarPool: Readonly<Record<string, unknown>>;
}

/** The fleet cannot be used; the message names the field and the offending value. */
export class FleetConfigError extends Error {
  readonly code = "bad_fleet_config";
}

const endpoint = z.union([
  z.string(),
  fields({
    address: z.string(),
    port: portConfig,
    ...endpointDetails,
    labels: z.record(z.string(), z.coerce.string()).optional(),
  }),
]);
const endpointList = z
  .array(endpoint)
  .min(1, "expected at least one endpoint")
  .max(POOL_ENDPOINTS_MAX, `expected at most ${POOL_ENDPOINTS_MAX} endpoints`);

const pickerDocument = z.looseObject({
  kind: z.literal("EndpointPickerConfig"),
  plugins: z
    .array(z.looseObject({ type: z.string(), parameters: z.record(z.string(), z.unknown()).optional() }))
    .default([]),
});

const { scrape, models, engines, dcgm, scaling, kvEvents } = poolFields;
const fleetDocument = fields({
  endpoints: endpointList,
  picker: pickerDocument.optional(),
  sidecar: fields({
    scrape: scrape.optional(),
    models: models.optional(),
    engines: engines.optional(),
    dcgm,
    scaling: scaling.optional(),
    kvEvents,
  }).optional(),
});

const endpointsDocument = fields({ endpoints: endpointList });

/** Servers from a list "host:port,host:port". @throws FleetConfigError */
export async function fleetFromList(list: string): Promise<Fleet> {
  const entries = list.split(",").map((text) => text.trim());
  const endpoints = await resolveEndpoints(check(endpointList, entries, "--endpoints"));
  return { endpoints, pickerConfig: undefined, sidecarPool: {} };
}

/**
 * Servers from a YAML file: either ours (`endpoints`, `picker`, `sidecar`) or an EndpointPickerConfig with a
 * file-discovery plugin, whose endpoints file is read once.
 * @throws FleetConfigError
 */
export async function fleetFromFile(path: string): Promise<Fleet> {
  const document = await readYaml(path);
  if ((document as { kind?: unknown } | null)?.kind === "EndpointPickerConfig") {
    return fleetFromPicker(check(pickerDocument, document, path), path);
  }
  const { endpoints, picker } = check(fleetDocument, document, path);
  const { sidecar } = document as { sidecar?: Fleet["sidecarPool"] };
  return {
    endpoints: await resolveEndpoints(endpoints),
    pickerConfig: picker === undefined ? undefined : JSON.stringify(picker),
    sidecarPool: sidecar ?? {},
  };
}

/** What is wrong with a parsed fleet file, "field: value: expectation" each; no name is looked up. */
export function fleetFaults(document: unknown): string[] {
  const checked = fleetDocument.safeParse(document);
  if (!checked.success) return issueLines(checked.error, document);
  return checked.data.endpoints.flatMap((entry, index) => {
    try {
      splitEntry(entry);
      return [];
    } catch (error) {
      return [`endpoints[${index}]: ${(error as Error).message}`];
    }
  });
}

/** What of a fleet file's endpoints will have no effect; the file has no faults. */
export function fleetNotes(document: unknown): string[] {
  const { endpoints } = fleetDocument.parse(document);
  const known = endpoints.map((entry) => {
    const { host, port, rest } = splitEntry(entry);
    return { ...rest, address: isIP(host) === 0 ? "127.0.0.1" : host, port };
  });
  return staticNotes(known, "endpoints");
}

async function fleetFromPicker(picker: z.output<typeof pickerDocument>, path: string): Promise<Fleet> {
  const discovery = picker.plugins.find(({ type }) => type === "file-discovery");
  const file = discovery?.parameters?.["path"];
  if (typeof file !== "string") {
    throw new FleetConfigError(`${path}: plugins: expected a file-discovery plugin with a path`);
  }
  const listPath = resolve(dirname(path), file);
  const { endpoints } = check(endpointsDocument, await readYaml(listPath), listPath);
  return {
    endpoints: await resolveEndpoints(endpoints),
    pickerConfig: JSON.stringify(picker),
    sidecarPool: {},
  };
}

async function readYaml(path: string): Promise<unknown> {
  try {
    return parse(await readFile(path, "utf8"), { maxAliasCount: 100 });
  } catch (error) {
    throw new FleetConfigError(`${path}: ${(error as Error).message}`);
  }
}

function check<T extends z.ZodType>(schema: T, value: unknown, where: string): z.output<T> {
  const checked = schema.safeParse(value);
  if (checked.success) return checked.data;
  throw new FleetConfigError([`${where} is not valid:`, ...issueLines(checked.error, value)].join("\n  "));
}

/** Every entry with an IP address; a name stands for all addresses that it has now. */
async function resolveEndpoints(entries: z.output<typeof endpointList>): Promise<FleetEndpoint[]> {
  const resolved: FleetEndpoint[] = [];
  for (const entry of entries) {
    const { host, port, rest } = splitEntry(entry);
    for (const address of await addressesOf(host)) resolved.push({ ...rest, address, port });
  }
  if (resolved.length > POOL_ENDPOINTS_MAX) {
    throw new FleetConfigError(`${resolved.length} endpoints, expected at most ${POOL_ENDPOINTS_MAX}`);
  }
  return resolved;
}

function splitEntry(entry: z.output<typeof endpoint>): { host: string; port: number; rest: object } {
  if (typeof entry !== "string") {
    const { address, port, ...rest } = entry;
    return { host: address, port, rest };
  }
  try {
    return { ...parseEndpoint(entry), rest: {} };
  } catch (error) {
    throw new FleetConfigError((error as Error).message);
  }
}

async function addressesOf(host: string): Promise<string[]> {
  if (isIP(host) !== 0) return [host];
  try {
    return (await lookup(host, { all: true })).map(({ address }) => address);
  } catch (error) {
    throw new FleetConfigError(`${host}: ${(error as Error).message}`);
  }
}

/** "ip:port", with brackets around IPv6. */
export function addressText({ address, port }: FleetEndpoint): string {
  return isIP(address) === 6 ? `[${address}]:${port}` : `${address}:${port}`;
}
