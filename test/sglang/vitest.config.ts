// The project of `npm run test:sglang`: SGLang's own code, without a model.
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

/** Importing SGLang on two busy cores. */
const START_TIMEOUT_MS = 300_000;
const TEST_TIMEOUT_MS = 120_000;

export default defineConfig({
  root: fileURLToPath(new URL("../..", import.meta.url)),
  test: {
    name: "sglang",
    include: ["test/sglang/**/*.test.ts"],
    testTimeout: TEST_TIMEOUT_MS,
    hookTimeout: START_TIMEOUT_MS,
    maxWorkers: 1,
    fileParallelism: false,
  },
});
