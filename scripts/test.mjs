// `npm test`: sets up, builds, checks, runs every test there is, and ends with `N passed, N failed`.
//   node scripts/test.mjs [--only NAME[,NAME…]]
//   names: lint types aspect unit host sidecar cli gateways sim project envoy
import { existsSync } from "node:fs";
import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { stripVTControlCharacters } from "node:util";
import { run, step } from "./process.mjs";
import { setupBuild, setupKubeTools, setupPackages, setupTestEnvoys } from "./setup.mjs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
export const VITEST_PROJECTS = ["unit", "host", "sidecar", "cli", "gateways", "sim", "project", "envoy"];
/** Those that run real Envoys of both versions. */
const NEED_ENVOY = ["host", "project", "envoy"];
/** Those that render charts and manifests. */
const NEED_KUBE_TOOLS = ["cli", "gateways"];
const OUTPUT_LINES_MAX = 300;
const OUTPUT_LINE_CHARS_MAX = 500;
const NODE = process.execPath;

/** Checks that are a command: each counts as one test. */
const CHECKS = {
  lint: [
    ["biome lint", ["@biomejs/biome/bin/biome", "lint", "--error-on-warnings", "."]],
    ["prettier --check", ["prettier/bin/prettier.cjs", "--check", "--log-level", "warn", "."]],
  ],
  types: [["tsc --noEmit", ["typescript/bin/tsc", "--noEmit"]]],
};
export const NAMES = [...Object.keys(CHECKS), "aspect", ...VITEST_PROJECTS];

/** Counts of one runner. A runner that breaks without a summary counts as one failure. */
function counts(passed, failed) {
  return { passed, failed };
}

/** as-pect's closing lines, `[Tests]: 12 / 12`, which may be coloured. */
export function aspectCounts(code, output) {
  const plain = stripVTControlCharacters(output);
  const summary = [...plain.matchAll(/\[Tests\]: (\d+) \/ (\d+)/g)].at(-1);
  if (summary === undefined) return counts(0, 1);
  const [passed, total] = [Number(summary[1]), Number(summary[2])];
  return counts(passed, passed === total && code !== 0 ? 1 : total - passed);
}

/** Vitest's JSON report: a skipped test counts as failed, because nothing here may be skipped. */
export function vitestCounts(code, report) {
  if (report === undefined) return counts(0, 1);
  const passed = report.numPassedTests;
  const failed = report.numTotalTests - passed + brokenFiles(report);
  return counts(passed, failed === 0 && code !== 0 ? 1 : failed);
}

/** Files that failed before any of their tests ran. */
function brokenFiles(report) {
  return report.testResults.filter(
    ({ status, assertionResults }) => status === "failed" && assertionResults.length === 0,
  ).length;
}

/** A failing tool's output without what nobody reads: a crash prints its minified source in one line. */
function shortened(output) {
  const lines = output.split("\n").slice(-OUTPUT_LINES_MAX);
  return lines.map((line) => line.slice(0, OUTPUT_LINE_CHARS_MAX)).join("\n");
}

async function runChecks(name) {
  let passed = 0;
  for (const [title, [script, ...args]] of CHECKS[name]) {
    const { code, output } = await step(title, () =>
      run(NODE, [join(ROOT, "node_modules", script), ...args], { cwd: ROOT }),
    );
    if (code === 0) passed++;
    else process.stdout.write(`${shortened(output)}\n✗ ${title}\n`);
  }
  return counts(passed, CHECKS[name].length - passed);
}

async function runAspect() {
  const script = join(ROOT, "node_modules/@as-pect/cli/bin/asp.js");
  const { code, output } = await step("as-pect", () => run(NODE, [script], { cwd: ROOT }));
  const result = aspectCounts(code, output);
  if (result.failed > 0) process.stdout.write(`${shortened(output)}\n`);
  return result;
}

async function runVitest(projects) {
  const reportPath = join(ROOT, "build/test/vitest.json");
  await mkdir(join(ROOT, "build/test"), { recursive: true });
  await rm(reportPath, { force: true });
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${reportPath}`];
  const selected = projects.flatMap((name) => ["--project", name]);
  const script = join(ROOT, "node_modules/vitest/vitest.mjs");
  const { code } = await run(NODE, [script, "run", ...selected, ...reporters], { cwd: ROOT, show: true });
  const report = existsSync(reportPath) ? JSON.parse(await readFile(reportPath, "utf8")) : undefined;
  return vitestCounts(code, report);
}

function parseOnly(args) {
  const wanted = new Set();
  for (let index = 0; index < args.length; index++) {
    if (args[index] !== "--only" || args[index + 1] === undefined) return { unknown: [args[index]], wanted };
    for (const name of args[++index].split(",")) wanted.add(name);
  }
  return { unknown: [...wanted].filter((name) => !NAMES.includes(name)), wanted };
}

/** @returns the exit code */
async function main(args) {
  if (args.includes("--help")) {
    process.stdout.write(
      `usage: npm test -- [--only NAME[,NAME…]]\n  --only   run these only: ${NAMES.join(", ")}\n`,
    );
    return 0;
  }
  const { wanted, unknown } = parseOnly(args);
  if (unknown.length > 0) {
    process.stderr.write(`unknown: ${unknown.join(" ")}; known: ${NAMES.join(" ")}\n`);
    return 2;
  }
  const selected = NAMES.filter((name) => wanted.size === 0 || wanted.has(name));
  const total = counts(0, 0);
  try {
    await setupPackages();
    add(total, "build", await attempt(setupBuild));
    if (selected.some((name) => NEED_ENVOY.includes(name)))
      add(total, "Envoys", await attempt(setupTestEnvoys));
    if (selected.some((name) => NEED_KUBE_TOOLS.includes(name)))
      add(total, "helm and kubectl", await attempt(setupKubeTools));
    for (const name of selected) {
      if (name in CHECKS) add(total, name, await runChecks(name));
      if (name === "aspect") add(total, name, await runAspect());
    }
    const projects = selected.filter((name) => VITEST_PROJECTS.includes(name));
    if (projects.length > 0) add(total, projects.join(", "), await runVitest(projects));
  } catch (error) {
    process.stdout.write(`${error.message}\n`);
    total.failed++;
  }
  process.stdout.write(`${total.passed} passed, ${total.failed} failed\n`);
  return total.failed === 0 && total.passed > 0 ? 0 : 1;
}

/** A part of the set-up without which some tests can still run. */
async function attempt(work) {
  try {
    await work();
    return counts(1, 0);
  } catch (error) {
    process.stdout.write(`${error.message}\n`);
    return counts(0, 1);
  }
}

function add(total, name, { passed, failed }) {
  total.passed += passed;
  total.failed += failed;
  process.stdout.write(`${name}: ${passed} passed, ${failed} failed\n\n`);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href)
  process.exitCode = await main(process.argv.slice(2));
