// The parts of the engine's WebAssembly API that the host uses; Node's type declarations leave them out.

/** A compiled module. */
export interface EngineModule {
  readonly kind?: "WebAssembly.Module";
}

/** Linear memory; `buffer` is another object after the memory grew. */
export interface EngineMemory {
  readonly buffer: ArrayBuffer;
}

/** Size of a memory (pages) or table (elements). */
export interface EngineLimits {
  readonly initial: number;
  readonly maximum?: number;
}

/** Functions, memories and tables by module and name. */
export type EngineImports = Readonly<Record<string, Readonly<Record<string, object>>>>;

interface Engine {
  compile(bytes: Uint8Array): Promise<EngineModule>;
  Instance: new (
    module: EngineModule,
    imports: EngineImports,
  ) => { readonly exports: Readonly<Record<string, unknown>> };
  Memory: new (limits: EngineLimits) => EngineMemory;
  Table: new (limits: EngineLimits & { readonly element: "anyfunc" }) => object;
  RuntimeError: new (message?: string) => Error;
}

const engine = (globalThis as unknown as { readonly WebAssembly: Engine }).WebAssembly;

/** Compiles a binary. Rejects with the engine's error when it does not validate. */
export function compile(bytes: Uint8Array): Promise<EngineModule> {
  return engine.compile(bytes);
}

/** Instantiates a module; its start section, if any, runs. */
export function instantiate(module: EngineModule, imports: EngineImports): Readonly<Record<string, unknown>> {
  return new engine.Instance(module, imports).exports;
}

/** A memory for a module that imports one. */
export function makeMemory(limits: EngineLimits): EngineMemory {
  return new engine.Memory(limits);
}

/** A function table for a module that imports one. */
export function makeTable(limits: EngineLimits): object {
  return new engine.Table({ ...limits, element: "anyfunc" });
}

/** True for a trap raised by WebAssembly code. */
export function isRuntimeError(error: unknown): boolean {
  return error instanceof engine.RuntimeError;
}
