// Contexts as the guest sees them: the VM's own, and one root per plugin with its ticks, queues and http calls.
import { BufferType, MapType, Result } from "./abi.ts";
import { ByteQueue } from "./byte-queue.ts";
import type { Timer } from "./clock.ts";
import type { HeaderMap } from "./header-map.ts";
import type { HttpCallReply } from "./http-call.ts";
import type { PluginSpec } from "./plugin.ts";
import type { PropertyValue } from "./properties.ts";
import type { WasmVm } from "./vm.ts";

/** A buffer as get/set_buffer_bytes meets it; `writable` false makes every write BadArgument. */
export interface GuestBuffer {
  readonly bytes: ByteQueue;
  readonly writable: boolean;
}

/** What every context answers; the VM context answers as one without stream, plugin or root. */
export class Context {
  constructor(
    readonly vm: WasmVm,
    readonly id: number,
  ) {}

  /** The root context of this context's plugin; http calls and ticks belong to it. */
  get root(): RootContext | null {
    return null;
  }

  get plugin(): PluginSpec | null {
    return this.root?.plugin ?? null;
  }

  /** The map for reading; null = not available now. */
  mapForRead(type: number): HeaderMap | null {
    const response = this.root?.httpCallReply ?? null;
    if (type === MapType.HTTP_CALL_RESPONSE_HEADERS) return response?.headers ?? null;
    if (type === MapType.HTTP_CALL_RESPONSE_TRAILERS) return response?.trailers ?? null;
    return null;
  }

  /** The map for writing; null = not available now. Only stream maps can be written. */
  mapForWrite(_type: number): HeaderMap | null {
    return null;
  }

  /** What get_header_map_value answers when there is no map. */
  get absentMapResult(): Result {
    return Result.BAD_ARGUMENT;
  }

  /** The buffer of a type; null = NotFound. */
  buffer(type: number): GuestBuffer | null {
    switch (type) {
      case BufferType.HTTP_REQUEST_BODY:
      case BufferType.HTTP_RESPONSE_BODY:
      case BufferType.NETWORK_DOWNSTREAM_DATA:
      case BufferType.NETWORK_UPSTREAM_DATA:
      case BufferType.GRPC_RECEIVE_BUFFER:
      case BufferType.CALL_DATA:
        return { bytes: new ByteQueue(), writable: false };
      case BufferType.VM_CONFIGURATION:
        return { bytes: ByteQueue.of(this.vm.vmConfiguration), writable: false };
      case BufferType.PLUGIN_CONFIGURATION: {
        const configuration = this.root?.configurationInReach ?? null;
        return configuration === null ? null : { bytes: ByteQueue.of(configuration), writable: false };
      }
      case BufferType.HTTP_CALL_RESPONSE_BODY: {
        const reply = this.root?.httpCallReply ?? null;
        return reply === null ? null : { bytes: ByteQueue.of(reply.body), writable: false };
      }
      default:
        return null;
    }
  }

  /** The value of a top-level property name. */
  property(name: string): PropertyValue | undefined {
    if (name === "plugin_vm_id") return this.vm.vmId;
    if (name === "plugin_root_id") return this.plugin?.rootId ?? "";
    if (name === "plugin_name") return this.plugin?.name;
    return undefined;
  }

  /** Stores filter state `wasm.<path>`; only streams have any. */
  setProperty(_path: string, _value: Uint8Array): Result {
    return Result.NOT_FOUND;
  }

  /** Stores a typed filter-state object (foreign function set_envoy_filter_state); only streams have any. */
  setEnvoyFilterState(_name: string, _value: Uint8Array): Result {
    return Result.NOT_FOUND;
  }

  /** Headers of a stream changed: the route must be chosen anew. */
  onHeadersModified(_type: number): void {}

  continueStream(type: number): Result {
    return type === 3 ? Result.UNIMPLEMENTED : Result.OK;
  }

  closeStream(_type: number): Result {
    return Result.OK;
  }

  sendLocalResponse(_status: number, _body: Buffer, _headers: HeaderMap, _details: string): void {}
}

/** The root context of one plugin in one VM. */
export class RootContext extends Context {
  /** The reply readable now, only while on_http_call_response runs. */
  httpCallReply: HttpCallReply | null = null;
  /** What get_status answers after a failed call. */
  status: { code: number; message: string } = { code: 0, message: "" };
  /** Plugin configuration, readable only in on_configure. */
  configurationInReach: Buffer | null = null;
  private created = false;
  private tickMs = 0;
  private tickTimer: Timer | null = null;

  constructor(
    vm: WasmVm,
    private readonly spec: PluginSpec,
    readonly pluginKey: string,
  ) {
    super(vm, vm.allocateContextId());
    vm.contexts.set(this.id, this);
  }

  override get root(): RootContext {
    return this;
  }

  override get plugin(): PluginSpec {
    return this.spec;
  }

  /** on_context_create, then on_vm_start. False = refused. */
  start(): boolean {
    if (this.vm.has("proxy_on_context_create")) {
      this.vm.call(this, "proxy_on_context_create", this.id, 0);
      this.created = true;
    }
    let accepted = true;
    if (this.vm.has("proxy_on_vm_start")) {
      const bytes = this.vm.vmConfiguration.length;
      accepted = this.vm.call(this, "proxy_on_vm_start", this.id, bytes) !== 0;
    }
    this.vm.finishCall();
    return accepted && !this.vm.failed;
  }

  /** on_configure with the plugin configuration in reach. False = refused. */
  configure(): boolean {
    if (this.vm.failed) return true;
    if (!this.created && this.vm.has("proxy_on_context_create")) {
      this.vm.call(this, "proxy_on_context_create", this.id, 0);
      this.vm.finishCall();
    }
    this.created = true;
    if (!this.vm.has("proxy_on_configure")) return true;
    this.configurationInReach = this.spec.configuration;
    const accepted = this.vm.call(this, "proxy_on_configure", this.id, this.spec.configuration.length) !== 0;
    this.configurationInReach = null;
    this.vm.finishCall();
    return accepted && !this.vm.failed;
  }

  /** Starts, changes or (0) stops the tick; it is re-armed after each handler. */
  setTickPeriod(periodMs: number): void {
    this.tickTimer?.cancel();
    this.tickTimer = null;
    this.tickMs = periodMs;
    if (periodMs > 0) this.armTick();
  }

  onQueueReady(token: number): void {
    if (this.vm.failed || !this.vm.has("proxy_on_queue_ready")) return;
    this.vm.call(this, "proxy_on_queue_ready", this.id, token);
    this.vm.finishCall();
  }

  /** on_done; false = the plugin wants to finish later through proxy_done. */
  onDone(): boolean {
    if (this.vm.failed || !this.vm.has("proxy_on_done")) return true;
    const done = this.vm.call(this, "proxy_on_done", this.id) !== 0;
    this.vm.finishCall();
    return done;
  }

  /** on_delete; afterwards the context is gone. */
  onDelete(): void {
    if (this.created && !this.vm.failed && this.vm.has("proxy_on_delete")) {
      this.vm.call(this, "proxy_on_delete", this.id);
      this.vm.finishCall();
    }
    this.drop();
  }

  /** Removes the context without telling the guest: its VM is gone. */
  drop(): void {
    this.tickTimer?.cancel();
    this.tickTimer = null;
    this.vm.contexts.delete(this.id);
  }

  private armTick(): void {
    this.tickTimer?.cancel();
    this.tickTimer = this.vm.thread.clock.after(this.tickMs, () => {
      this.tickTimer = null;
      if (!this.vm.contexts.has(this.id)) return;
      if (!this.vm.failed && this.vm.has("proxy_on_tick")) {
        this.vm.call(this, "proxy_on_tick", this.id);
        this.vm.finishCall();
      }
      if (this.tickMs > 0 && this.vm.contexts.has(this.id)) this.armTick();
    });
  }
}
