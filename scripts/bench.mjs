// `npm run bench`: sets up, then runs test/bench/*.bench.ts one after the other; each prints its own figures.
//   node scripts/bench.mjs [NAME …] [--rounds N] [--seconds S] [--wasm FILE]
import { spawn } from "node:child_process";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { bundle, ROOT } from "./build.mjs";
import { setupProject, setupEnvoy } from "./setup.mjs";

const SUFFIX = ".bench.ts";
const OPTIONS = {
  rounds: { type: "string" },
  seconds: { type: "string" },
  wasm: { type: "string" },
  help: { type: "boolean" },
};

async function benchmarks() {
  const names = await readdir(join(ROOT, "test/bench"));
  return names
    .filter((name) => name.endsWith(SUFFIX))
    .map((name) => name.slice(0, -SUFFIX.length))
    .sort();
}

/**
 * Bundles the processes that benchmarks start beside themselves. One folder below the root, like every bundle:
 * code finds the root from where it lies.
 */
async function bundleProcesses(esbuild) {
  for (const file of await readdir(join(ROOT, "test/bench/processes"))) {
    const output = `build/bench-process-${file.slice(0, -".ts".length)}.mjs`;
    await bundle(esbuild, `test/bench/processes/${file}`, output);
  }
}

/** Bundles one benchmark and runs it to its end. @returns its exit code */
async function runBenchmark(esbuild, name, args, envoy) {
  const output = `build/bench-${name}.mjs`;
  await bundle(esbuild, `test/bench/${name}${SUFFIX}`, output);
  const env = { ...process.env, ...(envoy === undefined ? {} : { ENVOY_PATH: envoy }) };
  // Envoy's V8 compiles modules with --no-liftoff, all of it optimised at load: what runs in Node is measured so too.
  const child = spawn(process.execPath, ["--expose-gc", "--no-liftoff", join(ROOT, output), ...args], {
    stdio: "inherit",
    cwd: ROOT,
    env,
  });
  return new Promise((settle) => child.once("exit", (code) => settle(code ?? 1)));
}

function usage(known) {
  return [
    "usage: npm run bench -- [NAME …] [--rounds N] [--seconds S] [--wasm FILE]",
    `  NAME       run these only: ${known.join(", ")}`,
    "  --rounds   rounds of each of the two that are compared",
    "  --seconds  length of one round",
    "  --wasm     another build of the filter than build/epp.wasm",
    "",
  ].join("\n");
}

/** @returns the exit code: 0 also when a target was missed, which the figures say */
async function main(args) {
  const known = await benchmarks();
  let parsed;
  try {
    parsed = parseArgs({ args, options: OPTIONS, allowPositionals: true });
  } catch (error) {
    process.stderr.write(`${error.message}\n${usage(known)}`);
    return 2;
  }
  const { values, positionals } = parsed;
  const unknown = positionals.filter((name) => !known.includes(name));
  if (unknown.length > 0) process.stderr.write(`unknown benchmark: ${unknown.join(", ")}\n`);
  if (values.help || unknown.length > 0) {
    process.stdout.write(usage(known));
    return values.help && unknown.length === 0 ? 0 : 2;
  }
  await setupProject();
  const envoy = await setupEnvoy();
  const esbuild = await import("esbuild");
  await bundleProcesses(esbuild);
  const forwarded = Object.entries(values).flatMap(([option, value]) => [`--${option}`, String(value)]);
  const failed = [];
  for (const name of positionals.length > 0 ? positionals : known) {
    if ((await runBenchmark(esbuild, name, forwarded, envoy)) !== 0) failed.push(name);
  }
  if (failed.length > 0) process.stdout.write(`failed: ${failed.join(", ")}\n`);
  return failed.length === 0 ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2));
