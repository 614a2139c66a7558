// Applies an EnvoyPatchPolicy to a listener and a cluster as Envoy Gateway does, except that a patch which finds nothing is an error.
import { at } from "./folders.ts";
import type { Resource } from "./resource-schemas.ts";

/** A patch that would be passed over in silence. */
export class PatchNotAppliedError extends Error {
  readonly code = "ERR_PATCH_NOT_APPLIED";
  constructor(index: number, reason: string) {
    super(`jsonPatches[${index}] does not apply: ${reason}`);
    this.name = "PatchNotAppliedError";
  }
}

interface Patch {
  readonly type: string;
  readonly name: string;
  readonly operation: {
    readonly op: string;
    readonly jsonPath?: string;
    readonly path: string;
    readonly value: unknown;
  };
}

const LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener";
const CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

/** The one form of JSONPath in use: the configurations of all HTTP filters whose plugin has this name. */
const FILTER_PATH =
  /^\.\.http_filters\[\?\(@\.typed_config\.config\.name=='([^']+)'\)\]\.typed_config\.config$/;

/** @throws PatchNotAppliedError */
export function applyPatches(
  policy: Resource,
  listener: { readonly name: string },
  cluster: { readonly name: string },
): void {
  for (const [index, patch] of at<Patch[]>(policy, "spec.jsonPatches")!.entries()) {
    const fail = (reason: string): never => {
      throw new PatchNotAppliedError(index, reason);
    };
    const resource = { [LISTENER]: listener, [CLUSTER]: cluster }[patch.type];
    if (resource === undefined) throw fail(`no resource of type ${patch.type}`);
    if (patch.name !== resource.name) fail(`no resource ${patch.name}`);
    const { op, path, value } = patch.operation;
    if (op !== "add" && op !== "replace") fail(`unknown operation ${op}`);
    for (const target of targetsOf(resource, patch.operation.jsonPath, fail)) {
      const steps = path.replace(/^\//, "").split("/");
      const last = steps.pop()!;
      const parent = steps.reduce<Record<string, unknown> | undefined>(
        (below, step) => below?.[step] as Record<string, unknown> | undefined,
        target,
      );
      if (parent === undefined || (op === "replace" && !(last in parent))) throw fail(`no ${path} to ${op}`);
      parent[last] = value;
    }
  }
}

/** What a patch's path starts at: the resource itself, or what its JSONPath finds. */
function targetsOf(
  resource: object,
  jsonPath: string | undefined,
  fail: (reason: string) => never,
): Record<string, unknown>[] {
  if (jsonPath === undefined) return [resource as Record<string, unknown>];
  const plugin = FILTER_PATH.exec(jsonPath)?.[1];
  const filters = httpFilters(resource).filter((filter) => at(filter, "typed_config.config.name") === plugin);
  if (plugin === undefined || filters.length === 0) fail(`nothing at ${jsonPath}`);
  return filters.map((filter) => at<Record<string, unknown>>(filter, "typed_config.config")!);
}

/** All entries of lists called http_filters, however deep. */
function httpFilters(value: unknown): object[] {
  const found: object[] = [];
  const open: unknown[] = [value];
  while (open.length > 0) {
    const next = open.pop();
    if (typeof next !== "object" || next === null) continue;
    for (const [key, child] of Object.entries(next)) {
      if (key === "http_filters" && Array.isArray(child)) found.push(...(child as object[]));
      open.push(child);
    }
  }
  return found;
}
