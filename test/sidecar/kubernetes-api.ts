// A strict Kubernetes API server over HTTPS: lists in pages, watches with bookmarks, resource versions that expire,
// tokens and rights; and the ways in which one fails. What it does not know it refuses.
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";

const tlsFixture = (name: string): string =>
  fileURLToPath(new URL(`../fixtures/tls/${name}`, import.meta.url));
export const CA_FILE = tlsFixture("api-server.pem");

/** Any object with metadata. */
export interface ApiObject {
  metadata: { name: string; namespace?: string; labels?: Record<string, string>; [key: string]: unknown };
  [key: string]: unknown;
}

interface LogEntry {
  readonly version: number;
  readonly plural: string;
  readonly before: ApiObject | null;
  readonly after: ApiObject | null;
}

interface Watcher {
  readonly plural: string;
  readonly matches: (object: ApiObject) => boolean;
  readonly response: ServerResponse;
  readonly withBookmarks: boolean;
}

/** One request as it was answered. */
export interface ApiRequest {
  readonly verb: "list" | "watch";
  readonly plural: string;
  readonly query: URLSearchParams;
  readonly status: number;
}

/** What it knows, by plural. */
export const KINDS: ReadonlyMap<string, string> = new Map([
  ["pods", "/api/v1"],
  ["services", "/api/v1"],
  ["endpointslices", "/apis/discovery.k8s.io/v1"],
  ["inferencepools", "/apis/inference.networking.k8s.io/v1"],
  ["inferenceobjectives", "/apis/llm-d.ai/v1alpha2"],
  ["inferencemodelrewrites", "/apis/llm-d.ai/v1alpha2"],
]);
const LIST_QUERY = new Set(["limit", "continue", "labelSelector", "fieldSelector"]);
const WATCH_QUERY = new Set([
  "watch",
  "allowWatchBookmarks",
  "resourceVersion",
  "timeoutSeconds",
  "labelSelector",
  "fieldSelector",
]);
export const NAMESPACE = "models";

/** The server, which has one namespace. */
export class FakeApi {
  constructor(readonly namespace: string = NAMESPACE) {}

  port = 0;
  readonly requests: ApiRequest[] = [];
  /** Requests that no client should make, for the test to find empty. */
  readonly violations: string[] = [];
  tokens = new Set(["token-1"]);
  /** "list pods", "watch pods" … → refused with 403. */
  readonly forbidden = new Set<string>();
  /** Kinds whose definition is not installed. */
  readonly unknownKinds = new Set<string>();
  /** Answers in place of the API's own; return false to let it answer. */
  intercept: ((verb: string, plural: string, response: ServerResponse) => boolean) | null = null;
  /** Pause before each page of a list, ms. */
  listDelayMs = 0;
  /** Whether a watch from a version that is too old is refused by status or by an event. */
  goneBy: "status" | "event" = "status";
  readonly watchers = new Set<Watcher>();
  private version = 100;
  private oldest = 0;
  private readonly kinds = new Map<string, Map<string, ApiObject>>();
  private readonly log: LogEntry[] = [];
  private readonly snapshots = new Map<string, { version: number; items: ApiObject[] }>();
  private readonly server: Server = createServer(
    { key: readFileSync(tlsFixture("api-server-key.pem")), cert: readFileSync(CA_FILE) },
    (request, response) => this.serve(request, response),
  );

  async start(): Promise<this> {
    this.server.on("tlsClientError", () => undefined);
    this.server.listen(0, "127.0.0.1");
    await once(this.server, "listening");
    this.port = (this.server.address() as AddressInfo).port;
    onTestFinished(async () => {
      const closed = once(this.server, "close");
      this.server.close();
      this.server.closeAllConnections();
      await closed;
    });
    return this;
  }

  /** Creates or replaces an object and tells all who watch. */
  put(plural: string, object: ApiObject): void {
    this.change(plural, object.metadata.name, object);
  }

  remove(plural: string, name: string): void {
    this.change(plural, name, null);
  }

  /** Forgets the history: versions before now are too old, and so are continue tokens. */
  compact(): void {
    this.oldest = this.version;
    this.snapshots.clear();
  }

  /** Moves the version on without any object that is watched, as the rest of a cluster does. */
  passTime(): void {
    this.version += 1_000;
  }

  bookmark(): void {
    for (const watcher of this.watchers) {
      if (!watcher.withBookmarks) continue;
      const metadata = { resourceVersion: String(this.version), creationTimestamp: null };
      this.send(watcher, "BOOKMARK", { kind: "X", apiVersion: "v1", metadata });
    }
  }

  /** Ends all watches as a timeout does. */
  endWatches(): void {
    for (const { response } of this.dismissed()) response.end();
  }

  /** Breaks all watches in the middle of an event. */
  cutWatches(): void {
    for (const { response } of this.dismissed()) {
      response.write('{"type":"MODIFIED","object":{"metadata":{"name":"ha', () => response.destroy());
    }
  }

  /** Sends an ERROR event to all who watch, and ends their watches. */
  errorEvent(code: number, message: string): void {
    for (const watcher of this.dismissed()) {
      this.send(watcher, "ERROR", { kind: "Status", status: "Failure", code, message });
      watcher.response.end();
    }
  }

  count(verb: string, plural: string, status = 200): number {
    return this.requests.filter((one) => one.verb === verb && one.plural === plural && one.status === status)
      .length;
  }

  watched(plural: string): boolean {
    return [...this.watchers].some((watcher) => watcher.plural === plural);
  }

  /** All who watch; from now on they are told nothing. */
  private dismissed(): Watcher[] {
    const all = [...this.watchers];
    this.watchers.clear();
    return all;
  }

  private change(plural: string, name: string, object: ApiObject | null): void {
    const objects = this.kinds.get(plural) ?? new Map<string, ApiObject>();
    this.kinds.set(plural, objects);
    const before = objects.get(name) ?? null;
    this.version += 1;
    const resourceVersion = String(this.version);
    const last = object ?? before;
    if (last === null) throw new Error(`${plural} has no ${name}`);
    const after = { ...last, metadata: { namespace: this.namespace, ...last.metadata, resourceVersion } };
    if (object === null) objects.delete(name);
    else objects.set(name, after);
    const entry = { version: this.version, plural, before, after: object === null ? null : after };
    this.log.push(entry);
    for (const watcher of this.watchers) this.tell(watcher, entry);
  }

  /** An object that leaves the selection is DELETED for its watchers, one that enters it is ADDED. */
  private tell(watcher: Watcher, { plural, before, after, version }: LogEntry): void {
    if (watcher.plural !== plural) return;
    const was = before !== null && watcher.matches(before);
    const is = after !== null && watcher.matches(after);
    if (is) this.send(watcher, was ? "MODIFIED" : "ADDED", after);
    else if (was) {
      const object = after ?? before;
      this.send(watcher, "DELETED", {
        ...object,
        metadata: { ...object.metadata, resourceVersion: String(version) },
      });
    }
  }

  private send(watcher: Watcher, type: string, object: unknown): void {
    watcher.response.write(`${JSON.stringify({ type, object })}\n`);
  }

  private serve(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? "", "https://api");
    const path = /^(\/apis?\/.+)\/namespaces\/([^/]+)\/([a-z]+)$/.exec(url.pathname);
    const plural = path?.[3] ?? "";
    const verb = url.searchParams.get("watch") === "true" ? "watch" : "list";
    const answered = (status: number): void => {
      this.requests.push({ verb, plural, query: url.searchParams, status });
    };
    const refuse = (code: number, reason: string, message: string): void => {
      answered(code);
      response.writeHead(code, { "content-type": "application/json" });
      response.end(JSON.stringify({ kind: "Status", status: "Failure", reason, message, code }));
    };
    const violation = (message: string): void => {
      this.violations.push(`${request.method} ${request.url}: ${message}`);
      refuse(400, "BadRequest", message);
    };
    const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1] ?? "";
    if (!this.tokens.has(token)) {
      refuse(401, "Unauthorized", "Unauthorized");
      return;
    }
    if (this.intercept?.(verb, plural, response)) {
      answered(response.statusCode);
      return;
    }
    if (path === null || KINDS.get(plural) !== path[1] || this.unknownKinds.has(plural)) {
      refuse(404, "NotFound", "the server could not find the requested resource");
      return;
    }
    if (request.method !== "GET") {
      violation("method");
      return;
    }
    if (request.headers.accept !== "application/json") {
      violation("accept");
      return;
    }
    if (path[2] !== this.namespace || this.forbidden.has(`${verb} ${plural}`)) {
      const who = 'User "system:serviceaccount:models:epp"';
      refuse(403, "Forbidden", `${plural} is forbidden: ${who} cannot ${verb} resource "${plural}"`);
      return;
    }
    for (const name of url.searchParams.keys()) {
      if (!(verb === "watch" ? WATCH_QUERY : LIST_QUERY).has(name)) {
        violation(`parameter ${name}`);
        return;
      }
    }
    const matches = selection(url.searchParams);
    if (matches === null) {
      violation("selector");
      return;
    }
    if (verb === "list") {
      setTimeout(
        () => this.list(plural, url.searchParams, matches, response, refuse, answered),
        this.listDelayMs,
      );
    } else {
      this.watch(plural, url.searchParams, matches, response, { refuse, answered, violation });
    }
  }

  private list(
    plural: string,
    query: URLSearchParams,
    matches: (object: ApiObject) => boolean,
    response: ServerResponse,
    refuse: (code: number, reason: string, message: string) => void,
    answered: (status: number) => void,
  ): void {
    const limit = Number(query.get("limit") ?? 0);
    const next = query.get("continue");
    const [id = "", start = "0"] = next === null ? [] : next.split(":");
    const found = next === null ? this.snapshot(plural, matches) : this.snapshots.get(id);
    if (found === undefined) {
      refuse(410, "Expired", "The provided continue parameter is too old");
      return;
    }
    const from = Number(start);
    const to = limit > 0 ? Math.min(found.items.length, from + limit) : found.items.length;
    const metadata: Record<string, string> = { resourceVersion: String(found.version) };
    if (to < found.items.length) {
      const key = next === null ? `${plural}-${this.requests.length}-${this.version}` : id;
      this.snapshots.set(key, found);
      metadata["continue"] = `${key}:${to}`;
    }
    answered(200);
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ kind: "List", metadata, items: found.items.slice(from, to) }));
  }

  private snapshot(
    plural: string,
    matches: (object: ApiObject) => boolean,
  ): { version: number; items: ApiObject[] } {
    const items = [...(this.kinds.get(plural)?.values() ?? [])].filter(matches);
    return { version: this.version, items };
  }

  private watch(
    plural: string,
    query: URLSearchParams,
    matches: (object: ApiObject) => boolean,
    response: ServerResponse,
    answer: {
      refuse: (code: number, reason: string, message: string) => void;
      answered: (status: number) => void;
      violation: (message: string) => void;
    },
  ): void {
    const from = Number(query.get("resourceVersion") ?? Number.NaN);
    const seconds = Number(query.get("timeoutSeconds") ?? Number.NaN);
    if (!Number.isInteger(from) || from > this.version) {
      answer.violation("resourceVersion");
      return;
    }
    if (!Number.isInteger(seconds) || seconds < 1) {
      answer.violation("timeoutSeconds");
      return;
    }
    const gone = from < this.oldest;
    if (gone && this.goneBy === "status") {
      answer.refuse(410, "Expired", `too old resource version: ${from} (${this.oldest})`);
      return;
    }
    answer.answered(200);
    response.writeHead(200, { "content-type": "application/json" });
    response.flushHeaders();
    const withBookmarks = query.get("allowWatchBookmarks") === "true";
    const watcher: Watcher = { plural, matches, response, withBookmarks };
    if (gone) {
      const status = { kind: "Status", code: 410, reason: "Expired", message: "too old resource version" };
      this.send(watcher, "ERROR", status);
      response.end();
      return;
    }
    for (const entry of this.log) if (entry.version > from) this.tell(watcher, entry);
    this.watchers.add(watcher);
    const timer = setTimeout(() => response.end(), seconds * 1_000);
    response.on("close", () => {
      clearTimeout(timer);
      this.watchers.delete(watcher);
    });
  }
}

/** What label and field selectors let through; null = one that is not understood. */
function selection(query: URLSearchParams): ((object: ApiObject) => boolean) | null {
  const labels = terms(query.get("labelSelector"));
  const fields = terms(query.get("fieldSelector"));
  if (labels === null || fields === null || fields.some(([key]) => key !== "metadata.name")) return null;
  return ({ metadata }) =>
    labels.every(([key, value]) => metadata.labels?.[key] === value) &&
    fields.every(([, value]) => metadata.name === value);
}

function terms(selector: string | null): [string, string][] | null {
  if (selector === null) return [];
  const found = selector.split(",").map((term) => /^([-\w./]+)=([-\w.]*)$/.exec(term));
  return found.includes(null) ? null : found.map((term) => [term![1]!, term![2]!]);
}
