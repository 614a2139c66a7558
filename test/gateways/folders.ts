// The kustomizations under envoy/, built once for the tests that read them.
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { parse } from "yaml";
import { ROOT } from "../../cli/envoy.ts";
import { buildKustomization } from "./kustomize.ts";
import type { Resource } from "./resource-schemas.ts";

export const BASES = ["envoy/envoy-gateway/base", "envoy/kgateway/base", "envoy/istio/base"] as const;

/** Every folder under envoy/ that is applied to a gateway: its bases and overlays. */
export function kustomizations(): string[] {
  return manifestFiles()
    .filter((path) => /^envoy\/[^/]+\/(base|overlays\/[^/]+)\/kustomization\.yaml$/.test(path))
    .map((path) => join(path, ".."))
    .sort();
}

/** Every file under envoy/, from the root. */
export function manifestFiles(): string[] {
  return readdirSync(join(ROOT, "envoy"), { recursive: true, encoding: "utf8", withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)));
}

/** Resources of one of them, by its path from the root. */
export function build(folder: string): Resource[] {
  return buildKustomization(join(ROOT, folder));
}

/** The only resource of a kind, or the one of this name. */
export function find(resources: readonly Resource[], kind: string, name?: string): Resource {
  const found = resources.filter(
    (resource) => resource.kind === kind && (name ?? resource.metadata.name) === resource.metadata.name,
  );
  if (found.length !== 1) throw new Error(`${found.length} resources ${kind}/${name ?? "*"}`);
  return found[0]!;
}

/** The value at a path like "spec.wasm.0.name"; undefined where there is none. */
export function at<T = unknown>(value: unknown, path: string): T | undefined {
  let found = value;
  for (const step of path.split(".")) found = (found as Record<string, unknown> | undefined)?.[step];
  return found as T | undefined;
}

/** A YAML file by its path from the root. */
export function readYaml<T = unknown>(path: string): T {
  return parse(readFileSync(join(ROOT, path), "utf8")) as T;
}
