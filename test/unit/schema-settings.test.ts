// The configuration reader: the gateway's settings, and the places for configurations in use.
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { load, planOf } from "./support/configurations.ts";
import { compileHarness } from "./support/harness.ts";
import { documentOf, pluginOf } from "./support/refused-documents.ts";
import { Scheduler } from "./support/scheduler.ts";

let module: WebAssembly.Module;
let wasm: Scheduler;
beforeAll(async () => {
  module = await compileHarness("schema");
});
beforeEach(() => {
  wasm = new Scheduler(module);
});

describe("settings", () => {
  const NUMBERS: [string, string, number, number, number][] = [
    ["decisionBytesMax", "configDecisionBytesMax", 28672, 1024, 16777216],
    ["modelWaitBytesMax", "configModelWaitBytesMax", 28672, 0, 16777216],
    ["rewriteBytesMax", "configRewriteBytesMax", 983040, 1024, 1048576],
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
          wasm,
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
    const { config } = load(wasm, pluginOf("epp-wasm-gateway", { decisionBytesMax: 65536 }));
    expect(wasm.call("configModelWaitBytesMax", config)).toBe(65536);
  });

  test("a back-off that begins above the default maximum raises it", () => {
    const { config } = load(wasm, pluginOf("epp-wasm-gateway", { retryBackoffMinMs: 120_000 }));
    expect(wasm.call("configRetryBackoffMaxMs", config)).toBe(120_000);
    expect(
      load(wasm, pluginOf("epp-wasm-gateway", { retryBackoffMinMs: 500, retryBackoffMaxMs: 400 })).error,
    ).toContain(
      "plugins[0].parameters.retryBackoffMaxMs: 400 — expected a whole number of ms, retryBackoffMinMs to 3600000",
    );
  });

  test("fail, exposeDecision, trustModelRewriteHeader, unknownLoad and pool", () => {
    const plain = load(wasm, pluginOf("epp-wasm-gateway")).config;
    expect(wasm.call("configFailClosed", plain)).toBe(0);
    expect(wasm.call("configExposeDecision", plain)).toBe(0);
    expect(wasm.call("configTrustsModelHeader", plain)).toBe(0);
    expect(wasm.call("configPoolNameBytes", plain)).toBe(0);
    const set = load(
      wasm,
      documentOf([
        { type: "queue-scorer" },
        {
          type: "epp-wasm-gateway",
          parameters: {
            fail: "closed",
            exposeDecision: true,
            trustModelRewriteHeader: true,
            unknownLoad: "mean",
            pool: "llama",
          },
        },
      ]),
    ).config;
    expect(wasm.call("configFailClosed", set)).toBe(1);
    expect(wasm.call("configExposeDecision", set)).toBe(1);
    expect(wasm.call("configTrustsModelHeader", set)).toBe(1);
    expect(load(wasm, pluginOf("epp-wasm-gateway", { trustModelRewriteHeader: "yes" })).error).toContain(
      "plugins[0].parameters.trustModelRewriteHeader: ",
    );
    expect(planOf(wasm, set).unknownMean).toBe(true);
    expect(wasm.text(wasm.call("configPoolName", set), wasm.call("configPoolNameBytes", set))).toBe("llama");
    expect(load(wasm, pluginOf("epp-wasm-gateway", { fail: "maybe" })).error).toContain(
      '"maybe" — expected "open" or "closed"',
    );
    expect(load(wasm, pluginOf("epp-wasm-gateway", { pool: "p".repeat(253) })).error).toBe("");
    expect(load(wasm, pluginOf("epp-wasm-gateway", { pool: "p".repeat(254) })).error).toContain(
      "a name of at most 253 bytes",
    );
  });
});

describe("configurations in use", () => {
  test("eight live side by side, a ninth is refused, a freed place is taken again", () => {
    const configs = Array.from(
      { length: 8 },
      (_, i) => load(wasm, pluginOf("epp-wasm-gateway", { pool: `pool-${i}` })).config,
    );
    const ninth = load(wasm, pluginOf("queue-scorer"));
    expect(ninth.error).toBe(
      "configuration — 8 configurations are in use; the oldest streams must end first",
    );
    const pool = (config: number) =>
      wasm.text(wasm.call("configPoolName", config), wasm.call("configPoolNameBytes", config));
    expect(configs.map(pool)).toEqual(configs.map((_, i) => `pool-${i}`));
    wasm.call("configFree", configs[3] ?? 0);
    const again = load(wasm, pluginOf("epp-wasm-gateway", { pool: "again" })).config;
    expect(again).toBe(configs[3]);
    expect(pool(again)).toBe("again");
    expect(pool(configs[2] ?? 0)).toBe("pool-2");
  });

  test("a document stays whole when the next one is refused", () => {
    const { config } = load(wasm, pluginOf("load-aware-scorer", { threshold: 7 }));
    load(wasm, pluginOf("load-aware-scorer", { threshold: "x" }));
    expect(planOf(wasm, config).scorers[0]?.values[0]).toBe(7);
    expect(wasm.call("configsInUse")).toBe(1);
  });

  test("a label filter read from a document filters", () => {
    const { config } = load(
      wasm,
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
