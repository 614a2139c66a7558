// README.md and docs/ name only files, headings, scripts, flags and variables that exist.
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { BUNDLES, buildBundles, bundle } from "../../scripts/build.mjs";
import { docsFaults, type World } from "./docs-check.ts";
import { readText, repositoryFiles, ROOT } from "./files.ts";

const DOCS = repositoryFiles().filter((path) => /^(README\.md|docs\/.*\.md)$/.test(path));
const BUILT = ["build", "build/epp.wasm", ...BUNDLES.map(({ output }) => output)];
/** Made by its own script alone. */
const SIMULATOR = "build/sim.mjs";
/** As the documentation writes a command → what prints its flags. */
const COMMANDS: Readonly<Record<string, readonly string[]>> = {
  "npm start --": ["build/start.mjs", "--help"],
  "node build/start.mjs": ["build/start.mjs", "--help"],
  "node build/sidecar.mjs": ["build/sidecar.mjs", "--help"],
  "npx epp-wasm-sidecar": ["build/sidecar.mjs", "--help"],
  "epp-wasm-sidecar": ["build/sidecar.mjs", "--help"],
  "node build/model-server.mjs": ["build/model-server.mjs", "--help"],
  "npx epp-wasm validate": ["build/epp-wasm.mjs", "validate", "--help"],
  "npx epp-wasm convert": ["build/epp-wasm.mjs", "convert", "--help"],
  "npx epp-wasm init": ["build/epp-wasm.mjs", "init", "--help"],
  "npx epp-wasm doctor": ["build/epp-wasm.mjs", "doctor", "--help"],
  "npm test --": ["scripts/test.mjs", "--help"],
  "npm run sim --": [SIMULATOR, "--help"],
  "npm run bench --": ["scripts/bench.mjs", "--help"],
  "npm run release --": ["scripts/release.mjs", "--help"],
};
const SOURCE = /^(assembly|sidecar|host-sim|cli|scripts|test)\/.*\.(ts|mjs)$|^\.ci\//;

const { scripts } = JSON.parse(readText("package.json")) as { scripts: Record<string, string> };

function world(): World {
  const help = Object.fromEntries(
    Object.entries(COMMANDS).map(([command, args]) => [
      command,
      execFileSync(process.execPath, args, { cwd: ROOT, encoding: "utf8" }),
    ]),
  );
  const source = repositoryFiles()
    .filter((path) => SOURCE.test(path))
    .map(readText)
    .join("\n");
  return {
    exists: (path) => BUILT.includes(path.replace(/\/$/, "")) || existsSync(join(ROOT, path)),
    scripts: Object.keys(scripts),
    help,
    markdown: readText,
    readsVariable: (name) => source.includes(name),
    definesMetric: (name) => source.includes(`"${name}"`) || source.includes(`"${name.slice(4)}"`),
  };
}

describe("the documentation", () => {
  let real: World;
  beforeAll(async () => {
    await buildBundles();
    await bundle(await import("esbuild"), "cli/sim.ts", SIMULATOR);
    real = world();
  }, 120_000);

  it("is there", () => {
    expect(DOCS).toEqual(
      expect.arrayContaining([
        "README.md",
        "docs/ARCHITECTURE.md",
        "docs/CONFIGURATION.md",
        "docs/OPERATIONS.md",
        "docs/RATIONALE.md",
      ]),
    );
  });

  it("names only what exists", () => {
    expect(DOCS.flatMap((path) => docsFaults(path, readText(path), real))).toEqual([]);
  });

  it("is checked against help texts that name flags", () => {
    for (const [command, text] of Object.entries(real.help)) expect(text, command).toMatch(/--[a-z]/);
  });
});

describe("the documentation check", () => {
  const fake: World = {
    exists: (path) => ["docs/A.md", "docs", "cli/start.ts"].includes(path),
    scripts: ["start", "test", "bench"],
    help: { "npm start --": "  --once   ends after the table\n  --endpoints <list>" },
    markdown: () => "# Title\n## Why `this`, and not that?\n```\n# no heading\n```\n",
    readsVariable: (name) => name === "EPP_DATA_PLANE",
    definesMetric: (name) => name === "epp_requests_total",
  };

  it.each([
    ["`cli/nothing.ts`", "no file cli/nothing.ts"],
    ["[a](B.md)", "link to a missing file docs/B.md"],
    ["[a](A.md#nowhere)", "docs/A.md has no heading #nowhere"],
    ["[a](A.md#no-heading)", "docs/A.md has no heading #no-heading"],
    ["`npm run fly`", 'no npm script "fly"'],
    ["`npm start -- --fast`", "`npm start --` has no --fast"],
    ["`npm start -- --once --end`", "`npm start --` has no --end"],
    ["`epp_magic_total{pool}`", "no metric epp_magic_total"],
    ["set EPP_MAGIC=1", "nothing reads EPP_MAGIC"],
    ["```sh\nnpm run fly\n```", 'no npm script "fly"'],
    ["```sh\nnpm start -- --fast\n```", "`npm start --` has no --fast"],
  ])("finds the fault in %j", (text, fault) => {
    expect(docsFaults("docs/A.md", text, fake)).toEqual([expect.stringContaining(fault)]);
  });

  it.each([
    "`cli/start.ts` and [a](A.md#why-this-and-not-that) and [b](https://example.com/x)",
    "`npm start -- --once --endpoints a,b` with EPP_DATA_PLANE=host-sim",
    "```sh\nnpm test # npm run fly\ncurl --fast localhost\n```",
    '`epp_requests_total{pool="a"}` and `epp_requests_total_sum`',
    "`a/b`, `POST /v1/pools/<name>/snapshot` and `npm run bench`",
  ])("finds none in %j", (text) => {
    expect(docsFaults("docs/A.md", text, fake)).toEqual([]);
  });
});
