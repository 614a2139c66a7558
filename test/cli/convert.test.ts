// `epp-wasm convert`: llm-d deployments as they are found in the field, and that no part of them is left out silently.
import { describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { type ConvertOptions, convert, describeOutcomes, nextCommand } from "../../cli/commands/convert.ts";
import { documentsOf, GATEWAY_MODE } from "./deployments.ts";

const convertYaml = (yaml: string, options: ConvertOptions = {}) => convert(documentsOf(yaml), options);
const HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n";

describe("a deployment beside a gateway", () => {
  it("becomes a filter's and a sidecar's configuration", async () => {
    const { picker, sidecar } = await convertYaml(GATEWAY_MODE);
    expect(picker).toEqual({
      apiVersion: "llm-d.ai/v1alpha1",
      kind: "EndpointPickerConfig",
      plugins: [
        { type: "queue-scorer" },
        { name: "kv", type: "kv-cache-utilization-scorer" },
        { type: "prefix-cache-scorer" },
        { type: "max-score-picker" },
        { type: "epp-wasm-gateway", parameters: { pool: "qwen", fail: "closed" } },
      ],
      schedulingProfiles: [
        {
          name: "default",
          plugins: [
            { pluginRef: "queue-scorer", weight: 2 },
            { pluginRef: "kv", weight: 2 },
            { pluginRef: "prefix-cache-scorer", weight: 3 },
            { pluginRef: "max-score-picker" },
          ],
        },
      ],
    });
    expect(sidecar).toEqual({
      control: { socket: "/run/epp/control.sock" },
      http: { listen: "0.0.0.0:9902" },
      pools: [
        {
          name: "qwen",
          discovery: { kubernetes: { namespace: "llm", inferencePool: "qwen" } },
          scrape: { scheme: "https", tls: { insecureSkipVerify: true }, path: "/m" },
          engines: { defaultEngine: "sglang" },
          kvEvents: {},
        },
      ],
    });
  });

  it("says how to go on, with what is known of it", async () => {
    expect(nextCommand(await convertYaml(GATEWAY_MODE), "my files")).toBe(
      "npx epp-wasm init --pool qwen --namespace llm --selector app=vllm-qwen3-32b --port 8000 " +
        "--picker 'my files/picker.json' --sidecar-config 'my files/sidecar.yaml' --out 'my files/gateway'",
    );
    const old = GATEWAY_MODE.replace("{ matchLabels: { app: vllm-qwen3-32b } }", "{ app: old }").replace(
      "targetPorts: [{ number: 8000 }]",
      "targetPortNumber: 9000",
    );
    const { initFlags } = await convertYaml(old);
    expect(initFlags).toEqual(
      expect.arrayContaining([
        ["--selector", "app=old"],
        ["--port", "9000"],
      ]),
    );
    const bare = await convertYaml(`${HEAD}plugins: []`, { endpoints: "10.0.0.1:8000" });
    expect(bare.initFlags).toEqual([["--pool", "pool"]]);
  });

  it("has every part of it reported", async () => {
    const { outcomes } = await convertYaml(GATEWAY_MODE);
    const fates = (verdict: string): string[] =>
      outcomes.filter((outcome) => outcome.verdict === verdict).map(({ what }) => what);
    expect(fates("dropped")).toEqual([
      "Deployment qwen-epp container tokenizer",
      "ConfigMap qwen-epp readme.txt",
      "Strange one",
      "plugins[5] latency-scorer",
      "schedulingProfiles[0].plugins[3] latency-scorer",
      "featureGates[0] flowControl",
      "saturationDetector",
    ]);
    expect(fates("not-needed")).toEqual([
      "InferencePool qwen spec.endpointPickerRef",
      "Deployment qwen-epp",
      "Deployment qwen-epp env NAMESPACE",
      "--v=4",
      "--tracing=false",
      "--grpc-port=9002",
      "Service qwen-epp",
      "configuration default-plugins.yaml",
      "plugins[0] openai-parser",
      "plugins[9] utilization-detector",
      "requestHandler",
    ]);
    expect(fates("kept")).toEqual(
      expect.arrayContaining([
        "apiVersion inference.networking.x-k8s.io/v1alpha1",
        "plugins[1] queue-scorer",
        "plugins[3] precise-prefix-cache-producer",
        "plugins[7] metrics-data-source",
        "dataLayer",
        "InferenceObjective high",
        "failureMode FailClose",
      ]),
    );
    const text = describeOutcomes(outcomes);
    expect(text).toMatch(/latency-scorer: .*the nearest that is: [a-z-]+/);
    expect(text.indexOf("Dropped")).toBeLessThan(text.indexOf("Not needed"));
  });
});

describe("a standalone deployment", () => {
  const standalone = (args: readonly string[]): string =>
    stringify({
      kind: "Deployment",
      metadata: { name: "epp", namespace: "llm" },
      spec: {
        template: { spec: { containers: [{ name: "epp", image: "x/llm-d-router-endpoint-picker", args }] } },
      },
    });

  it("becomes a selector with ports", async () => {
    const { picker, sidecar, outcomes } = await convertYaml(
      standalone([
        "--endpoint-selector=app=vllm,llm-d.ai/role=decode",
        "--endpoint-target-ports=8000,8001",
        "--refresh-metrics-interval=100ms",
        `--config-text=${HEAD}plugins: [{type: load-aware-scorer, parameters: {threshold: 64}}]`,
      ]),
    );
    expect(picker["plugins"]).toEqual([
      { type: "load-aware-scorer", parameters: { threshold: 64 } },
      { type: "epp-wasm-gateway", parameters: { pool: "pool" } },
    ]);
    expect(sidecar["pools"]).toEqual([
      {
        name: "pool",
        discovery: {
          kubernetes: {
            namespace: "llm",
            selector: { app: "vllm", "llm-d.ai/role": "decode" },
            ports: [8000, 8001],
          },
        },
        scrape: { intervalMs: 100 },
      },
    ]);
    expect(outcomes.filter(({ verdict }) => verdict === "dropped")).toEqual([]);
  });

  it("takes a set of one value for that value", async () => {
    const args = ["--endpoint-selector=app in (vllm), tier = gpu", "--endpoint-target-ports=8000"];
    const { sidecar, initFlags } = await convertYaml(standalone(args));
    const [pool] = sidecar["pools"] as { discovery: unknown }[];
    expect(pool!.discovery).toMatchObject({ kubernetes: { selector: { app: "vllm", tier: "gpu" } } });
    expect(initFlags).toContainEqual(["--selector", "app=vllm,tier=gpu"]);
  });

  it("without a configuration runs the filter's defaults", async () => {
    const { picker } = await convertYaml(standalone(["-poolName", "qwen"]));
    expect(picker["plugins"]).toEqual([{ type: "epp-wasm-gateway", parameters: { pool: "qwen" } }]);
  });

  it("with file-discovery keeps the file", async () => {
    const config = `${HEAD}plugins:
- { name: files, type: file-discovery, parameters: { path: /etc/endpoints.yaml, watchFile: true } }
- { type: dcgm-data-source, parameters: { useNodeAddress: true } }
dataLayer: { discovery: { pluginRef: files }, sources: [{ pluginRef: dcgm-data-source, interval: 1s }] }
`;
    const { sidecar } = await convertYaml(config);
    expect(sidecar["pools"]).toEqual([
      {
        name: "pool",
        discovery: { file: { path: "/etc/endpoints.yaml", watch: true } },
        dcgm: { port: 9400, useNodeAddress: true, intervalMs: 1000 },
      },
    ]);
  });

  it.each<[string, readonly string[], string]>([
    ["a set-based selector", ["--endpoint-selector=app in (a,b)"], '"app in (a,b)": expected key=value'],
    ["a set of nothing", ["--endpoint-selector=app in ()"], "the nearest is one label that says it"],
    ["a set of others", ["--endpoint-selector=app notin (a)"], '"app notin (a)": expected key=value'],
    ["a negated label", ["--endpoint-selector=app!=b"], '"app!=b": expected key=value'],
    ["a selector without ports", ["--endpoint-selector=app=b"], "target ports: []: expected port numbers"],
    ["bad ports", ["--endpoint-selector=app=b", "--endpoint-target-ports=80,x"], "expected port numbers"],
    ["a bad interval", ["--pool-name=a", "--refresh-metrics-interval=fast"], '"fast": expected a duration'],
    ["a configuration that is not given", ["--pool-name=a", "--config-file=/x.yaml"], "/x.yaml is not among"],
    ["no endpoints", ["--config-text="], "nothing says where the endpoints are"],
  ])("with %s is refused", async (_, args, message) => {
    await expect(convertYaml(standalone(args))).rejects.toThrow(message);
  });
});

describe("Helm values", () => {
  it("of llm-d-router's charts bring the chart's own configuration", async () => {
    const { picker, sidecar, outcomes } = await convertYaml(`
router:
  modelServers: { type: sglang, matchLabels: { app: sglang }, targetPorts: [{ number: 30000 }] }
  inferencePool: { create: false, failureMode: FailOpen }
  tokenizer: { enabled: true }
  latencyPredictor: { enabled: true }
  inferenceObjectives: [{ name: high, priority: 5 }]
  epp:
    replicas: 2
    flags: { v: 4, ha-enable-leader-election: true }
    metricsDataSource: { scheme: http, path: /m }
    novel: 1
`);
    expect(picker["schedulingProfiles"]).toEqual([
      {
        name: "default",
        plugins: [
          { pluginRef: "queue-scorer", weight: 2 },
          { pluginRef: "kv-cache-utilization-scorer", weight: 2 },
          { pluginRef: "prefix-cache-scorer", weight: 3 },
        ],
      },
    ]);
    expect((picker["plugins"] as unknown[]).at(-1)).toEqual({
      type: "epp-wasm-gateway",
      parameters: { pool: "pool", fail: "open" },
    });
    expect(sidecar["pools"]).toEqual([
      {
        name: "pool",
        discovery: { kubernetes: { selector: { app: "sglang" }, ports: [30000] } },
        scrape: { path: "/m" },
        engines: { defaultEngine: "sglang" },
      },
    ]);
    const fate = (what: string): string | undefined => outcomes.find((one) => one.what === what)?.verdict;
    expect(
      ["latencyPredictor", "tokenizer", "router.epp.novel", "router.epp.replicas", "inferenceObjectives"].map(
        fate,
      ),
    ).toEqual(["dropped", "not-needed", "dropped", "not-needed", "kept"]);
  });

  it("with matchExpressions are refused: labels alone would take in other pods", async () => {
    const values = `
inferencePool:
  targetPorts: [{ number: 8000 }]
  modelServers: { matchLabels: { app: a }, matchExpressions: [{ key: b, operator: Exists }] }
`;
    await expect(convertYaml(values)).rejects.toThrow("matchExpressions: sets of several values");
  });

  it("of the inferencepool chart bring their own configuration", async () => {
    const { picker, sidecar } = await convertYaml(`
inferenceExtension:
  pluginsConfigFile: custom-plugins.yaml
  pluginsCustomConfig:
    custom-plugins.yaml: |
      apiVersion: inference.networking.x-k8s.io/v1alpha1
      kind: EndpointPickerConfig
      plugins: [{ type: running-requests-size-scorer }]
inferencePool: { modelServers: { matchLabels: { app: vllm } }, targetPorts: [{ number: 8000 }] }
`);
    expect((picker["plugins"] as object[])[0]).toEqual({ type: "running-requests-size-scorer" });
    expect(sidecar).toMatchObject({
      pools: [{ discovery: { kubernetes: { selector: { app: "vllm" }, ports: [8000] } } }],
    });
  });

  it("that are payload-agnostic keep sessions together", async () => {
    const { picker } = await convertYaml(
      "router: { epp: { pluginsConfigFile: payload-agnostic.yaml }, modelServers: { matchLabels: { a: b }, targetPorts: [1] } }",
    );
    expect((picker["plugins"] as object[]).slice(0, 2)).toEqual([
      { type: "active-request-scorer" },
      { type: "session-affinity-scorer" },
    ]);
  });
});

describe("a configuration", () => {
  const STAGES = `schedulingProfiles:
- { name: prefill, plugins: [{ pluginRef: prefill-filter }, { pluginRef: SCORER }] }
- { name: decode, plugins: [{ pluginRef: decode-filter }, { pluginRef: queue-scorer }] }
`;

  it("of prefill and decode keeps both profiles, their handler and its decider", async () => {
    const { picker, outcomes } = await convertYaml(
      `${HEAD}plugins: [{type: disagg-profile-handler, parameters: {deciders: {prefill: d}}}, {type: always-disagg-pd-decider, name: d}, {type: prefill-filter}, {type: decode-filter}, {type: queue-scorer}]
${STAGES.replace("SCORER", "queue-scorer")}`,
      { endpoints: "10.0.0.1:8000" },
    );
    expect(picker["schedulingProfiles"]).toEqual([
      { name: "prefill", plugins: [{ pluginRef: "prefill-filter" }, { pluginRef: "queue-scorer" }] },
      { name: "decode", plugins: [{ pluginRef: "decode-filter" }, { pluginRef: "queue-scorer" }] },
    ]);
    expect((picker["plugins"] as { type: string }[]).map(({ type }) => type).slice(0, 2)).toEqual([
      "disagg-profile-handler",
      "always-disagg-pd-decider",
    ]);
    expect(outcomes.filter(({ verdict }) => verdict === "dropped")).toEqual([]);
  });

  it("of prefill and decode whose scorers are not all supported falls back on the stages' defaults", async () => {
    const { picker, outcomes } = await convertYaml(
      `${HEAD}plugins: [{type: disagg-profile-handler}, {type: prefill-filter}, {type: decode-filter}, {type: queue-scorer}, {type: latency-scorer}]
${STAGES.replace("SCORER", "latency-scorer")}`,
      { endpoints: "10.0.0.1:8000" },
    );
    expect(picker).not.toHaveProperty("schedulingProfiles");
    expect(picker["plugins"]).toEqual([
      { type: "disagg-profile-handler" },
      { type: "epp-wasm-gateway", parameters: { pool: "pool" } },
    ]);
    expect(describeOutcomes(outcomes)).toContain("no scorer is left");
  });

  it("of a handler that is not supported keeps the decode profile", async () => {
    const { picker, outcomes } = await convertYaml(
      `${HEAD}plugins: [{type: header-profile-handler}, {type: prefill-filter}, {type: decode-filter}, {type: queue-scorer}]
${STAGES.replace("SCORER", "queue-scorer")}`,
      { endpoints: "10.0.0.1:8000" },
    );
    expect(picker["schedulingProfiles"]).toEqual([
      { name: "decode", plugins: [{ pluginRef: "decode-filter" }, { pluginRef: "queue-scorer" }] },
    ]);
    expect(outcomes.map(({ what }) => what)).toEqual(
      expect.arrayContaining(["plugins[0] header-profile-handler", "schedulingProfiles[0] prefill"]),
    );
  });

  it("whose scorers are all unsupported falls back on the filter's default profile", async () => {
    const { picker, outcomes } = await convertYaml(
      `${HEAD}plugins: [{type: latency-scorer}, {type: weighted-random-picker}]
schedulingProfiles: [{ name: default, plugins: [{ pluginRef: latency-scorer }, { pluginRef: weighted-random-picker }] }]
`,
      { endpoints: "10.0.0.1:8000" },
    );
    expect(picker).not.toHaveProperty("schedulingProfiles");
    expect(picker["plugins"]).toEqual([{ type: "epp-wasm-gateway", parameters: { pool: "pool" } }]);
    expect(describeOutcomes(outcomes)).toContain(
      "no scorer is left: the filter's default profile takes over",
    );
  });

  it("among several must be named", async () => {
    const two = {
      kind: "ConfigMap",
      data: { "a.yaml": `${HEAD}plugins: []`, "b.yaml": `${HEAD}plugins: []` },
    };
    await expect(convert([two], { endpoints: "10.0.0.1:1" })).rejects.toThrow(
      "several configurations: a.yaml, b.yaml",
    );
    expect(
      (await convert([two], { endpoints: "10.0.0.1:1", config: "b.yaml" })).outcomes.map(({ what }) => what),
    ).toContain("configuration a.yaml");
  });

  it("with a field that is not known loses it with a word", async () => {
    const { outcomes } = await convertYaml(`${HEAD}novel: 1\n`, { endpoints: "10.0.0.1:1" });
    expect(outcomes).toContainEqual({ verdict: "dropped", what: "novel", why: "a field that is not known" });
  });
});
