// Objectives and model rewrites of a pool: precedence, limits, the document's shape, and that they are followed.
import { describe, expect, it } from "vitest";
import {
  makePolicy,
  type ObjectiveView,
  readObjective,
  readRewrite,
  type RewriteView,
} from "../../sidecar/discovery/kubernetes/policy-objects.ts";
import { POLICY_OBJECTIVES_MAX, POLICY_RULES_MAX } from "../../assembly/wire/policy.ts";
import { codeOf } from "../../sidecar/errors.ts";
import { emptyPolicy, type PoolPolicy, poolPolicySchema } from "../../sidecar/policy.ts";
import { type ApiObject, FakeApi } from "./kubernetes-api.ts";
import { discover, inferencePool, pod, POOL_MEMBERS } from "./kubernetes-harness.ts";
import { eventually } from "./servers.ts";

const objective = (name: string, priority?: number, poolRef: object = { name: "qwen" }): ApiObject => ({
  metadata: { name },
  spec: { poolRef, ...(priority === undefined ? {} : { priority }) },
});

type Rule = { models?: string[]; targets: [model: string, weight?: number][] };

const rewrite = (
  name: string,
  created: string,
  rules: Rule[],
  poolRef: object = { name: "qwen" },
): ApiObject => ({
  metadata: { name, creationTimestamp: created },
  spec: {
    poolRef,
    rules: rules.map(({ models, targets }) => ({
      ...(models === undefined
        ? {}
        : { matches: models.map((value) => ({ model: { type: "Exact", value } })) }),
      targets: targets.map(([modelRewrite, weight]) => ({
        modelRewrite,
        ...(weight === undefined ? {} : { weight }),
      })),
    })),
  },
});

function policyOf(objectives: ApiObject[], rewrites: ApiObject[]): PoolPolicy {
  const read = <T>(objects: ApiObject[], reader: (object: unknown) => T | null): T[] =>
    objects.map((object) => reader(object)!);
  const made = makePolicy(
    "qwen-pool",
    "qwen",
    "http",
    read<ObjectiveView>(objectives, readObjective),
    read<RewriteView>(rewrites, readRewrite),
  );
  expect(poolPolicySchema.parse(made.policy)).toEqual(made.policy);
  expect(made.surplus).toBe(0);
  return made.policy;
}

describe("objectives", () => {
  it("give a priority by name, 0 where none is set", () => {
    const { objectives } = policyOf(
      [objective("sheddable", -10), objective("critical", 100), objective("plain")],
      [],
    );
    expect(objectives).toEqual([
      { name: "critical", priority: 100 },
      { name: "plain", priority: 0 },
      { name: "sheddable", priority: -10 },
    ]);
  });

  it("count for the pool that they name, in any of the groups that a poolRef may say", () => {
    const { objectives } = policyOf(
      [
        objective("defaulted", 1, { name: "qwen", group: "llm-d.ai", kind: "InferencePool" }),
        objective("gie", 2, { name: "qwen", group: "inference.networking.k8s.io" }),
        objective("other-pool", 3, { name: "llama" }),
        objective("other-group", 4, { name: "qwen", group: "example.com" }),
        objective("other-kind", 5, { name: "qwen", kind: "Service" }),
      ],
      [],
    );
    expect(objectives.map(({ name }) => name)).toEqual(["defaulted", "gie"]);
  });

  it.each([
    ["no pool", { metadata: { name: "a" }, spec: { priority: 1 } }],
    ["a priority beyond 32 bits", objective("a", 2 ** 31)],
    ["a priority that is no whole number", objective("a", 0.5)],
    ["no name", { metadata: {}, spec: { poolRef: { name: "qwen" } } }],
  ])("with %s are refused", (_what, object) => {
    expect(readObjective(object)).toBeNull();
  });
});

describe("model rewrites", () => {
  it("take the oldest object's first rule for a model, and the rule for any model last", () => {
    const { rewrites } = policyOf(
      [],
      [
        rewrite("young", "2026-02-01T00:00:00Z", [
          { models: ["a"], targets: [["young"]] },
          { targets: [["any-2"]] },
        ]),
        rewrite("old", "2026-01-01T00:00:00Z", [
          { targets: [["any-1"]] },
          {
            models: ["b", "a"],
            targets: [
              ["v1", 9],
              ["v2", 1],
            ],
          },
          { models: ["a"], targets: [["later rule"]] },
        ]),
        rewrite("foreign", "2025-01-01T00:00:00Z", [{ models: ["a"], targets: [["x"]] }], { name: "llama" }),
      ],
    );
    const split = [
      { model: "v1", weight: 9 },
      { model: "v2", weight: 1 },
    ];
    expect(rewrites).toEqual([
      { source: "old", model: "a", targets: split },
      { source: "old", model: "b", targets: split },
      { source: "old", model: null, targets: [{ model: "any-1", weight: 1 }] },
    ]);
  });

  it("of the same age go by name", () => {
    const at = "2026-01-01T00:00:00Z";
    const rules = (target: string): Rule[] => [{ models: ["a"], targets: [[target]] }];
    const { rewrites } = policyOf([], [rewrite("b", at, rules("from-b")), rewrite("a", at, rules("from-a"))]);
    expect(rewrites[0]).toMatchObject({ source: "a" });
  });

  it("give targets without a weight nothing where others have one", () => {
    const { rewrites } = policyOf(
      [],
      [rewrite("r", "", [{ models: ["a"], targets: [["v1", 3], ["v2"]] }, { targets: [["v1"], ["v2"]] }])],
    );
    expect(rewrites[0]!.targets).toEqual([{ model: "v1", weight: 3 }]);
    expect(rewrites[1]!.targets.map(({ weight }) => weight)).toEqual([1, 1]);
  });

  it("that are being deleted do not count", () => {
    const object = rewrite("r", "", [{ models: ["a"], targets: [["v1"]] }]);
    object.metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z";
    expect(policyOf([], [object]).rewrites).toEqual([]);
  });

  it.each([
    ["no target", rewrite("r", "", [{ targets: [] }])],
    ["too many targets", rewrite("r", "", [{ targets: Array.from({ length: 17 }, () => ["m"]) }])],
    ["a weight of 0", rewrite("r", "", [{ targets: [["m", 0]] }])],
    ["a weight beyond the limit", rewrite("r", "", [{ targets: [["m", 1_000_001]] }])],
    ["a model's name that is too long", rewrite("r", "", [{ models: ["é".repeat(129)], targets: [["m"]] }])],
    ["an empty model name", rewrite("r", "", [{ models: [""], targets: [["m"]] }])],
  ] as [string, ApiObject][])("with %s are refused", (_what, object) => {
    expect(readRewrite(object)).toBeNull();
  });
});

describe("the limits of a policy", () => {
  it("cut objectives and rules, and count the surplus", () => {
    const objectives = Array.from({ length: POLICY_OBJECTIVES_MAX + 2 }, (_, index) =>
      readObjective(objective(`o-${String(index).padStart(5, "0")}`))!,
    );
    const models = Array.from(
      { length: POLICY_RULES_MAX + 3 },
      (_, index) => `m-${String(index).padStart(5, "0")}`,
    );
    const rules = readRewrite(rewrite("r", "", [{ models, targets: [["x"]] }]))!;
    const { policy, surplus } = makePolicy("p", "qwen", "http", objectives, [rules]);
    expect(surplus).toBe(5);
    expect(poolPolicySchema.safeParse(policy).success).toBe(true);
    expect(policy.objectives.at(-1)!.name).toBe("o-01023");
    expect(policy.rewrites.at(-1)!.model).toBe("m-00255");
  });

  it("are the document's own", () => {
    const good = emptyPolicy("p");
    expect(poolPolicySchema.safeParse(good).success).toBe(true);
    const rule = { source: "r", model: "a", targets: [{ model: "b", weight: 1 }] };
    const bad: [string, unknown][] = [
      ["another version", { ...good, version: 2 }],
      ["an unknown field", { ...good, extra: 1 }],
      ["a name twice", { ...good, objectives: [1, 2].map((priority) => ({ name: "a", priority })) }],
      ["a model twice", { ...good, rewrites: [rule, rule] }],
      ["no targets", { ...good, rewrites: [{ ...rule, targets: [] }] }],
      ["another protocol", { ...good, appProtocol: "https" }],
      ["no pool", { ...good, pool: "" }],
    ];
    for (const [what, document] of bad)
      expect(poolPolicySchema.safeParse(document).success, what).toBe(false);
  });
});

describe("the policy of an InferencePool", () => {
  it("is followed, with its protocol", async () => {
    const api = await new FakeApi().start();
    api.put("inferencepools", inferencePool([8_000], { appProtocol: "kubernetes.io/h2c" }));
    api.put("inferenceobjectives", objective("critical", 10));
    const { sink, discovery } = discover(api, POOL_MEMBERS);
    await eventually(
      "it came",
      () => discovery.policy.appProtocol !== "http" && sink.policies.at(-1)?.objectives[0],
    );
    expect(discovery.policy).toEqual({
      version: 1,
      pool: "qwen",
      appProtocol: "kubernetes.io/h2c",
      objectives: [{ name: "critical", priority: 10 }],
      rewrites: [],
    });
    api.put("inferencemodelrewrites", rewrite("r", "", [{ models: ["a"], targets: [["b"]] }]));
    await eventually("the rule came", () => sink.policies.at(-1)?.rewrites.length === 1);
    api.remove("inferenceobjectives", "critical");
    await eventually("the objective went", () => sink.policies.at(-1)?.objectives.length === 0);
    const count = sink.policies.length;
    api.put("pods", pod(1));
    await eventually("the pod came", () => sink.last?.length === 1);
    expect(sink.policies).toHaveLength(count);
    expect(sink.policies.at(-1)).toBe(discovery.policy);
  });

  it("is not needed: without its kinds, or the right to read them, endpoints come all the same", async () => {
    const api = await new FakeApi().start();
    api.put("inferencepools", inferencePool());
    api.put("pods", pod(1));
    api.unknownKinds.add("inferenceobjectives");
    api.forbidden.add("list inferencemodelrewrites");
    const { sink } = discover(api, POOL_MEMBERS);
    await eventually("the endpoints came", () => sink.last?.length === 1);
    // Two kinds fail, in either order; of both failures the first kind's is told.
    const error = await eventually("the policy is missed", () =>
      codeOf(sink.policyError) === "kubernetes-resource-unknown" ? sink.policyError! : undefined,
    );
    expect(error.message).toBe(
      "Kubernetes does not know inferenceobjectives of llm-d.ai/v1alpha2: install its CustomResourceDefinition",
    );
    expect(sink.errors).toEqual([]);
    api.unknownKinds.clear();
    api.forbidden.clear();
    await eventually("it is whole", () => sink.policyError === null);
  });

  it("is told only once all of it was read: half of it would undo what the gateway has from before", async () => {
    const api = await new FakeApi().start();
    api.put("inferencepools", inferencePool());
    api.put("pods", pod(1));
    api.put("inferenceobjectives", objective("critical", 10));
    api.put("inferencemodelrewrites", rewrite("r", "", [{ models: ["a"], targets: [["b"]] }]));
    api.intercept = (_verb, plural, response) => {
      if (plural !== "inferencemodelrewrites") return false;
      response.writeHead(500).end("{}");
      return true;
    };
    const { sink } = discover(api, POOL_MEMBERS);
    await eventually("the endpoints came", () => sink.last?.length === 1);
    await eventually("the failure was told", () => sink.policyError ?? undefined);
    expect(sink.policies).toEqual([]);
    api.intercept = null;
    await eventually("it came", () => sink.policies.length > 0);
    expect(sink.policies[0]).toMatchObject({
      objectives: [{ name: "critical" }],
      rewrites: [{ model: "a" }],
    });
  });

  it("is told when it is empty, so that a gateway forgets what is no longer there", async () => {
    const api = await new FakeApi().start();
    api.put("inferencepools", inferencePool());
    const { sink } = discover(api, POOL_MEMBERS);
    await eventually("it came", () => sink.policies.length > 0);
    expect(sink.policies[0]).toMatchObject({ objectives: [], rewrites: [] });
  });

  it("is not asked for when it is off", async () => {
    const api = await new FakeApi().start();
    api.put("inferencepools", inferencePool());
    const { sink } = discover(api, { kind: "inferencePool", name: "qwen", policyGroup: null });
    await eventually("the pods were read", () => sink.last !== undefined);
    expect(new Set(api.requests.map(({ plural }) => plural))).toEqual(new Set(["inferencepools", "pods"]));
  });
});
