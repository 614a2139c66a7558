// `npm test` counts every runner's tests, misses none, and takes a runner that breaks for a failure.
import { describe, expect, it } from "vitest";
import { aspectCounts, NAMES, VITEST_PROJECTS, vitestCounts } from "../../scripts/test.mjs";
import config from "../../vitest.config.ts";
import sglangConfig from "../sglang/vitest.config.ts";
import vllmConfig from "../vllm/vitest.config.ts";
import { repositoryFiles } from "./files.ts";

const file = (status: string, tests: number): { status: string; assertionResults: unknown[] } => ({
  status,
  assertionResults: Array.from({ length: tests }, () => ({})),
});

describe("npm test", () => {
  it("runs every project of the Vitest configuration, and no other", () => {
    const projects = config.test!.projects!.map(
      (project) => (project as { test: { name: string } }).test.name,
    );
    expect([...projects].sort()).toEqual([...VITEST_PROJECTS].sort());
    expect(NAMES).toEqual(expect.arrayContaining(projects));
  });

  it("has no test file that nobody runs", () => {
    const tests = repositoryFiles().filter((path) => /\.(test|spec)\.[cm]?[jt]sx?$/.test(path));
    // The others are those of `npm run test:vllm` and `npm run test:sglang`.
    const others = [vllmConfig, sglangConfig].map(({ test }) => test!.name as string);
    const projects = [...VITEST_PROJECTS, ...others];
    const orphans = tests.filter((path) => !projects.some((name) => path.startsWith(`test/${name}/`)));
    expect(tests.length).toBeGreaterThan(5);
    expect(orphans).toEqual([]);
  });

  it.each([
    ["all passed", 0, "[Tests]: 12 / 12\n[Groups]: 2 / 2", { passed: 12, failed: 0 }],
    ["some failed", 1, "[Tests]: 10 / 12", { passed: 10, failed: 2 }],
    ["colours", 0, "[Tests]: \u001b[32m3\u001b[39m / 3", { passed: 3, failed: 0 }],
    ["passed, yet another exit code", 1, "[Tests]: 12 / 12", { passed: 12, failed: 1 }],
    ["no summary", 1, "Error: cannot compile", { passed: 0, failed: 1 }],
    ["no summary, exit code 0", 0, "", { passed: 0, failed: 1 }],
  ])("counts as-pect's tests: %s", (_, code, output, expected) => {
    expect(aspectCounts(code, output)).toEqual(expected);
  });

  it.each([
    [
      "all passed",
      0,
      { numPassedTests: 5, numTotalTests: 5, testResults: [file("passed", 5)] },
      { passed: 5, failed: 0 },
    ],
    [
      "some failed",
      1,
      { numPassedTests: 3, numTotalTests: 5, testResults: [file("failed", 5)] },
      { passed: 3, failed: 2 },
    ],
    [
      "some skipped",
      0,
      { numPassedTests: 4, numTotalTests: 5, testResults: [file("passed", 5)] },
      { passed: 4, failed: 1 },
    ],
    [
      "a file that did not load",
      1,
      { numPassedTests: 0, numTotalTests: 0, testResults: [file("failed", 0)] },
      { passed: 0, failed: 1 },
    ],
    [
      "an error outside tests",
      1,
      { numPassedTests: 5, numTotalTests: 5, testResults: [file("passed", 5)] },
      { passed: 5, failed: 1 },
    ],
    ["no report", 1, undefined, { passed: 0, failed: 1 }],
  ])("counts Vitest's tests: %s", (_, code, report, expected) => {
    expect(vitestCounts(code, report)).toEqual(expected);
  });
});
