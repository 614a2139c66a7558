// `npm run test:vllm`: the gateway and the sidecar before real vLLM servers on the CPU. Not part of `npm test`: the
// set-up is large, and every start of a server takes half a minute.
//   node scripts/vllm/test.mjs [Vitest's arguments]
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { run } from "../process.mjs";
import { setupBuild, setupPackages, setupTestEnvoys } from "../setup.mjs";
import { setupVllm } from "./setup.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

async function main(args) {
  let home;
  try {
    home = await setupVllm();
    await setupPackages();
    await setupBuild();
    await setupTestEnvoys();
  } catch (error) {
    process.stderr.write(`${error.message}\n`);
    return 1;
  }
  const vitest = [
    join(ROOT, "node_modules/vitest/vitest.mjs"),
    "run",
    "--config",
    "test/vllm/vitest.config.ts",
  ];
  const { code } = await run(process.execPath, [...vitest, ...args], {
    cwd: ROOT,
    env: { VLLM_CPU_HOME: home },
    show: true,
  });
  return code ?? 1;
}

process.exitCode = await main(process.argv.slice(2));
