// `npm start` once it is set up: the demonstration, real servers, Ctrl-C, and a death without warning.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { request } from "undici";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { ROOT } from "../../cli/envoy.ts";
import { ENVOY_NEWEST, venvEnvoy } from "../../scripts/find-envoy.mjs";
import { startReplica } from "../sim/support/replica.ts";
import { EnvoyMissingError, until } from "./harness.ts";

let envoyPath = "";
beforeAll(async () => {
  const path = await venvEnvoy(ROOT, ENVOY_NEWEST);
  if (path === undefined) throw new EnvoyMissingError(ENVOY_NEWEST);
  envoyPath = path;
});

interface Run {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  /** What it printed so far. */
  out(): string;
  errors(): string;
}

function start(args: readonly string[], env: Record<string, string> = {}): Run {
  const child = spawn(process.execPath, [join(ROOT, "build", "start.mjs"), ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ENVOY_PATH: envoyPath, EPP_DATA_PLANE: "", ...env },
  });
  let out = "";
  let errors = "";
  child.stdout.on("data", (data: Buffer) => (out += data.toString()));
  child.stderr.on("data", (data: Buffer) => (errors += data.toString()));
  // Not "exit": what it printed last may come behind that.
  const ended = new Promise<number | null>((resolve) => child.once("close", (code) => resolve(code)));
  onTestFinished(() => void child.kill("SIGKILL"));
  return { child, ended, out: () => out, errors: () => errors };
}

/** Processes below one, their own children included, as /proc shows them. */
async function descendants(pid: number): Promise<number[]> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(() => "");
  const direct = children.trim().split(" ").filter(Boolean).map(Number);
  return [...direct, ...(await Promise.all(direct.map(descendants))).flat()];
}

/** Alive, and not just waiting to be reaped. */
async function isAlive(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "State:\tX");
  return !/^State:\s+[XZ]/m.test(status);
}

async function allGone(pids: readonly number[]): Promise<true | undefined> {
  const alive = await Promise.all(pids.map(isAlive));
  return alive.includes(true) ? undefined : true;
}

describe("npm start", () => {
  it("prints one table over three policies and ends, when it is not on a terminal", async () => {
    const run = start(["--requests", "24", "--port", "0"]);
    expect(await run.ended).toBe(0);
    const rows = run
      .out()
      .split("\n")
      .filter((line) => /^(epp-wasm|round_robin|least_request) {2,}/.test(line));
    expect(rows.map((row) => row.split(/\s+/)[0])).toEqual(["epp-wasm", "round_robin", "least_request"]);
    for (const row of rows) expect(row).toMatch(/ 0$/);
    expect(run.out()).toMatch(
      /Mean time to first token: [\d.]+× better than round_robin, [\d.]+× better than/,
    );
    expect(run.out()).toMatch(/epp-wasm: 24 requests, .* 0 failed/);
    expect(run.errors()).toBe("");
  });

  it("prints figures as JSON and progress apart from them, in the stand-in as well", async () => {
    const run = start(["--requests", "8", "--port", "0", "--json"], { EPP_DATA_PLANE: "host-sim" });
    expect(await run.ended).toBe(0);
    const { runs, seed } = JSON.parse(run.out());
    expect(seed).toBe(1);
    expect(runs.map((each: { policy: string; errors: number }) => [each.policy, each.errors])).toEqual([
      ["epp-wasm", 0],
      ["round_robin", 0],
      ["least_request", 0],
    ]);
    expect(run.errors()).toContain("stand-in");
  });

  it("serves real endpoints from a fleet file until Ctrl-C, then ends every child", async () => {
    const replica = await startReplica();
    const folder = await mkdtemp(join(tmpdir(), "epp-start-"));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const fleet = join(folder, "fleet.yaml");
    await writeFile(fleet, `endpoints: ["${replica.address}"]\nsidecar: { scrape: { intervalMs: 100 } }\n`);
    const run = start(["--config", fleet, "--port", "0"]);
    const url = await until("the address", () => /Serving on (\S+) until/.exec(run.out())?.[1]);
    expect(run.out()).toContain('"model":"tiny"');
    const { body, statusCode } = await request(`${url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "tiny", prompt: "hello", max_tokens: 2 }),
    });
    expect([statusCode, ((await body.json()) as { model: string }).model]).toEqual([200, "tiny"]);
    const children = await descendants(run.child.pid!);
    expect(children.length).toBeGreaterThanOrEqual(2);
    run.child.kill("SIGINT");
    expect(await run.ended).toBe(0);
    await until("every child gone", () => allGone(children));
  });

  it("leaves no process behind when it is killed in the middle", async () => {
    const run = start(["--requests", "400", "--port", "0"]);
    await until("the load to run", () => /round_robin: \d+ of/.test(run.out()));
    const children = await descendants(run.child.pid!);
    expect(children.length).toBeGreaterThanOrEqual(2);
    run.child.kill("SIGKILL");
    await run.ended;
    await until("every child gone", () => allGone(children));
  });

  it("ends with 130 and no child when Ctrl-C comes during the load", async () => {
    const run = start(["--requests", "400", "--port", "0"]);
    await until("the load to run", () => /round_robin: \d+ of/.test(run.out()));
    const children = await descendants(run.child.pid!);
    run.child.kill("SIGINT");
    expect(await run.ended).toBe(130);
    await until("every child gone", () => allGone(children));
  });

  it.each([
    [["--endpoints", "nonsense"], "not an endpoint address"],
    [["--endpoints", "10.0.0.1:1", "--config", "x.yaml"], "expected one of them"],
    [["--config", "/nonexistent.yaml"], "ENOENT"],
    [["--concurrency", "0"], "expected a whole number from 1 to 64"],
    [["--rate", "fast"], "expected a number from 0.1 to 1000"],
  ])("refuses %j and says why", async (args, message) => {
    const run = start(args);
    expect(await run.ended).toBe(1);
    expect(run.errors()).toContain(message);
  });
});
