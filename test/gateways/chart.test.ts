// The chart as the real helm renders it: what the kustomizations build, valid, following its values, which its schema guards.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { poolFields } from "../../sidecar/config/schema.ts";
import { at, build, find } from "./folders.ts";
import { CHART, helmLint, helmTemplate, KubeToolError } from "./kube-tools.ts";
import { gatewayPod } from "./pods.ts";
import { type Resource, ResourceSchemas } from "./resource-schemas.ts";
import { having } from "./shape.ts";
import { envoyGatewayShape } from "./shape-envoy-gateway.ts";
import { istioShape } from "./shape-istio.ts";
import { kgatewayShape } from "./shape-kgateway.ts";

const OTHER = {
  name: "chat",
  namespace: "inference",
  pool: {
    name: "llamas",
    service: "llama",
    port: 9000,
    createService: true,
    app: "llama-3",
    inferencePool: "big",
  },
  sidecar: { image: "r.example.org/sidecar@sha256:0123" },
  module: { configMap: "wasm-1", image: "r.example.org/epp:2" },
};
const PICKER = {
  apiVersion: "llm-d.ai/v1alpha1",
  kind: "EndpointPickerConfig",
  plugins: [{ type: "queue-scorer", parameters: { text: 'a "quoted" {{ word }}' } }],
};
const SHA256 = "0".repeat(64);
const GATEWAYS = ["envoy-gateway", "kgateway", "istio"];
const DISCOVERIES = ["dns", "service", "selector", "inference-pool"];
const ENDPOINTS = ["10.0.0.1:8000"];

/** Values that make what each kustomization makes, where they are not the chart's own. */
const FOLDERS: readonly (readonly [folder: string, values: object])[] = [
  ...GATEWAYS.flatMap((gateway): [string, object][] => [
    [`envoy/${gateway}/base`, { gateway }],
    [`envoy/${gateway}/overlays/service`, { gateway, pool: { discovery: "service" } }],
    [`envoy/${gateway}/overlays/selector`, { gateway, pool: { discovery: "selector" } }],
    [`envoy/${gateway}/overlays/inference-pool`, { gateway, pool: { discovery: "inference-pool" } }],
  ]),
  ["envoy/envoy-gateway/overlays/https", { gateway: "envoy-gateway", tls: { secret: "llm-tls" } }],
  [
    "envoy/envoy-gateway/overlays/module-over-http",
    {
      gateway: "envoy-gateway",
      module: { url: "https://files.example.com/epp-wasm/0.1.0/epp.wasm", sha256: SHA256 },
    },
  ],
];

/** By name; the texts in ConfigMaps as what they say. */
function comparable(resources: readonly Resource[]): unknown[] {
  return resources
    .map(({ data, ...rest }) => {
      const texts = Object.entries(data ?? {}).map(([key, text]) => [key, parse(text) as unknown]);
      return data === undefined ? rest : { ...rest, data: Object.fromEntries(texts) as object };
    })
    .sort((a, b) => (`${a.kind}/${a.metadata.name}` < `${b.kind}/${b.metadata.name}` ? -1 : 1));
}

it("helm finds no fault with the chart", async () => {
  expect(await helmLint()).toContain("0 chart(s) failed");
});

it.each(FOLDERS)("renders what %s builds with %j", async (folder, values) => {
  expect(comparable(await helmTemplate(values))).toEqual(comparable(build(folder)));
});

const CASES = GATEWAYS.flatMap((gateway) => DISCOVERIES.map((discovery) => [gateway, discovery] as const));

describe.each(CASES)("the chart for %s by %s", (gateway, discovery) => {
  const render = (): Promise<Resource[]> =>
    helmTemplate({ ...OTHER, gateway, pool: { ...OTHER.pool, discovery } });

  it("renders valid resources with other values, in which no default is left", async () => {
    const resources = await render();
    const schemas = new ResourceSchemas();
    expect(resources.flatMap((resource) => schemas.faults(resource))).toEqual([]);
    expect(JSON.stringify(comparable(resources))).not.toMatch(
      /vllm|"llm"|default|8000|registry\.example\.com|configMap\W+name\W+epp-filter|pool\W+pool\W/,
    );
    for (const { metadata } of resources)
      expect([undefined, "inference", "envoy-gateway-system"]).toContain(metadata.namespace);
  });

  it("renders names that find one another", async () => {
    const resources = await render();
    const shape = {
      "envoy-gateway": () => envoyGatewayShape(resources, ENDPOINTS),
      kgateway: () => kgatewayShape(resources, ENDPOINTS, 15_001),
      istio: () => istioShape(resources, ENDPOINTS),
    }[gateway]!;
    expect(shape().clusters.length).toBeGreaterThan(0);
    const { serviceAccount, namespace } = gatewayPod(resources);
    const bindings = resources.filter(({ kind }) => kind === "RoleBinding");
    expect(bindings.map((binding) => at(binding, "subjects.0"))).toEqual(
      discovery === "dns" ? [] : [{ kind: "ServiceAccount", name: serviceAccount.name, namespace }],
    );
  });
});

describe.each(GATEWAYS)("the chart for %s", (gateway) => {
  it("leaves a Service alone that is there already", async () => {
    const kinds = (await helmTemplate({ gateway, pool: { createService: false } })).map(({ kind }) => kind);
    expect(kinds).toContain("HTTPRoute");
    expect(kinds).not.toContain("Service");
  });

  it("has the sidecar follow KV events, with room for them, where that is asked for", async () => {
    const kvEvents = { port: 5557, replayPort: 5657, tokenizer: "/models/a b" };
    const resources = await helmTemplate({ gateway, sidecar: { kvEvents, memory: "2Gi" } });
    const { pools } = parse(find(resources, "ConfigMap", "epp-sidecar").data!["sidecar.yaml"]!) as {
      pools: readonly object[];
    };
    expect(pools).toEqual([expect.objectContaining({ name: "pool", kvEvents })]);
    expect(JSON.stringify(comparable(resources))).toContain('"limits":{"memory":"2Gi"}');
  });

  it("hands the filter a configuration of one's own, byte for byte", async () => {
    const resources = await helmTemplate({ gateway, picker: PICKER });
    const texts = resources.map((resource) =>
      resource.data?.["picker.yaml"] === undefined ? resource : parse(resource.data["picker.yaml"]),
    );
    const [plugin] = having(texts, "root_id").filter(({ root_id: role }) => role === "picker");
    const written =
      plugin === undefined
        ? at(find(resources, "EnvoyExtensionPolicy"), "spec.wasm.0.config")
        : (JSON.parse(at<string>(plugin, "configuration.value")!) as unknown);
    expect(written).toEqual(PICKER);
  });
});

describe("the chart's schema", () => {
  it.each<[string, object, string]>([
    ["an unknown gateway", { gateway: "nginx" }, "/gateway"],
    ["an unknown field", { replicas: 2 }, "replicas"],
    ["a name that Kubernetes refuses", { name: "My_Gateway" }, "/name"],
    ["a value that would end its line", { namespace: "a\nb" }, "/namespace"],
    ["port 0", { pool: { port: 0 } }, "/pool/port"],
    ["port 65536", { pool: { port: 65_536 } }, "/pool/port"],
    ["a field taken away", { pool: { service: null } }, "service"],
    ["an unknown way to find replicas", { pool: { discovery: "consul" } }, "/pool/discovery"],
    ["an image with a space", { sidecar: { image: "a b" } }, "/sidecar/image"],
    ["KV events switched on by a word", { sidecar: { kvEvents: true } }, "/sidecar/kvEvents"],
    ["KV events of another spelling", { sidecar: { kvEvents: { replyPort: 5657 } } }, "replyPort"],
    ["KV events at no port", { sidecar: { kvEvents: { port: "kv" } } }, "/sidecar/kvEvents/port"],
    ["memory without a unit", { sidecar: { memory: "512" } }, "/sidecar/memory"],
    [
      "a URL without its sha256",
      { gateway: "envoy-gateway", module: { url: "https://a/b" } },
      "/module/sha256",
    ],
    ["a short sha256", { module: { sha256: "00" } }, "/module/sha256"],
    [
      "a URL on a gateway that downloads nothing",
      { gateway: "istio", module: { url: "https://a/b", sha256: SHA256 } },
      "/module/url",
    ],
    [
      "a certificate for a gateway without the overlay",
      { gateway: "kgateway", tls: { secret: "a" } },
      "/tls/secret",
    ],
    ["a configuration of another kind", { picker: { ...PICKER, kind: "Pod" } }, "/picker"],
    ["a configuration without plugins", { picker: { ...PICKER, plugins: [] } }, "/picker"],
  ])("refuses %s", async (_, values, field) => {
    const refused = helmTemplate(values);
    await expect(refused).rejects.toThrow(KubeToolError);
    await expect(refused).rejects.toThrow("values don't meet the specifications of the schema");
    await expect(refused).rejects.toThrow(field);
  });
});

it("the chart knows the same fields of KV events as the sidecar", () => {
  const schema: unknown = JSON.parse(readFileSync(join(CHART, "values.schema.json"), "utf8"));
  const path = "properties.sidecar.properties.kvEvents.anyOf.1.properties";
  expect(Object.keys(at<object>(schema, path)!).sort()).toEqual(
    Object.keys(poolFields.kvEvents.unwrap().shape).sort(),
  );
});

it("the chart's version is the project's", () => {
  const { version } = JSON.parse(readFileSync(join(CHART, "..", "..", "package.json"), "utf8")) as {
    version: string;
  };
  const chart = parse(readFileSync(join(CHART, "Chart.yaml"), "utf8")) as {
    version: string;
    appVersion: string;
  };
  expect([chart.version, String(chart.appVersion)]).toEqual([version, version]);
});
