// Keeps a copy of all objects of one kind: lists them, then watches from there, for ever.
//
// This is client-go's reflector: pages, bookmarks, resume from the last resource version, a new list after 410,
// back-off with jitter. client-node's own informer lists in one piece, asks for no bookmarks, begins a watch again
// at once however it ended, and ends for good at any error but 410.
import { SidecarError } from "../../errors.ts";
import { type ApiClient, readStatus, type Resource } from "./api-client.ts";
import {
  KubernetesApiError,
  KubernetesConnectionError,
  KubernetesExpiredError,
  KubernetesProtocolError,
} from "./errors.ts";
import { type KubernetesTiming, LIST_PAGE_OBJECTS, LIST_PAGES_MAX, OBJECTS_MAX } from "./limits.ts";
import { listPageSchema, metadataSchema } from "./objects.ts";
import { watchEvents } from "./watch-stream.ts";

/** What is counted since start; `objects` and `refused` are present figures. */
export interface ReflectorCounts {
  lists: number;
  pages: number;
  watches: number;
  events: number;
  bookmarks: number;
  /** 410s: lists that had to begin anew. */
  expired: number;
  failures: number;
  /** Objects that could not be read or were beyond OBJECTS_MAX. */
  refused: number;
}

/** What a reflector is given. */
export interface ReflectorSettings<T> {
  readonly resource: Resource;
  readonly namespace: string;
  /** What is kept of an object; null = it cannot be read, and is counted. */
  readonly read: (object: unknown) => T | null;
  /** Called after each list and each event that changed something. */
  readonly changed: () => void;
  /** Called at each failure, and with null when the first answer after failures came. */
  readonly health: (error: Error | null) => void;
}

/** Timing and chance, to be replaced in tests. */
export interface ReflectorContext {
  readonly client: ApiClient;
  readonly timing: KubernetesTiming;
  /** Uniform in [0, 1). */
  readonly random: () => number;
}

/** A copy of one kind of objects, by name. */
export class Reflector<T> {
  readonly objects = new Map<string, T>();
  readonly counts: ReflectorCounts = {
    lists: 0,
    pages: 0,
    watches: 0,
    events: 0,
    bookmarks: 0,
    expired: 0,
    failures: 0,
    refused: 0,
  };
  /** Whether a whole list was ever read. */
  synced = false;
  /** Why the copy may be old; null = it is not. */
  error: Error | null = null;
  private readonly refusedNames = new Set<string>();
  private readonly stopping = new AbortController();
  private resourceVersion: string | null = null;
  private failuresInRow = 0;

  constructor(
    private readonly settings: ReflectorSettings<T>,
    private readonly context: ReflectorContext,
  ) {}

  get plural(): string {
    return this.settings.resource.plural;
  }

  start(): void {
    void this.run();
  }

  stop(): void {
    this.stopping.abort();
  }

  private get stopped(): boolean {
    return this.stopping.signal.aborted;
  }

  private async run(): Promise<void> {
    while (!this.stopped) {
      try {
        if (this.resourceVersion === null) await this.list();
        await this.watch(this.resourceVersion!);
      } catch (error) {
        if (this.stopped) return;
        await this.pause(this.fail(error as Error));
      }
    }
  }

  /** @returns how long to wait, ms */
  private fail(error: Error): number {
    if (error instanceof KubernetesExpiredError) {
      this.counts.expired += 1;
      this.resourceVersion = null;
    } else if (error instanceof KubernetesProtocolError) {
      this.resourceVersion = null;
    }
    // The first 410 after anything went well is the API's ordinary way to say that time has passed.
    const expected = error instanceof KubernetesExpiredError && this.failuresInRow === 0;
    const { backoffMinMs, backoffMaxMs } = this.context.timing;
    const backoffMs = Math.min(backoffMaxMs, backoffMinMs * 2 ** Math.min(20, this.failuresInRow));
    this.failuresInRow += 1;
    if (expected) return 0;
    this.counts.failures += 1;
    this.error = error instanceof SidecarError ? error : new KubernetesConnectionError(this.plural, error);
    this.settings.health(this.error);
    const asked = error instanceof KubernetesApiError ? error.retryAfterMs : 0;
    // Between half and the whole, so that many sidecars do not come back together.
    return Math.max(asked, backoffMs * (0.5 + 0.5 * this.context.random()));
  }

  /**
   * An answer came. The pauses go on growing until an event came or a watch stood for a while: a server that
   * answers each list and breaks each watch is not to be asked in a loop.
   */
  private recover(): void {
    if (this.error === null) return;
    this.error = null;
    this.settings.health(null);
  }

  private async list(): Promise<void> {
    const found = new Map<string, T>();
    const refused = new Set<string>();
    const { resource, namespace } = this.settings;
    let next = "";
    let version = "";
    let pages = 0;
    do {
      const query = { limit: String(LIST_PAGE_OBJECTS), ...(next === "" ? {} : { continue: next }) };
      const timeout = AbortSignal.timeout(this.context.timing.listTimeoutMs);
      const signal = AbortSignal.any([this.stopping.signal, timeout]);
      const body = await this.context.client.getJson(resource, namespace, query, signal);
      const page = listPageSchema.safeParse(body);
      if (!page.success) throw new KubernetesProtocolError(`list ${this.plural}`, "not a list of objects");
      this.counts.pages += 1;
      pages += 1;
      version = page.data.metadata.resourceVersion;
      next = page.data.metadata.continue ?? "";
      for (const object of page.data.items ?? []) this.keep(object, found, refused);
    } while (next !== "" && pages < LIST_PAGES_MAX);
    this.counts.lists += 1;
    this.objects.clear();
    for (const [name, object] of found) this.objects.set(name, object);
    this.refusedNames.clear();
    for (const name of refused) this.refusedNames.add(name);
    this.counts.refused = this.refusedNames.size;
    this.resourceVersion = version;
    this.synced = true;
    this.recover();
    this.settings.changed();
  }

  private keep(object: unknown, objects: Map<string, T>, refused: Set<string>): void {
    const metadata = metadataSchema.safeParse((object as { metadata?: unknown }).metadata);
    if (!metadata.success) return;
    const { name } = metadata.data;
    const kept = objects.has(name) || objects.size < OBJECTS_MAX ? this.settings.read(object) : null;
    if (kept !== null) {
      objects.set(name, kept);
      refused.delete(name);
    } else {
      objects.delete(name);
      if (refused.size < OBJECTS_MAX) refused.add(name);
    }
  }

  private async watch(from: string): Promise<void> {
    const { timing, random, client } = this.context;
    const { resource, namespace } = this.settings;
    const target = `watch ${this.plural}`;
    const watchMs = Math.round(timing.watchMs * (1 + random()));
    const query = {
      watch: "true",
      allowWatchBookmarks: "true",
      resourceVersion: from,
      timeoutSeconds: String(Math.ceil(watchMs / 1_000)),
    };
    const deadline = AbortSignal.timeout(watchMs + timing.watchGraceMs);
    const signal = AbortSignal.any([this.stopping.signal, deadline]);
    const startedAt = performance.now();
    let events = 0;
    const response = await client.get(resource, namespace, query, signal);
    this.counts.watches += 1;
    this.recover();
    try {
      for await (const event of watchEvents(response, target)) {
        events += 1;
        this.take(event.type, event.object, target);
      }
    } catch (error) {
      if (error instanceof SidecarError) throw error;
      throw new KubernetesConnectionError(target, deadline.aborted ? "it stood still" : error);
    } finally {
      if (performance.now() - startedAt >= timing.watchShortMs) this.failuresInRow = 0;
    }
    if (!this.stopped && events === 0 && performance.now() - startedAt < timing.watchShortMs) {
      throw new KubernetesConnectionError(target, "the API server ended it at once, without an event");
    }
  }

  private take(type: string, object: unknown, target: string): void {
    if (type === "ERROR") {
      const { code = 0, message = "no message" } = readStatus(object);
      if (code === 410) throw new KubernetesExpiredError(target);
      throw new KubernetesApiError(target, code, message);
    }
    const metadata = metadataSchema.safeParse((object as { metadata?: unknown }).metadata);
    const version = metadata.data?.resourceVersion;
    if (version === undefined)
      throw new KubernetesProtocolError(target, "an event without a resourceVersion");
    this.failuresInRow = 0;
    this.resourceVersion = version;
    if (type === "BOOKMARK") {
      this.counts.bookmarks += 1;
      return;
    }
    this.counts.events += 1;
    const { name } = metadata.data!;
    if (type === "DELETED") {
      this.objects.delete(name);
      this.refusedNames.delete(name);
    } else {
      this.keep(object, this.objects, this.refusedNames);
    }
    this.counts.refused = this.refusedNames.size;
    this.settings.changed();
  }

  private async pause(ms: number): Promise<void> {
    if (ms <= 0 || this.stopped) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.stopping.signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.stopping.signal.addEventListener("abort", done);
    });
  }
}
