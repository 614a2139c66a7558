// The autoscalers under envoy/scaling: what the API takes, over metrics that the sidecar has, one for each role.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { ROOT } from "../../cli/envoy.ts";
import { ROLE_NAMES } from "../../sidecar/role-load.ts";
import { at, find } from "./folders.ts";
import { kubectlBuild } from "./kube-tools.ts";
import { buildKustomization } from "./kustomize.ts";
import { type Resource, ResourceSchemas } from "./resource-schemas.ts";

const HPA = "envoy/scaling/hpa";
const KEDA = "envoy/scaling/keda";
const schemas = new ResourceSchemas();
const build = (folder: string): Resource[] => buildKustomization(join(ROOT, folder));

/** Names of the sidecar's metrics for autoscalers, as its source has them. */
const EXPORTED = [
  ...readFileSync(join(ROOT, "sidecar/serve/scaling-metrics.ts"), "utf8").matchAll(/"(epp_scaling_\w+)"/g),
].map(([, name]) => name!);

/** What an autoscaler asks for. */
interface Question {
  readonly metric: string;
  readonly pool: string | undefined;
  readonly role: string | undefined;
  readonly type: string;
  readonly target: number;
}

interface ExternalMetric {
  readonly external: {
    readonly metric: { readonly name: string; readonly selector: { matchLabels: Record<string, string> } };
    readonly target: { readonly type: string; readonly value?: string; readonly averageValue?: string };
  };
}

function questionsOfHpa(resource: Resource): Question[] {
  return at<ExternalMetric[]>(resource, "spec.metrics")!.map(({ external: { metric, target } }) => {
    const quantity = (target.value ?? target.averageValue)!;
    return {
      metric: metric.name,
      pool: metric.selector.matchLabels["pool"],
      role: metric.selector.matchLabels["role"],
      type: target.type,
      target: quantity.endsWith("m") ? Number(quantity.slice(0, -1)) / 1_000 : Number(quantity),
    };
  });
}

interface Trigger {
  readonly metricType: string;
  readonly metadata: { readonly query: string; readonly threshold: string };
}

function questionsOfKeda(resource: Resource): Question[] {
  return at<Trigger[]>(resource, "spec.triggers")!.map(({ metricType, metadata }) => {
    const query = /^(max|sum)\(avg_over_time\((\w+)\{pool="([^"]*)",role="([^"]*)"\}\[2m\]\)\)$/.exec(
      metadata.query,
    );
    if (query === null) throw new Error(`not understood: ${metadata.query}`);
    // A gateway's own work is added up over gateways, what all read of the engines is not.
    expect(query[1], metadata.query).toBe(metricType === "AverageValue" ? "sum" : "max");
    const [, , metric, pool, role] = query;
    return { metric: metric!, pool, role, type: metricType, target: Number(metadata.threshold) };
  });
}

describe.each([HPA, KEDA])("%s", (folder) => {
  it("is what the API takes, and what kubectl builds of every file in it", async () => {
    const used = new Set<string>();
    const resources = buildKustomization(join(ROOT, folder), used);
    expect(resources.flatMap((resource) => schemas.faults(resource))).toEqual([]);
    const files = readdirSync(join(ROOT, folder)).map((file) => join(ROOT, folder, file));
    expect(files.filter((file) => !used.has(file))).toEqual([]);
    const key = ({ kind, metadata }: Resource): string => `${kind}/${metadata.name}`;
    const sorted = (list: readonly Resource[]): Resource[] =>
      [...list].sort((a, b) => (key(a) < key(b) ? -1 : 1));
    expect(sorted(await kubectlBuild(folder))).toEqual(sorted(resources));
  });
});

describe("the two ways", () => {
  const ofHpa = (name: string): Question[] =>
    questionsOfHpa(find(build(HPA), "HorizontalPodAutoscaler", name));
  const ofKeda = (name: string): Question[] => questionsOfKeda(find(build(KEDA), "ScaledObject", name));

  it.each(["prefill", "decode"])("ask the same of %s, of its own role and of metrics that exist", (role) => {
    const questions = ofHpa(`vllm-${role}`);
    expect(ofKeda(`vllm-${role}`)).toEqual(questions);
    expect(questions.length).toBeGreaterThan(1);
    for (const { metric, role: asked, target } of questions) {
      expect(EXPORTED).toContain(metric);
      expect(asked).toBe(role);
      expect(ROLE_NAMES).toContain(asked);
      expect(target).toBeGreaterThan(0);
    }
  });

  it.each([
    [HPA, "HorizontalPodAutoscaler"],
    [KEDA, "ScaledObject"],
  ])("of %s scale one workload each", (folder, kind) => {
    const scalers = build(folder).filter((resource) => resource.kind === kind);
    const targets = scalers.map((resource) => at<string>(resource, "spec.scaleTargetRef.name"));
    expect(targets.sort()).toEqual(["vllm-decode", "vllm-prefill"]);
  });
});

describe("prometheus-adapter's rules", () => {
  interface Rule {
    readonly seriesQuery: string;
    readonly resources: { readonly namespaced: boolean };
    readonly metricsQuery: string;
  }
  const { data } = find(build(HPA), "ConfigMap");
  const { externalRules } = parse(data!["config.yaml"]!) as { externalRules: Rule[] };
  const rulesFor = (metric: string): Rule[] =>
    externalRules.filter(({ seriesQuery }) => {
      const [, pattern] = /^\{__name__=~"(.*)"\}$/.exec(seriesQuery)!;
      return new RegExp(`^(?:${pattern})$`).test(metric);
    });

  it("give each metric that the autoscalers ask for, once, and add up what is a gateway's own", () => {
    const asked = ["vllm-prefill", "vllm-decode"].flatMap((name) =>
      questionsOfHpa(find(build(HPA), "HorizontalPodAutoscaler", name)),
    );
    for (const { metric, type } of asked) {
      const rules = rulesFor(metric);
      expect(rules, metric).toHaveLength(1);
      expect(rules[0]!.metricsQuery.startsWith(type === "AverageValue" ? "sum by" : "max by")).toBe(true);
    }
  });

  it("name only metrics that the sidecar has, with pool and role, of any namespace", () => {
    for (const { seriesQuery, resources, metricsQuery } of externalRules) {
      const [, alternatives = ""] = /epp_scaling_\((.*)\)/.exec(seriesQuery)!;
      for (const name of alternatives.split("|")) expect(EXPORTED).toContain(`epp_scaling_${name}`);
      expect(resources).toEqual({ namespaced: false });
      expect(metricsQuery).toMatch(
        /^(max|sum) by \(pool, role\) \(avg_over_time\(<<\.Series>>\{<<\.LabelMatchers>>\}\[2m\]\)\)$/,
      );
    }
  });
});

describe("the schemas of autoscalers", () => {
  const scaler = (kind: string, folder: string): Resource =>
    structuredClone(find(build(folder), kind, "vllm-decode"));

  it.each<[string, string, string, string, unknown, string]>([
    ["a misspelt field", HPA, "HorizontalPodAutoscaler", "spec", { maxReplica: 3 }, '"maxReplica"'],
    ["no replicas", HPA, "HorizontalPodAutoscaler", "spec", { maxReplicas: 0 }, "must be >= 1"],
    [
      "a target of another type",
      HPA,
      "HorizontalPodAutoscaler",
      "spec.metrics.0.external.target",
      { type: "AverageValue" },
      "must match exactly one schema",
    ],
    [
      "a target that is no quantity",
      HPA,
      "HorizontalPodAutoscaler",
      "spec.metrics.0.external.target",
      { value: "70%" },
      "must match pattern",
    ],
    ["an unknown trigger", KEDA, "ScaledObject", "spec.triggers.0", { type: "prom" }, "must be equal to one"],
    [
      "a threshold that is no text",
      KEDA,
      "ScaledObject",
      "spec.triggers.0.metadata",
      { threshold: 0.7 },
      "must be string",
    ],
  ])("find %s", (_, folder, kind, path, fields, fault) => {
    const resource = scaler(kind, folder);
    expect(schemas.faults(resource)).toEqual([]);
    Object.assign(at<object>(resource, path)!, fields);
    expect(schemas.faults(resource)).toEqual(expect.arrayContaining([expect.stringContaining(fault)]));
  });
});
