// What configures a plugin: the fields of Envoy's PluginConfig that the host acts on.
import { createHash } from "node:crypto";

/** What happens after a trap (`FailurePolicy`). */
export type FailurePolicy = "closed" | "open" | "reload";

/** Default back-off between two reloads of one plugin on one thread, in milliseconds. */
export const RELOAD_BACKOFF_MS = 1_000;

/** A plugin as the caller describes it. */
export interface PluginInput {
  /** Unique name; the root id when absent. */
  readonly name?: string;
  /** Chooses the role inside the module. */
  readonly rootId: string;
  /** Scope of shared data; plugins with equal vm_id, VM configuration and code share one VM a thread. */
  readonly vmId?: string;
  readonly configuration?: string | Uint8Array;
  readonly vmConfiguration?: string | Uint8Array;
  /** Another module than the host's, as a path or bytes. */
  readonly module?: string | Uint8Array;
  readonly failurePolicy?: FailurePolicy;
  /** Shortest time between two reloads, ms. */
  readonly reloadBackoffMs?: number;
  /** Whether StopIteration from request headers leaves body callbacks running (Envoy ≥ 1.35). */
  readonly allowOnHeadersStopIteration?: boolean;
  /** Environment variables taken from this process, as `host_env_keys`; unset ones are left out. */
  readonly hostEnvKeys?: readonly string[];
  /** Environment variables given literally, as `key_values`. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** A plugin with every default filled in. */
export interface PluginSpec {
  readonly name: string;
  readonly rootId: string;
  readonly vmId: string;
  readonly configuration: Buffer;
  readonly vmConfiguration: Buffer;
  readonly failurePolicy: FailurePolicy;
  readonly reloadBackoffMs: number;
  readonly allowOnHeadersStopIteration: boolean;
  readonly environment: readonly (readonly [string, string])[];
}

/** Fills in the defaults of Envoy's PluginConfig. */
export function normalizePlugin(input: PluginInput, hostEnvironment: NodeJS.ProcessEnv): PluginSpec {
  const environment: [string, string][] = [];
  for (const key of input.hostEnvKeys ?? []) {
    const value = hostEnvironment[key];
    if (value !== undefined) environment.push([key, value]);
  }
  for (const [key, value] of Object.entries(input.environment ?? {})) environment.push([key, value]);
  return {
    name: input.name ?? input.rootId,
    rootId: input.rootId,
    vmId: input.vmId ?? "",
    configuration: toBuffer(input.configuration),
    vmConfiguration: toBuffer(input.vmConfiguration),
    failurePolicy: input.failurePolicy ?? "closed",
    reloadBackoffMs: input.reloadBackoffMs ?? RELOAD_BACKOFF_MS,
    allowOnHeadersStopIteration: input.allowOnHeadersStopIteration ?? false,
    environment,
  };
}

/** Key of a plugin inside a VM: a plugin with another configuration is another root context. */
export function pluginKey(spec: PluginSpec): string {
  return createHash("sha256")
    .update(spec.name)
    .update("||")
    .update(spec.rootId)
    .update("||")
    .update(spec.configuration)
    .digest("hex");
}

/** Key of a VM: plugins that agree on it share one VM a thread. */
export function vmKey(spec: PluginSpec, moduleSha256: string): string {
  return createHash("sha256")
    .update(spec.vmId)
    .update("||")
    .update(spec.vmConfiguration)
    .update("||")
    .update(moduleSha256)
    .digest("hex");
}

function toBuffer(value: string | Uint8Array | undefined): Buffer {
  return Buffer.from(value ?? "");
}
