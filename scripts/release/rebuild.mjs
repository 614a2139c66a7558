// Builds epp.wasm once more, elsewhere and from scratch: whoever has the sources must get the same bytes.
import { cp, mkdir, mkdtemp, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runOrThrow } from "../process.mjs";

/** What the build reads, and nothing else. */
const SOURCES = ["assembly", "scripts", "asconfig.json", "package.json", "package-lock.json"];

/** Two builds of the same sources differ. */
export class NotReproducibleError extends Error {
  code = "ERR_NOT_REPRODUCIBLE";
  constructor(first, second) {
    super(`epp.wasm differs when built elsewhere: sha256 ${first} here, ${second} there`);
    this.name = "NotReproducibleError";
  }
}

/**
 * Copies the sources into a new folder whose path has another length, builds there, and removes it.
 * @returns the bytes of epp.wasm
 * @throws CommandError
 */
export async function rebuildWasm(root) {
  const folder = await mkdtemp(join(tmpdir(), "epp-wasm-built-elsewhere-"));
  const copy = join(folder, "a", "deeper", "folder");
  try {
    await mkdir(copy, { recursive: true });
    for (const path of SOURCES) await cp(join(root, path), join(copy, path), { recursive: true });
    await symlink(join(root, "node_modules"), join(copy, "node_modules"));
    await runOrThrow(process.execPath, [join(copy, "scripts", "build.mjs"), "wasm"], { cwd: copy });
    return await readFile(join(copy, "build", "epp.wasm"));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
