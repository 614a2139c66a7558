// Test projects: one a folder of test/. Those that start real Envoys run last and one file at a time.
import { defineConfig } from "vitest/config";

/** A start of Envoy takes about a second; a retry with back-off, a reload or a drain some more. */
const ENVOY_TEST_TIMEOUT_MS = 120_000;
const TEST_TIMEOUT_MS = 120_000;

/** Folders of test/ whose files run side by side. */
const PARALLEL = ["unit", "host", "sidecar", "cli", "gateways", "sim", "project"];

export default defineConfig({
  test: {
    maxWorkers: 2,
    passWithNoTests: true,
    projects: [
      ...PARALLEL.map((name) => ({
        test: {
          name,
          include: [`test/${name}/**/*.test.ts`],
          testTimeout: TEST_TIMEOUT_MS,
          hookTimeout: TEST_TIMEOUT_MS,
          sequence: { groupOrder: 0 },
        },
      })),
      {
        test: {
          name: "envoy",
          include: ["test/envoy/**/*.test.ts"],
          testTimeout: ENVOY_TEST_TIMEOUT_MS,
          hookTimeout: ENVOY_TEST_TIMEOUT_MS,
          maxWorkers: 1,
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
