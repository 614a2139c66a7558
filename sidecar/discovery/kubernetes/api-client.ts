// One GET of the Kubernetes API: request, credentials, status, error body.
import http from "node:http";
import https from "node:https";
import { z } from "zod";
import type { SidecarError } from "../../errors.ts";
import type { AccessSource, ClusterAccess } from "./credentials.ts";
import {
  KubernetesApiError,
  KubernetesConnectionError,
  KubernetesExpiredError,
  KubernetesForbiddenError,
  KubernetesProtocolError,
  KubernetesResourceError,
  KubernetesUnauthorizedError,
} from "./errors.ts";
import { ERROR_BODY_BYTES_MAX, LIST_PAGE_BYTES_MAX } from "./limits.ts";

/** How often a silent connection is probed, ms, so that a vanished peer is noticed. */
const KEEP_ALIVE_MS = 30_000;
/** Longest Retry-After that is honoured, ms. */
const RETRY_AFTER_MAX_MS = 60_000;

/** Objects of one kind, and which of them. */
export interface Resource {
  /** "v1", "apps/v1" … */
  readonly apiVersion: string;
  /** Plural, as in the path. */
  readonly plural: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
}

const statusSchema = z.looseObject({
  message: z.string().optional(),
  reason: z.string().optional(),
  code: z.int().optional(),
});
export type ApiStatus = z.output<typeof statusSchema>;

/** Path of a kind in a namespace. */
export function resourcePath({ apiVersion, plural }: Resource, namespace: string): string {
  const group = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  return `${group}/namespaces/${encodeURIComponent(namespace)}/${plural}`;
}

/** Reads a Status object; what is not one says nothing. */
export function readStatus(value: unknown): ApiStatus {
  const checked = statusSchema.safeParse(value);
  return checked.success ? checked.data : {};
}

/** Asks the API server of one cluster. Access is made at the first request and again after a 401. */
export class ApiClient {
  private access: Promise<ClusterAccess> | null = null;

  constructor(private readonly source: AccessSource) {}

  /** @throws KubernetesConfigError */
  async namespace(): Promise<string> {
    return (await this.accessNow()).namespace || "default";
  }

  /**
   * Sends a GET.
   * @param signal ends the request and the body
   * @returns the response once its status is 200; its body is the caller's to read
   * @throws an error of errors.ts that names resource and cause
   */
  async get(
    resource: Resource,
    namespace: string,
    query: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<http.IncomingMessage> {
    const verb = query["watch"] === "true" ? "watch" : "list";
    const access = await this.accessNow();
    const url = new URL(access.server + resourcePath(resource, namespace));
    const { labelSelector, fieldSelector } = resource;
    if (labelSelector !== undefined) url.searchParams.set("labelSelector", labelSelector);
    if (fieldSelector !== undefined) url.searchParams.set("fieldSelector", fieldSelector);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    const target = `${verb} ${resource.plural}`;
    const response = await this.send(url, access, target, signal);
    if (response.statusCode === 200) return response;
    throw await this.refusal(response, { verb, target, resource, namespace });
  }

  /** The whole JSON body of a `get`. */
  async getJson(
    resource: Resource,
    namespace: string,
    query: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<unknown> {
    const target = `list ${resource.plural}`;
    const response = await this.get(resource, namespace, query, signal);
    const text = await readBody(response, LIST_PAGE_BYTES_MAX, target);
    try {
      return JSON.parse(text) as unknown;
    } catch (error) {
      throw new KubernetesProtocolError(target, (error as Error).message);
    }
  }

  private async accessNow(): Promise<ClusterAccess> {
    const access = (this.access ??= this.source());
    try {
      return await access;
    } catch (error) {
      if (this.access === access) this.access = null;
      throw error;
    }
  }

  private async send(
    url: URL,
    access: ClusterAccess,
    target: string,
    signal: AbortSignal,
  ): Promise<http.IncomingMessage> {
    try {
      const options = await access.requestOptions();
      const headers = { accept: "application/json", "user-agent": "epp-wasm-sidecar", ...options.headers };
      return await new Promise((resolve, reject) => {
        const { request } = url.protocol === "https:" ? https : http;
        const sent = request(url, { ...options, headers, method: "GET", signal }, resolve);
        sent.on("socket", (socket) => socket.setKeepAlive(true, KEEP_ALIVE_MS));
        sent.on("error", reject);
        sent.end();
      });
    } catch (error) {
      // Files that cannot be read, and exec plugins that fail, are found only now: the next try reads all anew.
      this.access = null;
      throw new KubernetesConnectionError(`${target} at ${url.origin}`, error);
    }
  }

  private async refusal(
    response: http.IncomingMessage,
    what: { verb: string; target: string; resource: Resource; namespace: string },
  ): Promise<SidecarError> {
    const status = response.statusCode!;
    const text = await readBody(response, ERROR_BODY_BYTES_MAX, what.target).catch(() => "");
    const detail = messageIn(text);
    switch (status) {
      case 401:
        this.access = null;
        return new KubernetesUnauthorizedError(what.target);
      case 403:
        return new KubernetesForbiddenError(what.verb, what.resource.plural, what.namespace, detail);
      case 404:
        return new KubernetesResourceError(what.resource.plural, what.resource.apiVersion);
      case 410:
        return new KubernetesExpiredError(what.target);
    }
    const seconds = Number(response.headers["retry-after"] ?? 0);
    const retryAfterMs = seconds > 0 ? Math.min(RETRY_AFTER_MAX_MS, seconds * 1_000) : 0;
    return new KubernetesApiError(what.target, status, detail, retryAfterMs);
  }
}

/** The message of a Status object, else the start of the text. */
function messageIn(text: string): string {
  try {
    return readStatus(JSON.parse(text)).message ?? text.slice(0, 200);
  } catch {
    return text.slice(0, 200);
  }
}

async function readBody(response: http.IncomingMessage, bytesMax: number, target: string): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > bytesMax) break;
      chunks.push(chunk);
    }
  } catch (error) {
    throw new KubernetesConnectionError(target, error);
  }
  if (bytes > bytesMax) throw new KubernetesProtocolError(target, `an answer of more than ${bytesMax} bytes`);
  return Buffer.concat(chunks).toString("utf8");
}
