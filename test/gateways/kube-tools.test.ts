// Where helm and kubectl come from: the package that setup installs, on other platforms PATH.
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { findKubeTool, kubeToolsFolder, kubeToolsInstallable } from "../../scripts/find-kube-tools.mjs";
import { helmTemplate, kubectlBuild, KubeToolError } from "./kube-tools.ts";

let root: string;
let bin: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "epp-kube-tools-"));
  bin = join(root, "bin");
  for (const folder of [bin, kubeToolsFolder(root)]) mkdirSync(folder, { recursive: true });
});
afterEach(() => rmSync(root, { recursive: true }));

function put(path: string, mode: number): string {
  writeFileSync(path, "#!/bin/sh\n");
  chmodSync(path, mode);
  return path;
}
const machine = (platform: string, arch: string) => ({
  platform,
  arch,
  env: { PATH: `/nonexistent:${bin}` },
});

it("takes the installed one on linux/amd64, whatever is on PATH", async () => {
  put(join(bin, "helm"), 0o755);
  expect(await findKubeTool(root, "helm", machine("linux", "x64"))).toBeUndefined();
  const path = put(join(kubeToolsFolder(root), "helm"), 0o755);
  expect(await findKubeTool(root, "helm", machine("linux", "x64"))).toBe(path);
});

it("takes none that was not written to its end", async () => {
  put(join(kubeToolsFolder(root), "helm"), 0o644);
  expect(await findKubeTool(root, "helm", machine("linux", "x64"))).toBeUndefined();
});

it.each([
  ["darwin", "arm64"],
  ["linux", "arm64"],
])("takes the one on PATH on %s/%s, where the package's cannot run", async (platform, arch) => {
  expect(kubeToolsInstallable({ platform, arch })).toBe(false);
  expect(await findKubeTool(root, "kubectl", machine(platform, arch))).toBeUndefined();
  const path = put(join(bin, "kubectl"), 0o755);
  expect(await findKubeTool(root, "kubectl", machine(platform, arch))).toBe(path);
});

it("says what helm and kubectl said", async () => {
  await expect(helmTemplate({ gateway: 1 })).rejects.toThrow(KubeToolError);
  await expect(kubectlBuild(bin)).rejects.toThrow("unable to find one of 'kustomization.yaml'");
});
