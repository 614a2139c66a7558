// Brings SGLang's own code to where the tests of `npm run test:sglang` can import it, beside the vLLM of
// `npm run test:vllm`, whose packages it shares. Quick when it is there.
import { createHash } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { run, step } from "../process.mjs";
import { SetupError } from "../setup.mjs";
import { setupVllm } from "../vllm/setup.mjs";

const LOCK = join(dirname(fileURLToPath(import.meta.url)), "requirements.lock");
const PIP_OPTIONS = ["--no-deps", "--disable-pip-version-check", "--no-input", "--retries", "2"];

export const SGLANG_VERSION = "0.5.23";

/** Where things are in the home of the tests' vLLM. */
export function sglangPaths(home) {
  return {
    python: join(home, "venv", "bin", "python"),
    packages: join(home, "sglang"),
    model: join(home, "tests", "model"),
  };
}

/** Installs what is missing. @returns the home of vLLM and SGLang @throws SetupError */
export async function setupSglang() {
  const home = await setupVllm();
  const { packages } = sglangPaths(home);
  const wanted = createHash("sha256")
    .update(await readFile(LOCK))
    .digest("hex");
  const marker = join(packages, "made-by");
  if ((await readFile(marker, "utf8").catch(() => "")) === wanted) return home;
  await step(`installing SGLang ${SGLANG_VERSION} into ${packages} (PyPI, 250 MB)`, () => install(home));
  await writeFile(marker, wanted);
  return home;
}

async function install(home) {
  const { python, packages } = sglangPaths(home);
  await rm(packages, { recursive: true, force: true });
  await mkdir(packages, { recursive: true });
  const pip = ["-m", "pip", "install", ...PIP_OPTIONS, "--target", packages, "-r", LOCK];
  const { code, output } = await run(python, pip);
  if (code === 0) return;
  await rm(packages, { recursive: true, force: true });
  const reason = output.trim().split("\n").at(-1) ?? "";
  throw new SetupError(`pip could not install SGLang: ${reason.slice(0, 400)}`);
}
