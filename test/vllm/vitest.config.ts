// The project of `npm run test:vllm`: real vLLM servers. Two of them fill a small machine, so that files run one by one.
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

/** Two servers that start at once on two busy cores. */
const START_TIMEOUT_MS = 300_000;
const TEST_TIMEOUT_MS = 120_000;

export default defineConfig({
  root: fileURLToPath(new URL("../..", import.meta.url)),
  test: {
    name: "vllm",
    include: ["test/vllm/**/*.test.ts"],
    testTimeout: TEST_TIMEOUT_MS,
    hookTimeout: START_TIMEOUT_MS,
    maxWorkers: 1,
    fileParallelism: false,
  },
});
