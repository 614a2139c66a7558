// Compiles a module of test/unit/harness with the product's compiler flags and instantiates it in Node.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, readdir, rename } from "node:fs/promises";
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

/** Compiles test/unit/harness/<name>.ts, unless that was done with these very sources. */
export async function compileHarness(name: string): Promise<WebAssembly.Module> {
  const outFile = join(OUTPUT, `${name}-${await sourcesHash(name)}.wasm`);
  if (!existsSync(join(ROOT, outFile))) await build(name, outFile);
  return WebAssembly.compile(await readFile(join(ROOT, outFile)));
}

async function build(name: string, outFile: string): Promise<void> {
  await mkdir(join(ROOT, OUTPUT), { recursive: true });
  // Test files run side by side and may use one harness: each writes its own file and renames it when whole.
  const unfinished = `${outFile}.${process.pid}`;
  const args = [ASC, `test/unit/harness/${name}.ts`, "--config", "asconfig.json", "--outFile", unfinished];
  try {
    await promisify(execFile)(process.execPath, args, { cwd: ROOT });
  } catch (error) {
    throw new HarnessBuildError(name, String((error as { stderr?: string }).stderr));
  }
  await rename(join(ROOT, unfinished), join(ROOT, outFile));
}

/** Hash of everything that the compiler may read: its options, assembly/ and the harness. */
async function sourcesHash(name: string): Promise<string> {
  const files = await readdir(join(ROOT, "assembly"), { recursive: true });
  const sources = files.filter((file) => file.endsWith(".ts")).map((file) => join("assembly", file));
  const hash = createHash("sha256");
  for (const file of [
    "asconfig.json",
    "package-lock.json",
    `test/unit/harness/${name}.ts`,
    ...sources.sort(),
  ]) {
    hash.update(`${file}\0`).update(await readFile(join(ROOT, file)));
  }
  return hash.digest("hex").slice(0, 16);
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
