// Every manifest under envoy/ is what its CustomResourceDefinition allows, and every file there is used.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";
import { ROOT } from "../../cli/envoy.ts";
import { sidecarConfig } from "../../sidecar/config/schema.ts";
import { at, BASES, build, find, kustomizations, manifestFiles } from "./folders.ts";
import { kubectlBuild } from "./kube-tools.ts";
import { buildKustomization, KustomizationError } from "./kustomize.ts";
import { type Resource, ResourceSchemas } from "./resource-schemas.ts";

const schemas = new ResourceSchemas();
const CONTAINER = {
  type: "gateway.envoyproxy.io/v1alpha1/EnvoyProxy",
  path: "properties spec properties provider properties kubernetes properties envoyDeployment".split(" "),
};
const containerSchema = [...CONTAINER.path, "properties", "initContainers", "items"];
const volumeSchema = [...CONTAINER.path, ..."properties pod properties volumes items".split(" ")];

/** Parts of pods for which a resource's own schema leaves everything open. */
function podParts(resources: readonly Resource[]): Record<string, unknown> {
  const parts: Record<string, unknown> = {};
  for (const resource of resources) {
    const overlay =
      resource.kind === "ConfigMap" && resource.data?.["deployment"] !== undefined
        ? { spec: parse(resource.data["deployment"]).spec as unknown }
        : (at<object>(resource, "spec.kube.deploymentOverlay") ??
          at<object>(resource, "spec.provider.kubernetes.envoyDeployment.patch.value"));
    if (overlay !== undefined) parts[resource.kind] = at(overlay, "spec.template.spec");
  }
  return parts;
}

describe.each(kustomizations())("%s", (folder) => {
  const used = new Set<string>();
  const resources = buildKustomization(join(ROOT, folder), used);

  it("is what the schemas of its resources allow", () => {
    expect(resources.flatMap((resource) => schemas.faults(resource))).toEqual([]);
  });

  it("has no resource twice", () => {
    const names = resources.map(({ kind, metadata }) => `${kind}/${metadata.namespace}/${metadata.name}`);
    expect(names).toEqual([...new Set(names)]);
  });

  it("lays valid containers and volumes over the gateway's own pods", () => {
    const parts = Object.values(podParts(resources));
    expect(parts).toHaveLength(1);
    const { containers, volumes = [] } = parts[0] as { containers: unknown[]; volumes?: unknown[] };
    const faults = [
      ...containers.flatMap((part) => schemas.partFaults(CONTAINER.type, containerSchema, part)),
      ...volumes.flatMap((part) => schemas.partFaults(CONTAINER.type, volumeSchema, part)),
    ];
    expect(faults).toEqual([]);
  });

  it("has a configuration that the sidecar takes", () => {
    const { data } = find(resources, "ConfigMap", "epp-sidecar");
    expect(sidecarConfig.safeParse(parse(data!["sidecar.yaml"]!)).error).toBeUndefined();
  });

  it("is what kubectl builds", async () => {
    const key = ({ kind, metadata }: Resource): string => `${kind}/${metadata.name}`;
    const sorted = (list: readonly Resource[]): Resource[] =>
      [...list].sort((a, b) => (key(a) < key(b) ? -1 : 1));
    expect(sorted(resources)).toEqual(sorted(await kubectlBuild(folder)));
  });

  it("uses every file of its folder", () => {
    const files = readdirSync(join(ROOT, folder)).map((file) => join(ROOT, folder, file));
    expect(files.filter((file) => !used.has(file))).toEqual([]);
  });
});

describe("the kustomizations", () => {
  it("use every file that is not for a gateway without Kubernetes or for autoscalers", () => {
    const used = new Set<string>();
    for (const folder of kustomizations()) buildKustomization(join(ROOT, folder), used);
    const unused = manifestFiles().filter((file) => !used.has(join(ROOT, file)));
    expect(unused.filter((file) => !/^envoy\/(plain|scaling)\//.test(file))).toEqual([]);
  });

  it("are one base a gateway, and overlays", () => {
    expect(kustomizations()).toEqual(expect.arrayContaining([...BASES]));
  });

  it("differ from their base in what the overlay is for", () => {
    const base = build("envoy/envoy-gateway/base");
    const https = build("envoy/envoy-gateway/overlays/https");
    expect(at(find(https, "Gateway"), "spec.listeners.0.protocol")).toBe("HTTPS");
    expect(at(find(base, "Gateway"), "spec.listeners.0.protocol")).toBe("HTTP");
    const overHttp = build("envoy/envoy-gateway/overlays/module-over-http");
    expect(at(find(overHttp, "EnvoyExtensionPolicy"), "spec.wasm.0.code.type")).toBe("HTTP");
  });
});

describe("the schema check", () => {
  const policy = (): Resource => structuredClone(find(build(BASES[0]), "EnvoyExtensionPolicy"));
  const wasm = (resource: Resource): Record<string, unknown> => at(resource, "spec.wasm.0")!;

  it.each<[string, (resource: Resource) => void, string]>([
    [
      "a misspelt field",
      (resource) => (wasm(resource)["rootId"] = "picker"),
      'additional properties "rootId"',
    ],
    ["another type", (resource) => (wasm(resource)["failOpen"] = "no"), "must be boolean"],
    [
      "a value outside its list",
      (resource) => (wasm(resource)["code"] = { type: "Floppy" }),
      "must be equal",
    ],
    ["a missing field", (resource) => delete wasm(resource)["code"], "must have required property 'code'"],
    ["a field beside spec", (resource) => Object.assign(resource, { specs: {} }), 'properties "specs"'],
    [
      "a misspelt field of metadata",
      (resource) => Object.assign(resource.metadata, { label: {} }),
      'additional properties "label"',
    ],
    [
      "no namespace",
      (resource) => delete (resource.metadata as { namespace?: string }).namespace,
      "no namespace",
    ],
    ["an unknown kind", (resource) => Object.assign(resource, { kind: "WasmPolicy" }), "no schema"],
  ])("finds %s", (_, spoil, fault) => {
    const resource = policy();
    expect(schemas.faults(resource)).toEqual([]);
    spoil(resource);
    expect(schemas.faults(resource)).toEqual(expect.arrayContaining([expect.stringContaining(fault)]));
  });

  it("leaves open what the definition leaves open", () => {
    const resource = policy();
    Object.assign(at<object>(resource, "spec.wasm.0.config")!, { anything: { at: ["all"] } });
    expect(schemas.faults(resource)).toEqual([]);
  });
});

describe("the kustomization reader", () => {
  let folder: string;
  const gateway = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "a" }, data: { key: "old" } };
  const target = { version: "v1", kind: "ConfigMap", name: "a" };
  const REPLACE = {
    configMapGenerator: [{ name: "a", behavior: "replace", files: ["a.yaml"] }],
    generatorOptions: { disableNameSuffixHash: true },
  };
  const write = (name: string, value: unknown): void => writeFileSync(join(folder, name), stringify(value));
  const kustomization = (fields: object): void =>
    write("kustomization.yaml", {
      apiVersion: "kustomize.config.k8s.io/v1beta1",
      kind: "Kustomization",
      resources: ["a.yaml"],
      ...fields,
    });

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "epp-kustomize-"));
    write("a.yaml", gateway);
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it("applies add, replace and remove", () => {
    write("p.yaml", [
      { op: "replace", path: "/data/key", value: "new" },
      { op: "add", path: "/data/a~1b", value: "added" },
    ]);
    write("q.yaml", [{ op: "remove", path: "/data/key" }]);
    kustomization({
      patches: [
        { path: "p.yaml", target },
        { path: "q.yaml", target },
      ],
    });
    expect(buildKustomization(folder)[0]!.data).toEqual({ "a/b": "added" });
  });

  it("builds a folder below as a resource", () => {
    kustomization({});
    mkdirSync(join(folder, "over"));
    const document = {
      apiVersion: "kustomize.config.k8s.io/v1beta1",
      kind: "Kustomization",
      resources: [".."],
    };
    writeFileSync(join(folder, "over", "kustomization.yaml"), stringify(document));
    expect(existsSync(join(folder, "over", "a.yaml"))).toBe(false);
    expect(buildKustomization(join(folder, "over"))).toEqual([gateway]);
  });

  it("replaces a ConfigMap", () => {
    kustomization(REPLACE);
    expect(buildKustomization(folder)[0]!.data).toEqual({ "a.yaml": stringify(gateway) });
  });

  it.each<[string, object, unknown[]]>([
    ["a field it does not know", { commonLabels: {} }, []],
    ["a resource that is not there", { resources: ["b.yaml"] }, []],
    ["a patch without a target", { patches: [{ path: "p.yaml", target: { ...target, name: "b" } }] }, []],
    [
      "a patch of what is not there",
      { patches: [{ path: "p.yaml", target }] },
      [{ op: "replace", path: "/data/none", value: "" }],
    ],
    [
      "a patch below what is not there",
      { patches: [{ path: "p.yaml", target }] },
      [{ op: "add", path: "/none/x", value: "" }],
    ],
    ["an unknown operation", { patches: [{ path: "p.yaml", target }] }, [{ op: "turn", path: "/data/key" }]],
    ["a ConfigMap to replace that is not there", { ...REPLACE, resources: [] }, []],
    ["a ConfigMap to make that is there", { ...REPLACE, configMapGenerator: [{ name: "a", files: [] }] }, []],
    ["a component that is none", { components: ["."] }, []],
    ["a hashed name", { configMapGenerator: [{ name: "x", files: ["a.yaml"] }] }, []],
  ])("refuses %s", (_, fields, patch) => {
    write("p.yaml", patch);
    kustomization(fields);
    expect(() => buildKustomization(folder)).toThrow(KustomizationError);
  });
});
