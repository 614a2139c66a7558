// Configuration by an EndpointPickerConfig: what it becomes, how a fault is named, and that llm-d judges alike.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { Settings } from "../../sidecar/config/settings.ts";
import { temporaryFolder } from "./servers.ts";
import { load, STATIC } from "./settings.ts";

const PICKER = `
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {name: file-disc, type: file-discovery, parameters: {path: endpoints.yaml, watchFile: true}}
- {type: queue-scorer}
- {type: max-score-picker}
- {type: metrics-data-source, parameters: {scheme: https, path: /m, caCertPath: /ca.pem, interval: 200ms, port: 7000}}
- type: core-metrics-extractor
  parameters: {defaultEngine: sglang, engineConfigs: [{name: atom, queuedRequestsSpec: "atom:waiting"}]}
- {type: dcgm-data-source, name: gpus, parameters: {useNodeAddress: true}}
- {type: dcgm-extractor}
- {type: topology-extractor}
schedulingProfiles:
- {name: default, plugins: [{pluginRef: queue-scorer, weight: 2}, {pluginRef: max-score-picker}]}
dataLayer:
  discovery: {pluginRef: file-disc}
  sources:
  - {pluginRef: metrics-data-source, extractors: [{pluginRef: core-metrics-extractor}]}
  - {pluginRef: gpus, interval: 1m30s, extractors: [{pluginRef: dcgm-extractor}]}
`;
const picker = (plugins: string, dataLayer = "discovery: {pluginRef: file-discovery}"): string =>
  `{kind: EndpointPickerConfig, plugins: [{type: file-discovery, parameters: {path: a}}, ${plugins}], dataLayer: {${dataLayer}}}`;

describe("an EndpointPickerConfig", () => {
  it("gives discovery and data layer, with llm-d's names and defaults", () => {
    const settings = load(PICKER, { control: "/s", pool: "p" });
    expect(settings.pools[0]).toMatchObject({
      name: "p",
      discovery: { kind: "file", path: "endpoints.yaml", watch: true },
      scrape: {
        scheme: "https",
        path: "/m",
        port: 7_000,
        intervalMs: 200,
        tls: { caFile: "/ca.pem", insecureSkipVerify: true },
      },
      engines: { preferred: "sglang" },
      dcgm: { port: 9_400, path: "/metrics", useNodeAddress: true, intervalMs: 90_000 },
    });
    expect(settings.pools[0]!.engines.specs[0]!.name).toBe("atom");
    expect(settings.notes).toEqual([expect.stringContaining("topology-extractor is not needed")]);
  });

  it("is accepted with an own document beside it, and with its discovery overridden", () => {
    const path = join(temporaryFolder(), "picker.yaml");
    writeFileSync(path, PICKER);
    const own = `{control: {socket: /s}, pools: [{name: mine, ${STATIC}}]}`;
    expect(load(own, { pickerConfig: path }).pools.map(({ name }) => name)).toEqual(["mine", "default"]);
    const overridden = load("{control: {socket: /s}}", { pickerConfig: path, endpoints: "10.0.0.1:1" });
    expect(overridden.pools[0]!.discovery).toMatchObject({ kind: "static" });
    expect(() => load(own, { pickerConfig: path, pool: "mine" })).toThrow('--pool: "mine"');
  });

  it("needs no data layer's sources: metrics are read by default", () => {
    const settings = load(picker("{type: queue-scorer}"), { control: "/s" });
    expect(settings.pools[0]).toMatchObject({ scrape: { intervalMs: null, path: "/metrics" }, dcgm: null });
    expect(settings.pools[0]!.discovery).toEqual({ kind: "file", path: "a", watch: false });
    const nested = picker("{type: queue-scorer}", "discovery: {endpoints: {pluginRef: file-discovery}}");
    expect(load(nested, { control: "/s" }).pools[0]!.discovery).toMatchObject({ path: "a" });
  });

  it.each([
    [
      "{kind: EndpointPickerConfig}",
      "dataLayer.discovery: is missing: expected a plugin of type file-discovery",
    ],
    [
      picker("", "discovery: {pluginRef: nope}"),
      'dataLayer.discovery.pluginRef: "nope": expected the name of an entry',
    ],
    [
      picker("{type: queue-scorer}", "discovery: {pluginRef: queue-scorer}"),
      'plugin of type "queue-scorer": expected',
    ],
    [picker("", "discovery: {pluginRef: file-discovery}, souces: []"), 'dataLayer: unknown field "souces"'],
    [
      picker("{type: metrics-data-source, parameters: {prt: 1}}"),
      'plugins[1].parameters: unknown field "prt"',
    ],
    [
      picker("{type: metrics-data-source, parameters: {port: 0}}"),
      "plugins[1].parameters.port: 0: expected 1 to 65535",
    ],
    [
      picker("{type: metrics-data-source, parameters: {interval: soon}}"),
      'plugins[1].parameters.interval: "soon"',
    ],
    [picker("{type: dcgm-data-source, parameters: {scheme: grpc}}"), 'plugins[1].parameters.scheme: "grpc"'],
    [
      picker("{type: core-metrics-extractor, parameters: {defaultEngine: x}}"),
      'defaultEngine: "x": expected one of',
    ],
    [picker("{type: multicluster-file-discovery}"), "is not supported; the nearest that is: file-discovery"],
    [
      "{kind: EndpointPickerConfig, plugins: [{type: file-discovery}], dataLayer: {discovery: {pluginRef: file-discovery}}}",
      "path",
    ],
  ])("is refused with the place of the fault: %s", (yaml, expected) => {
    expect(() => load(yaml, { control: "/s" })).toThrow(expected);
  });
});

/** llm-d's own answers (test/fixtures/oracles/README or the file's note say where they come from). */
const ORACLE = fileURLToPath(new URL("../fixtures/oracles/config.json", import.meta.url));
const JUDGED = [
  "core-metrics-extractor",
  "metrics-data-source",
  "models-data-source",
  "dcgm-data-source",
  "file-discovery",
];

describe("llm-d's loader cases", () => {
  interface OracleCase {
    readonly name: string;
    readonly type?: string;
    readonly parameters?: string;
    readonly accepted?: boolean;
  }
  const { cases } = JSON.parse(readFileSync(ORACLE, "utf8")) as { cases: OracleCase[] };
  const judged = cases.filter(({ type }) => type !== undefined && JUDGED.includes(type));

  it("are there", () => {
    expect(judged.length).toBeGreaterThan(20);
  });

  it.each(judged.map((entry) => [entry.name, entry.parameters ?? "", entry] as const))(
    "%s %s",
    (_, text, entry) => {
      const attempt = (): Settings => {
        const parameters = JSON.parse(text) as unknown;
        const file = { type: "file-discovery", parameters: { path: "a" } };
        const plugins =
          entry.type === file.type ? [{ ...file, parameters }] : [file, { type: entry.type, parameters }];
        const dataLayer = { discovery: { pluginRef: "file-discovery" } };
        return load(JSON.stringify({ kind: "EndpointPickerConfig", plugins, dataLayer }), { control: "/s" });
      };
      // Certificates are read when the sidecar starts, not when the document is.
      if (entry.accepted === true || /CertPath/.test(text)) expect(attempt).not.toThrow();
      else expect(attempt).toThrow();
    },
  );
});
