// Profile handlers, deciders and the settings of disaggregation: defaults, what is refused and how.
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { load, planOf, stagesOf } from "./support/configurations.ts";
import { compileHarness } from "./support/harness.ts";
import { documentOf, pluginOf } from "./support/refused-documents.ts";
import { Scheduler } from "./support/scheduler.ts";

let module: WebAssembly.Module;
let wasm: Scheduler;
beforeAll(async () => {
  module = await compileHarness("schema");
}, 120_000);
beforeEach(() => {
  wasm = new Scheduler(module);
});

const HANDLER = {
  type: "disagg-profile-handler",
  parameters: { deciders: { prefill: "always-disagg-pd-decider" } },
};
const ALWAYS = { type: "always-disagg-pd-decider" };
const MULTIMODAL = { type: "always-disagg-multimodal-decider" };

describe("stages without profiles", () => {
  test("are each all plugins with the filter of their role, by latency where nothing is scored", () => {
    const { config, error } = load(
      wasm,
      documentOf([
        {
          type: "disagg-profile-handler",
          parameters: { deciders: { prefill: "always-disagg-pd-decider", encode: MULTIMODAL.type } },
        },
        ALWAYS,
        MULTIMODAL,
      ]),
    );
    expect(error).toBe("");
    const stages = stagesOf(wasm, config);
    const shown = [planOf(wasm, config), stages.prefill!, stages.encode!].map((plan) => [
      plan.filters.map(({ mode }) => mode),
      plan.picker,
      plan.results,
    ]);
    expect(shown).toEqual([
      [[1], "epp-wasm-latency-picker", 3],
      [[2], "epp-wasm-latency-picker", 2],
      [[4], "epp-wasm-latency-picker", 1],
    ]);
  });

  test("share the scorers that are declared", () => {
    const { config } = load(wasm, documentOf([HANDLER, ALWAYS, { type: "queue-scorer" }]));
    const { prefill } = stagesOf(wasm, config);
    for (const plan of [planOf(wasm, config), prefill!]) {
      expect(plan.scorers.map(({ type }) => type)).toEqual(["queue-scorer"]);
      expect(plan.picker).toBe("max-score-picker");
    }
  });
});

describe("profiles of stages", () => {
  const plugins = [
    HANDLER,
    ALWAYS,
    { type: "queue-scorer" },
    { type: "kv-cache-utilization-scorer" },
    { type: "decode-filter" },
    { type: "prefill-filter" },
    { type: "random-picker" },
  ];
  const profile = (name: string, ...refs: string[]) => ({
    name,
    plugins: refs.map((pluginRef) => ({ pluginRef })),
  });

  test("have filters, scorers and pickers of their own", () => {
    const { config, error, notice } = load(
      wasm,
      documentOf(plugins, {
        schedulingProfiles: [
          profile("prefill", "prefill-filter", "kv-cache-utilization-scorer", "random-picker"),
          profile("spare", "queue-scorer"),
          profile("decode", "decode-filter", "queue-scorer"),
        ],
      }),
    );
    expect(error).toBe("");
    expect(notice).toContain(
      "schedulingProfiles[1] spare: no stage of the profile handler runs this profile",
    );
    const { prefill, encode } = stagesOf(wasm, config);
    expect(planOf(wasm, config).scorers.map(({ type }) => type)).toEqual(["queue-scorer"]);
    expect(prefill!.scorers.map(({ type }) => type)).toEqual(["kv-cache-utilization-scorer"]);
    expect([prefill!.picker, prefill!.filters[0]!.mode]).toEqual(["random-picker", 2]);
    expect(encode).toBeUndefined();
  });

  test.each<[string, unknown, string]>([
    [
      "no decode profile",
      documentOf(plugins, { schedulingProfiles: [profile("prefill")] }),
      "schedulingProfiles: […] — none is the decode profile, which the profile handler always runs",
    ],
    [
      "no prefill profile",
      documentOf(plugins, { schedulingProfiles: [profile("decode")] }),
      "schedulingProfiles: […] — none is the prefill profile, for which a decider is named",
    ],
    [
      "a name twice, not side by side",
      documentOf(plugins, {
        schedulingProfiles: [profile("decode"), profile("prefill"), profile("decode")],
      }),
      'schedulingProfiles[2].name: "decode" — expected a name that no other profile has',
    ],
    [
      "a latency picker with scorers in one of them",
      documentOf([...plugins, { type: "epp-wasm-latency-picker" }], {
        schedulingProfiles: [
          profile("decode"),
          profile("prefill", "queue-scorer", "epp-wasm-latency-picker"),
        ],
      }),
      "schedulingProfiles[1]: {…} — epp-wasm-latency-picker predicts instead of adding scores",
    ],
    [
      "a decider that is not declared",
      documentOf([HANDLER]),
      'plugins[0].parameters.deciders.prefill: "always-disagg-pd-decider" — expected the name of a declared decider',
    ],
    [
      "a scorer as decider, in the flat form",
      documentOf([
        { type: "queue-scorer" },
        { type: "disagg-profile-handler", parameters: { prefillDeciderPluginName: "queue-scorer" } },
      ]),
      'plugins[1].parameters.prefillDeciderPluginName: "queue-scorer" — expected the name of a declared decider',
    ],
    [
      "the decider of another stage",
      documentOf([
        { type: "disagg-profile-handler", parameters: { deciders: { encode: ALWAYS.type } } },
        ALWAYS,
      ]),
      'plugins[0].parameters.deciders.encode: "always-disagg-pd-decider" — expected an always-disagg-multimodal-decider',
    ],
    [
      "nested and flat parameters together",
      pluginOf("disagg-profile-handler", { profiles: { decode: "d" }, decodeProfile: "d" }),
      'plugins[0].parameters.decodeProfile: "d" — unknown field, expected one of profiles, deciders, stageOrder',
    ],
    [
      "an unknown stage",
      pluginOf("disagg-profile-handler", { profiles: { decoder: "d" } }),
      'plugins[0].parameters.profiles.decoder: "d" — unknown field, expected one of decode, prefill, encode',
    ],
    [
      "a decider of what always comes first",
      documentOf([
        {
          type: "disagg-profile-handler",
          parameters: { deciders: { prefill: ALWAYS.type }, stageOrder: "prefill-first" },
        },
        ALWAYS,
      ]),
      'plugins[0].parameters.stageOrder: "prefill-first" — expected "decode-first" where a prefill decider is named',
    ],
    [
      "a negative threshold",
      pluginOf("prefix-based-pd-decider", { nonCachedTokens: -1 }),
      "plugins[0].parameters.nonCachedTokens: -1 — expected a whole number of tokens ≥ 0",
    ],
    [
      "encoders where the filter calls",
      documentOf([
        { type: "disagg-profile-handler", parameters: { deciders: { encode: MULTIMODAL.type } } },
        MULTIMODAL,
        { type: "epp-wasm-disaggregation", parameters: { mode: "inline" } },
      ]),
      'plugins[0].parameters.deciders.encode: "always-disagg-multimodal-decider" — the encode stage needs epp-wasm-disaggregation with "mode": "headers"',
    ],
    [
      "a second epp-wasm-disaggregation",
      documentOf([{ type: "epp-wasm-disaggregation" }, { type: "epp-wasm-disaggregation", name: "b" }]),
      "plugins[1].parameters: (missing) — a second epp-wasm-disaggregation; one is allowed",
    ],
  ])("%s is refused by its path", (_, document, expected) => {
    expect(load(wasm, document).error).toContain(expected);
  });
});

describe("documents one after the other", () => {
  test("know nothing of each other's handlers", () => {
    expect(load(wasm, documentOf([HANDLER, ALWAYS])).error).toBe("");
    const { config, error } = load(wasm, pluginOf("queue-scorer"));
    expect(error).toBe("");
    expect(stagesOf(wasm, config).prefill).toBeUndefined();
    expect(load(wasm, pluginOf("disagg-profile-handler")).error).toBe("");
  });
});

describe("epp-wasm-disaggregation", () => {
  const settingsOf = (config: number) => ({
    mode: wasm.call("configStageMode", config),
    protocol: wasm.call("configProtocol", config),
    bodyBytesMax: wasm.call("configPrefillBodyBytesMax", config),
    timeoutMs: wasm.call("configPrefillTimeoutMs", config),
    bootstrapPort: wasm.call("configBootstrapPort", config),
    tokenMs: wasm.call("configTransferTokenMs", config),
    minGainMs: wasm.call("configMinGainMs", config),
    decodeRetries: wasm.call("configDecodeRetries", config),
  });

  test("has defaults, and takes all of its range", () => {
    expect(settingsOf(load(wasm, pluginOf("epp-wasm-disaggregation")).config)).toEqual({
      mode: 0,
      protocol: 0,
      bodyBytesMax: 983040,
      timeoutMs: 30000,
      bootstrapPort: 8998,
      tokenMs: 131072 / 10000000,
      minGainMs: 0,
      decodeRetries: 0,
    });
    const { config, error } = load(
      wasm,
      pluginOf("epp-wasm-disaggregation", {
        mode: "inline",
        protocol: "sglang",
        bodyBytesMax: 1048576,
        prefillCluster: "prefillers",
        prefillTimeoutMs: 10,
        bootstrapPort: 65535,
        transferBytesPerMs: 1000,
        kvBytesPerToken: 500,
        minGainMs: 25,
        decodeRetry: "connect-failure",
      }),
    );
    expect(error).toBe("");
    expect(settingsOf(config)).toEqual({
      mode: 1,
      protocol: 1,
      bodyBytesMax: 1048576,
      timeoutMs: 10,
      bootstrapPort: 65535,
      tokenMs: 0.5,
      minGainMs: 25,
      decodeRetries: 1,
    });
    const cluster = wasm.call("configPrefillCluster", config);
    expect(wasm.text(cluster, wasm.view.getUint32(cluster - 4, true))).toBe("prefillers");
  });

  test.each<[object, string]>([
    [{ mode: "both" }, 'mode: "both" — expected "headers" or "inline"'],
    [{ protocol: "mooncake" }, 'protocol: "mooncake" — expected "nixl" or "sglang"'],
    [{ bodyBytesMax: 1048577 }, "bodyBytesMax: 1048577 — expected a whole number of bytes, 1024 to 1048576"],
    [{ prefillTimeoutMs: 9 }, "prefillTimeoutMs: 9 — expected a whole number of ms, 10 to 3600000"],
    [{ bootstrapPort: 0 }, "bootstrapPort: 0 — expected a port, 1 to 65535"],
    [{ transferBytesPerMs: 0 }, "transferBytesPerMs: 0 — expected a number of bytes a ms"],
    [{ kvBytesPerToken: "1" }, 'kvBytesPerToken: "1" — expected a number of bytes'],
    [{ minGainMs: -1 }, "minGainMs: -1 — expected a number of ms, 0 to 3600000"],
    [{ prefillCluster: "x".repeat(254) }, "prefillCluster: "],
    [{ decodeRetry: "always" }, 'decodeRetry: "always" — expected "none" or "connect-failure"'],
  ])("%j is refused", (parameters, expected) => {
    expect(load(wasm, pluginOf("epp-wasm-disaggregation", parameters)).error).toContain(
      `plugins[0].parameters.${expected}`,
    );
  });
});

describe("the price of a prefill elsewhere", () => {
  const worth = (stay: number, go: number, transfer: number, step: number, gain: number): boolean =>
    wasm.call("isWorthIt", stay, go, transfer, step, gain) !== 0;

  test("is compared once prefill was measured, and never for a decider that always says yes", () => {
    const PREFIX = 97;
    expect([0, 1].map((isMeasured) => wasm.call("isPriced", PREFIX, isMeasured))).toEqual([0, 1]);
    expect([0, 98].map((decider) => wasm.call("isPriced", decider, 1))).toEqual([0, 0]);
  });

  test("counts the transfer, the decode endpoint's step and the least gain", () => {
    expect(worth(100, 60, 20, 10, 0)).toBe(true);
    expect(worth(100, 60, 30, 10, 0)).toBe(false);
    expect(worth(100, 60, 20, 10, 10)).toBe(false);
    expect(worth(100, 60, 20, 10, 9.9)).toBe(true);
    // No candidate is left: the cost is infinite.
    expect(worth(Infinity, 60, 20, 10, 0)).toBe(true);
    expect(worth(100, Infinity, 0, 0, 0)).toBe(false);
  });
});
