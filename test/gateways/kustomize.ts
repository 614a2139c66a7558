// Builds a kustomization: resources, generated ConfigMaps and JSON patches; anything else in it is refused.
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
  readonly configMapGenerator?: readonly {
    readonly name: string;
    readonly namespace?: string;
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

const FIELDS = ["apiVersion", "kind", "resources", "configMapGenerator", "generatorOptions", "patches"];

/**
 * The resources of a folder's kustomization.yaml, in the order of the files.
 * @param used receives every file that was read
 * @throws KustomizationError
 */
export function buildKustomization(folder: string, used: Set<string> = new Set()): Resource[] {
  const path = join(folder, "kustomization.yaml");
  const document = parse(read(path, used)) as Kustomization;
  for (const field of Object.keys(document))
    if (!FIELDS.includes(field)) throw new KustomizationError(path, `unknown field ${field}`);
  if (document.apiVersion !== "kustomize.config.k8s.io/v1beta1" || document.kind !== "Kustomization")
    throw new KustomizationError(path, "expected a Kustomization of kustomize.config.k8s.io/v1beta1");
  const resources = (document.resources ?? []).flatMap((entry) => load(join(folder, entry), used));
  for (const { name, namespace, files } of document.configMapGenerator ?? []) {
    if (document.generatorOptions?.disableNameSuffixHash !== true)
      throw new KustomizationError(path, "expected disableNameSuffixHash: nothing follows a hashed name");
    const data = Object.fromEntries(files.map((file) => keyAndText(folder, file, used)));
    const metadata = namespace === undefined ? { name } : { name, namespace };
    resources.push({ apiVersion: "v1", kind: "ConfigMap", metadata, data });
  }
  for (const { path: patch, target } of document.patches ?? []) {
    const found = resources.filter((resource) => matches(resource, target));
    if (found.length !== 1)
      throw new KustomizationError(path, `${patch}: ${found.length} resources match its target`);
    for (const operation of parse(read(join(folder, patch), used)) as Operation[])
      apply(found[0]!, operation, patch);
  }
  return resources;
}

function load(path: string, used: Set<string>): Resource[] {
  if (existsSync(path) && statSync(path).isDirectory()) return buildKustomization(path, used);
  return parseAllDocuments(read(path, used)).map((document) => document.toJS() as Resource);
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
