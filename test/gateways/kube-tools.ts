// Runs the real helm and kubectl on the chart and the manifests.
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { parseAllDocuments } from "yaml";
import { ROOT } from "../../cli/envoy.ts";
import { findKubeTool } from "../../scripts/find-kube-tools.mjs";
import type { Resource } from "./resource-schemas.ts";

export const CHART = join(ROOT, "charts", "epp-wasm");

const execute = promisify(execFile);
const OUTPUT_BYTES_MAX = 16_777_216;
const TIMEOUT_MS = 50_000;

/** helm or kubectl ended with an error, or is not there. */
export class KubeToolError extends Error {
  readonly code = "ERR_KUBE_TOOL";
  constructor(name: string, reason: string) {
    super(`${name}: ${reason}`);
    this.name = "KubeToolError";
  }
}

async function run(name: "helm" | "kubectl", args: readonly string[]): Promise<string> {
  const path = await findKubeTool(ROOT, name);
  if (path === undefined) throw new KubeToolError(name, "not there; `npm test` installs it");
  try {
    const { stdout } = await execute(path, args, { maxBuffer: OUTPUT_BYTES_MAX, timeout: TIMEOUT_MS });
    return stdout;
  } catch (error) {
    throw new KubeToolError(name, String((error as { stderr?: string }).stderr || error));
  }
}

function resourcesOf(text: string): Resource[] {
  return parseAllDocuments(text)
    .map((document) => document.toJS() as Resource | null)
    .filter((resource) => resource !== null);
}

/** What `kubectl apply -k` would apply; a folder is looked for from the root. @throws KubeToolError */
export async function kubectlBuild(folder: string): Promise<Resource[]> {
  return resourcesOf(await run("kubectl", ["kustomize", resolve(ROOT, folder)]));
}

/** What `helm install` with these values would apply; what is left out is the chart's own. @throws KubeToolError */
export async function helmTemplate(values: object): Promise<Resource[]> {
  const folder = await mkdtemp(join(tmpdir(), "epp-values-"));
  try {
    const file = join(folder, "values.json");
    await writeFile(file, JSON.stringify(values));
    return resourcesOf(await run("helm", ["template", "epp", CHART, "--values", file]));
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** helm's own check of the chart. @throws KubeToolError */
export async function helmLint(): Promise<string> {
  return run("helm", ["lint", "--strict", CHART]);
}
