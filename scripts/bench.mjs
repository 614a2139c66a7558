// `npm run bench`: sets up, then runs test/bench/*.bench.ts one after the other; each prints its own table.
//   node scripts/bench.mjs [--only NAME[,NAME…]]
import { spawn } from "node:child_process";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { bundle, ROOT } from "./build.mjs";
import { setupProject, setupEnvoy } from "./setup.mjs";

const SUFFIX = ".bench.ts";

async function benchmarks() {
  const names = await readdir(join(ROOT, "test/bench"));
  return names
    .filter((name) => name.endsWith(SUFFIX))
    .map((name) => name.slice(0, -SUFFIX.length))
    .sort();
}

/** Bundles one benchmark and runs it to its end. @returns its exit code */
async function runBenchmark(name, envoy) {
  // One folder below the root, like every bundle: code finds the root from where it lies.
  const output = `build/bench-${name}.mjs`;
  await bundle(await import("esbuild"), `test/bench/${name}${SUFFIX}`, output);
  const env = { ...process.env, ...(envoy === undefined ? {} : { ENVOY_PATH: envoy }) };
  const child = spawn(process.execPath, ["--expose-gc", join(ROOT, output)], {
    stdio: "inherit",
    cwd: ROOT,
    env,
  });
  return new Promise((settle) => child.once("exit", (code) => settle(code ?? 1)));
}

/** @returns the exit code */
async function main(args) {
  const known = await benchmarks();
  const only = args[0] === "--only" ? (args[1] ?? "").split(",") : known;
  const unknown = only.filter((name) => !known.includes(name));
  if (args.includes("--help") || unknown.length > 0 || (args.length > 0 && args[0] !== "--only")) {
    process.stdout.write(
      `usage: npm run bench -- [--only NAME[,NAME…]]\n  --only   run these only: ${known.join(", ")}\n`,
    );
    return args.includes("--help") ? 0 : 2;
  }
  await setupProject();
  const envoy = await setupEnvoy();
  const failed = [];
  for (const name of only) if ((await runBenchmark(name, envoy)) !== 0) failed.push(name);
  if (failed.length > 0) process.stdout.write(`failed: ${failed.join(", ")}\n`);
  return failed.length === 0 ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2));
