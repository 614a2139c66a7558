// The import object of one VM: every host function, guarded by what may be called now.
import { WASI_MODULES } from "./abi.ts";
import { makeMemory, makeTable, type EngineImports, type EngineMemory } from "./engine.ts";
import { httpFunctions } from "./imports-http.ts";
import { sharedFunctions } from "./imports-shared.ts";
import { systemFunctions } from "./imports-system.ts";
import { wasiFunctions } from "./imports-wasi.ts";
import type { WasmVm } from "./vm.ts";
import type { StorageImport } from "./wasm-binary.ts";

/** A host function; the parameters are i32 as signed numbers, i64 as bigint. */
export type HostFunction = (...args: never[]) => unknown;
/** Host functions by import name. */
export type HostFunctions = Readonly<Record<string, HostFunction>>;

type Any = (...args: unknown[]) => unknown;

/** Wraps a function so that it traps where it is restricted (inside `malloc` and `_initialize`). */
function guarded(vm: WasmVm, name: string, fn: HostFunction): Any {
  const call = fn as unknown as Any;
  return (a, b, c, d, e, f, g, h, i, j, k, l) => {
    if (vm.allowed !== null) vm.checkAllowed(name);
    return call(a, b, c, d, e, f, g, h, i, j, k, l);
  };
}

/** What a VM is instantiated with: host functions, and a fresh memory and tables if the module imports them. */
export interface VmImports {
  readonly imports: EngineImports;
  readonly memory: EngineMemory | null;
}

/** All host functions of ABI 0.2.1 and WASI, bound to `vm`, plus the storage that `storageImports` asks for. */
export function createImports(vm: WasmVm, storageImports: readonly StorageImport[]): VmImports {
  const env: Record<string, object> = {};
  for (const functions of [systemFunctions(vm), sharedFunctions(vm), httpFunctions(vm)]) {
    for (const [name, fn] of Object.entries(functions)) env[name] = guarded(vm, name, fn);
  }
  const wasi: Record<string, object> = {};
  for (const [name, fn] of Object.entries(wasiFunctions(vm))) wasi[name] = guarded(vm, name, fn);
  const imports: Record<string, Record<string, object>> = { env };
  for (const module of WASI_MODULES) imports[module] = wasi;
  let memory: EngineMemory | null = null;
  for (const { module, name, kind, initial, maximum } of storageImports) {
    const limits = maximum === undefined ? { initial } : { initial, maximum };
    const space = (imports[module] ??= {});
    if (kind === "memory") space[name] = memory = makeMemory(limits);
    else space[name] = makeTable(limits);
  }
  return { imports, memory };
}
