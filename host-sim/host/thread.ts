// One Envoy thread: its VMs, its copy of every plugin, reloading after traps, and opening streams.
import type { Clock } from "./clock.ts";
import { Context, RootContext } from "./context.ts";
import { ConfigureRefusedError, PluginUnknownError, VmStartRefusedError } from "./errors.ts";
import type { HeaderInput } from "./header-map.ts";
import type { BaseVm, InstalledPlugin, ProxyWasmHost } from "./host.ts";
import type { DownstreamSink, UpstreamSink } from "./sinks.ts";
import { BUFFER_LIMIT_BYTES, Stream } from "./stream.ts";
import { FailedFilter } from "./stream-filter.ts";
import { StreamContext } from "./stream-context.ts";
import { StreamInfo, type StreamInfoInput } from "./stream-info.ts";
import { WasmVm } from "./vm.ts";

/** How a stream is opened. */
export interface StreamOptions extends StreamInfoInput {
  /** Request headers to deliver at once; otherwise the caller calls `requestHeaders`. */
  readonly headers?: HeaderInput;
  /** With `headers`: they end the request. */
  readonly end?: boolean;
  /** Buffer limit of both directions in bytes, 0 = none; the host's when absent. */
  readonly bufferLimitBytes?: number;
  /** Where the request goes; a recorder when absent. */
  readonly upstream?: UpstreamSink;
  /** Where the response goes; a recorder when absent. */
  readonly downstream?: DownstreamSink;
}

/** A plugin as this thread runs it. */
interface PluginHandle {
  readonly installed: InstalledPlugin;
  vm: WasmVm;
  root: RootContext;
  lastLoadMs: number;
}

/** Index of the main thread among the threads of a host. */
export const MAIN_THREAD = -1;

/** A worker, or the main thread (index −1), which has VMs and ticks but no streams. */
export class HostThread {
  private readonly vms = new Map<string, WasmVm>();
  private readonly handles = new Map<string, PluginHandle>();

  constructor(
    readonly host: ProxyWasmHost,
    readonly index: number,
    readonly clock: Clock,
  ) {}

  get name(): string {
    return this.index === MAIN_THREAD ? "main" : `worker ${this.index}`;
  }

  /** Makes a VM of the base's module on this thread and runs its `_initialize`. */
  createVm(base: BaseVm): WasmVm {
    const makeContext = (vm: WasmVm): Context => new Context(vm, 0);
    const { module, vmId, vmKey, vmConfiguration, environment } = base;
    return new WasmVm(this, module, vmId, vmKey, vmConfiguration, environment, makeContext);
  }

  /** Starts a plugin here, in the VM that plugins of the same VM key share. */
  install(installed: InstalledPlugin): void {
    const { vm, root } = this.start(installed);
    this.handles.set(installed.id, { installed, vm, root, lastLoadMs: this.clock.monotonicMs() });
  }

  /** Lets a plugin go: on_done and, when it agrees, on_delete of its root. */
  uninstall(installed: InstalledPlugin): void {
    const handle = this.handles.get(installed.id);
    if (handle === undefined) return;
    this.handles.delete(installed.id);
    const { vm, root } = handle;
    if (vm.roots.get(root.pluginKey) !== root) return;
    vm.roots.delete(root.pluginKey);
    if (root.onDone()) root.onDelete();
    else vm.pendingDone.set(root.pluginKey, root);
  }

  /** Drops what is left of the VMs: no tick fires any more. */
  close(): void {
    for (const vm of this.vms.values()) {
      for (const root of [...vm.roots.values(), ...vm.pendingDone.values()]) root.drop();
    }
    this.vms.clear();
  }

  /** The plugin's current VM here, for tests that look into it. */
  vmOf(plugin: string): WasmVm {
    return this.handle(plugin).vm;
  }

  /** The plugin's current root context here. */
  rootOf(plugin: string): RootContext {
    return this.handle(plugin).root;
  }

  /**
   * Opens a stream on a plugin (by name or root id).
   * @throws PluginUnknownError
   */
  openStream(plugin: string, options: StreamOptions = {}): Stream {
    const handle = this.handle(plugin);
    const limitBytes = options.bufferLimitBytes ?? this.host.bufferLimitBytes ?? BUFFER_LIMIT_BYTES;
    const info = new StreamInfo(options, this.clock.wallNs());
    const sinks: { upstream?: UpstreamSink; downstream?: DownstreamSink } = {};
    if (options.upstream !== undefined) sinks.upstream = options.upstream;
    if (options.downstream !== undefined) sinks.downstream = options.downstream;
    const stream = new Stream(info, limitBytes, sinks, () => this.clock.wallNs());
    this.reloadIfNeeded(handle);
    const { spec } = handle.installed;
    if (!handle.vm.failed) stream.attach(new StreamContext(handle.vm, handle.root, spec, stream));
    else if (spec.failurePolicy !== "open") stream.attach(new FailedFilter(stream));
    if (options.headers !== undefined) stream.requestHeaders(options.headers, options.end ?? false);
    return stream;
  }

  /** A VM of this thread trapped: nothing new is started in it. */
  onVmFailed(vm: WasmVm): void {
    if (this.vms.get(vm.vmKey) === vm) this.vms.delete(vm.vmKey);
    this.host.onVmFailed(this, vm);
  }

  /** The living VM of a key, if any: what shared-queue notices are delivered to. */
  livingVm(vmKey: string): WasmVm | undefined {
    return this.vms.get(vmKey);
  }

  private handle(plugin: string): PluginHandle {
    const id = this.host.currentId(plugin);
    const handle = id === undefined ? undefined : this.handles.get(id);
    if (handle === undefined) throw new PluginUnknownError(plugin);
    return handle;
  }

  private start(installed: InstalledPlugin): { vm: WasmVm; root: RootContext } {
    const { base, spec, pluginKey } = installed;
    let vm = this.vms.get(base.vmKey);
    if (vm === undefined) this.vms.set(base.vmKey, (vm = this.createVm(base)));
    const root = startRoot(vm, installed);
    if (vm.failed) this.vms.delete(base.vmKey);
    if (!root.configure()) throw new ConfigureRefusedError(spec.rootId, this.name);
    vm.roots.set(pluginKey, root);
    return { vm, root };
  }

  /** FAIL_RELOAD: a failed VM is replaced for the next stream, at most once per back-off. */
  private reloadIfNeeded(handle: PluginHandle): void {
    const { spec } = handle.installed;
    if (!handle.vm.failed || spec.failurePolicy !== "reload") return;
    const now = this.clock.monotonicMs();
    if (now - handle.lastLoadMs < spec.reloadBackoffMs) return;
    handle.lastLoadMs = now;
    try {
      const { vm, root } = this.start(handle.installed);
      handle.vm = vm;
      handle.root = root;
    } catch (error) {
      if (!(error instanceof ConfigureRefusedError || error instanceof VmStartRefusedError)) throw error;
    }
  }
}

/** Makes a root context and runs on_context_create and on_vm_start. @throws VmStartRefusedError */
export function startRoot(vm: WasmVm, installed: InstalledPlugin): RootContext {
  const { spec, pluginKey } = installed;
  const known = vm.roots.get(pluginKey);
  const root = known ?? new RootContext(vm, spec, pluginKey);
  vm.roots.set(pluginKey, root);
  if (!root.start()) throw new VmStartRefusedError(spec.rootId, vm.thread.name);
  return root;
}
