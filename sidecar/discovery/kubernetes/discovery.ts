// Endpoints and policy of one pool from the Kubernetes API: an InferencePool, a Service, or a label selector.
import { emptyPolicy, type PoolPolicy } from "../../policy.ts";
import { collectEndpoints, type Discovery, type DiscoverySink, type EndpointInput } from "../endpoint.ts";
import { ApiClient, type Resource } from "./api-client.ts";
import type { AccessSource, CredentialSettings } from "./credentials.ts";
import { isAbsent, KubernetesObjectError } from "./errors.ts";
import { KUBERNETES_TIMING, type KubernetesTiming } from "./limits.ts";
import { podEndpoints, type PortChoice, Readiness, sliceEndpoints } from "./members.ts";
import * as objects from "./objects.ts";
import { makePolicy, type PolicyGroup, readObjective, readRewrite } from "./policy-objects.ts";
import { Reflector, type ReflectorCounts } from "./reflector.ts";

/** Where a pool's members are named. */
export type MemberSource =
  | { readonly kind: "inferencePool"; readonly name: string; readonly policyGroup: PolicyGroup | null }
  | { readonly kind: "service"; readonly name: string; readonly ports: readonly PortChoice[] }
  | {
      readonly kind: "selector";
      readonly matchLabels: Readonly<Record<string, string>>;
      readonly ports: readonly number[];
    };

/** Settings of a Kubernetes source. */
export interface KubernetesSettings extends CredentialSettings {
  readonly kind: "kubernetes";
  /** Namespace of all objects; null = the context's or the pod's own. */
  readonly namespace: string | null;
  readonly members: MemberSource;
}

/** Name of the pool, timing and chance; the last two to be replaced in tests. */
export interface KubernetesContext {
  readonly pool: string;
  readonly access: AccessSource;
  readonly timing?: KubernetesTiming;
  readonly random?: () => number;
}

type AnyReflector = Pick<Reflector<unknown>, "plural" | "counts" | "error" | "synced" | "start" | "stop">;

/**
 * Watches the objects that name the members, and the pods among them; reports when all were listed once. While
 * the API server is away the last list stays in force, and so does the last selector of a pool that was deleted.
 */
export class KubernetesDiscovery implements Discovery {
  readonly kind = "kubernetes";
  private readonly client: ApiClient;
  private readonly timing: KubernetesTiming;
  private readonly readiness = new Readiness();
  private readonly reflectors: AnyReflector[] = [];
  private readonly policyReflectors = new Set<AnyReflector>();
  private pools: Reflector<objects.PoolView> | null = null;
  private services: Reflector<objects.ServiceView> | null = null;
  private slices: Reflector<objects.SliceView> | null = null;
  private pods: Reflector<objects.PodView> | null = null;
  private objectives: Reflector<NonNullable<ReturnType<typeof readObjective>>> | null = null;
  private rewrites: Reflector<NonNullable<ReturnType<typeof readRewrite>>> | null = null;
  private podSelector: string | null = null;
  private view: objects.PoolView | null = null;
  private policySurplus = 0;
  private lastPolicy = "";
  private policyNow: PoolPolicy;
  private namespace = "";
  private sink: DiscoverySink | null = null;
  private timer: NodeJS.Timeout | null = null;
  private stopped = false;
  /** What is wrong with the objects themselves; null = nothing. */
  private problem: Error | null = null;

  constructor(
    private readonly settings: KubernetesSettings,
    private readonly context: KubernetesContext,
  ) {
    this.client = new ApiClient(context.access);
    this.timing = context.timing ?? KUBERNETES_TIMING;
    this.policyNow = emptyPolicy(context.pool);
  }

  get hasPolicy(): boolean {
    return this.settings.members.kind === "inferencePool";
  }

  /** What the pool's owner decided; empty until it was read, and for members that no InferencePool names. */
  get policy(): PoolPolicy {
    return this.policyNow;
  }

  start(sink: DiscoverySink): void {
    this.sink = sink;
    void this.begin(0);
  }

  stop(): void {
    this.stopped = true;
    if (this.timer !== null) clearTimeout(this.timer);
    for (const reflector of this.reflectors) reflector.stop();
  }

  /** Counts by kind of object, for metrics. */
  figures(): ReadonlyMap<string, number> {
    const figures = new Map<string, number>([["policy_surplus", this.policySurplus]]);
    for (const { plural, counts } of this.reflectors) {
      for (const [name, value] of Object.entries(counts) as [keyof ReflectorCounts, number][]) {
        figures.set(`${plural}_${name}`, value);
      }
    }
    return figures;
  }

  /** The namespace may stand in the credentials, so they are needed first; tried again until they are there. */
  private async begin(failures: number): Promise<void> {
    try {
      this.namespace = this.settings.namespace ?? (await this.client.namespace());
      if (!this.stopped) this.watchMembers();
    } catch (error) {
      if (this.stopped) return;
      this.sink?.failed(error as Error);
      const { backoffMinMs, backoffMaxMs } = this.timing;
      const pauseMs = Math.min(backoffMaxMs, backoffMinMs * 2 ** Math.min(20, failures));
      this.timer = setTimeout(() => {
        this.timer = null;
        void this.begin(failures + 1);
      }, pauseMs);
    }
  }

  private watchMembers(): void {
    const { members } = this.settings;
    switch (members.kind) {
      case "inferencePool": {
        const fieldSelector = `metadata.name=${members.name}`;
        const resource = { apiVersion: objects.POOL_API_VERSION, plural: "inferencepools", fieldSelector };
        this.pools = this.reflect(resource, objects.readInferencePool);
        if (members.policyGroup !== null) this.watchPolicy(members.policyGroup);
        return;
      }
      case "service": {
        const fieldSelector = `metadata.name=${members.name}`;
        this.services = this.reflect(
          { apiVersion: "v1", plural: "services", fieldSelector },
          objects.readService,
        );
        const labelSelector = `kubernetes.io/service-name=${members.name}`;
        const resource = { apiVersion: "discovery.k8s.io/v1", plural: "endpointslices", labelSelector };
        this.slices = this.reflect(resource, objects.readSlice);
        return;
      }
      case "selector":
        this.watchPods(members.matchLabels);
    }
  }

  private watchPolicy(group: PolicyGroup): void {
    const apiVersion = `${group}/v1alpha2`;
    this.objectives = this.reflect({ apiVersion, plural: "inferenceobjectives" }, readObjective, true);
    this.rewrites = this.reflect({ apiVersion, plural: "inferencemodelrewrites" }, readRewrite, true);
  }

  /** Watches the pods with these labels; another selector than before replaces the watch. */
  private watchPods(matchLabels: Readonly<Record<string, string>>): void {
    const labelSelector = Object.entries(matchLabels)
      .map(([key, value]) => `${key}=${value}`)
      .sort()
      .join(",");
    if (labelSelector === this.podSelector) return;
    this.podSelector = labelSelector;
    if (this.pods !== null) {
      this.pods.stop();
      this.reflectors.splice(this.reflectors.indexOf(this.pods), 1);
    }
    this.pods = this.reflect({ apiVersion: "v1", plural: "pods", labelSelector }, objects.readPod);
  }

  private reflect<T>(
    resource: Resource,
    read: (object: unknown) => T | null,
    isPolicy = false,
  ): Reflector<T> {
    const reflector: Reflector<T> = new Reflector<T>(
      {
        resource,
        namespace: this.namespace,
        read,
        changed: () => this.reportSoon(),
        health: (error) => this.health(reflector, error),
      },
      { client: this.client, timing: this.timing, random: this.context.random ?? Math.random },
    );
    this.reflectors.push(reflector);
    if (isPolicy) this.policyReflectors.add(reflector);
    reflector.start();
    return reflector;
  }

  private health(reflector: AnyReflector, error: Error | null): void {
    if (this.stopped || !this.reflectors.includes(reflector)) return;
    if (this.policyReflectors.has(reflector)) this.reportSoon();
    else if (error === null) this.reportSoon();
    else this.sink?.failed(error);
  }

  /** Thousands of pods that change together make one report. */
  private reportSoon(): void {
    if (this.stopped || this.timer !== null) return;
    this.timer = setTimeout(() => {
      this.timer = null;
      this.report();
    }, this.timing.settleMs);
  }

  private report(): void {
    const { sink } = this;
    if (sink === null) return;
    this.problem = null;
    try {
      const inputs = this.members();
      this.reportPolicy(sink);
      if (inputs !== null) {
        const { endpoints, drops, issues } = collectEndpoints(inputs);
        sink.apply(endpoints, drops);
        const [first] = issues;
        if (first !== undefined) {
          this.problem ??= new KubernetesObjectError(`${issues.length} entries: ${first}`);
        }
      }
    } catch (error) {
      if (!(error instanceof KubernetesObjectError)) throw error;
      this.problem = error;
    }
    const failing = this.reflectors.find((one) => one.error !== null && !this.policyReflectors.has(one));
    const problem = this.problem ?? failing?.error ?? null;
    if (problem !== null) sink.failed(problem);
  }

  private reportPolicy(sink: DiscoverySink): void {
    const { members } = this.settings;
    if (members.kind !== "inferencePool") return;
    const failing = [...this.policyReflectors].find(({ error }) => error !== null)?.error ?? null;
    // Half of it, or nothing, would take the place of what the gateway was given before this sidecar began.
    const isWhole = [...this.policyReflectors].every(({ synced, error }) => synced || isAbsent(error));
    if (!isWhole && failing === null) return;
    const { policy: made, surplus } = makePolicy(
      this.context.pool,
      members.name,
      this.view?.appProtocol ?? "http",
      this.objectives?.objects.values() ?? [],
      this.rewrites?.objects.values() ?? [],
    );
    const policy = isWhole ? made : null;
    this.policySurplus = surplus;
    const text = `${JSON.stringify(policy)} ${failing?.message ?? ""}`;
    if (text === this.lastPolicy) return;
    this.lastPolicy = text;
    if (policy !== null) this.policyNow = policy;
    sink.policy?.(policy, failing);
  }

  /** The members as they are now; null = not all was read yet. */
  private members(): EndpointInput[] | null {
    const { members } = this.settings;
    switch (members.kind) {
      case "inferencePool":
        return this.poolMembers(members.name);
      case "service":
        return this.serviceMembers(members.name, members.ports);
      case "selector":
        return this.pods?.synced
          ? podEndpoints(this.pods.objects.values(), members.ports, this.readiness)
          : null;
    }
  }

  private poolMembers(name: string): EndpointInput[] | null {
    if (!this.pools?.synced) return null;
    const found = this.pools.objects.get(name);
    if (found !== undefined) {
      this.view = found;
      this.watchPods(found.matchLabels);
    } else {
      this.problem = this.missing("InferencePool", name, this.pools.counts.refused > 0);
    }
    if (this.view === null || !this.pods?.synced) return null;
    return podEndpoints(this.pods.objects.values(), this.view.ports, this.readiness);
  }

  private serviceMembers(name: string, ports: readonly PortChoice[]): EndpointInput[] | null {
    if (!this.services?.synced || !this.slices?.synced) return null;
    const found = this.services.objects.get(name);
    if (found === undefined) this.problem = this.missing("Service", name, this.services.counts.refused > 0);
    else if (found.selector !== null) this.watchPods(found.selector);
    // Without the pods the endpoints would lack their roles for a moment.
    if (this.pods !== null && !this.pods.synced) return null;
    return sliceEndpoints(
      this.slices.objects.values(),
      this.pods?.objects ?? new Map(),
      ports,
      this.readiness,
    );
  }

  private missing(kind: string, name: string, refused: boolean): KubernetesObjectError {
    const what = refused ? "has fields that cannot be used" : "does not exist";
    return new KubernetesObjectError(`${kind} ${this.namespace}/${name} ${what}: the last endpoints stay`);
  }
}
