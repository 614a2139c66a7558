// `npm run release`: everything that is handed out, under dist/, with the sha256 of each file.
//   node scripts/release.mjs [--out FOLDER] [--trust-build] [--push IMAGE] [--variant compat|oci]
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import { basename, join, relative, resolve, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { step } from "./process.mjs";
import { layNativePackages } from "./release/native-packages.mjs";
import { packPackage, programsOf, stagePackage } from "./release/npm-package.mjs";
import { VARIANTS, wasmImage, writeLayout } from "./release/oci-image.mjs";
import { NotReproducibleError, rebuildWasm } from "./release/rebuild.mjs";
import { parseReference, pushImage } from "./release/registry.mjs";
import { billOfMaterials } from "./release/sbom.mjs";
import { setupProject } from "./setup.mjs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const USAGE = `usage: npm run release -- [options]
  --out FOLDER        where to write, instead of dist
  --trust-build       do not build epp.wasm a second time to compare
  --push IMAGE        push to host[:port]/name:tag afterwards (http:// before it: without TLS); the environment's
                      EPP_REGISTRY_USER and EPP_REGISTRY_PASSWORD log in
  --variant VARIANT   which image to push: compat (default) or oci
`;

const SUMS = "SHA256SUMS";

/** A folder that may not be replaced, because it holds something else than a release. */
export class ForeignFolderError extends Error {
  code = "ERR_FOREIGN_FOLDER";
  constructor(folder) {
    super(`${folder} is not empty and has no ${SUMS}: it is no release, so it is not replaced`);
    this.name = "ForeignFolderError";
  }
}

/**
 * Writes a release of what stands in build/.
 * @param out a folder that is new, empty or an earlier release, which is replaced
 * @returns {version, files, images}: paths in `out` with their sha256, and the image of each variant
 * @throws ForeignFolderError, and what the parts throw
 */
export async function makeRelease(out) {
  const manifest = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8"));
  const { name, version } = manifest;
  const wasm = await readFile(join(ROOT, "build", "epp.wasm"));
  await clear(out);
  const products = ["build/epp.wasm", ...programsOf(manifest)];
  for (const path of products) await copyFile(join(ROOT, path), join(out, basename(path)));
  await layNativePackages(ROOT, out);
  const images = {};
  for (const variant of VARIANTS) {
    images[variant] = wasmImage(variant, wasm, { version, source: manifest.repository?.url });
    await writeLayout(join(out, "oci", variant), images[variant], version);
  }
  const stage = join(out, "npm");
  await stagePackage(ROOT, stage);
  await packPackage(stage, out);
  await rm(stage, { recursive: true });
  const lockfile = JSON.parse(await readFile(join(ROOT, "package-lock.json"), "utf8"));
  const bom = billOfMaterials(
    lockfile,
    await hashes(
      out,
      products.map((path) => basename(path)),
    ),
  );
  await writeFile(join(out, `${name}-${version}.cdx.json`), `${JSON.stringify(bom, null, 2)}\n`);
  const files = await hashes(out, await filesOf(out));
  await writeFile(join(out, SUMS), files.map((file) => `${file.sha256}  ${file.name}\n`).join(""));
  return { version, files, images };
}

/** Empties the folder, and marks it as ours from the start, so that an interrupted release can be made again. */
async function clear(folder) {
  const found = await readdir(folder).catch(() => []);
  if (found.length > 0 && !found.includes(SUMS)) throw new ForeignFolderError(folder);
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, SUMS), "");
}

async function filesOf(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name));
  const names = paths.map((path) => relative(folder, path).split(sep).join("/"));
  return names.filter((name) => name !== SUMS).sort();
}

function hashes(folder, names) {
  return Promise.all(
    names.map(async (name) => {
      const bytes = await readFile(join(folder, name));
      return { name, sha256: createHash("sha256").update(bytes).digest("hex") };
    }),
  );
}

/** @throws NotReproducibleError */
async function proveReproducible() {
  const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
  const [first, second] = [await readFile(join(ROOT, "build", "epp.wasm")), await rebuildWasm(ROOT)];
  if (!first.equals(second)) throw new NotReproducibleError(sha256(first), sha256(second));
}

function credentials({ EPP_REGISTRY_USER: user, EPP_REGISTRY_PASSWORD: password }) {
  return user === undefined || password === undefined ? undefined : { user, password };
}

/** @returns the exit code */
async function main(args) {
  const { values } = parseArgs({
    args,
    options: {
      out: { type: "string", default: join(ROOT, "dist") },
      "trust-build": { type: "boolean", default: false },
      push: { type: "string" },
      variant: { type: "string", default: "compat" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  if (!VARIANTS.includes(values.variant))
    throw new Error(`unknown variant ${values.variant}; known: ${VARIANTS}`);
  if (values.push !== undefined) parseReference(values.push);
  await setupProject();
  if (!values["trust-build"]) await step("building epp.wasm elsewhere to compare", proveReproducible);
  const out = resolve(values.out);
  const { files, images } = await step(`writing ${relative(process.cwd(), out) || out}`, () =>
    makeRelease(out),
  );
  for (const { name, sha256 } of files.filter((file) => !/^(oci|node_modules)\//.test(file.name)))
    process.stdout.write(`${sha256}  ${name}\n`);
  for (const variant of VARIANTS)
    process.stdout.write(`${images[variant].manifest.digest}  oci/${variant}\n`);
  if (values.push !== undefined) {
    const image = images[values.variant];
    const digest = await step(`pushing ${values.push}`, () =>
      pushImage(values.push, image, credentials(process.env)),
    );
    process.stdout.write(`pushed ${values.push}@${digest}\n`);
  }
  return 0;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  try {
    process.exitCode = await main(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  }
}
