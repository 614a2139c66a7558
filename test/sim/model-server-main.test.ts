// The model server's program: prints its addresses, serves, and ends when told.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
let folder = "";
let program = "";

beforeAll(async () => {
  // In the project's folder, because native packages are looked for around the program.
  await mkdir(join(ROOT, "build"), { recursive: true });
  folder = await mkdtemp(join(ROOT, "build", "epp-model-server-"));
  program = join(folder, "model-server.mjs");
  await build({
    entryPoints: [join(ROOT, "host-sim/model-server/main.ts")],
    outfile: program,
    bundle: true,
    platform: "node",
    format: "esm",
    external: ["zeromq"],
    banner: {
      js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);',
    },
  });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

interface Outcome {
  readonly code: number | null;
  readonly stderr: string;
}

function run(args: readonly string[]): {
  firstLine: Promise<string>;
  ended: Promise<Outcome>;
  stop: () => void;
} {
  const child = spawn(process.execPath, [program, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  let [stdout, stderr] = ["", ""];
  child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
  const ended = new Promise<Outcome>((resolve) => child.once("close", (code) => resolve({ code, stderr })));
  const firstLine = new Promise<string>((resolve, reject) => {
    child.stdout.on("data", (data: Buffer) => {
      stdout += data.toString();
      if (stdout.includes("\n")) resolve(stdout.split("\n")[0]!);
    });
    void ended.then(() => reject(new Error(`it ended without a line:\n${stderr}`)));
  });
  // Nobody waits for a line of a program that is to be refused.
  firstLine.catch(() => undefined);
  return { firstLine, ended, stop: () => child.kill("SIGTERM") };
}

/** Below the ports that Linux gives to connections: nobody takes one between the look at it and its use. */
const PORTS = { lowest: 20_000, highest: 32_000 };

/** The first of `count` ports in a row that nobody has. */
async function freePortsOf(count: number): Promise<number> {
  for (;;) {
    const servers: Server[] = [];
    const first = PORTS.lowest + Math.floor(Math.random() * (PORTS.highest - PORTS.lowest - count));
    try {
      for (let i = 0; i < count; i++) {
        const server = createServer();
        servers.push(server);
        server.listen(first + i, "127.0.0.1");
        await once(server, "listening");
      }
      return first;
    } catch {
      // One of them is somebody's: look elsewhere.
    } finally {
      for (const server of servers) server.close();
    }
  }
}

describe("model-server", () => {
  it("hosts several replicas with a control port and ends at SIGTERM", async () => {
    const { firstLine, ended, stop } = run([
      "--replicas",
      "2",
      "--model",
      "m",
      "--lora",
      "a",
      "b",
      "--max-model-len",
      "512",
    ]);
    const { addresses, admin } = JSON.parse(await firstLine);
    expect(addresses).toHaveLength(2);
    for (const address of addresses) {
      const { data } = (await (await fetch(`http://${address}/v1/models`)).json()) as {
        data: { id: string }[];
      };
      expect(data.map(({ id }) => id)).toEqual(["m", "a", "b"]);
    }
    expect((await fetch(`http://${admin}/replicas`)).status).toBe(200);
    stop();
    expect((await ended).code).toBe(0);
  });

  it("publishes KV events where it is told to, one publisher a rank", async () => {
    const port = await freePortsOf(8);
    const { firstLine, ended, stop } = run([
      ...["--replicas", "2", "--data-parallel-size", "2", "--kv-events", "--kv-events-topic", "kv@"],
      ...["--kv-events-port", String(port), "--kv-events-replay-port", String(port + 4)],
      ...["--kv-events-encoding", "array", "--kv-events-hashes", "bytes"],
    ]);
    const { admin } = JSON.parse(await firstLine);
    const replicas = (await (await fetch(`http://${admin}/replicas`)).json()) as { kvEvents: unknown[] }[];
    const at = (offset: number): string => `tcp://127.0.0.1:${port + offset}`;
    const source = (offset: number) => ({ endpoint: at(offset), replayEndpoint: at(offset + 4) });
    expect(replicas.map(({ kvEvents }) => kvEvents)).toEqual([
      [source(0), source(1)],
      [source(2), source(3)],
    ]);
    stop();
    expect((await ended).code).toBe(0);
  });

  it("hosts strict prefillers, whose control port tells what they hold", async () => {
    const flags = ["--replicas", "2", "--kv-connector", "nixl", "--role", "prefill", "--strict-pd"];
    const { firstLine, ended, stop } = run(flags);
    const { addresses, admin } = JSON.parse(await firstLine);
    const refused = await fetch(`http://${addresses[0]}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: '{"prompt":"a"}',
    });
    expect(refused.status).toBe(400);
    const replicas = (await (await fetch(`http://${admin}/replicas`)).json()) as { disaggregation: object }[];
    const sides = replicas.map(
      ({ disaggregation }) => (disaggregation as { sideChannel: string }).sideChannel,
    );
    expect(new Set(sides).size).toBe(2);
    expect(replicas[0]!.disaggregation).toMatchObject({
      connector: "nixl",
      role: "prefill",
      strict: true,
      heldBlocks: 0,
      issued: [],
      rooms: [],
      refusals: ['role is "prefill", expected prefill legs only, not ordinary requests'],
      staleReads: 0,
    });
    stop();
    expect((await ended).code).toBe(0);
  });

  it.each([
    [["--role", "router"], "Allowed choices are prefill, decode, both"],
    [["--kv-connector", "x"], "Allowed choices are none, nixl, sglang"],
    [["--kv-connector", "sglang"], "--role is both, expected prefill or decode with --kv-connector sglang"],
    [["--replicas", "0"], "--replicas is 0, expected 1 to 64"],
    [["--port", "x"], "expected a whole number ≥ 0"],
    [["--nonsense"], "unknown option"],
  ])("refuses %j", async (args, message) => {
    const { code, stderr } = await run(args).ended;
    expect(code).toBe(1);
    expect(stderr).toContain(message);
  });
});
