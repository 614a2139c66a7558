// One WebAssembly VM: its instance and memory, calls into it, traps, and what it owes after each call.
import { CALLS_ALLOWED_AT_START, CALLS_ALLOWED_IN_MALLOC } from "./abi.ts";
import type { Context, RootContext } from "./context.ts";
import { instantiate, isRuntimeError, type EngineImports, type EngineMemory } from "./engine.ts";
import { HostError, InitializeTrappedError, RestrictedCallTrap } from "./errors.ts";
import type { Metric } from "./metrics.ts";
import type { LoadedModule } from "./module.ts";
import type { HostThread } from "./thread.ts";
import { createImports } from "./imports.ts";

type Callback = (a?: number, b?: number, c?: number, d?: number, e?: number) => number;

/** Why a VM no longer runs. */
export interface VmFailure {
  readonly callback: string;
  readonly reason: string;
}

/**
 * A VM instance on one thread. Contexts of all plugins with the same vm_id, VM configuration and code live in it.
 * Single-threaded: `current` and `effectiveId` are proxy-wasm-cpp-host's thread-locals.
 */
export class WasmVm {
  readonly contexts = new Map<number, Context>();
  readonly roots = new Map<string, RootContext>();
  /** Roots whose on_done returned false: they live until proxy_done. */
  readonly pendingDone = new Map<string, RootContext>();
  readonly metricsById = new Map<number, Metric>();
  readonly nextMetricId: [number, number, number] = [0, 1, 2];
  readonly vmContext: Context;
  current: Context | null = null;
  effectiveId = 0;
  nextHttpCallToken = 0;
  /** Set by send_local_response: the running callback's status is overridden. */
  nextIterationStopped = false;
  failure: VmFailure | null = null;
  /** Host functions allowed now; null = all. None while the instance is being made. */
  allowed: ReadonlySet<string> | null = new Set();
  readonly afterCall: (() => void)[] = [];
  readonly exports: Readonly<Record<string, Callback | undefined>>;
  private readonly memory: EngineMemory;
  private readonly malloc: Callback;
  private view: Buffer;
  private nextContextId = 1;

  /**
   * Instantiates the module and runs `_initialize` (else `_start`) with most host functions restricted.
   * @throws InitializeTrappedError
   */
  constructor(
    readonly thread: HostThread,
    readonly module: LoadedModule,
    readonly vmId: string,
    readonly vmKey: string,
    readonly vmConfiguration: Buffer,
    readonly environment: readonly (readonly [string, string])[],
    makeVmContext: (vm: WasmVm) => Context,
  ) {
    this.vmContext = makeVmContext(this);
    const { imports, memory } = createImports(this, module.storageImports);
    const exports = instantiateModule(module, imports);
    this.exports = exports as Readonly<Record<string, Callback | undefined>>;
    this.memory = memory ?? (exports["memory"] as EngineMemory);
    this.view = Buffer.from(this.memory.buffer);
    this.malloc = (this.exports["malloc"] ?? this.exports["proxy_on_memory_allocate"]) as Callback;
    this.start();
  }

  get failed(): boolean {
    return this.failure !== null;
  }

  /** Bytes of linear memory. */
  get memoryBytes(): number {
    return this.memory.buffer.byteLength;
  }

  allocateContextId(): number {
    for (;;) {
      const id = this.nextContextId++;
      if (!this.contexts.has(id)) return id;
    }
  }

  /** The context host functions act on: the effective one while it lives, else the current one. */
  context(): Context {
    if (this.effectiveId !== 0) {
      const effective = this.contexts.get(this.effectiveId);
      if (effective !== undefined) return effective;
    }
    return this.current ?? this.vmContext;
  }

  /** Whether the module exports `callback`. */
  has(callback: string): boolean {
    return this.exports[callback] !== undefined;
  }

  /**
   * Calls an export as `context`. A trap fails the VM for all its streams and yields 0; errors of the host itself
   * pass through.
   */
  call(
    context: Context,
    callback: string,
    a?: number,
    b?: number,
    c?: number,
    d?: number,
    e?: number,
  ): number {
    const fn = this.exports[callback] as Callback;
    const savedContext = this.current;
    const savedEffective = this.effectiveId;
    this.current = context;
    this.effectiveId = 0;
    try {
      if (this.thread.host.faults.trapsArmed)
        this.thread.host.faults.beforeCallback(callback, this.thread.index);
      return fn(a, b, c, d, e) >>> 0;
    } catch (error) {
      this.trap(callback, error);
      return 0;
    } finally {
      this.current = savedContext;
      this.effectiveId = savedEffective;
    }
  }

  /** What proxy-wasm-cpp-host does after every callback: forget the stop mark, run deferred actions. */
  finishCall(): void {
    this.nextIterationStopped = false;
    for (let action = this.afterCall.shift(); action; action = this.afterCall.shift()) action();
  }

  /** Linear memory now; views held across a call into the module are stale when it grew. */
  mem(): Buffer {
    // Growth detaches the buffer before; asking the memory for its buffer each time costs more than the call.
    if (this.view.length === 0) this.view = Buffer.from(this.memory.buffer);
    return this.view;
  }

  /** Guest bytes as a view, or null when the range leaves the memory. */
  bytes(pointer: number, length: number): Buffer | null {
    const memory = this.mem();
    const start = pointer >>> 0;
    const end = start + (length >>> 0);
    return end > memory.length ? null : memory.subarray(start, end);
  }

  /** Guest bytes as a Latin-1 string, or null when the range leaves the memory. */
  text(pointer: number, length: number): string | null {
    const memory = this.mem();
    const start = pointer >>> 0;
    const end = start + (length >>> 0);
    return end > memory.length ? null : memory.toString("latin1", start, end);
  }

  setWord(pointer: number, value: number): boolean {
    const memory = this.mem();
    const start = pointer >>> 0;
    if (start + 4 > memory.length) return false;
    memory.writeUInt32LE(value >>> 0, start);
    return true;
  }

  setU64(pointer: number, value: bigint): boolean {
    const memory = this.mem();
    const start = pointer >>> 0;
    if (start + 8 > memory.length) return false;
    memory.writeBigUInt64LE(BigInt.asUintN(64, value), start);
    return true;
  }

  /** Asks the module for `length` bytes; 0 when it refuses, traps, or answers with a range outside its memory. */
  allocate(length: number): number {
    const savedAllowed = this.allowed;
    this.allowed = CALLS_ALLOWED_IN_MALLOC;
    const savedContext = this.current;
    const savedEffective = this.effectiveId;
    this.current = this.vmContext;
    this.effectiveId = 0;
    let pointer = 0;
    try {
      pointer = this.malloc(length) >>> 0;
    } catch (error) {
      this.trap("malloc", error);
    } finally {
      this.allowed = savedAllowed;
      this.current = savedContext;
      this.effectiveId = savedEffective;
    }
    return pointer === 0 || this.bytes(pointer, length) === null ? 0 : pointer;
  }

  /** Copies `value` to fresh guest memory and writes pointer and size; an empty one is 0/0 without malloc. */
  returnBytes(value: Uint8Array, pointerOut: number, sizeOut: number): boolean {
    let pointer = 0;
    if (value.length > 0) {
      pointer = this.allocate(value.length);
      if (pointer === 0) return false;
      this.mem().set(value, pointer);
    }
    return this.setWord(pointerOut, pointer) && this.setWord(sizeOut, value.length);
  }

  /** As `returnBytes` for a Latin-1 string, without an intermediate buffer. */
  returnText(value: string, pointerOut: number, sizeOut: number): boolean {
    let pointer = 0;
    if (value.length > 0) {
      pointer = this.allocate(value.length);
      if (pointer === 0) return false;
      this.mem().write(value, pointer, "latin1");
    }
    return this.setWord(pointerOut, pointer) && this.setWord(sizeOut, value.length);
  }

  /** Refuses a host function that is restricted now. @throws RestrictedCallTrap */
  checkAllowed(name: string): void {
    if (this.allowed !== null && !this.allowed.has(name)) throw new RestrictedCallTrap(name);
  }

  private start(): void {
    this.allowed = CALLS_ALLOWED_AT_START;
    const callback = this.has("_initialize") ? "_initialize" : "_start";
    if (this.has(callback)) this.call(this.vmContext, callback);
    if (callback === "_initialize" && this.has("main") && !this.failed)
      this.call(this.vmContext, "main", 0, 0);
    this.allowed = null;
    if (this.failure !== null) throw new InitializeTrappedError(this.failure.reason);
  }

  /** Marks the VM failed for a trap; anything else is a fault of the host and is thrown on. */
  private trap(callback: string, error: unknown): void {
    const isTrap = isRuntimeError(error) || error instanceof HostError || isOverflow(error);
    if (!isTrap) throw error;
    if (this.failure !== null) return;
    this.failure = { callback, reason: (error as Error).message };
    this.thread.onVmFailed(this);
  }
}

/** Instantiates; a start section that traps or calls the host (which has no context yet) fails the load. */
function instantiateModule(module: LoadedModule, imports: EngineImports): Readonly<Record<string, unknown>> {
  try {
    return instantiate(module.compiled, imports);
  } catch (error) {
    throw new InitializeTrappedError((error as Error).message);
  }
}

/** A stack overflow inside the module surfaces as a RangeError of the JavaScript engine. */
function isOverflow(error: unknown): boolean {
  return error instanceof RangeError && /call stack/i.test(error.message);
}
