// The configuration reader against llm-d's loader (fixtures/oracles/config.json) and against our own rules.
import { readFileSync } from "node:fs";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { compileHarness } from "./support/harness.ts";
import { ACCEPTED, IMPLEMENTED, REFUSED, REQUIRED } from "./support/plugin-types.ts";
import { documentOf, pluginOf, REFUSED_DOCUMENTS } from "./support/refused-documents.ts";
import { Scheduler, TYPES } from "./support/scheduler.ts";

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

interface Case {
  source: string;
  name: string;
  document?: Json;
  type?: string;
  parameters?: string;
  accepted: boolean;
  // biome-ignore lint/suspicious/noExplicitAny: the upstream object's state, by type.
  plugin?: any;
}

const cases: Case[] = JSON.parse(
  readFileSync(new URL("../fixtures/oracles/config.json", import.meta.url), "utf8"),
).cases;
const UNSUPPORTED = "known in llm-d and not supported";

let module: WebAssembly.Module;
let wasm: Scheduler;
beforeAll(async () => {
  module = await compileHarness("schema");
}, 60_000);
beforeEach(() => {
  wasm = new Scheduler(module);
});

interface Loaded {
  config: number;
  error: string;
  notice: string;
}

function loadText(text: string): Loaded {
  const { ptr, len } = wasm.put(text);
  const config = wasm.call("configLoad", ptr, len);
  const error = wasm.text(wasm.call("schemaErrorPtr"), wasm.call("schemaErrorBytes"));
  const notice = wasm.text(wasm.call("schemaNoticePtr"), wasm.call("schemaNoticeBytes"));
  expect(config === 0, error).toBe(error !== "");
  return { config, error, notice };
}

function load(document: unknown): Loaded {
  return loadText(JSON.stringify(document));
}

/** The compiled plan by plugin type and weight. */
function planOf(config: number) {
  const plan = wasm.call("configPlan", config);
  const name = (type: number) => Object.entries(TYPES).find(([, number]) => number === type)?.[0];
  const instance = (at: number) => {
    const { view } = wasm;
    return {
      type: name(view.getUint16(at, true)),
      name: wasm.text(view.getUint32(at + 56, true), view.getUint32(at + 60, true)),
      mode: view.getUint8(at + 3),
      values: [8, 16, 24, 32].map((offset) => view.getFloat64(at + offset, true)),
      text: wasm.text(view.getUint32(at + 40, true), view.getUint32(at + 44, true)),
      list: view.getUint32(at + 48, true),
      count: view.getUint32(at + 52, true),
    };
  };
  return {
    filters: Array.from({ length: wasm.call("planFilters", plan) }, (_, i) =>
      instance(wasm.call("planFilter", plan, i)),
    ),
    scorers: Array.from({ length: wasm.call("planScorers", plan) }, (_, i) => ({
      ...instance(wasm.call("planScorer", plan, i)),
      weight: wasm.call("planWeight", plan, i),
    })),
    picker: name(wasm.call("planPicker", plan)),
    results: wasm.call("planResults", plan),
    unknownMean: wasm.call("planUnknownMean", plan) !== 0,
  };
}

/** What the filter cannot check: files that must be there belong to the sidecar, which reads them. */
function needsFiles(entry: Case): boolean {
  return /clientCertPath|caCertPath/.test(entry.parameters ?? "");
}

/** Accepted by llm-d and refused here, though the type is supported: TTFT from its latency predictor. */
function isKnownGap(entry: Case, error: string): boolean {
  return (
    entry.type === "prefix-cache-affinity-filter" &&
    entry.parameters?.includes('"ttftSource":"latencyPredictor"') === true &&
    error.includes(
      "the latency predictor is known in llm-d and not supported; the nearest is prefillThroughput",
    )
  );
}

describe("llm-d's parameter checks", () => {
  const checks = cases.filter(({ type }) => type !== undefined);
  test.each(checks.map((entry) => [`${entry.type}: ${entry.name} ${entry.parameters}`, entry]))(
    "%s",
    (_, value) => {
      const entry = value as Case;
      if (entry.type === undefined || entry.parameters === undefined) throw new Error("no parameter check");
      const text = `{"apiVersion":"llm-d.ai/v1alpha1","kind":"EndpointPickerConfig","plugins":[{"type":"${entry.type}","parameters":${entry.parameters}}]}`;
      const { config, error } = loadText(text);
      if (error.includes(UNSUPPORTED) && error.startsWith("plugins[0].type:")) {
        expect(error).toContain(entry.type);
        return;
      }
      if (entry.accepted || needsFiles(entry)) {
        if (isKnownGap(entry, error)) return;
        expect(error).toBe("");
        if (entry.plugin !== undefined) expectPlugin(entry, config);
      } else {
        expect(config).toBe(0);
        expect(error).toMatch(/^(plugins\[0\]\.|configuration — no valid JSON at byte )/);
      }
    },
  );

  test("a type that is refused is refused for itself alone, whatever its parameters", () => {
    const types = new Set(checks.map(({ type }) => type ?? ""));
    const refused = [...types].filter((type) => {
      const { config, error } = load(pluginOf(type));
      if (config !== 0) wasm.call("configFree", config);
      return error.includes(UNSUPPORTED);
    });
    expect(refused.sort()).toEqual(
      [
        "agent-identity",
        "data-parallel-profile-handler",
        "disagg-headers-handler",
        "disagg-profile-handler",
        "disaggregatedset-rollout-screener",
        "endpoint-attribute-filter",
        "endpoint-attribute-scorer",
        "header-profile-handler",
        "mm-embeddings-cache-producer",
        "multicluster-file-discovery",
        "multicluster-metrics-data-source",
        "p2p-source-producer",
        "pd-profile-handler",
        "precise-prefix-cache-producer",
        "prefix-based-pd-decider",
        "probabilistic-admitter",
        "session-id-producer",
        "slo-headroom-tier-filter",
        "topology-affinity-filter",
      ].sort(),
    );
  });
});

/** Compares what was compiled with the state of upstream's object. */
function expectPlugin(entry: Case, config: number): void {
  const plan = planOf(config);
  const { plugin } = entry;
  switch (entry.type) {
    case "prefix-cache-scorer":
      expect(plan.scorers[0]?.values.slice(0, 2)).toEqual([
        plugin.matchLengthWeight ?? 0,
        plugin.matchLengthScaleTokens,
      ]);
      return;
    case "prefix-cache-affinity-filter":
      expect(plan.filters[0]?.values).toEqual([
        plugin.config.affinityThreshold,
        plugin.config.explorationProbability ?? 0,
        plugin.config.maxTTFTPenaltyMs ?? 0,
        plugin.config.peakPrefillThroughput ?? 0,
      ]);
      return;
    case "context-length-aware":
      expect(plan.scorers[0]?.text).toBe(plugin.labelName);
      return;
    case "header-label-affinity-scorer":
      expect(plan.scorers[0]?.text).toBe(plugin.labelKey);
      expect(headers(config)).toEqual([plugin.headerName]);
      return;
    case "utilization-filter":
      expect(plan.filters[0]?.count).toBe(plugin.conditions.length);
      return;
    case "label-selector-filter":
    case "by-label-selector":
      expect(plan.filters[0]?.count).toBe(plugin.selector.length);
      return;
    case "by-label":
      expect(plan.filters[0]?.count).toBe(1);
      return;
    default:
      throw new Error(`no comparison for ${entry.type}`);
  }
}

function headers(config: number): string[] {
  return Array.from({ length: wasm.call("configHeaderCount", config) }, (_, i) => {
    const ptr = wasm.call("configHeaderName", config, i);
    return wasm.text(ptr, wasm.view.getUint32(ptr - 4, true));
  });
}

describe("llm-d's documents", () => {
  const documents = cases.filter(({ document }) => document !== undefined);
  test.each(documents.map((entry) => [entry.name, entry]))("%s", (_, value) => {
    const entry = value as Case;
    const { error } = entry.document === null ? loadText("") : load(entry.document);
    if (!entry.accepted) expect(error).not.toBe("");
    // What loads there loads here, or is refused by the name of what is missing.
    else if (error !== "")
      expect(error).toMatch(/"test-[a-z-]+" — unknown plugin type|"flowControl" — flow control/);
  });

  test("those without stand-in plugins and without flow control load", () => {
    const plain = documents.filter(({ document, accepted }) => {
      const text = JSON.stringify(document);
      return accepted && !text.includes("test-") && !text.includes('"featureGates":["flowControl"]');
    });
    expect(plain.length).toBeGreaterThanOrEqual(6);
    for (const { document } of plain)
      expect((document === null ? loadText("") : load(document)).error).toBe("");
  });
});

describe("the default", () => {
  const DEFAULT = [
    ["queue-scorer", 2],
    ["kv-cache-utilization-scorer", 2],
    ["prefix-cache-scorer", 3],
    ["active-request-scorer", 2],
    ["token-load-scorer", 3],
  ];

  test.each([
    ["no configuration", ""],
    ["an empty object", "{}"],
    ["settings alone", JSON.stringify(pluginOf("epp-wasm-gateway", { pool: "p" }))],
    ["the sidecar's part alone", JSON.stringify(pluginOf("file-discovery", { path: "endpoints.yaml" }))],
  ])("%s: llm-d's default plus our own reservations", (_, text) => {
    const { config, error } = loadText(text);
    expect(error).toBe("");
    const plan = planOf(config);
    expect(plan.scorers.map(({ type, weight }) => [type, weight])).toEqual(DEFAULT);
    expect(plan.filters).toEqual([]);
    expect(plan.picker).toBe("max-score-picker");
    expect(plan.results).toBe(3);
    expect(plan.unknownMean).toBe(true);
  });

  test("a given profile is llm-d's: unknown load is idle load", () => {
    expect(planOf(load(pluginOf("queue-scorer")).config).unknownMean).toBe(false);
  });
});

describe("what the loader injects", () => {
  test("no profiles: one of all filters, scorers and pickers declared", () => {
    const { config } = load(
      documentOf([
        { type: "random-picker" },
        { type: "metrics-data-source" },
        { type: "decode-filter" },
        { type: "queue-scorer", name: "q" },
        { type: "context-length-aware", parameters: { enableFiltering: true } },
      ]),
    );
    const plan = planOf(config);
    expect(plan.filters.map(({ type, mode }) => [type, mode])).toEqual([
      ["role-filter", 1],
      ["context-length-aware", 1],
    ]);
    expect(plan.scorers.map(({ type, name, weight }) => [type, name, weight])).toEqual([
      ["queue-scorer", "q", 1],
      ["context-length-aware", "context-length-aware", 1],
    ]);
    expect(plan.picker).toBe("random-picker");
  });

  test("a profile without a picker takes the one declared, else max-score-picker", () => {
    const profile = {
      schedulingProfiles: [{ name: "default", plugins: [{ pluginRef: "queue-scorer", weight: 2.5 }] }],
    };
    const without = load(documentOf([{ type: "queue-scorer" }], profile));
    expect(planOf(without.config).picker).toBe("max-score-picker");
    expect(planOf(without.config).scorers[0]?.weight).toBe(2.5);
    const declared = load(
      documentOf([{ type: "queue-scorer" }, { type: "weighted-random-picker" }], profile),
    );
    expect(planOf(declared.config).picker).toBe("weighted-random-picker");
  });

  test.each([
    [undefined, undefined, 3],
    [1, undefined, 3],
    [5, undefined, 5],
    [0, undefined, 3],
    [100, undefined, 16],
    [1, 1, 1],
    [2, 1, 2],
  ])("maxNumOfEndpoints %j with destinations %j: %i results", (maxNumOfEndpoints, destinations, results) => {
    const { config } = load(
      documentOf([
        { type: "max-score-picker", parameters: { maxNumOfEndpoints } },
        { type: "epp-wasm-gateway", parameters: { destinations } },
      ]),
    );
    expect(planOf(config).results).toBe(results);
  });

  test("weights may be zero and negative", () => {
    const plugins = [{ type: "queue-scorer" }, { type: "kv-cache-utilization-scorer" }];
    const references = [
      { pluginRef: "queue-scorer", weight: 0 },
      { pluginRef: "kv-cache-utilization-scorer", weight: -2 },
    ];
    const { config } = load(
      documentOf(plugins, { schedulingProfiles: [{ name: "p", plugins: references }] }),
    );
    expect(planOf(config).scorers.map(({ weight }) => weight)).toEqual([0, -2]);
  });
});

const Q = { type: "queue-scorer" };

describe("what is refused, with its path, value and what was expected", () => {
  test.each(REFUSED_DOCUMENTS)("%s", (_, document, expected) => {
    const { error, config } = typeof document === "string" ? loadText(document) : load(document);
    expect(error).toContain(expected);
    expect(config).toBe(0);
    expect(wasm.call("configsInUse")).toBe(0);
  });

  test("a quoted value is cut and carries no control characters", () => {
    const { error } = load(pluginOf(`x\n\u0000${"y".repeat(500)}`));
    expect(error).toBe(`plugins[0].type: "x..${"y".repeat(61)}…" — unknown plugin type`);
  });
});

describe("what is accepted", () => {
  test("plugins without effect are named once each", () => {
    const { notice } = load(
      documentOf([Q, { type: "metrics-data-source" }, { type: "approx-prefix-cache-producer", name: "a" }]),
    );
    expect(notice).toBe(
      "plugins[1] metrics-data-source: no effect in the filter, the sidecar's; " +
        "plugins[2] approx-prefix-cache-producer: no effect in the filter, the filter's own prefix index is always on",
    );
  });

  test("a whole document with every section", () => {
    const { error, config } = load({
      apiVersion: "llm-d.ai/v1alpha1",
      kind: "EndpointPickerConfig",
      featureGates: ["flowControl=false", "haPopulateNonLeaderDatastore"],
      plugins: [
        {
          name: "file-disc",
          type: "file-discovery",
          parameters: { path: "endpoints.yaml", watchFile: true },
        },
        { type: "queue-scorer" },
        { type: "kv-cache-utilization-scorer" },
        { type: "prefix-cache-scorer", parameters: null },
        { type: "max-score-picker" },
        { type: "single-profile-handler" },
        { type: "metrics-data-source", parameters: { scheme: "http", path: "/metrics" } },
        { type: "core-metrics-extractor" },
        { type: "round-robin-fairness-policy" },
      ],
      schedulingProfiles: [
        {
          name: "default",
          plugins: [
            { pluginRef: "queue-scorer", weight: 2 },
            { pluginRef: "kv-cache-utilization-scorer", weight: 2 },
            { pluginRef: "prefix-cache-scorer", weight: 3 },
            { pluginRef: "max-score-picker", weight: null },
          ],
        },
      ],
      requestHandler: { parsers: [{ pluginRef: "openai-parser" }] },
      parser: { pluginRef: "openai-parser" },
      saturationDetector: { pluginRef: "utilization-detector" },
      flowControl: {
        maxBytes: "1Gi",
        maxRequests: 100,
        defaultRequestTTL: "1m30s",
        priorityBands: [
          { priority: -5, maxRequests: "5k", fairnessPolicyRef: "round-robin-fairness-policy" },
        ],
        defaultPriorityBand: { priority: 0, orderingPolicyRef: "fcfs-ordering-policy" },
        saturationDetector: { pluginRef: "utilization-detector" },
      },
      dataLayer: {
        injectDefaults: true,
        discovery: { pluginRef: "file-disc" },
        sources: [
          { pluginRef: "metrics-data-source", extractors: [{ pluginRef: "core-metrics-extractor" }] },
        ],
      },
    });
    expect(error).toBe("");
    const plan = planOf(config);
    expect(plan.scorers.map(({ type, weight }) => [type, weight])).toEqual([
      ["queue-scorer", 2],
      ["kv-cache-utilization-scorer", 2],
      ["prefix-cache-scorer", 3],
    ]);
  });

  test("header names are noted once, in lower case", () => {
    const { config } = load(
      documentOf([
        { type: "header-label-affinity-scorer", parameters: { headerName: "X-Slice", labelKey: "slice" } },
        {
          type: "header-label-affinity-scorer",
          name: "b",
          parameters: { headerName: "x-slice", labelKey: "zone" },
        },
        { type: "session-affinity-scorer" },
      ]),
    );
    expect(headers(config)).toEqual(["x-slice", "x-session-token"]);
    const name = wasm.call("configSessionHeader", config);
    expect(wasm.text(name, wasm.view.getUint32(name - 4, true))).toBe("x-session-token");
  });

  test("session_id reads its sources in order and answers nothing", () => {
    const { config } = load(
      pluginOf("session-affinity-scorer", {
        strategy: "session_id",
        sessionIdConfig: {
          sources: [{ header: "x-own" }, { attribute: "agent-identity" }],
          evictionTtlSeconds: 30,
        },
      }),
    );
    expect(headers(config)).toEqual([
      "x-own",
      "x-claude-code-session-id",
      "x-session-affinity",
      "session-id",
      "session_id",
    ]);
    expect(wasm.call("configSessionHeader", config)).toBe(0);
    expect(planOf(config).scorers[0]?.values[0]).toBe(30_000);
    expect(planOf(config).scorers[0]?.count).toBe(5);
  });
});

describe("all 97 plugin types of llm-d are in the table", () => {
  test("each once", () => {
    const all = [...IMPLEMENTED, ...ACCEPTED, ...REFUSED];
    expect(all).toHaveLength(97);
    expect(new Set(all).size).toBe(97);
  });

  test.each(IMPLEMENTED)("implemented: %s", (type) => {
    const { error, notice } = load(pluginOf(type, REQUIRED[type]));
    expect(error).toBe("");
    expect(notice).not.toContain("no effect");
  });

  test.each(ACCEPTED)("accepted without effect: %s", (type) => {
    const { error, notice } = load(pluginOf(type, REQUIRED[type]));
    expect(error).toBe("");
    expect(notice).toContain(`plugins[0] ${type}: no effect in the filter, `);
  });

  test.each(REFUSED)("refused, naming the nearest: %s", (type) => {
    const { error } = load(pluginOf(type));
    const nearest = error.split("the nearest that is: ")[1] ?? "";
    expect(error).toContain(`plugins[0].type: "${type}" — known in llm-d`);
    const supported = [...IMPLEMENTED, ...ACCEPTED, "gpu-utilization-scorer", "epp-wasm-gateway"];
    expect(supported.some((name) => nearest.startsWith(name))).toBe(true);
  });

  test.each(["gpu-utilization-scorer", "gpu-memory-scorer", "epp-wasm-gateway"])("ours: %s", (type) => {
    expect(load(pluginOf(type)).error).toBe("");
  });
});

describe("settings", () => {
  const NUMBERS: [string, string, number, number, number][] = [
    ["decisionBytesMax", "configDecisionBytesMax", 28672, 1024, 16777216],
    ["modelWaitBytesMax", "configModelWaitBytesMax", 28672, 0, 16777216],
    ["bodyBytesMax", "configBodyBytesMax", 16777216, 1024, 1073741824],
    ["snapshotAgeMaxMs", "configSnapshotAgeMaxMs", 3000, 100, 600000],
    ["destinations", "configDestinations", 3, 1, 3],
    ["retryBackoffMinMs", "configRetryBackoffMinMs", 1000, 10, 3600000],
    ["retryBackoffMaxMs", "configRetryBackoffMaxMs", 60000, 1000, 3600000],
    ["responseSampleEvery", "configResponseSampleEvery", 16, 0, 65535],
    ["tickMs", "configTickMs", 5, 1, 1000],
  ];

  test.each(NUMBERS)(
    "%s: default, both boundaries, and what is beyond them",
    (name, accessor, fallback, least, most) => {
      const read = (value?: unknown) => {
        const { config, error } = load(
          pluginOf("epp-wasm-gateway", value === undefined ? {} : { [name]: value }),
        );
        const result = config === 0 ? error : wasm.call(accessor, config);
        if (config !== 0) wasm.call("configFree", config);
        return result;
      };
      expect(read()).toBe(fallback);
      expect(read(null)).toBe(fallback);
      expect(read(least)).toBe(least);
      expect(read(most)).toBe(most);
      for (const bad of [least - 1, most + 1, least + 0.5, "1", true, [], {}]) {
        expect(read(bad)).toContain(`plugins[0].parameters.${name}: `);
      }
    },
  );

  test("modelWaitBytesMax follows decisionBytesMax", () => {
    const { config } = load(pluginOf("epp-wasm-gateway", { decisionBytesMax: 65536 }));
    expect(wasm.call("configModelWaitBytesMax", config)).toBe(65536);
  });

  test("a back-off that begins above the default maximum raises it", () => {
    const { config } = load(pluginOf("epp-wasm-gateway", { retryBackoffMinMs: 120_000 }));
    expect(wasm.call("configRetryBackoffMaxMs", config)).toBe(120_000);
    expect(
      load(pluginOf("epp-wasm-gateway", { retryBackoffMinMs: 500, retryBackoffMaxMs: 400 })).error,
    ).toContain(
      "plugins[0].parameters.retryBackoffMaxMs: 400 — expected a whole number of ms, retryBackoffMinMs to 3600000",
    );
  });

  test("fail, exposeDecision, unknownLoad and pool", () => {
    const plain = load(pluginOf("epp-wasm-gateway")).config;
    expect(wasm.call("configFailClosed", plain)).toBe(0);
    expect(wasm.call("configExposeDecision", plain)).toBe(0);
    expect(wasm.call("configPoolNameBytes", plain)).toBe(0);
    const set = load(
      documentOf([
        Q,
        {
          type: "epp-wasm-gateway",
          parameters: { fail: "closed", exposeDecision: true, unknownLoad: "mean", pool: "llama" },
        },
      ]),
    ).config;
    expect(wasm.call("configFailClosed", set)).toBe(1);
    expect(wasm.call("configExposeDecision", set)).toBe(1);
    expect(planOf(set).unknownMean).toBe(true);
    expect(wasm.text(wasm.call("configPoolName", set), wasm.call("configPoolNameBytes", set))).toBe("llama");
    expect(load(pluginOf("epp-wasm-gateway", { fail: "maybe" })).error).toContain(
      '"maybe" — expected "open" or "closed"',
    );
    expect(load(pluginOf("epp-wasm-gateway", { pool: "p".repeat(253) })).error).toBe("");
    expect(load(pluginOf("epp-wasm-gateway", { pool: "p".repeat(254) })).error).toContain(
      "a name of at most 253 bytes",
    );
  });
});

describe("configurations in use", () => {
  test("eight live side by side, a ninth is refused, a freed place is taken again", () => {
    const configs = Array.from(
      { length: 8 },
      (_, i) => load(pluginOf("epp-wasm-gateway", { pool: `pool-${i}` })).config,
    );
    const ninth = load(pluginOf("queue-scorer"));
    expect(ninth.error).toBe(
      "configuration — 8 configurations are in use; the oldest streams must end first",
    );
    const pool = (config: number) =>
      wasm.text(wasm.call("configPoolName", config), wasm.call("configPoolNameBytes", config));
    expect(configs.map(pool)).toEqual(configs.map((_, i) => `pool-${i}`));
    wasm.call("configFree", configs[3] ?? 0);
    const again = load(pluginOf("epp-wasm-gateway", { pool: "again" })).config;
    expect(again).toBe(configs[3]);
    expect(pool(again)).toBe("again");
    expect(pool(configs[2] ?? 0)).toBe("pool-2");
  });

  test("a document stays whole when the next one is refused", () => {
    const { config } = load(pluginOf("load-aware-scorer", { threshold: 7 }));
    load(pluginOf("load-aware-scorer", { threshold: "x" }));
    expect(planOf(config).scorers[0]?.values[0]).toBe(7);
    expect(wasm.call("configsInUse")).toBe(1);
  });

  test("a label filter read from a document filters", () => {
    const { config } = load(
      documentOf([
        {
          type: "label-selector-filter",
          parameters: {
            matchLabels: { "llm-d.ai/role": "decode" },
            matchExpressions: [{ key: "tier", operator: "NotIn", values: ["slow", "test"] }],
          },
        },
        {
          type: "by-label",
          name: "zone",
          parameters: { label: "zone", validValues: ["a"], allowsNoLabel: true },
        },
      ]),
    );
    wasm.endpoints([
      { name: "0", labels: { "llm-d.ai/role": "decode" } },
      { name: "1", labels: { "llm-d.ai/role": "decode", tier: "slow" } },
      { name: "2", labels: { "llm-d.ai/role": "prefill" } },
      { name: "3", labels: { "llm-d.ai/role": "decode", tier: "fast", zone: "a" } },
      { name: "4", labels: { "llm-d.ai/role": "decode", tier: "fast", zone: "b" } },
    ]);
    wasm.request();
    wasm.call("schedule", wasm.call("configPlan", config), 0);
    expect(
      wasm
        .results()
        .map(({ row }) => row)
        .sort(),
    ).toEqual([0, 3]);
  });
});

describe("random documents", () => {
  const WORDS = [
    "type",
    "name",
    "parameters",
    "plugins",
    "queue-scorer",
    "by-label",
    "label",
    "validValues",
    "matchLabels",
    "matchExpressions",
    "utilization-filter",
    "conditions",
    "metric",
    "schedulingProfiles",
    "pluginRef",
    "weight",
    "session-affinity-scorer",
    "sessionIdConfig",
    "sources",
    "header",
    "epp-wasm-gateway",
    "pool",
    "flowControl",
    "priorityBands",
    "dataLayer",
    "featureGates",
    "core-metrics-extractor",
    "engineConfigs",
    "token-producer",
  ];

  /** xorshift32: a failing seed replays its run. */
  function random(seed: number): () => number {
    let state = seed;
    return () => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return (state >>> 0) / 0x100000000;
    };
  }

  function mutate(value: Json, next: () => number, depth = 0): Json {
    const word = () => WORDS[Math.floor(next() * WORDS.length)] ?? "";
    const roll = next();
    if (depth > 6 || roll < 0.08)
      return [null, true, -1, 1e300, 0.5, "", word(), [], {}][Math.floor(next() * 9)] ?? null;
    if (Array.isArray(value)) {
      const list = value.map((one) => mutate(one, next, depth + 1));
      if (roll < 0.2) list.push(mutate(word(), next, depth + 1));
      return list;
    }
    if (value !== null && typeof value === "object") {
      const entries = Object.entries(value).map(([key, one]): [string, Json] => [
        next() < 0.05 ? word() : key,
        mutate(one, next, depth + 1),
      ]);
      if (roll < 0.25) entries.push([word(), word()]);
      return Object.fromEntries(entries);
    }
    return value;
  }

  test("never trap, and are refused with a text or compiled into a plan", () => {
    const valid = cases.flatMap((entry): Json[] => {
      if (entry.document) return [entry.document];
      try {
        return [pluginOf(entry.type ?? "", JSON.parse(entry.parameters ?? "{}")) as Json];
      } catch {
        return [];
      }
    });
    const seed = 20240817;
    const next = random(seed);
    let accepted = 0;
    for (let i = 0; i < 3000; i++) {
      const document = mutate(valid[Math.floor(next() * valid.length)] ?? null, next);
      const text = JSON.stringify(document);
      const { ptr, len } = scratchText(text);
      const config = wasm.call("configLoad", ptr, len);
      expect(config === 0, `seed ${seed}, document ${i}: ${text}`).toBe(wasm.call("schemaErrorBytes") > 0);
      if (config === 0) continue;
      accepted++;
      wasm.endpoints([{ name: "a" }, { name: "b" }]);
      wasm.request();
      expect(
        wasm.call("schedule", wasm.call("configPlan", config), 0),
        `seed ${seed}, document ${i}`,
      ).toBeLessThanOrEqual(2);
      wasm.call("configFree", config);
      if (i % 100 === 0) wasm = new Scheduler(module);
    }
    expect(accepted).toBeGreaterThan(100);
    expect(accepted).toBeLessThan(2900);
    expect(wasm.call("configsInUse")).toBe(0);
  });

  let scratch = { wasm: undefined as Scheduler | undefined, at: 0 };
  function scratchText(text: string): { ptr: number; len: number } {
    if (scratch.wasm !== wasm) scratch = { wasm, at: wasm.alloc(65536) };
    const encoded = new TextEncoder().encode(text);
    new Uint8Array(wasm.wasm.memory.buffer).set(encoded.subarray(0, 65536), scratch.at);
    return { ptr: scratch.at, len: Math.min(encoded.length, 65536) };
  }
});
