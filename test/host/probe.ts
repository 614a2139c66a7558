// Builds the probe module from its AssemblyScript sources, once a process and only when they changed.
import { execFile } from "node:child_process";
import { mkdir, readdir, readFile, rename, stat } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const SOURCE = "test/fixtures/probe";
const OUTPUT = `${ROOT}build/probe.wasm`;
let building: Promise<Uint8Array> | undefined;

/** The probe's sources do not compile. */
export class ProbeCompileError extends Error {
  readonly code = "PROBE_COMPILE";

  constructor(readonly output: string) {
    super(`asc: ${output}`);
    this.name = "ProbeCompileError";
  }
}

/** Path of the built probe module. */
export const PROBE_PATH = OUTPUT;

/** The probe as bytes. */
export function probeWasm(): Promise<Uint8Array> {
  building ??= build();
  return building;
}

async function build(): Promise<Uint8Array> {
  const sources = (await readdir(`${ROOT}${SOURCE}`)).map((name) => `${ROOT}${SOURCE}/${name}`);
  const newest = Math.max(...(await Promise.all(sources.map(async (path) => (await stat(path)).mtimeMs))));
  const built = await stat(OUTPUT).catch(() => null);
  if (built !== null && built.mtimeMs > newest) return readFile(OUTPUT);
  await mkdir(`${ROOT}build`, { recursive: true });
  // Two test processes may build at once: each writes a file of its own and moves it into place whole.
  const own = `build/probe.${process.pid}.wasm`;
  const asc = `${ROOT}node_modules/assemblyscript/bin/asc.js`;
  const args = [asc, `${SOURCE}/index.ts`, "--config", `${SOURCE}/asconfig.json`, "-o", own];
  try {
    await run(process.execPath, args, { cwd: ROOT });
  } catch (error) {
    throw new ProbeCompileError(String((error as { stderr?: string }).stderr));
  }
  await rename(`${ROOT}${own}`, OUTPUT);
  return readFile(OUTPUT);
}
