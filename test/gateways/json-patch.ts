// Applies an EnvoyPatchPolicy to a listener as Envoy Gateway does, except that a patch which finds nothing is an error.
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
    readonly jsonPath: string;
    readonly path: string;
    readonly value: unknown;
  };
}

/** The one form of JSONPath in use: the configurations of all HTTP filters whose plugin has this name. */
const FILTER_PATH =
  /^\.\.http_filters\[\?\(@\.typed_config\.config\.name=='([^']+)'\)\]\.typed_config\.config$/;

/** @throws PatchNotAppliedError */
export function applyPatches(policy: Resource, listener: { readonly name: string }): void {
  for (const [index, patch] of at<Patch[]>(policy, "spec.jsonPatches")!.entries()) {
    const { op, jsonPath, path, value } = patch.operation;
    if (patch.type !== "type.googleapis.com/envoy.config.listener.v3.Listener")
      throw new PatchNotAppliedError(index, `no resource of type ${patch.type}`);
    if (patch.name !== listener.name) throw new PatchNotAppliedError(index, `no listener ${patch.name}`);
    const plugin = FILTER_PATH.exec(jsonPath)?.[1];
    const targets = httpFilters(listener).filter(
      (filter) => at(filter, "typed_config.config.name") === plugin,
    );
    if (plugin === undefined || targets.length === 0)
      throw new PatchNotAppliedError(index, `nothing at ${jsonPath}`);
    for (const target of targets) {
      const steps = path.split("/");
      const last = steps.pop()!;
      const parent = at<Record<string, unknown>>(target, ["typed_config", "config", ...steps].join("."));
      if (parent === undefined || (op === "replace" && !(last in parent)))
        throw new PatchNotAppliedError(index, `no ${path} to ${op}`);
      if (op !== "add" && op !== "replace") throw new PatchNotAppliedError(index, `unknown operation ${op}`);
      parent[last] = value;
    }
  }
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
