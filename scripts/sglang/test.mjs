// `npm run test:sglang`: the sidecar before SGLang's own prefix cache, KV event publisher and prompt handling. Not part
// of `npm test`: the set-up is large. No model runs, for which SGLang would need a GPU.
//   node scripts/sglang/test.mjs [Vitest's arguments]
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { run } from "../process.mjs";
import { setupPackages } from "../setup.mjs";
import { setupSglang } from "./setup.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

async function main(args) {
  let home;
  try {
    home = await setupSglang();
    await setupPackages();
  } catch (error) {
    process.stderr.write(`${error.message}\n`);
    return 1;
  }
  const vitest = join(ROOT, "node_modules/vitest/vitest.mjs");
  const { code } = await run(
    process.execPath,
    [vitest, "run", "--config", "test/sglang/vitest.config.ts", ...args],
    {
      cwd: ROOT,
      env: { VLLM_CPU_HOME: home },
      show: true,
    },
  );
  return code ?? 1;
}

process.exitCode = await main(process.argv.slice(2));
