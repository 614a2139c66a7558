// The npm package: the programs of package.json's "bin" and what its "files" names, with a manifest of its own that needs nothing installed.
import { chmod, cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import { runOrThrow } from "../process.mjs";

/**
 * Fields of our package.json that its users see. The programs are bundled, so dependencies are none of them, but for
 * native code, which npm leaves out where it does not run.
 */
const PUBLISHED = [
  "name",
  "version",
  "description",
  "keywords",
  "license",
  "repository",
  "homepage",
  "bugs",
  "type",
  "engines",
  "bin",
  "files",
  "optionalDependencies",
];
/** npm adds these by itself. */
const ALWAYS = ["README.md", "LICENSE"];

/** The manifest of the published package, from ours. */
export function publishedManifest(manifest) {
  return Object.fromEntries(
    PUBLISHED.filter((field) => field in manifest).map((field) => [field, manifest[field]]),
  );
}

/** Paths of the programs that npm puts on PATH, each a bundle that needs no other file. */
export function programsOf({ bin }) {
  return [...new Set(Object.values(bin))].sort();
}

/** Lays the package's files out in a folder, replacing what stands there. */
export async function stagePackage(root, folder) {
  const manifest = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  await rm(folder, { recursive: true, force: true });
  for (const path of new Set([...programsOf(manifest), ...manifest.files, ...ALWAYS])) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await cp(join(root, path), join(folder, path), { recursive: true });
  }
  for (const path of programsOf(manifest)) await chmod(join(folder, path), 0o755);
  await writeFile(join(folder, "package.json"), `${JSON.stringify(publishedManifest(manifest), null, 2)}\n`);
}

/**
 * `npm pack` of a staged package, without network or scripts.
 * @param destination folder for the archive, or undefined to look only
 * @returns {filename, files: string[], bundled: string[]}: npm's own words
 * @throws CommandError
 */
export async function packPackage(folder, destination) {
  const where = destination === undefined ? ["--dry-run"] : [`--pack-destination=${destination}`];
  const options = ["--json", "--offline", "--ignore-scripts", "--loglevel", "silent", ...where];
  const output = await runOrThrow("npm", ["pack", ...options], { cwd: folder, env: { PATH: pathOfUser() } });
  const report = JSON.parse(output.slice(output.search(/[[{]/)));
  // A list, or since npm 11 an object by package name.
  const [{ filename, files, bundled }] = Object.values(report);
  return { filename, files: files.map(({ path }) => path).sort(), bundled };
}

/** PATH without node_modules/.bin, which npm puts in front: a dependency brings an npm 6 of its own there. */
function pathOfUser() {
  const folders = (process.env.PATH ?? "").split(delimiter);
  return folders.filter((folder) => !/node_modules[\\/]\.bin[\\/]?$/.test(folder)).join(delimiter);
}
