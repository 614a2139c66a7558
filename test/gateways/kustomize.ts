// Builds a kustomization: resources, components, generated ConfigMaps and JSON patches; anything else in it is refused.
// manifests.test.ts compares what it builds with what kubectl builds; unlike kubectl it says which files were read.
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { parse, parseAllDocuments } from "yaml";
import type { Resource } from "./resource-schemas.ts";

/** A kustomization that cannot be built, or that says something this reader does not know. */
export class KustomizationError extends Error {
  readonly code = "ERR_KUSTOMIZATION";
  constructor(path: string, reason: string) {
    super(`${path}: ${reason}`);
    this.name = "KustomizationError";
  }
}

interface Kustomization {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly resources?: readonly string[];
  readonly components?: readonly string[];
  readonly configMapGenerator?: readonly {
    readonly name: string;
    readonly namespace?: string;
    readonly behavior?: string;
    readonly files: readonly string[];
  }[];
  readonly generatorOptions?: { readonly disableNameSuffixHash?: boolean };
  readonly patches?: readonly { readonly path: string; readonly target: Target }[];
}
interface Target {
  readonly group?: string;
  readonly version: string;
  readonly kind: string;
  readonly name: string;
}
interface Operation {
  readonly op: string;
  readonly path: string;
  readonly value?: unknown;
}

const FIELDS = [
  ...["apiVersion", "kind", "resources", "components", "configMapGenerator", "generatorOptions", "patches"],
];
const API_VERSIONS: Readonly<Record<string, string>> = {
  Kustomization: "kustomize.config.k8s.io/v1beta1",
  Component: "kustomize.config.k8s.io/v1alpha1",
};

/**
 * The resources of a folder's kustomization.yaml, in the order of the files.
 * @param used receives every file that was read
 * @throws KustomizationError
 */
export function buildKustomization(folder: string, used: Set<string> = new Set()): Resource[] {
  const resources: Resource[] = [];
  accumulate(folder, "Kustomization", resources, used);
  return resources;
}

/** Adds a folder's resources to those that are there, then changes any of them: a Component adds nothing of its own. */
function accumulate(folder: string, kind: string, resources: Resource[], used: Set<string>): void {
  const path = join(folder, "kustomization.yaml");
  const document = parse(read(path, used)) as Kustomization;
  for (const field of Object.keys(document))
    if (!FIELDS.includes(field)) throw new KustomizationError(path, `unknown field ${field}`);
  if (document.apiVersion !== API_VERSIONS[kind] || document.kind !== kind)
    throw new KustomizationError(path, `expected a ${kind} of ${API_VERSIONS[kind]}`);
  for (const entry of document.resources ?? []) load(join(folder, entry), resources, used);
  for (const entry of document.components ?? [])
    accumulate(join(folder, entry), "Component", resources, used);
  generate(folder, path, document, resources, used);
  for (const { path: patch, target } of document.patches ?? []) {
    const found = resources.filter((resource) => matches(resource, target));
    if (found.length !== 1)
      throw new KustomizationError(path, `${patch}: ${found.length} resources match its target`);
    for (const operation of parse(read(join(folder, patch), used)) as Operation[])
      apply(found[0]!, operation, patch);
  }
}

/** Makes ConfigMaps, or replaces those of the base. */
function generate(
  folder: string,
  path: string,
  { configMapGenerator, generatorOptions }: Kustomization,
  resources: Resource[],
  used: Set<string>,
): void {
  for (const { name, namespace, behavior = "create", files } of configMapGenerator ?? []) {
    if (generatorOptions?.disableNameSuffixHash !== true)
      throw new KustomizationError(path, "expected disableNameSuffixHash: nothing follows a hashed name");
    const data = Object.fromEntries(files.map((file) => keyAndText(folder, file, used)));
    const metadata = namespace === undefined ? { name } : { name, namespace };
    const made = { apiVersion: "v1", kind: "ConfigMap", metadata, data };
    const index = resources.findIndex(
      ({ kind, metadata: present }) =>
        kind === "ConfigMap" && present.name === name && present.namespace === namespace,
    );
    if ((behavior === "create") === index >= 0 || !["create", "replace"].includes(behavior))
      throw new KustomizationError(path, `cannot ${behavior} ConfigMap ${name}`);
    if (index < 0) resources.push(made);
    else resources[index] = made;
  }
}

function load(path: string, resources: Resource[], used: Set<string>): void {
  if (existsSync(path) && statSync(path).isDirectory()) accumulate(path, "Kustomization", resources, used);
  else resources.push(...parseAllDocuments(read(path, used)).map((document) => document.toJS() as Resource));
}

/** "sidecar.yaml" or "key=file". */
function keyAndText(folder: string, entry: string, used: Set<string>): [string, string] {
  const [first, second] = entry.split("=") as [string, string?];
  return [first, read(join(folder, second ?? first), used)];
}

function read(path: string, used: Set<string>): string {
  if (!existsSync(path)) throw new KustomizationError(path, "no such file");
  used.add(path);
  return readFileSync(path, "utf8");
}

function matches({ apiVersion, kind, metadata }: Resource, target: Target): boolean {
  const version = target.group === undefined ? target.version : `${target.group}/${target.version}`;
  return apiVersion === version && kind === target.kind && metadata.name === target.name;
}

/** One operation of RFC 6902 on a path that is there: add to a mapping, replace or remove. */
function apply(resource: Resource, { op, path, value }: Operation, file: string): void {
  const steps = path.split("/").slice(1).map(unescapePointer);
  const last = steps.pop()!;
  let parent: unknown = resource;
  for (const step of steps) parent = (parent as Record<string, unknown> | undefined)?.[step];
  if (typeof parent !== "object" || parent === null)
    throw new KustomizationError(file, `${path}: nothing there`);
  const record = parent as Record<string, unknown>;
  if (op !== "add" && !(last in record)) throw new KustomizationError(file, `${path}: nothing there`);
  if (op === "add" && Array.isArray(record)) {
    if (last !== "-") throw new KustomizationError(file, `${path}: expected "-" to add to a list`);
    record.push(value);
  } else if (op === "add" || op === "replace") record[last] = value;
  else if (op === "remove" && !Array.isArray(record)) delete record[last];
  else throw new KustomizationError(file, `${path}: cannot ${op}`);
}

function unescapePointer(step: string): string {
  return step.replaceAll("~1", "/").replaceAll("~0", "~");
}
