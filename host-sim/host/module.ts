// Loads a Wasm file once: checks its ABI marker, every import and every looked-up export, then compiles it.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { ABI_VERSION_EXPORT, ENV_FUNCTIONS, MODULE_EXPORTS, WASI_FUNCTIONS, WASI_MODULES } from "./abi.ts";
import { compile, type EngineModule } from "./engine.ts";
import {
  AbiVersionError,
  ExportSignatureError,
  ImportSignatureError,
  ImportUnknownError,
  MallocMissingError,
} from "./errors.ts";
import { readWasmInterface, type StorageImport, type WasmInterface } from "./wasm-binary.ts";

/** A checked and compiled module. */
export interface LoadedModule {
  readonly compiled: EngineModule;
  /** Memories and tables that every instance needs. */
  readonly storageImports: readonly StorageImport[];
  /** SHA-256 of the bytes: part of the VM key, as in Envoy. */
  readonly sha256: string;
}

/** The signature Envoy offers for an import, or undefined when it offers none. */
function offeredSignature(module: string, name: string): string | undefined {
  if (module === "env") return ENV_FUNCTIONS[name];
  return (WASI_MODULES as readonly string[]).includes(module) ? WASI_FUNCTIONS[name] : undefined;
}

function checkInterface(found: WasmInterface): void {
  if (!found.functionExports.has(ABI_VERSION_EXPORT)) {
    throw new AbiVersionError(
      [...found.functionExports.keys()].filter((name) => name.startsWith("proxy_abi_version")),
    );
  }
  for (const { module, name, signature } of found.functionImports) {
    const offered = offeredSignature(module, name);
    if (offered === undefined) throw new ImportUnknownError(`${module}.${name}`);
    if (offered !== signature) throw new ImportSignatureError(`${module}.${name}`, signature, offered);
  }
  const other = found.otherImports[0];
  if (other !== undefined) throw new ImportUnknownError(other);
  const malloc = found.functionExports.has("malloc") ? "malloc" : "proxy_on_memory_allocate";
  if (!found.functionExports.has(malloc)) throw new MallocMissingError();
  for (const [name, wanted] of Object.entries(MODULE_EXPORTS)) {
    // `malloc` wins over its alias, and `_start` is looked up only without `_initialize`: the other is never seen.
    if (name === "proxy_on_memory_allocate" && malloc === "malloc") continue;
    if (name === "_start" && found.functionExports.has("_initialize")) continue;
    if (name === "main" && !found.functionExports.has("_initialize")) continue;
    const signature = found.functionExports.get(name)?.signature;
    if (signature !== undefined && signature !== wanted)
      throw new ExportSignatureError(name, wanted, signature);
  }
}

/**
 * Checks and compiles a module.
 * @param source path of a .wasm file, or its bytes.
 * @throws WasmMalformedError, AbiVersionError, ImportUnknownError, ImportSignatureError, ExportSignatureError,
 *   MallocMissingError
 */
export async function loadModule(source: string | Uint8Array): Promise<LoadedModule> {
  const bytes = typeof source === "string" ? await readFile(source) : source;
  const found = readWasmInterface(bytes);
  checkInterface(found);
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  return { compiled: await compile(bytes), storageImports: found.storageImports, sha256 };
}
