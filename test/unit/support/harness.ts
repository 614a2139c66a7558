// Compiles a module of test/unit/harness with the product's compiler flags and instantiates it in Node.
import { execFile } from "node:child_process";
import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const ASC = join(ROOT, "node_modules/assemblyscript/bin/asc.js");
const OUTPUT = "build/test-unit";

/** The compiler's output for a harness that does not compile. */
export class HarnessBuildError extends Error {
  readonly code = "HARNESS_BUILD";
  constructor(name: string, output: string) {
    super(`test/unit/harness/${name}.ts does not compile:\n${output}`);
  }
}

/** Compiles test/unit/harness/<name>.ts. */
export async function compileHarness(name: string): Promise<WebAssembly.Module> {
  await mkdir(join(ROOT, OUTPUT), { recursive: true });
  // Test files run side by side and may use one harness: each process has an output of its own.
  const outFile = `${OUTPUT}/${name}-${process.pid}.wasm`;
  const args = [ASC, `test/unit/harness/${name}.ts`, "--config", "asconfig.json", "--outFile", outFile];
  try {
    await promisify(execFile)(process.execPath, args, { cwd: ROOT });
  } catch (error) {
    throw new HarnessBuildError(name, String((error as { stderr?: string }).stderr));
  }
  const bytes = await readFile(join(ROOT, outFile));
  await rm(join(ROOT, outFile));
  return WebAssembly.compile(bytes);
}

/** A fresh instance: every function of the harness takes and returns numbers (bigints for u64). */
export function instantiateHarness<Exports>(
  module: WebAssembly.Module,
): Exports & { memory: WebAssembly.Memory } {
  const exports = new WebAssembly.Instance(module, {}).exports;
  (exports["_initialize"] as () => void)();
  return exports as unknown as Exports & { memory: WebAssembly.Memory };
}

/** Builds and starts test/unit/harness/<name>.ts. */
export async function startHarness<Exports>(name: string): Promise<Exports & { memory: WebAssembly.Memory }> {
  return instantiateHarness<Exports>(await compileHarness(name));
}
