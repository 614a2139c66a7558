// The configuration reader by our own rules: defaults, what is injected, what is refused and how, what is accepted.
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { headers, load, loadText, planOf } from "./support/configurations.ts";
import { compileHarness } from "./support/harness.ts";
import { ACCEPTED, IMPLEMENTED, REFUSED, REQUIRED } from "./support/plugin-types.ts";
import { documentOf, pluginOf, REFUSED_DOCUMENTS } from "./support/refused-documents.ts";
import { COLUMNS, Scheduler } from "./support/scheduler.ts";

const Q = { type: "queue-scorer" };

let module: WebAssembly.Module;
let wasm: Scheduler;
beforeAll(async () => {
  module = await compileHarness("schema");
});
beforeEach(() => {
  wasm = new Scheduler(module);
});

describe("the default", () => {
  test.each([
    ["no configuration", ""],
    ["an empty object", "{}"],
    ["settings alone", JSON.stringify(pluginOf("epp-wasm-gateway", { pool: "p" }))],
    ["the sidecar's part alone", JSON.stringify(pluginOf("file-discovery", { path: "endpoints.yaml" }))],
  ])("%s: the latency picker with its defaults", (_, text) => {
    const { config, error } = loadText(wasm, text);
    expect(error).toBe("");
    const plan = planOf(wasm, config);
    expect(plan.scorers).toEqual([]);
    expect(plan.filters).toEqual([]);
    expect(plan.picker).toBe("epp-wasm-latency-picker");
    expect(plan.results).toBe(3);
    expect(plan.unknownMean).toBe(true);
  });

  test("a given profile is llm-d's: unknown load is idle load", () => {
    expect(planOf(wasm, load(wasm, pluginOf("queue-scorer")).config).unknownMean).toBe(false);
  });
});

describe("the default under stale metrics", () => {
  const ENDPOINTS = 8;
  const BURST = 96;

  /** Decisions between two scrapes: own reservations move, scraped load does not. Requests by endpoint. */
  function burst(config: number): number[] {
    const counts = Array.from({ length: ENDPOINTS }, () => 0);
    const tokens = Array.from({ length: ENDPOINTS }, () => 0);
    wasm.endpoints(
      counts.map((_, i) => ({
        name: `e${i}`,
        metrics: { waiting: i === 5 ? 0 : 3, kvUsage: i === 5 ? 0.1 : 0.4 },
      })),
    );
    for (let i = 0; i < BURST; i++) {
      wasm.request({ prompt: 2000, matchable: 2000 }, i, BigInt(i + 1));
      for (let row = 0; row < ENDPOINTS; row++) {
        wasm.call("setRowF64", COLUMNS.inflightRequests, row, counts[row] ?? 0);
        wasm.call("setRowF64", COLUMNS.inflightTokens, row, tokens[row] ?? 0);
        wasm.call("setRowF64", COLUMNS.uncachedTokens, row, 2000);
      }
      wasm.candidates(counts.map((_, row) => row));
      wasm.call("schedule", wasm.call("configPlan", config), 0);
      const row = wasm.call("resultRow", 0);
      counts[row] = (counts[row] ?? 0) + 1;
      tokens[row] = (tokens[row] ?? 0) + 2000;
    }
    return counts;
  }

  test("spreads a burst that llm-d's default sends to one endpoint", () => {
    const fair = BURST / ENDPOINTS;
    expect(Math.max(...burst(loadText(wasm, "").config))).toBeLessThanOrEqual(2 * fair);
    const peer = documentOf([Q, { type: "kv-cache-utilization-scorer" }, { type: "prefix-cache-scorer" }]);
    expect(Math.max(...burst(load(wasm, peer).config))).toBe(BURST);
  });
});

describe("what the loader injects", () => {
  test("no profiles: one of all filters, scorers and pickers declared", () => {
    const { config } = load(
      wasm,
      documentOf([
        { type: "random-picker" },
        { type: "metrics-data-source" },
        { type: "decode-filter" },
        { type: "queue-scorer", name: "q" },
        { type: "context-length-aware", parameters: { enableFiltering: true } },
      ]),
    );
    const plan = planOf(wasm, config);
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
    const without = load(wasm, documentOf([{ type: "queue-scorer" }], profile));
    expect(planOf(wasm, without.config).picker).toBe("max-score-picker");
    expect(planOf(wasm, without.config).scorers[0]?.weight).toBe(2.5);
    const declared = load(
      wasm,
      documentOf([{ type: "queue-scorer" }, { type: "weighted-random-picker" }], profile),
    );
    expect(planOf(wasm, declared.config).picker).toBe("weighted-random-picker");
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
      wasm,
      documentOf([
        { type: "max-score-picker", parameters: { maxNumOfEndpoints } },
        { type: "epp-wasm-gateway", parameters: { destinations } },
      ]),
    );
    expect(planOf(wasm, config).results).toBe(results);
  });

  test("weights may be zero and negative", () => {
    const plugins = [{ type: "queue-scorer" }, { type: "kv-cache-utilization-scorer" }];
    const references = [
      { pluginRef: "queue-scorer", weight: 0 },
      { pluginRef: "kv-cache-utilization-scorer", weight: -2 },
    ];
    const { config } = load(
      wasm,
      documentOf(plugins, { schedulingProfiles: [{ name: "p", plugins: references }] }),
    );
    expect(planOf(wasm, config).scorers.map(({ weight }) => weight)).toEqual([0, -2]);
  });
});

describe("what is refused, with its path, value and what was expected", () => {
  test.each(REFUSED_DOCUMENTS)("%s", (_, document, expected) => {
    const { error, config } = typeof document === "string" ? loadText(wasm, document) : load(wasm, document);
    expect(error).toContain(expected);
    expect(config).toBe(0);
    expect(wasm.call("configsInUse")).toBe(0);
  });

  test("a quoted value is cut and carries no control characters", () => {
    const { error } = load(wasm, pluginOf(`x\n\u0000${"y".repeat(500)}`));
    expect(error).toBe(`plugins[0].type: "x..${"y".repeat(61)}…" — unknown plugin type`);
  });
});

describe("what is accepted", () => {
  const FILTER = { type: "decode-filter" };
  const profileOf = (...refs: string[]) => ({
    schedulingProfiles: [{ name: "default", plugins: refs.map((pluginRef) => ({ pluginRef })) }],
  });

  test.each([
    ["", documentOf([FILTER])],
    ["schedulingProfiles[0] ", documentOf([FILTER], profileOf("decode-filter"))],
  ])("a choice by chance, for want of scorers and of a picker, is named: %s", (path, document) => {
    const { notice } = load(wasm, document);
    expect(notice).toBe(
      `${path}no scorer and no picker: any endpoint that the filters leave is picked, by chance; ` +
        "epp-wasm-latency-picker picks by predicted latency",
    );
  });

  test.each([
    [documentOf([FILTER, { type: "random-picker" }])],
    [documentOf([FILTER, { type: "epp-wasm-latency-picker" }])],
    [documentOf([FILTER, Q])],
    [documentOf([{ type: "epp-wasm-gateway" }])],
    ["{}"],
  ])("one that was asked for is not: %j", (document) => {
    expect(load(wasm, document).notice).not.toContain("by chance");
  });

  test("plugins without effect are named once each", () => {
    const { notice } = load(
      wasm,
      documentOf([Q, { type: "metrics-data-source" }, { type: "approx-prefix-cache-producer", name: "a" }]),
    );
    expect(notice).toBe(
      "plugins[1] metrics-data-source: no effect in the filter, the sidecar's; " +
        "plugins[2] approx-prefix-cache-producer: no effect in the filter, the filter's own prefix index is always on",
    );
  });

  test("a whole document with every section", () => {
    const { error, config } = load(wasm, {
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
    const plan = planOf(wasm, config);
    expect(plan.scorers.map(({ type, weight }) => [type, weight])).toEqual([
      ["queue-scorer", 2],
      ["kv-cache-utilization-scorer", 2],
      ["prefix-cache-scorer", 3],
    ]);
  });

  test("header names are noted once, in lower case", () => {
    const { config } = load(
      wasm,
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
    expect(headers(wasm, config)).toEqual(["x-slice", "x-session-token"]);
    const name = wasm.call("configSessionHeader", config);
    expect(wasm.text(name, wasm.view.getUint32(name - 4, true))).toBe("x-session-token");
  });

  test("session_id reads its sources in order and answers nothing", () => {
    const { config } = load(
      wasm,
      pluginOf("session-affinity-scorer", {
        strategy: "session_id",
        sessionIdConfig: {
          sources: [{ header: "x-own" }, { attribute: "agent-identity" }],
          evictionTtlSeconds: 30,
        },
      }),
    );
    expect(headers(wasm, config)).toEqual([
      "x-own",
      "x-claude-code-session-id",
      "x-session-affinity",
      "session-id",
      "session_id",
    ]);
    expect(wasm.call("configSessionHeader", config)).toBe(0);
    expect(planOf(wasm, config).scorers[0]?.values[0]).toBe(30_000);
    expect(planOf(wasm, config).scorers[0]?.count).toBe(5);
  });
});

describe("all 97 plugin types of llm-d are in the table", () => {
  test("each once", () => {
    const all = [...IMPLEMENTED, ...ACCEPTED, ...REFUSED];
    expect(all).toHaveLength(97);
    expect(new Set(all).size).toBe(97);
  });

  test.each(IMPLEMENTED)("implemented: %s", (type) => {
    const { error, notice } = load(wasm, pluginOf(type, REQUIRED[type]));
    expect(error).toBe("");
    expect(notice).not.toContain("no effect");
  });

  test.each(ACCEPTED)("accepted without effect: %s", (type) => {
    const { error, notice } = load(wasm, pluginOf(type, REQUIRED[type]));
    expect(error).toBe("");
    expect(notice).toContain(`plugins[0] ${type}: no effect in the filter, `);
  });

  test.each(REFUSED)("refused, naming the nearest: %s", (type) => {
    const { error } = load(wasm, pluginOf(type));
    const nearest = error.split("the nearest that is: ")[1] ?? "";
    expect(error).toContain(`plugins[0].type: "${type}" — known in llm-d`);
    const supported = [
      ...IMPLEMENTED,
      ...ACCEPTED,
      "gpu-utilization-scorer",
      "epp-wasm-latency-picker",
      "epp-wasm-gateway",
    ];
    expect(supported.some((name) => nearest.startsWith(name))).toBe(true);
  });

  test.each(["gpu-utilization-scorer", "gpu-memory-scorer", "epp-wasm-latency-picker", "epp-wasm-gateway"])(
    "ours: %s",
    (type) => {
      expect(load(wasm, pluginOf(type)).error).toBe("");
    },
  );
});
