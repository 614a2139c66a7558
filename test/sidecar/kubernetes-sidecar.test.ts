// The bundled sidecar with a Kubernetes source: what the gateway is told, what /metrics and /readyz say.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, type Metafile } from "esbuild";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { ENDPOINT_DRAINING, ENDPOINT_READY } from "../../assembly/wire/snapshot.ts";
import { FakeApi } from "./kubernetes-api.ts";
import { inferencePool, kubeconfig, pod } from "./kubernetes-harness.ts";
import * as pages from "./pages.ts";
import { eventually, FakeControl, FakeModelServer, temporaryFolder } from "./servers.ts";

/** As patient as `eventually`. */
const PATIENT = { timeout: 90_000 };

let folder = "";
let program = "";
let metafile: Metafile;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "epp-sidecar-test-"));
  program = join(folder, "sidecar.mjs");
  const built = await build({
    entryPoints: [fileURLToPath(new URL("../../sidecar/main.ts", import.meta.url))],
    outfile: program,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    metafile: true,
    banner: {
      js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);',
    },
    logLevel: "error",
  });
  metafile = built.metafile;
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The program with a configuration; it is killed after its test. */
function run(config: object): {
  child: ChildProcess;
  log: () => Record<string, unknown>[];
  exited: Promise<unknown[]>;
} {
  const path = join(temporaryFolder(), "sidecar.yaml");
  writeFileSync(path, JSON.stringify(config));
  const child = spawn(process.execPath, [program, "--config", path]);
  let output = "";
  child.stdout.on("data", (bytes) => (output += String(bytes)));
  const exited = once(child, "close");
  onTestFinished(() => void child.kill("SIGKILL"));
  const log = (): Record<string, unknown>[] =>
    output
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  return { child, log, exited };
}

interface Started {
  readonly api: FakeApi;
  readonly control: FakeControl;
  readonly get: (page: string) => Promise<string>;
  readonly end: () => Promise<unknown>;
}

/** A program whose pool "qwen" is the InferencePool of the same name, with scrapes that find nobody by default. */
async function start(api: FakeApi): Promise<Started> {
  const control = await new FakeControl(join(temporaryFolder(), "control.sock")).start();
  const { child, log, exited } = run({
    control: control.settings,
    http: { listen: "127.0.0.1:0" },
    pools: [
      {
        name: "qwen",
        discovery: { kubernetes: { inferencePool: "qwen", kubeconfig: kubeconfig(api) } },
        scrape: { timeoutMs: 2_000 },
        models: { enabled: false },
      },
    ],
  });
  const started = await eventually("it started", () => log().find(({ msg }) => msg === "started"));
  const get = async (page: string): Promise<string> =>
    (await fetch(`http://127.0.0.1:${String(started["httpPort"])}${page}`)).text();
  const end = async (): Promise<unknown> => {
    child.kill("SIGTERM");
    return (await exited)[0];
  };
  return { api, control, get, end };
}

describe("a sidecar that watches an InferencePool", () => {
  it("tells the gateway who is ready, who drains and who is gone, and ends with 0", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const api = await new FakeApi().start();
    api.put("inferencepools", inferencePool([server.port]));
    api.put("pods", pod(1, { ip: "127.0.0.1", labels: { "llm-d.ai/model": "qwen" } }));
    api.unknownKinds.add("inferencemodelrewrites");
    const { control, get, end } = await start(api);
    const flags = (): number | undefined => control.row(server.address, "qwen")?.flags;
    const readyFlags = await eventually("it is ready", () => {
      const found = flags();
      return found !== undefined && (found & ENDPOINT_READY) !== 0 ? found : undefined;
    });
    expect(readyFlags & ENDPOINT_DRAINING).toBe(0);
    expect(control.row(server.address, "qwen")).toMatchObject({ name: "vllm-0001", waiting: 4 });
    const generation = control.row(server.address, "qwen")!.generation;
    api.put("pods", pod(1, { ip: "127.0.0.1", deleted: true }));
    await eventually("it drains", () => ((flags() ?? 0) & ENDPOINT_DRAINING) !== 0);
    expect(flags()! & ENDPOINT_READY).toBe(0);
    expect(control.row(server.address, "qwen")!.generation).toBe(generation);
    api.put("inferenceobjectives", {
      metadata: { name: "critical" },
      spec: { poolRef: { name: "qwen" }, priority: 5 },
    });
    await expect
      .poll(() => get("/metrics"), PATIENT)
      .toContain('epp_sidecar_policy_objects{pool="qwen",kind="objectives"} 1');
    expect(await get("/metrics")).toContain(
      'epp_sidecar_discovery_figure{pool="qwen",figure="pods_lists"} 1',
    );
    expect(await get("/readyz")).toContain("policy: Kubernetes does not know inferencemodelrewrites");
    api.remove("pods", "vllm-0001");
    await eventually("it is gone", () => control.last("qwen")?.endpoints.length === 0);
    expect(await end()).toBe(0);
  });

  it("takes 256 of 3,000 pods, keeps to them, and counts the others", async () => {
    const api = await new FakeApi().start();
    // Nobody listens there: connections are refused at once.
    const ip = (index: number): string => `127.1.${index >> 8}.${index & 255}`;
    api.put("inferencepools", inferencePool([9]));
    for (let index = 0; index < 3_000; index += 1) api.put("pods", pod(index, { ip: ip(index) }));
    const { control, get, end } = await start(api);
    await eventually("a snapshot came", () => control.last("qwen") !== undefined);
    const addresses = (): string[] => control.last("qwen")!.endpoints.map(({ address }) => address);
    const before = addresses();
    expect(before).toHaveLength(256);
    expect(await get("/metrics")).toContain('epp_sidecar_dropped{pool="qwen",what="endpoints"} 2744');
    expect(await get("/readyz")).toContain("2744 endpoints are beyond the limit and left out");
    api.put("pods", pod(4_000, { ip: "127.0.0.9" }));
    await expect.poll(() => get("/metrics"), PATIENT).toContain('what="endpoints"} 2745');
    expect(addresses()).toEqual(before);
    expect(await end()).toBe(0);
  });
});

describe("the bundle", () => {
  it("loads the Kubernetes client only when a pool needs it", () => {
    const importers = Object.entries(metafile.inputs).flatMap(([file, { imports }]) =>
      file.includes("node_modules")
        ? []
        : imports
            .filter(({ path }) => path.includes("@kubernetes/client-node"))
            .map(({ kind }) => [file.replace(/^.*sidecar\//, "sidecar/"), kind]),
    );
    expect(importers).toEqual([["sidecar/discovery/kubernetes/credentials.ts", "dynamic-import"]]);
  });
});
