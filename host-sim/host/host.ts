// The Proxy-Wasm host: a process with shared state, one main thread, N workers, and plugins that come and go.
import { RealClock, type Clock } from "./clock.ts";
import {
  ConfigureRefusedError,
  PluginDuplicateError,
  PluginUnknownError,
  WorkerIndexError,
} from "./errors.ts";
import { Faults } from "./faults.ts";
import type { ClusterHandler } from "./http-call.ts";
import { MetricStore, type HistogramBuckets, type StatsTag } from "./metrics.ts";
import { loadModule, type LoadedModule } from "./module.ts";
import { normalizePlugin, pluginKey, vmKey, type PluginInput, type PluginSpec } from "./plugin.ts";
import { SharedData, SharedQueues } from "./shared-state.ts";
import { HostThread, MAIN_THREAD, startRoot } from "./thread.ts";
import type { WasmVm } from "./vm.ts";

/** What all VMs of one key are made from (Envoy's base Wasm). */
export interface BaseVm {
  readonly module: LoadedModule;
  readonly vmId: string;
  readonly vmKey: string;
  readonly vmConfiguration: Buffer;
  readonly environment: readonly (readonly [string, string])[];
}

/** One configuration of one plugin; an update is another installation. */
export interface InstalledPlugin {
  readonly id: string;
  readonly spec: PluginSpec;
  readonly base: BaseVm;
  readonly pluginKey: string;
}

/** A line the guest logged. */
export interface LogLine {
  readonly level: number;
  readonly rootId: string;
  /** Worker index, −1 for the main thread. */
  readonly thread: number;
  readonly text: string;
}

/** How a host is made. */
export interface HostOptions {
  /** Path of the .wasm file, or its bytes; plugins may name another. */
  readonly module: string | Uint8Array;
  /** Worker threads, ≥ 1; 1 when absent. */
  readonly workers?: number;
  readonly plugins?: readonly PluginInput[];
  /** Time; real time when absent. */
  readonly clock?: Clock;
  /** Clusters that http_call may name; null = a cluster without hosts. */
  readonly clusters?: Readonly<Record<string, ClusterHandler | null>>;
  /** Receives log lines at or above `logLevel`. */
  readonly onLog?: (line: LogLine) => void;
  /** Lowest level that is delivered and that get_log_level answers; info when absent. */
  readonly logLevel?: number;
  /** Random bytes for WASI random_get; the host's own when absent. */
  readonly random?: (bytes: Uint8Array) => void;
  /** Default buffer limit of streams in bytes; Envoy's 1 MiB when absent. */
  readonly bufferLimitBytes?: number;
  /** Bootstrap `stats_config.stats_tags`. */
  readonly statsTags?: readonly StatsTag[];
  readonly histogramBuckets?: readonly HistogramBuckets[];
  /** Environment that `host_env_keys` reads; this process's when absent. */
  readonly hostEnvironment?: NodeJS.ProcessEnv;
}

/** Workers beyond this are refused: each holds a VM of up to 1 GiB. */
export const WORKERS_MAX = 256;

/** A running host. Made by `createHost`. */
export class ProxyWasmHost {
  readonly faults = new Faults();
  readonly sharedData = new SharedData();
  readonly sharedQueues = new SharedQueues();
  readonly metrics: MetricStore;
  readonly clusters = new Map<string, ClusterHandler | null>();
  readonly clock: Clock;
  readonly main: HostThread;
  readonly logLevel: number;
  readonly bufferLimitBytes: number | undefined;
  /** VMs that trapped, oldest first: thread index, callback, reason. */
  readonly failures: { thread: number; callback: string; reason: string }[] = [];
  private readonly threads: readonly HostThread[];
  private readonly bases = new Map<string, BaseVm>();
  private readonly canaryPassed = new Set<string>();
  private readonly current = new Map<string, InstalledPlugin>();
  private readonly installedPlugins = new Set<InstalledPlugin>();
  private readonly modules = new Map<string | Uint8Array, Promise<LoadedModule>>();
  private nextInstallation = 0;

  constructor(private readonly options: HostOptions) {
    const workers = options.workers ?? 1;
    if (!Number.isInteger(workers) || workers < 1 || workers > WORKERS_MAX)
      throw new WorkerIndexError(workers, WORKERS_MAX);
    this.clock = options.clock ?? new RealClock();
    this.logLevel = options.logLevel ?? 2;
    this.bufferLimitBytes = options.bufferLimitBytes;
    this.metrics = new MetricStore(options.statsTags, options.histogramBuckets);
    for (const [name, handler] of Object.entries(options.clusters ?? {})) this.clusters.set(name, handler);
    this.sharedData.setFault = (_vmId, key) => this.faults.beforeSharedDataSet(key);
    this.main = new HostThread(this, MAIN_THREAD, this.clock);
    this.threads = Array.from({ length: workers }, (_, index) => new HostThread(this, index, this.clock));
  }

  /** Number of workers. */
  get workers(): number {
    return this.threads.length;
  }

  /** A worker by index from 0. @throws WorkerIndexError */
  worker(index: number): HostThread {
    const thread = this.threads[index];
    if (thread === undefined) throw new WorkerIndexError(index, this.threads.length);
    return thread;
  }

  /** Starts the initial plugins as Envoy does: all of them on the main thread before any worker runs. */
  async start(plugins: readonly PluginInput[]): Promise<void> {
    const added: InstalledPlugin[] = [];
    for (const input of plugins) {
      const installed = await this.prepare(input);
      if (this.current.has(installed.spec.name)) throw new PluginDuplicateError(installed.spec.name);
      this.installOnMain(installed);
      added.push(installed);
    }
    for (const thread of this.threads) for (const installed of added) thread.install(installed);
  }

  /**
   * Adds a plugin to a running host, in Envoy's order: base VM, canary (context_create, vm_start, configure, then killed), main
   * thread, every worker.
   * @throws the load errors of module.ts, VmStartRefusedError, ConfigureRefusedError, PluginDuplicateError
   */
  async addPlugin(input: PluginInput): Promise<void> {
    const installed = await this.prepare(input);
    if (this.current.has(installed.spec.name)) throw new PluginDuplicateError(installed.spec.name);
    this.install(installed);
  }

  /**
   * Replaces a plugin's configuration as a listener update does: the new root starts in the same living VM (when the
   * VM key is the same) while the old one still serves its streams. Returns a function that ends the old root, as
   * the drained listener does.
   */
  async updatePlugin(input: PluginInput): Promise<() => void> {
    const installed = await this.prepare(input);
    const old = this.current.get(installed.spec.name);
    if (old === undefined) throw new PluginUnknownError(installed.spec.name);
    this.install(installed);
    return () => this.uninstall(old);
  }

  /** Removes a plugin: on_done and on_delete of its roots; its base VM goes when no plugin uses it. */
  removePlugin(name: string): void {
    const installed = this.current.get(name);
    if (installed === undefined) throw new PluginUnknownError(name);
    this.current.delete(name);
    this.uninstall(installed);
  }

  /** Ends the process: every plugin is removed, and roots that were not done are dropped. */
  close(): void {
    for (const name of [...this.current.keys()]) this.removePlugin(name);
    for (const thread of [this.main, ...this.threads]) thread.close();
  }

  /** Installation id of a plugin by name or root id. */
  currentId(plugin: string): string | undefined {
    const named = this.current.get(plugin);
    if (named !== undefined) return named.id;
    for (const installed of this.current.values()) if (installed.spec.rootId === plugin) return installed.id;
    return undefined;
  }

  /** Delivers a guest's log line. */
  log(thread: HostThread, rootId: string, level: number, text: string): void {
    if (level >= this.logLevel) this.options.onLog?.({ level, rootId, thread: thread.index, text });
  }

  /** Fills bytes for WASI random_get. */
  fillRandom(bytes: Uint8Array): void {
    if (this.options.random !== undefined) this.options.random(bytes);
    else crypto.getRandomValues(bytes);
  }

  onVmFailed(thread: HostThread, vm: WasmVm): void {
    if (vm.failure === null) return;
    this.failures.push({ thread: thread.index, ...vm.failure });
    this.log(thread, "", 5, `Plugin Crash: Function: ${vm.failure.callback} failed: ${vm.failure.reason}`);
  }

  private async prepare(input: PluginInput): Promise<InstalledPlugin> {
    const source = input.module ?? this.options.module;
    let loading = this.modules.get(source);
    if (loading === undefined) this.modules.set(source, (loading = loadModule(source)));
    const module = await loading;
    const spec = normalizePlugin(input, this.options.hostEnvironment ?? process.env);
    const key = vmKey(spec, module.sha256);
    let base = this.bases.get(key);
    if (base === undefined) {
      const { vmId, vmConfiguration, environment } = spec;
      base = { module, vmId, vmKey: key, vmConfiguration, environment };
      // The base VM itself runs `_initialize` once and nothing else.
      this.main.createVm(base);
      this.bases.set(key, base);
    }
    return { id: `${spec.name}#${this.nextInstallation++}`, spec, base, pluginKey: pluginKey(spec) };
  }

  private install(installed: InstalledPlugin): void {
    this.installOnMain(installed);
    for (const thread of this.threads) thread.install(installed);
  }

  private installOnMain(installed: InstalledPlugin): void {
    this.canary(installed);
    this.main.install(installed);
    this.installedPlugins.add(installed);
    this.current.set(installed.spec.name, installed);
  }

  /** Tries the configuration on a throw-away VM, once per plugin key. */
  private canary(installed: InstalledPlugin): void {
    const key = `${installed.base.vmKey}||${installed.pluginKey}`;
    if (this.canaryPassed.has(key)) return;
    const vm = this.main.createVm(installed.base);
    const root = startRoot(vm, installed);
    const accepted = root.configure();
    root.drop();
    if (!accepted) throw new ConfigureRefusedError(installed.spec.rootId, "the canary VM");
    this.canaryPassed.add(key);
  }

  private uninstall(installed: InstalledPlugin): void {
    this.main.uninstall(installed);
    for (const thread of this.threads) thread.uninstall(installed);
    this.installedPlugins.delete(installed);
    const others = [...this.installedPlugins];
    if (!others.some((one) => one.base.vmKey === installed.base.vmKey))
      this.bases.delete(installed.base.vmKey);
    if (others.some((one) => one.spec.vmId === installed.spec.vmId)) return;
    this.sharedData.deleteVmId(installed.spec.vmId);
    this.sharedQueues.deleteVmId(installed.spec.vmId);
  }
}

/** Makes a host and starts its plugins. */
export async function createHost(options: HostOptions): Promise<ProxyWasmHost> {
  const host = new ProxyWasmHost(options);
  await host.start(options.plugins ?? []);
  return host;
}
