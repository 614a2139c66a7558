// The program itself, bundled as it is shipped: exit codes, signals, what it prints.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import * as pages from "./pages.ts";
import { eventually, FakeControl, FakeModelServer, temporaryFolder } from "./servers.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
let folder = "";
let program = "";

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "epp-sidecar-test-"));
  program = join(folder, "build", "sidecar.mjs");
  mkdirSync(join(folder, "build"));
  await build({
    entryPoints: [join(ROOT, "sidecar/main.ts")],
    outfile: program,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    banner: {
      js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);',
    },
    logLevel: "error",
  });
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A run of the program; it is killed after its test if it is still there. */
class Run {
  stdout = "";
  stderr = "";
  readonly exited: Promise<unknown[]>;
  private readonly child: ChildProcess;

  constructor(...args: string[]) {
    this.child = spawn(process.execPath, [program, ...args], {
      env: { ...process.env, EPP_CONTROL_TOKEN: "" },
    });
    this.child.stdout!.on("data", (bytes) => (this.stdout += String(bytes)));
    this.child.stderr!.on("data", (bytes) => (this.stderr += String(bytes)));
    this.exited = once(this.child, "close");
    onTestFinished(() => void this.child.kill("SIGKILL"));
  }

  get log(): Record<string, unknown>[] {
    const lines = this.stdout.split("\n").slice(0, -1);
    return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  async code(): Promise<unknown> {
    return (await this.exited)[0];
  }
}

describe("the program", () => {
  it.each(["SIGTERM", "SIGINT"] as const)("feeds the gateway until %s, then ends with 0", async (signal) => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const control = await new FakeControl(join(temporaryFolder(), "control.sock")).start();
    const run = new Run(
      "--endpoints",
      server.address,
      "--control",
      `unix:${control.socketPath}`,
      "--listen",
      "127.0.0.1:0",
    );
    await eventually("a snapshot came", () => control.row(server.address)?.waiting === 4);
    const started = await eventually("it said so", () => run.log.find(({ msg }) => msg === "started"));
    expect(started).toMatchObject({
      pools: ["default"],
      httpPort: expect.any(Number),
    });
    run.kill(signal);
    expect(await run.code()).toBe(0);
    expect(run.log.at(-1)).toMatchObject({ msg: "stopped" });
    expect(run.stderr).toBe("");
  });

  it("says what is wrong with its configuration and ends with 2", async () => {
    const config = join(temporaryFolder(), "sidecar.yaml");
    writeFileSync(config, "{control: {socket: /s}, pools: [{name: p, discovery: {}}]}");
    const run = new Run("--config", config);
    expect(await run.code()).toBe(2);
    expect(run.stderr).toContain("pools[0].discovery: {}: expected exactly one of static, file, dns, srv");
    expect(run.stdout).toBe("");
  });

  it("ends with 2 for a flag it does not know, a missing file and a missing token", async () => {
    expect(await new Run("--no-such-flag").code()).toBe(2);
    expect(await new Run("--config", "/no/such/file").code()).toBe(2);
    const noToken = new Run("--endpoints", "127.0.0.1:9", "--control", "http://127.0.0.1:9");
    expect(await noToken.code()).toBe(2);
    expect(noToken.stderr).toContain("EPP_CONTROL_TOKEN");
  });

  it("checks a configuration without running", async () => {
    const run = new Run("--endpoints", "127.0.0.1:9", "--control", "/s", "--check");
    expect(await run.code()).toBe(0);
    expect(run.stdout).toBe("configuration is valid\n");
    expect(await new Run("--help").code()).toBe(0);
  });

  it("ends with 1 when its port is taken", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const run = new Run("--endpoints", server.address, "--control", "/s", "--listen", server.address);
    expect(await run.code()).toBe(1);
    expect(run.log.at(-1)).toMatchObject({ level: 60, msg: "cannot start" });
  });
});
