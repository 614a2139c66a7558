// The engine's WebAssembly API as the unit tests use it; Node's type declarations leave it out.
declare namespace WebAssembly {
  interface Memory {
    readonly buffer: ArrayBuffer;
  }
  interface Instance {
    readonly exports: Readonly<Record<string, unknown>>;
  }
  const Module: new (bytes: Uint8Array) => Module;
  const Instance: new (module: Module, imports: object) => Instance;
  function compile(bytes: Uint8Array): Promise<Module>;
}
