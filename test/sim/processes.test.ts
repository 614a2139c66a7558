// Children end with their parent, however that ends, and progress goes where it is wanted.
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ChildEndedError, ChildSilentError, Supervisor } from "../../cli/processes.ts";
import { Progress } from "../../cli/progress.ts";

let folder = "";
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), "epp-processes-"))));
afterAll(() => rm(folder, { recursive: true, force: true }));

async function script(name: string, text: string): Promise<string> {
  const path = join(folder, `${name}.mjs`);
  await writeFile(path, text);
  return path;
}

const FOREVER = 'process.stdout.write(process.pid + "\\n"); setInterval(() => {}, 1000);';
const readPid = (line: string): number | undefined => (/^\d+$/.test(line) ? Number(line) : undefined);

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function untilDead(pid: number): Promise<void> {
  while (isAlive(pid)) await new Promise((resolve) => setTimeout(resolve, 20));
}

describe("Supervisor", () => {
  it("starts a program, reads what it says, and ends it", async () => {
    const supervisor = new Supervisor();
    const child = supervisor.startNode("forever", await script("forever", FOREVER), []);
    expect(await child.waitForLine(readPid, 10_000)).toBe(child.pid);
    await supervisor.stopAll();
    expect(isAlive(child.pid)).toBe(false);
  });

  it("kills a child that will not end", async () => {
    const supervisor = new Supervisor();
    const stubborn = await script("stubborn", `process.on("SIGTERM", () => {}); ${FOREVER}`);
    const child = supervisor.startNode("stubborn", stubborn, []);
    await child.waitForLine(readPid, 10_000);
    await supervisor.stopAll();
    expect(isAlive(child.pid)).toBe(false);
  });

  it("says what a child wrote that ended too early or stays silent", async () => {
    const supervisor = new Supervisor();
    const broken = await script("broken", 'console.error("no such file"); process.exit(3);');
    const ended = supervisor.startNode("broken", broken, []).waitForLine(readPid, 10_000);
    await expect(ended).rejects.toThrow(ChildEndedError);
    await expect(ended).rejects.toThrow(/broken ended with code 3:\nno such file/);
    // Its last words may still be on their way when it is gone: here somebody else has yet to write them.
    const late = await script(
      "late",
      `import { spawn } from "node:child_process";
       const words = ["-c", "sleep 0.2; echo last words >&2"];
       spawn("/bin/sh", words, { stdio: ["ignore", "ignore", "inherit"], detached: true }).unref();
       process.exit(4);`,
    );
    const gone = supervisor.startNode("late", late, []).waitForLine(readPid, 10_000);
    await expect(gone).rejects.toThrow(/late ended with code 4:\nlast words/);
    const silent = supervisor.startNode("silent", await script("silent", "setInterval(() => {}, 1000);"), []);
    await expect(silent.waitForLine(readPid, 50)).rejects.toThrow(ChildSilentError);
    await supervisor.stopAll();
  });

  it("has its children ended when it is killed itself", async () => {
    const forever = await script("forever", FOREVER);
    const source = fileURLToPath(new URL("../../cli/processes.ts", import.meta.url));
    const parent = await script(
      "parent",
      `import { Supervisor } from ${JSON.stringify(source)};
       const child = new Supervisor().startNode("forever", ${JSON.stringify(forever)}, []);
       console.log(child.pid);
       setInterval(() => {}, 1000);`,
    );
    const bundled = join(folder, "parent-bundle.mjs");
    await build({ entryPoints: [parent], outfile: bundled, bundle: true, platform: "node", format: "esm" });
    const process_ = spawn(process.execPath, [bundled], { stdio: ["ignore", "pipe", "inherit"] });
    const pid = await new Promise<number>((resolve) => {
      process_.stdout.once("data", (data: Buffer) => resolve(Number(data.toString())));
    });
    expect(isAlive(pid)).toBe(true);
    process_.kill("SIGKILL");
    await untilDead(pid);
  });
});

describe("Progress", () => {
  it("replaces its line on a terminal and clears it for lines that stay", () => {
    const written: string[] = [];
    const progress = new Progress({ isTTY: true, write: (text) => written.push(text) });
    progress.update("1 of 2");
    progress.update("2 of 2");
    progress.line("done");
    expect(written).toEqual(["\r\x1b[K1 of 2", "\r\x1b[K2 of 2", "\r\x1b[K", "done\n"]);
  });

  it("prints a line now and then elsewhere", () => {
    const written: string[] = [];
    let nowMs = 0;
    const progress = new Progress({ write: (text) => written.push(text) }, () => nowMs);
    for (nowMs = 0; nowMs < 25_000; nowMs += 1000) progress.update(`at ${nowMs}`);
    expect(written).toEqual(["at 0\n", "at 10000\n", "at 20000\n"]);
  });
});
