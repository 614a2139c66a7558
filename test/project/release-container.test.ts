// The sidecar's image: its recipe keeps to what the manifests rely on, and the sidecar needs no file it could write.
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildBundles } from "../../scripts/build.mjs";
import { readText, repositoryFiles, ROOT } from "./files.ts";

const READY_TIMEOUT_MS = 45_000;
const POLL_MS = 50;

interface Instruction {
  readonly name: string;
  readonly text: string;
}

/** Instructions of a Containerfile: comments gone, continued lines joined. */
function instructions(text: string): Instruction[] {
  const lines = text.replace(/\\\n/g, " ").split("\n");
  return lines
    .filter((line) => line.trim() !== "" && !line.startsWith("#"))
    .map((line) => ({ name: line.split(" ")[0]!, text: line.slice(line.indexOf(" ") + 1).trim() }));
}

/** What would make the image larger, less safe or less repeatable than it is meant to be. */
function recipeFaults(text: string, released: readonly string[]): string[] {
  const all = instructions(text);
  const of = (name: string): string[] => all.filter((one) => one.name === name).map((one) => one.text);
  const faults: string[] = [];
  for (const name of ["RUN", "ADD", "VOLUME", "SHELL"]) if (of(name).length > 0) faults.push(`has ${name}`);
  if (!/^BASE=gcr\.io\/distroless\/nodejs\d+-debian\d+:nonroot$/.test(of("ARG")[0] ?? ""))
    faults.push("base");
  if (!/^\$\{BASE\}$/.test(of("FROM").join())) faults.push("more than one stage");
  if (!/^[1-9]\d*:[1-9]\d*$/.test(of("USER").at(-1) ?? "")) faults.push("user is no number above 0");
  for (const copied of of("COPY")) {
    const [, file] = /^--chmod=0(?:444|555(?= node_modules )) (\S+) \S+$/.exec(copied) ?? [];
    if (file === undefined || !released.includes(file)) faults.push(`copies ${copied}`);
  }
  return faults;
}

describe("the sidecar's image", () => {
  const recipe = readText("packaging/Containerfile");
  const released = ["sidecar.mjs", "node_modules"];

  it("copies what is released onto distroless, runs nothing, and has a user that is a number", () => {
    expect(recipeFaults(recipe, released)).toEqual([]);
  });

  it("is found faulty where it is", () => {
    const broken = recipe
      .replace("USER 65532:65532", "USER root")
      .replace("COPY --chmod=0444", "RUN apt-get update\nCOPY")
      .replace(":nonroot", ":latest");
    expect(recipeFaults(broken, released)).toEqual([
      "has RUN",
      "base",
      "user is no number above 0",
      "copies sidecar.mjs /app/sidecar.mjs",
    ]);
  });

  it("starts the sidecar with a pod's args, at the path and as the user that the manifests name", () => {
    const of = (name: string): string => instructions(recipe).find((one) => one.name === name)!.text;
    expect(JSON.parse(of("ENTRYPOINT"))).toEqual(["/nodejs/bin/node", "/app/sidecar.mjs"]);
    const manifests = repositoryFiles().filter((path) => /^envoy\/.*\.ya?ml$/.test(path));
    const users = manifests.map(readText).filter((text) => text.includes("/sidecar:"));
    expect(users.length).toBeGreaterThan(0);
    for (const text of users) {
      expect(text).toContain(`args: ${of("CMD").replace(/,(?=")/g, ", ")}`);
      expect(text).toContain(`runAsUser: ${of("USER").split(":")[0]}`);
      expect(text).toContain("readOnlyRootFilesystem: true");
    }
  });
});

describe("the sidecar on a read-only root", () => {
  let folder: string;
  beforeAll(async () => {
    await buildBundles();
    folder = await mkdtemp(join(tmpdir(), "epp-readonly-"));
  }, 120_000);
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it("serves and ends without writing any file, starting any process or thread", async () => {
    const config = join(folder, "sidecar.yaml");
    const pools = `[{ name: pool, discovery: { static: { endpoints: ["127.0.0.1:1"] } } }]`;
    const control = join(folder, "control.sock");
    await writeFile(
      config,
      `control: { socket: ${control} }\nhttp: { listen: "127.0.0.1:0" }\npools: ${pools}\n`,
    );
    const program = join(ROOT, "build/sidecar.mjs");
    const child = spawn(process.execPath, [...readOnly(), program, "--config", config]);
    let log = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => (log += text));
    const ended = new Promise<number | null>((settle) => child.once("close", settle));
    try {
      const port = await servedPort(() => log);
      for (const page of ["healthz", "metrics"])
        expect((await fetch(`http://127.0.0.1:${port}/${page}`)).status, page).toBe(200);
      child.kill("SIGTERM");
      expect(await ended).toBe(0);
      expect(log).not.toContain("ERR_ACCESS_DENIED");
    } finally {
      child.kill("SIGKILL");
      await ended;
    }
  });

  it("is really kept from writing", async () => {
    const script = join(folder, "writes.mjs");
    const target = join(folder, "written");
    await writeFile(
      script,
      `import { writeFileSync } from "node:fs"; writeFileSync(${JSON.stringify(target)}, "");`,
    );
    const child = spawn(process.execPath, [...readOnly(), script]);
    let log = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (log += text));
    expect(await new Promise((settle) => child.once("close", settle))).not.toBe(0);
    expect(log).toContain("ERR_ACCESS_DENIED");
    await expect(readFile(target)).rejects.toThrow("ENOENT");
  });
});

/** Flags of Node's permission model, which denies what is not allowed by name; newer ones guard the network too. */
function readOnly(): string[] {
  const known = process.allowedNodeEnvironmentFlags;
  const model = known.has("--permission") ? "--permission" : "--experimental-permission";
  return [model, "--allow-fs-read=*", ...(known.has("--allow-net") ? ["--allow-net"] : [])];
}

/** The port that the sidecar says it serves at, as soon as it does. */
async function servedPort(log: () => string): Promise<number> {
  const deadline = performance.now() + READY_TIMEOUT_MS;
  for (;;) {
    const port = /"httpPort":(\d+)/.exec(log())?.[1];
    if (port !== undefined) return Number(port);
    if (performance.now() > deadline) throw new Error(`it does not serve; logged:\n${log()}`);
    await new Promise((settle) => setTimeout(settle, POLL_MS));
  }
}
