// Errors of the host simulator: one class per cause, each with a stable code and the offending value.

/** Base of all host errors. `code` is stable and machine-readable. */
export abstract class HostError extends Error {
  abstract readonly code: string;

  constructor(message: string) {
    super(message);
    this.name = new.target.name;
  }
}

/** The bytes are not a WebAssembly module, or a section is cut short. */
export class WasmMalformedError extends HostError {
  readonly code = "WASM_MALFORMED";

  constructor(
    readonly offset: number,
    detail: string,
  ) {
    super(`malformed WebAssembly module at byte ${offset}: ${detail}`);
  }
}

/** The module does not export the marker of ABI 0.2.1. */
export class AbiVersionError extends HostError {
  readonly code = "ABI_VERSION";

  constructor(readonly found: readonly string[]) {
    super(`no export proxy_abi_version_0_2_1; ABI markers found: ${found.join(", ") || "none"}`);
  }
}

/** The module imports something that Envoy does not register. */
export class ImportUnknownError extends HostError {
  readonly code = "IMPORT_UNKNOWN";

  constructor(readonly importName: string) {
    super(`Failed to load Wasm module due to a missing import: ${importName}`);
  }
}

/** The module imports a known function under another signature. */
export class ImportSignatureError extends HostError {
  readonly code = "IMPORT_SIGNATURE";

  constructor(
    readonly importName: string,
    wanted: string,
    offered: string,
  ) {
    super(`import type mismatch: ${importName}, want: ${wanted}, but host exports: ${offered}`);
  }
}

/** The module exports a looked-up function under another signature. */
export class ExportSignatureError extends HostError {
  readonly code = "EXPORT_SIGNATURE";

  constructor(
    readonly exportName: string,
    wanted: string,
    found: string,
  ) {
    super(`Bad function signature for: ${exportName}, want: ${wanted}, but the module exports: ${found}`);
  }
}

/** The module exports neither `malloc` nor `proxy_on_memory_allocate`. */
export class MallocMissingError extends HostError {
  readonly code = "MALLOC_MISSING";

  constructor() {
    super("Wasm module is missing malloc function.");
  }
}

/** `_initialize` or `_start` trapped. */
export class InitializeTrappedError extends HostError {
  readonly code = "INITIALIZE_TRAPPED";

  constructor(readonly reason: string) {
    super(`module initialisation trapped: ${reason}`);
  }
}

/** `proxy_on_vm_start` returned false or trapped. */
export class VmStartRefusedError extends HostError {
  readonly code = "VM_START_REFUSED";

  constructor(
    readonly rootId: string,
    readonly where: string,
  ) {
    super(`proxy_on_vm_start refused root "${rootId}" on ${where}`);
  }
}

/** `proxy_on_configure` returned false or trapped. */
export class ConfigureRefusedError extends HostError {
  readonly code = "CONFIGURE_REFUSED";

  constructor(
    readonly rootId: string,
    readonly where: string,
  ) {
    super(`proxy_on_configure refused root "${rootId}" on ${where}`);
  }
}

/** A plugin name or root id that the host does not know. */
export class PluginUnknownError extends HostError {
  readonly code = "PLUGIN_UNKNOWN";

  constructor(readonly plugin: string) {
    super(`no plugin named or rooted "${plugin}"`);
  }
}

/** A plugin of this name is already there. */
export class PluginDuplicateError extends HostError {
  readonly code = "PLUGIN_DUPLICATE";

  constructor(readonly plugin: string) {
    super(`a plugin named "${plugin}" exists already`);
  }
}

/** The worker index lies outside 0 … workers − 1. */
export class WorkerIndexError extends HostError {
  readonly code = "WORKER_INDEX";

  constructor(
    readonly index: number,
    workers: number,
  ) {
    super(`worker ${index} does not exist; there are ${workers}`);
  }
}

/** The caller drove a stream in an order that no HTTP codec can produce. */
export class StreamOrderError extends HostError {
  readonly code = "STREAM_ORDER";

  constructor(
    readonly step: string,
    readonly phase: string,
  ) {
    super(`${step} is impossible in phase ${phase}`);
  }
}

/** A host function refused to run where it is restricted; the VM traps. */
export class RestrictedCallTrap extends HostError {
  readonly code = "RESTRICTED_CALL";

  constructor(readonly functionName: string) {
    super(`restricted_callback: ${functionName}`);
  }
}

/** A trap ordered by the fault injector. */
export class InjectedTrap extends HostError {
  readonly code = "INJECTED_TRAP";

  constructor(readonly callback: string) {
    super(`injected trap in ${callback}`);
  }
}
