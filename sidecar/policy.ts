// The policy of one pool: what its owner decided about priorities and model names, in the shape in which it is
// handed to the gateway.
import { z } from "zod";
import {
  POLICY_MODEL_BYTES_MAX,
  POLICY_NAME_BYTES_MAX,
  POLICY_OBJECTIVES_MAX,
  POLICY_RULES_MAX,
  POLICY_RULE_TARGETS_MAX,
  POLICY_WEIGHT_MAX,
} from "../assembly/wire/policy.ts";

/** Version of the shape. A reader refuses another one. */
export const POLICY_VERSION = 1;
const modelName = z
  .string()
  .min(1, "expected a model's name")
  .refine((name) => Buffer.byteLength(name) <= POLICY_MODEL_BYTES_MAX, {
    message: `expected at most ${POLICY_MODEL_BYTES_MAX} bytes`,
  });
const objectName = z.string().min(1).max(POLICY_NAME_BYTES_MAX);

/** Where a share of a model's requests goes: `weight` / sum of the rule's weights. */
const rewriteTarget = z.strictObject({
  model: modelName,
  weight: z.int().min(1).max(POLICY_WEIGHT_MAX),
});

/** Requests for `model` (null = for any model that no other rule names) become requests for a target. */
const rewriteRule = z.strictObject({
  /** Object that the rule is from, for messages and metrics. */
  source: objectName,
  model: modelName.nullable(),
  targets: z.array(rewriteTarget).min(1).max(POLICY_RULE_TARGETS_MAX),
});

/** Requests that name this objective have this priority; the higher the sooner, 0 where none is named. */
const objective = z.strictObject({
  name: objectName,
  priority: z.int().min(-2_147_483_648).max(2_147_483_647),
});

/**
 * The whole document. Objectives are sorted by name; no two rules have the same model, exact models come
 * sorted, and the rule for any model is last, so that equal policies are equal texts.
 */
export const poolPolicySchema = z
  .strictObject({
    version: z.literal(POLICY_VERSION),
    pool: z.string().min(1).max(POLICY_NAME_BYTES_MAX),
    /** What the replicas speak; `kubernetes.io/h2c` is HTTP/2 in clear text. */
    appProtocol: z.enum(["http", "kubernetes.io/h2c"]),
    objectives: z.array(objective).max(POLICY_OBJECTIVES_MAX),
    rewrites: z.array(rewriteRule).max(POLICY_RULES_MAX),
  })
  .superRefine((policy, context) => {
    const repeated = (list: readonly unknown[]): boolean => new Set(list).size !== list.length;
    if (repeated(policy.objectives.map(({ name }) => name))) {
      context.addIssue({ code: "custom", path: ["objectives"], message: "expected each name once" });
    }
    if (repeated(policy.rewrites.map(({ model }) => model))) {
      context.addIssue({ code: "custom", path: ["rewrites"], message: "expected each model once" });
    }
  });

export type PoolPolicy = z.output<typeof poolPolicySchema>;
export type RewriteRule = PoolPolicy["rewrites"][number];
export type Objective = PoolPolicy["objectives"][number];

/** A policy that decides nothing. */
export function emptyPolicy(pool: string): PoolPolicy {
  return { version: POLICY_VERSION, pool, appProtocol: "http", objectives: [], rewrites: [] };
}
