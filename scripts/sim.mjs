// `npm run sim`: sets up what the simulator needs, bundles it, and runs it with the same arguments.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { buildWasm, bundle, ROOT } from "./build.mjs";
import { setupPackages } from "./setup.mjs";

const BUNDLE = "build/sim.mjs";

/** @returns the exit code */
async function main(args) {
  await setupPackages();
  if (!args.some((arg) => arg === "--wasm" || arg.startsWith("--wasm="))) await buildWasm();
  await bundle(await import("esbuild"), "cli/sim.ts", BUNDLE);
  const child = spawn(process.execPath, ["--enable-source-maps", join(ROOT, BUNDLE), ...args], {
    stdio: "inherit",
  });
  return new Promise((settle) => child.once("exit", (code) => settle(code ?? 1)));
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
