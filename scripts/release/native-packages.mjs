// The npm packages that cannot be bundled, as a node_modules folder that stands beside sidecar.mjs.
import { copyFile, mkdir, readdir } from "node:fs/promises";
import { dirname, join } from "node:path";

/**
 * Files of each package that running takes, by pattern, unchanged: zeromq for Linux with glibc, as the sidecar's
 * image is, on x64 and arm64; and the loader that zeromq finds its native code with.
 */
const KEPT = {
  zeromq:
    /^(package\.json|LICENSE.*|README\.md|lib\/[\w/-]+\.js|build\/manifest\.json|build\/linux\/\w+\/node\/glibc-.*\.node)$/,
  "cmake-ts": /^(package\.json|README\.md|build\/loader\.js)$/,
};

/**
 * Copies what the sidecar loads at run time.
 * @param root the project, with its packages installed
 * @param folder where node_modules comes to stand
 * @returns the files' paths in `folder`, sorted
 */
export async function layNativePackages(root, folder) {
  const copied = [];
  for (const [name, pattern] of Object.entries(KEPT)) {
    const from = join(root, "node_modules", name);
    const entries = await readdir(from, { recursive: true, withFileTypes: true });
    for (const entry of entries) {
      const path = join(entry.parentPath ?? entry.path, entry.name).slice(from.length + 1);
      if (!entry.isFile() || !pattern.test(path)) continue;
      const to = join("node_modules", name, path);
      await mkdir(join(folder, dirname(to)), { recursive: true });
      await copyFile(join(from, path), join(folder, to));
      copied.push(to);
    }
  }
  return copied.sort();
}
