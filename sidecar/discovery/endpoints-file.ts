// Parses an endpoints file in the shape of llm-d's file-discovery: YAML or JSON, checked as a whole.
import { parse } from "yaml";
import { z } from "zod";
import { fields, issueLines } from "../config/issues.ts";
import { EndpointsFileError } from "../errors.ts";
import { ENDPOINTS_FILE_BYTES_MAX } from "../limits.ts";
import { collectEndpoints, type DiscoveryDrops, type Endpoint } from "./endpoint.ts";

const portSchema = z.union([z.int(), z.string().regex(/^\d{1,5}$/, "expected a port number")]);

/** A label written without quotes may be a YAML number or boolean: its text is meant. */
const labelSchema = z.union([z.string(), z.number(), z.boolean()]);

const entrySchema = fields({
  name: z.string().optional(),
  namespace: z.string().optional(),
  address: z.string(),
  port: portSchema,
  labels: z.record(z.string(), labelSchema).nullish(),
  nodeAddress: z.string().optional(),
  rank: z.int().min(0).max(65_535).optional(),
});

const fileSchema = fields({ endpoints: z.array(entrySchema).nullish() });

/** What a good file says. */
export interface EndpointsFile {
  readonly endpoints: readonly Endpoint[];
  readonly drops: DiscoveryDrops;
}

/**
 * Parses the text of an endpoints file. One bad entry makes the whole file bad: half a list would take away
 * endpoints that a later, corrected file has again, and with them what the gateways know of their caches.
 * @param path for messages only
 * @throws EndpointsFileError naming each bad entry
 * @see llm-d-router pkg/epp/framework/plugins/datalayer/discovery/file; `nodeAddress` and `rank` are ours
 */
export function parseEndpointsFile(text: string, path: string): EndpointsFile {
  if (Buffer.byteLength(text) > ENDPOINTS_FILE_BYTES_MAX) {
    throw new EndpointsFileError(path, [`it has more than ${ENDPOINTS_FILE_BYTES_MAX} bytes`]);
  }
  let document: unknown;
  try {
    document = parse(text, { maxAliasCount: 100 });
  } catch (error) {
    throw new EndpointsFileError(path, [(error as Error).message.split("\n")[0]!]);
  }
  const checked = fileSchema.safeParse(document);
  if (!checked.success) throw new EndpointsFileError(path, issueLines(checked.error, document));
  const entries = checked.data.endpoints ?? [];
  const { endpoints, drops, issues } = collectEndpoints(
    entries.map((entry) => ({ ...entry, port: Number(entry.port), labels: texts(entry.labels ?? {}) })),
  );
  if (issues.length > 0) throw new EndpointsFileError(path, issues);
  return { endpoints, drops };
}

function texts(labels: Readonly<Record<string, string | number | boolean>>): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).map(([key, value]) => [key, String(value)]));
}
