// The filter's module: allocates nothing, grows nothing, imports only what Envoy has, and uses SIMD.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import asc from "assemblyscript/asc";
import binaryen from "binaryen";
import { beforeAll, describe, expect, it } from "vitest";
import { buildDebugWasm, buildWasm } from "../../scripts/build.mjs";
import { forbiddenCode } from "../../scripts/wasm-checks.mjs";
import { GUEST_EXPORTS, HOST_FUNCTIONS, NEEDED_EXPORTS, WASI_FUNCTIONS } from "./abi-table.ts";
import { allocations, reachable, readCallGraph } from "./call-graph.ts";
import { ROOT } from "./files.ts";
import { readWasm, type WasmModule } from "./wasm-module.ts";

/** 64 MiB of linear memory a worker, in 64 KiB pages. */
const MEMORY_PAGES_MAX = 1024;
const BUILD_TIMEOUT_MS = 480_000;

const build = (name: string): Buffer => readFileSync(join(ROOT, "build", name));

/** Imports that Envoy does not offer, or offers with another signature. */
function importFaults({ imports }: Pick<WasmModule, "imports">): string[] {
  const offered: Readonly<Record<string, Readonly<Record<string, string>>>> = {
    env: HOST_FUNCTIONS,
    wasi_snapshot_preview1: WASI_FUNCTIONS,
  };
  return imports
    .filter(({ module, name, type }) => offered[module]?.[name] !== type)
    .map(({ module, name, type }) => `${module}.${name} ${type}`);
}

/** Exports that the host does not look up, has with another signature, or misses. */
function exportFaults({ exports }: Pick<WasmModule, "exports">): string[] {
  const wrong = exports.filter(({ name, type }) => type !== "memory" && GUEST_EXPORTS[name] !== type);
  const missing = NEEDED_EXPORTS.filter((anyOf) => !exports.some(({ name }) => anyOf.includes(name)));
  return [
    ...wrong.map(({ name, type }) => `${name} ${type}`),
    ...missing.map((anyOf) => `${anyOf.join(" or ")} is missing`),
  ];
}

async function compile(source: string): Promise<{ wat: string; wasm: Uint8Array }> {
  const options = { runtime: "stub", optimizeLevel: 0, exportStart: "_initialize", textFile: "text" };
  const result = await asc.compileString(source, { ...options, use: ["abort="], debug: true } as never);
  if (result.error) throw result.error;
  return { wat: result.text!, wasm: result.binary! };
}

describe("the filter's module", () => {
  let module: WasmModule;
  let text: string;

  beforeAll(async () => {
    await buildWasm();
    await buildDebugWasm();
    module = readWasm(build("epp.wasm"));
    text = binaryen.readBinary(build("epp.wasm")).emitText();
  }, BUILD_TIMEOUT_MS);

  it("allocates nothing: no allocator can be reached from an export of the unoptimised build", () => {
    const graph = readCallGraph(build("epp.debug.wat").toString());
    expect(graph.roots).toHaveLength(module.exports.length - 1);
    expect(reachable(graph).size).toBeGreaterThan(100);
    expect(allocations(graph)).toEqual([]);
  });

  it("has no allocator, no collector and no memory.grow in the optimised text", () => {
    expect(forbiddenCode(build("epp.raw.wat").toString())).toEqual([]);
    expect(forbiddenCode(text)).toEqual([]);
  });

  it("imports only host functions that Envoy has, each with the ABI's signature", () => {
    expect(module.imports.length).toBeGreaterThan(5);
    expect(importFaults(module)).toEqual([]);
  });

  it("exports only what the host looks up, and all that it needs", () => {
    expect(exportFaults(module)).toEqual([]);
    expect(module.exports).toContainEqual({ name: "memory", type: "memory" });
    expect(module.hasStartSection).toBe(false);
  });

  it("declares no more memory than a worker may use", () => {
    console.log(`${module.memoryPages} of ${MEMORY_PAGES_MAX} pages of linear memory`);
    expect(module.memoryPages).toBeGreaterThan(0);
    expect(module.memoryPages).toBeLessThanOrEqual(MEMORY_PAGES_MAX);
  });

  it("uses SIMD and carries no debug sections", () => {
    expect(text).toMatch(/\bv128\.load\b/);
    expect(module.customSections.filter((name) => name !== "target_features")).toEqual([]);
  });
});

describe("the proofs find", () => {
  it("an allocation behind two calls and a function table", async () => {
    const { wat } = await compile(`
      function deep(n: i32): i32 { return new Uint8Array(n).length; }
      function harmless(n: i32): i32 { return n; }
      let chosen: (n: i32) => i32 = harmless;
      export function choose(n: i32): void { chosen = n > 0 ? deep : harmless; }
      export function run(n: i32): i32 { return chosen(n); }`);
    expect(allocations(readCallGraph(wat))[0]).toMatch(/deep → .*~lib\/rt\/stub\/__/);
    expect(forbiddenCode(wat)).toHaveLength(2);
  });

  it("nothing in code over static memory", async () => {
    const { wat } = await compile(`
      const cells: usize = memory.data(64, 8);
      export function put(i: usize, v: u32): void { store<u32>(cells + (i << 2), v); }
      export function length(): i32 { return "literal".length; }`);
    expect(allocations(readCallGraph(wat))).toEqual([]);
  });

  it("an import that Envoy does not have, or has with another signature", async () => {
    const { wasm } = await compile(`
      @external("env", "proxy_clear_route_cache") declare function clear(): u32;
      @external("env", "proxy_increment_metric") declare function increment(id: u32, by: u32): u32;
      @external("env", "proxy_log") declare function log(level: u32, ptr: usize, n: u32): u32;
      export function run(): u32 { return clear() + increment(1, 1) + log(0, 0, 0); }`);
    const faults = importFaults(readWasm(wasm));
    expect(faults).toEqual(["env.proxy_clear_route_cache →i", "env.proxy_increment_metric ii→i"]);
  });

  it("an export that the host would refuse, and one that is missing", async () => {
    const { wasm } = await compile(`
      export function malloc(n: u64): usize { return 0; }
      export function proxy_on_request(): void {}
      export function proxy_on_tick(root: u32): void {}`);
    const faults = exportFaults(readWasm(wasm));
    expect(faults).toEqual(["malloc I→i", "proxy_on_request →", "proxy_abi_version_0_2_1 is missing"]);
  });
});
