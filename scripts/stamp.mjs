// Content stamps: whether a build product is up to date with the files it was made from.
import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, stat, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";

/** sha256 over the paths and contents of these files and folders (with all that is in them), in a fixed order. */
export async function contentHash(root, paths) {
  const hash = createHash("sha256");
  for (const path of paths) {
    for (const file of await filesUnder(join(root, path))) {
      hash
        .update(`${relative(root, file)}\0`)
        .update(await readFile(file))
        .update("\0");
    }
  }
  return hash.digest("hex");
}

/**
 * Runs `make` unless the stamp says that `outputs` were already made from these very inputs.
 * @param name the stamp's name under build/.stamps
 * @returns whether `make` ran
 */
export async function whenChanged(root, { name, inputs, outputs }, make) {
  const stamp = join(root, "build", ".stamps", name);
  const hash = await contentHash(root, inputs);
  const made = await readFile(stamp, "utf8").catch(() => "");
  if (made === hash && (await allExist(root, outputs))) return false;
  await make();
  await mkdir(dirname(stamp), { recursive: true });
  await writeFile(stamp, hash);
  return true;
}

async function allExist(root, paths) {
  const found = await Promise.all(paths.map((path) => stat(join(root, path)).catch(() => undefined)));
  return found.every((entry) => entry !== undefined);
}

async function filesUnder(path) {
  const entry = await stat(path).catch(() => undefined);
  if (entry === undefined) return [];
  if (entry.isFile()) return [path];
  const names = (await readdir(path, { recursive: true, withFileTypes: true }))
    .filter((child) => child.isFile())
    .map((child) => join(child.parentPath ?? child.path, child.name));
  return names.sort();
}
