// The chart renders what the kustomize bases build, and follows its values, which its schema guards.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv } from "ajv";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { build, find } from "./folders.ts";
import { CHART, renderChart, renderTemplate, TemplateError } from "./helm.ts";
import { type Resource, ResourceSchemas } from "./resource-schemas.ts";
import { envoyGatewayShape } from "./shape-envoy-gateway.ts";
import { istioShape } from "./shape-istio.ts";
import { kgatewayShape } from "./shape-kgateway.ts";

interface Values {
  gateway: string;
  pool: { createService: boolean; [field: string]: unknown };
  [field: string]: unknown;
}

const defaults = (gateway: string): Values => ({
  ...(parse(readFileSync(join(CHART, "values.yaml"), "utf8")) as Values),
  gateway,
});
const OTHER = {
  name: "chat",
  namespace: "inference",
  pool: { service: "llama", port: 9000, createService: true, app: "llama-3" },
  sidecar: { image: "r.example.org/sidecar@sha256:0123" },
  module: { configMap: "wasm-1", image: "r.example.org/epp:2" },
};
const GATEWAYS = ["envoy-gateway", "kgateway", "istio"];
const ENDPOINTS = ["10.0.0.1:8000"];

/** By name; the texts in ConfigMaps as what they say. */
function comparable(resources: readonly Resource[]): unknown[] {
  return resources
    .map(({ data, ...rest }) => {
      const texts = Object.entries(data ?? {}).map(([key, text]) => [key, parse(text) as unknown]);
      return data === undefined ? rest : { ...rest, data: Object.fromEntries(texts) as object };
    })
    .sort((a, b) => (`${a.kind}/${a.metadata.name}` < `${b.kind}/${b.metadata.name}` ? -1 : 1));
}

describe.each(GATEWAYS)("the chart for %s", (gateway) => {
  it("renders with its own values what the kustomize base builds", () => {
    expect(comparable(renderChart(defaults(gateway)))).toEqual(comparable(build(`envoy/${gateway}/base`)));
  });

  it("renders valid resources with other values, in which no default is left", () => {
    const resources = renderChart({ ...OTHER, gateway });
    const schemas = new ResourceSchemas();
    expect(resources.flatMap((resource) => schemas.faults(resource))).toEqual([]);
    expect(JSON.stringify(comparable(resources))).not.toMatch(
      /vllm|"llm"|default|8000|registry\.example\.com|configMap\W+name\W+epp-filter/,
    );
    for (const { metadata } of resources)
      expect([undefined, "inference", "envoy-gateway-system"]).toContain(metadata.namespace);
  });

  it("renders names that find one another", () => {
    const resources = renderChart({ ...OTHER, gateway });
    const shape = {
      "envoy-gateway": () => envoyGatewayShape(resources, ENDPOINTS),
      kgateway: () => kgatewayShape(resources, ENDPOINTS, 15_001),
      istio: () => istioShape(resources, ENDPOINTS),
    }[gateway]!;
    expect(shape().clusters.length).toBeGreaterThan(0);
  });

  it("leaves a Service alone that is there already", () => {
    const values = defaults(gateway);
    values.pool.createService = false;
    const kinds = renderChart(values).map(({ kind }) => kind);
    expect(kinds).toContain("HTTPRoute");
    expect(kinds).not.toContain("Service");
  });
});

describe("the chart's schema", () => {
  const schema = JSON.parse(readFileSync(join(CHART, "values.schema.json"), "utf8")) as object;
  const accepts = new Ajv({ allErrors: true }).compile(schema);

  it.each(GATEWAYS)("takes the chart's own values for %s", (gateway) => {
    expect(accepts(defaults(gateway))).toBe(true);
    expect(accepts({ ...OTHER, gateway })).toBe(true);
  });

  it.each<[string, object]>([
    ["an unknown gateway", { gateway: "nginx" }],
    ["an unknown field", { replicas: 2 }],
    ["a name that Kubernetes refuses", { name: "My_Gateway" }],
    ["a value that would end its line", { namespace: "a\nb" }],
    ["port 0", { pool: { ...OTHER.pool, port: 0 } }],
    ["port 65536", { pool: { ...OTHER.pool, port: 65_536 } }],
    ["a missing field", { pool: { service: "a" } }],
    ["an image with a space", { sidecar: { image: "a b" } }],
  ])("refuses %s", (_, change) => {
    expect(accepts({ ...OTHER, gateway: "istio", ...change })).toBe(false);
  });
});

describe("the renderer", () => {
  const file = (body: string): string => `{{- if eq .Values.gateway "istio" }}\n${body}\n{{- end }}\n`;

  it.each([
    ["a function", file("a: {{ quote .Values.name }}")],
    ["a value that is not there", file("a: {{ .Values.none }}")],
    ["a file without a condition", "a: 1\n"],
    ["another condition inside", file("{{- if .Values.name }}\na: 1\n{{- end }}")],
  ])("refuses %s", (_, template) => {
    expect(() => renderTemplate("t.yaml", template, { ...OTHER, gateway: "istio" })).toThrow(TemplateError);
  });

  it("renders nothing for another gateway", () => {
    expect(renderTemplate("t.yaml", file("a: 1"), { gateway: "kgateway" })).toBe("");
  });
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
  expect(find(renderChart(defaults("kgateway")), "Gateway").metadata.name).toBe("llm");
});
