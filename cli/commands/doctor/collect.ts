// Fetches what doctor judges: Envoy's admin pages, the control listener's status, the sidecar's readiness.
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { ControlClient } from "../../../sidecar/push/control-client.ts";
import { ControlRefusedError, messageOf } from "../../../sidecar/errors.ts";
import { request } from "undici";
import { WASM_PATH } from "../../envoy.ts";
import { at, list } from "../documents.ts";
import { type GatewayView, number, readConfigDump } from "./gateway-view.ts";

/** Each page must come within this. */
const TIMEOUT_MS = 5_000;
/** A dump of a large mesh has some 10 MB. */
const PAGE_BYTES_MAX = 256 * 1_048_576;

/** Where to look. */
export interface Places {
  /** Base URL of Envoy's admin listener. */
  readonly admin: string;
  /** Base URL of the sidecar's HTTP server; undefined = not looked at. */
  readonly sidecar?: string | undefined;
  /** Control listener: a socket's path or http://address:port; undefined = as Envoy's configuration has it. */
  readonly control?: string | undefined;
  /** Bearer token of the control listener; "" = none. */
  readonly token: string;
}

/** A page that could not be had, or its content. */
export type Page<T> = { readonly value: T } | { readonly failure: string };

/** `answered`: the HTTP status of an answer that is none of ours. */
export type ControlStatus = (Page<unknown> & { readonly answered?: number }) & { readonly target: string };

/** Everything that is judged. */
export interface Observation {
  /** Envoy's version, such as "1.36.4". */
  readonly version: string;
  readonly view: GatewayView;
  /** Statistics by their full names. */
  readonly stats: ReadonlyMap<string, number>;
  /** GET /status of the control listener; null = there is none to ask. */
  readonly status: ControlStatus | null;
  /** The sidecar's /readyz; null = not asked for. */
  readonly readiness: Page<{ readonly status: number; readonly body: unknown }> | null;
  /** Of the epp.wasm that is shipped with this command; null = it is not there. */
  readonly moduleSha256: string | null;
}

/** Envoy's admin listener does not answer: nothing can be judged. */
export class AdminUnreachableError extends Error {
  readonly code = "admin_unreachable";
  constructor(
    readonly url: string,
    cause: unknown,
  ) {
    super(`${url} does not answer: ${messageOf(cause)}`);
  }
}

/** @throws AdminUnreachableError */
export async function collect(places: Places): Promise<Observation> {
  const admin = places.admin.replace(/\/+$/, "");
  const [info, dump, stats] = await Promise.all([
    adminPage(`${admin}/server_info`),
    adminPage(`${admin}/config_dump`),
    adminPage(`${admin}/stats?format=json&filter=wasm`),
  ]);
  const view = readConfigDump(dump);
  const control = places.control ?? controlOf(view);
  return {
    version: String(at(info, "version")).split("/")[1] ?? "unknown",
    view,
    stats: readStats(stats),
    status: control === undefined ? null : await controlStatus(control, places.token),
    readiness: places.sidecar === undefined ? null : await readiness(places.sidecar),
    moduleSha256: existsSync(WASM_PATH)
      ? createHash("sha256").update(readFileSync(WASM_PATH)).digest("hex")
      : null,
  };
}

/** The control listener's place, from the configuration of the ingest role. */
function controlOf(view: GatewayView): string | undefined {
  const ingest = view.plugins.find(({ role }) => role === "ingest");
  if (ingest === undefined || ingest.address === "") return undefined;
  return ingest.address.startsWith("/") ? ingest.address : `http://${ingest.address}`;
}

async function adminPage(url: string): Promise<unknown> {
  try {
    const { status, text } = await fetchText(url);
    if (status !== 200) throw new Error(`status ${status}`);
    return JSON.parse(text);
  } catch (cause) {
    throw new AdminUnreachableError(url, cause);
  }
}

async function fetchText(url: string): Promise<{ status: number; text: string }> {
  const { statusCode, body } = await request(url, {
    headersTimeout: TIMEOUT_MS,
    bodyTimeout: TIMEOUT_MS,
    signal: AbortSignal.timeout(4 * TIMEOUT_MS),
  });
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += (chunk as Buffer).length;
    if (bytes > PAGE_BYTES_MAX) throw new Error(`more than ${PAGE_BYTES_MAX} bytes`);
    chunks.push(chunk as Buffer);
  }
  return { status: statusCode, text: Buffer.concat(chunks).toString("utf8") };
}

function readStats(stats: unknown): Map<string, number> {
  const known = list(at(stats, "stats")).flatMap((entry): [string, number][] => {
    const value = number(at(entry, "value"));
    return value === null ? [] : [[String(at(entry, "name")), value]];
  });
  return new Map(known);
}

async function controlStatus(target: string, token: string): Promise<ControlStatus> {
  const isUrl = /^https?:/.test(target);
  const settings = { socketPath: isUrl ? null : target.replace(/^unix:/, ""), origin: isUrl ? target : "" };
  const client = new ControlClient({ ...settings, token, statusIntervalMs: 0 }, () => performance.now());
  try {
    return { target, value: await client.status() };
  } catch (cause) {
    const answered = cause instanceof ControlRefusedError ? { answered: cause.status } : {};
    return { target, failure: messageOf(cause), ...answered };
  } finally {
    await client.close();
  }
}

async function readiness(url: string): Promise<NonNullable<Observation["readiness"]>> {
  try {
    const { status, text } = await fetchText(`${url.replace(/\/+$/, "")}/readyz`);
    return { value: { status, body: JSON.parse(text) } };
  } catch (cause) {
    return { failure: messageOf(cause) };
  }
}
