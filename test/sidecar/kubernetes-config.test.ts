// The configuration of a Kubernetes source: what is accepted, what it becomes, and how a fault is named.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadSettings } from "../../sidecar/config/load.ts";
import type { DiscoverySettings } from "../../sidecar/config/settings.ts";
import { temporaryFolder } from "./servers.ts";

function load(kubernetes: string): DiscoverySettings {
  const path = join(temporaryFolder(), "sidecar.yaml");
  writeFileSync(
    path,
    `{control: {socket: /s}, pools: [{name: p, discovery: {kubernetes: {${kubernetes}}}}]}`,
  );
  return loadSettings({ config: path }, {}).pools[0]!.discovery;
}

const DEFAULTS = { kind: "kubernetes", namespace: null, kubeconfig: null, context: null };

describe("a Kubernetes source", () => {
  it.each([
    [
      "inferencePool: qwen",
      { ...DEFAULTS, members: { kind: "inferencePool", name: "qwen", policyGroup: "llm-d.ai" } },
    ],
    [
      "inferencePool: qwen, namespace: models, policyGroup: none, kubeconfig: /k, context: c",
      {
        kind: "kubernetes",
        namespace: "models",
        kubeconfig: "/k",
        context: "c",
        members: { kind: "inferencePool", name: "qwen", policyGroup: null },
      },
    ],
    ["service: vllm", { ...DEFAULTS, members: { kind: "service", name: "vllm", ports: [] } }],
    [
      "service: vllm, ports: [http, 8001]",
      { ...DEFAULTS, members: { kind: "service", name: "vllm", ports: ["http", 8_001] } },
    ],
    [
      'selector: {app: vllm, llm-d.ai/role: ""}, ports: [8000]',
      {
        ...DEFAULTS,
        members: { kind: "selector", matchLabels: { app: "vllm", "llm-d.ai/role": "" }, ports: [8_000] },
      },
    ],
  ])("may be {%s}", (yaml, settings) => {
    expect(load(yaml)).toEqual(settings);
  });

  it.each([
    ["", "expected exactly one of inferencePool, service, selector; it has 0"],
    ["inferencePool: a, service: b", "expected exactly one of inferencePool, service, selector; it has 2"],
    ["inferencePool: a, ports: [8000]", "expected no ports: an InferencePool has its own"],
    ["inferencePool: A/b", 'kubernetes.inferencePool: "A/b": expected a Kubernetes name'],
    ["inferencePool: a, namespace: ..", "kubernetes.namespace: "],
    ["inferencePool: a, policyGroup: example.com", "kubernetes.policyGroup: "],
    ["selector: {app: vllm}", "expected port numbers in ports: a selector has none of its own"],
    ["selector: {app: vllm}, ports: [http]", "expected port numbers in ports"],
    ["selector: {}, ports: [1]", "expected a label in selector"],
    ['selector: {app: "a,b=c"}, ports: [1]', "expected a label's key or value"],
    ["service: a, ports: [1, 2, 3, 4, 5, 6, 7, 8, 9]", "expected at most 8"],
    ["service: a, ports: [1, 1]", "expected each of ports once"],
    ["service: a, ports: [0]", "kubernetes.ports[0]: 0: "],
    ["service: a, url: https://x", 'unknown field "url"'],
  ])("may not be {%s}", (yaml, message) => {
    expect(() => load(yaml)).toThrow(message);
  });
});

describe("--inference-pool", () => {
  const withFlags = (flags: object): ReturnType<typeof loadSettings> =>
    loadSettings({ control: "/s", ...flags }, {});

  it("makes a pool, in a namespace or the credentials' own", () => {
    const [pool] = withFlags({ inferencePool: "models/qwen", pool: "chat" }).pools;
    expect(pool).toMatchObject({
      name: "chat",
      discovery: { namespace: "models", members: { kind: "inferencePool", name: "qwen" } },
    });
    expect(withFlags({ inferencePool: "qwen" }).pools[0]).toMatchObject({
      name: "default",
      discovery: { namespace: null, members: { name: "qwen" } },
    });
  });

  it("gives an EndpointPickerConfig without discovery its endpoints, as in llm-d", () => {
    const path = join(temporaryFolder(), "picker.yaml");
    writeFileSync(path, "{apiVersion: llm-d.ai/v1alpha1, kind: EndpointPickerConfig}");
    expect(() => withFlags({ config: path })).toThrow("file-discovery, or --inference-pool");
    const [pool] = withFlags({ config: path, inferencePool: "models/qwen" }).pools;
    expect(pool!.discovery).toMatchObject({ kind: "kubernetes", namespace: "models" });
  });

  it.each(["", "a/b/c", "A", "/qwen", "models/"])("may not be %j", (flag) => {
    const message = `--inference-pool: ${JSON.stringify(flag)}: expected [namespace/]name`;
    expect(() => withFlags({ inferencePool: flag })).toThrow(message);
  });

  it("and --endpoints exclude each other", () => {
    const flags = { inferencePool: "qwen", endpoints: "10.0.0.1:8000" };
    expect(() => withFlags(flags)).toThrow("--endpoints and --inference-pool: expected one of them");
  });
});
