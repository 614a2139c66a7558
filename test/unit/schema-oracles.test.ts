// The configuration reader against llm-d's loader (fixtures/oracles/config.json), and mutated documents.
import { readFileSync } from "node:fs";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { headers, load, loadText, planOf, stagesOf } from "./support/configurations.ts";
import { compileHarness } from "./support/harness.ts";
import { documentOf, pluginOf } from "./support/refused-documents.ts";
import { Scheduler } from "./support/scheduler.ts";

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
});
beforeEach(() => {
  wasm = new Scheduler(module);
});

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
      // Some parameters are no JSON: the document is put together as text.
      const text = JSON.stringify(documentFor(entry.type)).replace('"@"', () => entry.parameters ?? "");
      const { config, error } = loadText(wasm, text);
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
      const { config, error } = load(wasm, pluginOf(type));
      if (config !== 0) wasm.call("configFree", config);
      return error.includes(UNSUPPORTED);
    });
    expect(refused.sort()).toEqual(
      [
        "agent-identity",
        "disaggregatedset-rollout-screener",
        "endpoint-attribute-filter",
        "endpoint-attribute-scorer",
        "header-profile-handler",
        "mm-embeddings-cache-producer",
        "multicluster-file-discovery",
        "multicluster-metrics-data-source",
        "p2p-source-producer",
        "precise-prefix-cache-producer",
        "probabilistic-admitter",
        "session-id-producer",
        "slo-headroom-tier-filter",
        "topology-affinity-filter",
      ].sort(),
    );
  });
});

/** A document with one plugin, "@" for its parameters, and what it refers to: handlers name deciders. */
function documentFor(type: string): object {
  if (type !== "disagg-profile-handler" && type !== "pd-profile-handler") return pluginOf(type, "@");
  return documentOf([
    { type, parameters: "@" },
    { type: "prefix-based-pd-decider", parameters: { nonCachedTokens: 4 } },
    { type: "always-disagg-pd-decider" },
    { type: "always-disagg-multimodal-decider" },
  ]);
}

/** What the handler's stages are, against the fields of llm-d's object. */
function expectStages(plugin: Case["plugin"], config: number): void {
  const decider = plugin.pdDecider ?? plugin.decider;
  const stages = stagesOf(wasm, config);
  const isFirst = plugin.stageOrder === "prefill-first";
  expect(stages.prefillFirst).toBe(isFirst);
  expect(stages.prefill !== undefined).toBe(decider !== undefined);
  if (decider !== undefined) expect(stages.decider).toBe(decider.typedName.type);
  if (decider?.config !== undefined) expect(stages.nonCachedTokens).toBe(decider.config.nonCachedTokens);
  expect(stages.encode !== undefined).toBe(plugin.encodeDecider !== undefined);
  expect(stages.primaryPort).toBe(Number(plugin.primaryPort ?? 0));
}

/** Compares what was compiled with the state of upstream's object. */
function expectPlugin(entry: Case, config: number): void {
  const plan = planOf(wasm, config);
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
      expect(headers(wasm, config)).toEqual([plugin.headerName]);
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
    case "disagg-profile-handler":
    case "pd-profile-handler":
      expectStages(plugin, config);
      return;
    // No part of a plan by itself: there is no state to compare.
    case "disagg-headers-handler":
    case "prefix-based-pd-decider":
      return;
    default:
      throw new Error(`no comparison for ${entry.type}`);
  }
}

describe("llm-d's documents", () => {
  const documents = cases.filter(({ document }) => document !== undefined);
  test.each(documents.map((entry) => [entry.name, entry]))("%s", (_, value) => {
    const entry = value as Case;
    const { error } = entry.document === null ? loadText(wasm, "") : load(wasm, entry.document);
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
      expect((document === null ? loadText(wasm, "") : load(wasm, document)).error).toBe("");
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
