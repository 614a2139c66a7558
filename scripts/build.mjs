// Builds everything under build/: epp.wasm from assembly/, and one self-contained file per Node program.
//   node scripts/build.mjs [wasm] [bundles] [debug]     (default: wasm bundles)
import { existsSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { runOrThrow, step } from "./process.mjs";
import { whenChanged } from "./stamp.mjs";
import { forbiddenCode } from "./wasm-checks.mjs";

export const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Node programs: what esbuild starts from, and the file it makes. */
export const BUNDLES = [
  { entry: "sidecar/main.ts", output: "build/sidecar.mjs" },
  { entry: "cli/epp-wasm.ts", output: "build/epp-wasm.mjs" },
  { entry: "cli/start.ts", output: "build/start.mjs" },
  { entry: "host-sim/model-server/main.ts", output: "build/model-server.mjs" },
];

const WASM_INPUTS = [
  "assembly",
  "asconfig.json",
  "package-lock.json",
  "scripts/build.mjs",
  "scripts/wasm-checks.mjs",
];
const BUNDLE_INPUTS = [
  "sidecar",
  "host-sim",
  "cli",
  "assembly/wire",
  "package.json",
  "package-lock.json",
  "scripts",
  "tsconfig.json",
];

/** What Envoy's V8 has had for years and asc emits. */
const WASM_FEATURES = [
  "--enable-simd",
  "--enable-bulk-memory",
  "--enable-sign-ext",
  "--enable-mutable-globals",
  "--enable-nontrapping-float-to-int",
];

/** Native code cannot be bundled: it is looked for beside the program when it is needed first. */
const EXTERNAL = ["zeromq"];

/** A bundled CommonJS dependency may call require(). */
const REQUIRE_BANNER =
  'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);';

/** The module has code that must not be there. */
export class ForbiddenCodeError extends Error {
  code = "ERR_FORBIDDEN_CODE";
  constructor(file, faults) {
    super(`${file}:\n  ${faults.join("\n  ")}`);
    this.name = "ForbiddenCodeError";
  }
}

/** assembly/index.ts → build/epp.wasm, optimised; does nothing when nothing changed. @returns whether it built */
export async function buildWasm() {
  const outputs = ["build/epp.wasm", "build/epp.raw.wat"];
  return whenChanged(ROOT, { name: "wasm", inputs: WASM_INPUTS, outputs }, () =>
    step("building build/epp.wasm", async () => {
      await compile("release", "--textFile", "build/epp.raw.wat");
      const faults = forbiddenCode(await readFile(join(ROOT, "build/epp.raw.wat"), "utf8"));
      if (faults.length > 0) throw new ForbiddenCodeError("build/epp.raw.wat", faults);
      const optimise = ["build/epp.raw.wasm", "-O3", ...WASM_FEATURES, "--strip-debug", "--strip-producers"];
      await nodeTool("binaryen/bin/wasm-opt", ...optimise, "-o", "build/epp.wasm");
    }),
  );
}

/** The unoptimised module, in which every call is still visible: build/epp.debug.wasm and .wat. */
export async function buildDebugWasm() {
  const outputs = ["build/epp.debug.wasm", "build/epp.debug.wat"];
  return whenChanged(ROOT, { name: "wasm-debug", inputs: WASM_INPUTS, outputs }, () =>
    step("building build/epp.debug.wasm", () => compile("debug")),
  );
}

/** Every program of BUNDLES → one file that needs no node_modules. @returns whether it built */
export async function buildBundles() {
  const bundles = BUNDLES.filter(({ entry }) => existsSync(join(ROOT, entry)));
  const outputs = bundles.map(({ output }) => output);
  return whenChanged(ROOT, { name: "bundles", inputs: BUNDLE_INPUTS, outputs }, () =>
    step(`bundling ${outputs.join(", ")}`, async () => {
      const esbuild = await import("esbuild");
      for (const { entry, output } of bundles) await bundle(esbuild, entry, output);
    }),
  );
}

/** Bundles one entry file (a path under the root) into one output file. */
export async function bundle(esbuild, entry, output) {
  await esbuild.build({
    absWorkingDir: ROOT,
    entryPoints: [entry],
    outfile: output,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    external: EXTERNAL,
    banner: { js: REQUIRE_BANNER },
    legalComments: "eof",
    logLevel: "warning",
  });
}

async function compile(target, ...more) {
  await mkdir(join(ROOT, "build"), { recursive: true });
  await nodeTool(
    "assemblyscript/bin/asc.js",
    "assembly/index.ts",
    "--config",
    "asconfig.json",
    "--target",
    target,
    ...more,
  );
}

async function nodeTool(script, ...args) {
  await runOrThrow(process.execPath, [join(ROOT, "node_modules", script), ...args], { cwd: ROOT });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const wanted = process.argv.slice(2);
  const builders = { wasm: buildWasm, bundles: buildBundles, debug: buildDebugWasm };
  const unknown = wanted.filter((name) => !(name in builders));
  if (unknown.length > 0) {
    process.stderr.write(`unknown: ${unknown.join(" ")}; known: ${Object.keys(builders).join(" ")}\n`);
    process.exit(2);
  }
  try {
    for (const name of wanted.length > 0 ? wanted : ["wasm", "bundles"]) {
      if (!(await builders[name]())) process.stderr.write(`· ${name}: up to date\n`);
    }
  } catch (error) {
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
}
