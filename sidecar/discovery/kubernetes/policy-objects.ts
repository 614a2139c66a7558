// Makes a pool's policy of the InferenceObjectives and InferenceModelRewrites that name the pool.
//
// Precedence is GIE's: a rule for an exact model goes before one for any model; of several for one model the oldest
// object's first rule counts (InferenceModelRewriteSpec, "Precedence and Conflict Resolution").
import { z } from "zod";
import {
  POLICY_MODEL_BYTES_MAX,
  POLICY_OBJECTIVES_MAX,
  POLICY_RULES_MAX,
  POLICY_RULE_TARGETS_MAX,
  POLICY_WEIGHT_MAX,
} from "../../../assembly/wire/policy.ts";
import { type Objective, POLICY_VERSION, type PoolPolicy, type RewriteRule } from "../../policy.ts";

/** Groups in which the policy objects exist, newest first; each is v1alpha2. */
export const POLICY_GROUPS = ["llm-d.ai", "inference.networking.x-k8s.io"] as const;
export type PolicyGroup = (typeof POLICY_GROUPS)[number];

/**
 * Groups that a poolRef may name. The first two are what it defaults to in either group's CRD, where no
 * InferencePool v1 lives: they stand for "not said".
 */
const POOL_GROUPS: ReadonlySet<string> = new Set([...POLICY_GROUPS, "inference.networking.k8s.io", ""]);

const poolRef = z.object({ group: z.string().optional(), kind: z.string().optional(), name: z.string() });
const metadata = z.object({
  name: z.string().min(1),
  creationTimestamp: z.string().default(""),
  deletionTimestamp: z.string().nullish(),
});

const objectiveSchema = z.object({
  metadata,
  spec: z.object({ poolRef, priority: z.int().min(-2_147_483_648).max(2_147_483_647).nullish() }),
});
export type ObjectiveView = z.output<typeof objectiveSchema>;

const model = z
  .string()
  .min(1)
  .refine((name) => Buffer.byteLength(name) <= POLICY_MODEL_BYTES_MAX);
const rewriteSchema = z.object({
  metadata,
  spec: z.object({
    poolRef,
    rules: z
      .array(
        z.object({
          matches: z
            .array(z.object({ model: z.object({ type: z.literal("Exact").optional(), value: model }) }))
            .nullish(),
          targets: z
            .array(
              z.object({
                modelRewrite: model,
                weight: z.int().min(1).max(POLICY_WEIGHT_MAX).nullish(),
              }),
            )
            .min(1)
            .max(POLICY_RULE_TARGETS_MAX),
        }),
      )
      .nullish(),
  }),
});
export type RewriteView = z.output<typeof rewriteSchema>;

interface TargetView {
  readonly modelRewrite: string;
  readonly weight?: number | null | undefined;
}

/** @returns null when the object is not an InferenceObjective that can be used */
export function readObjective(object: unknown): ObjectiveView | null {
  return objectiveSchema.safeParse(object).data ?? null;
}

/** @returns null when the object is not an InferenceModelRewrite that can be used */
export function readRewrite(object: unknown): RewriteView | null {
  return rewriteSchema.safeParse(object).data ?? null;
}

/** A policy and how much did not fit into it. */
export interface MadePolicy {
  readonly policy: PoolPolicy;
  readonly surplus: number;
}

/**
 * @param pool name in the policy
 * @param inferencePool name that a poolRef must have
 */
export function makePolicy(
  pool: string,
  inferencePool: string,
  appProtocol: PoolPolicy["appProtocol"],
  objectives: Iterable<ObjectiveView>,
  rewrites: Iterable<RewriteView>,
): MadePolicy {
  const mine = <T extends ObjectiveView | RewriteView>(objects: Iterable<T>): T[] =>
    [...objects].filter(({ metadata: { deletionTimestamp }, spec: { poolRef: ref } }) => {
      if (deletionTimestamp != null || ref.name !== inferencePool) return false;
      return POOL_GROUPS.has(ref.group ?? "") && (ref.kind ?? "InferencePool") === "InferencePool";
    });
  const priorities = mine(objectives)
    .map(({ metadata: { name }, spec }): Objective => ({ name, priority: spec.priority ?? 0 }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  const rules = orderedRules(mine(rewrites));
  return {
    policy: {
      version: POLICY_VERSION,
      pool,
      appProtocol,
      objectives: priorities.slice(0, POLICY_OBJECTIVES_MAX),
      rewrites: rules.slice(0, POLICY_RULES_MAX),
    },
    surplus:
      Math.max(0, priorities.length - POLICY_OBJECTIVES_MAX) + Math.max(0, rules.length - POLICY_RULES_MAX),
  };
}

function orderedRules(rewrites: readonly RewriteView[]): RewriteRule[] {
  const oldestFirst = [...rewrites].sort((a, b) => {
    const [at, bt] = [a.metadata.creationTimestamp, b.metadata.creationTimestamp];
    return at < bt ? -1 : at > bt ? 1 : a.metadata.name < b.metadata.name ? -1 : 1;
  });
  const rules = new Map<string | null, RewriteRule>();
  for (const { metadata: object, spec } of oldestFirst) {
    for (const { matches, targets } of spec.rules ?? []) {
      const models =
        matches == null || matches.length === 0 ? [null] : matches.map((match) => match.model.value);
      for (const name of models) {
        if (rules.has(name)) continue;
        rules.set(name, { source: object.name, model: name, targets: weighted(targets) });
      }
    }
  }
  return [...rules.values()].sort((a, b) => {
    if (a.model === null || b.model === null) return a.model === null ? 1 : -1;
    return a.model < b.model ? -1 : 1;
  });
}

/**
 * Without any weight all targets weigh the same; where only some have one, the others get nothing, as in llm-d
 * (llm-d-router pkg/epp/requestcontrol/director.go @ ebab6879).
 */
function weighted(targets: readonly TargetView[]): RewriteRule["targets"] {
  const none = targets.every(({ weight }) => weight == null);
  return targets
    .filter(({ weight }) => none || weight != null)
    .map(({ modelRewrite, weight }) => ({ model: modelRewrite, weight: weight ?? 1 }));
}
