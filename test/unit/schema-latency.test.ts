// Configuration of the latency picker: its parameters, what is refused with which path, and debug.explain.
import { readFileSync } from "node:fs";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { load, planOf } from "./support/configurations.ts";
import { compileHarness } from "./support/harness.ts";
import { documentOf, pluginOf } from "./support/refused-documents.ts";
import { Scheduler } from "./support/scheduler.ts";

const TYPE = "epp-wasm-latency-picker";
const PICKER_INSTANCE = 12;

let module: WebAssembly.Module;
let wasm: Scheduler;
beforeAll(async () => {
  module = await compileHarness("schema");
});
beforeEach(() => {
  wasm = new Scheduler(module);
});

interface Compiled {
  readonly picker: string | undefined;
  readonly results: number;
  readonly contextPrice: number;
  readonly tieShare: number;
  /** Name hash, TTFT and TPOT wishes; the first entry is for all others. */
  readonly objectives: readonly [bigint, number, number][];
}

function compiled(parameters?: object): Compiled {
  const { config, error } = load(wasm, pluginOf(TYPE, parameters));
  expect(error).toBe("");
  const { view } = wasm;
  const instance = view.getUint32(wasm.call("configPlan", config) + PICKER_INSTANCE, true);
  const list = view.getUint32(instance + 48, true);
  const plan = planOf(wasm, config);
  const result = {
    picker: plan.picker,
    results: plan.results,
    contextPrice: view.getFloat64(instance + 16, true),
    tieShare: view.getFloat64(instance + 24, true),
    objectives: Array.from(
      { length: view.getUint32(instance + 52, true) },
      (_, i): [bigint, number, number] => [
        view.getBigUint64(list + i * 16, true),
        view.getFloat32(list + i * 16 + 8, true),
        view.getFloat32(list + i * 16 + 12, true),
      ],
    ),
  };
  wasm.call("configFree", config);
  return result;
}

const hash = (name: string): bigint => BigInt.asUintN(64, wasm.hash(name));

describe(TYPE, () => {
  test("has defaults for all parameters", () => {
    expect(compiled()).toEqual({
      picker: TYPE,
      results: 3,
      contextPrice: 6,
      tieShare: 0.1,
      objectives: [[0n, 0, 0]],
    });
    expect(compiled({ maxNumOfEndpoints: 5 }).results).toBe(5);
  });

  test("is documented with the defaults that it has", () => {
    const page = readFileSync(new URL("../../docs/CONFIGURATION.md", import.meta.url), "utf8");
    const defaults = compiled();
    for (const name of ["contextPrice", "tieShare"] as const) {
      expect(page).toMatch(new RegExp(`\\| \`${name}\`\\s*\\| ${defaults[name]}\\s*\\|`));
    }
  });

  test.each<[keyof Compiled, number, number]>([
    ["contextPrice", 0, 100],
    ["tieShare", 0, 1],
  ])("%s: both boundaries, and what is beyond them", (name, least, most) => {
    expect(compiled({ [name]: least })[name]).toBe(least);
    expect(compiled({ [name]: most })[name]).toBe(most);
    for (const bad of [least - 0.1, most + 0.1, "1", true, [], {}]) {
      expect(load(wasm, pluginOf(TYPE, { [name]: bad })).error).toContain(`plugins[0].parameters.${name}: `);
    }
  });

  test.each(["sloTtftMs", "sloTpotMs"])("%s: both boundaries, and what is beyond them", (name) => {
    const place = name === "sloTtftMs" ? 1 : 2;
    expect(compiled({ [name]: 3_600_000 }).objectives[0]?.[place]).toBe(3_600_000);
    expect(compiled({ [name]: 12.5 }).objectives[0]?.[place]).toBe(12.5);
    for (const bad of [-1, 3_600_001, "200ms", false, null]) {
      const { config, error } = load(wasm, pluginOf(TYPE, { [name]: bad }));
      if (bad === null) wasm.call("configFree", config);
      expect(error).toContain(
        bad === null
          ? ""
          : `plugins[0].parameters.${name}: ${JSON.stringify(bad)} — expected a number of ms, 0 to 3600000`,
      );
      expect(config !== 0).toBe(bad === null);
    }
  });

  test("has wishes by objective; what one does not name is as for all others", () => {
    const { objectives } = compiled({
      sloTtftMs: 900,
      objectives: [{ name: "chat", sloTtftMs: 200, sloTpotMs: 30 }, { name: "batch" }],
    });
    expect(objectives).toEqual([
      [0n, 900, 0],
      [hash("chat"), 200, 30],
      [hash("batch"), 900, 0],
    ]);
  });

  test("takes 32 objectives and refuses a 33rd", () => {
    const some = (count: number) => Array.from({ length: count }, (_, i) => ({ name: `objective-${i}` }));
    expect(compiled({ objectives: some(32) }).objectives).toHaveLength(33);
    expect(load(wasm, pluginOf(TYPE, { objectives: some(33) })).error).toContain(
      "plugins[0].parameters.objectives: […] — expected at most 32 objectives",
    );
  });

  test.each<[string, object, string]>([
    ["an unknown parameter", { priced: 1 }, "plugins[0].parameters.priced: 1 — unknown field"],
    [
      "objectives as an object",
      { objectives: {} },
      "plugins[0].parameters.objectives: {…} — expected an array",
    ],
    [
      "an objective without a name",
      { objectives: [{}] },
      "plugins[0].parameters.objectives[0].name: (missing)",
    ],
    [
      "an objective's unknown field",
      { objectives: [{ name: "a" }, { name: "b", slo: 1 }] },
      "plugins[0].parameters.objectives[1].slo: 1 — unknown field",
    ],
    [
      "an objective's bad wish",
      { objectives: [{ name: "a", sloTpotMs: "soon" }] },
      'plugins[0].parameters.objectives[0].sloTpotMs: "soon" — expected a number of ms, 0 to 3600000',
    ],
    [
      "a count that is no whole number",
      { maxNumOfEndpoints: 1.5 },
      "plugins[0].parameters.maxNumOfEndpoints: 1.5 — expected a whole number",
    ],
  ])("refuses %s", (_, parameters, error) => {
    expect(load(wasm, pluginOf(TYPE, parameters)).error).toContain(error);
  });

  test("refuses scorers in its profile, and takes filters", () => {
    const profile = (...names: string[]) => ({
      schedulingProfiles: [{ name: "default", plugins: names.map((pluginRef) => ({ pluginRef })) }],
    });
    const plugins = [{ type: TYPE }, { type: "queue-scorer" }, { type: "decode-filter" }];
    expect(load(wasm, documentOf(plugins, profile("queue-scorer", TYPE))).error).toContain(
      "epp-wasm-latency-picker predicts instead of adding scores: its profile takes no scorer",
    );
    const { config, error } = load(wasm, documentOf(plugins, profile("decode-filter", TYPE)));
    expect(error).toBe("");
    expect(planOf(wasm, config).filters.map(({ type }) => type)).toEqual(["role-filter"]);
    expect(planOf(wasm, config).picker).toBe(TYPE);
  });
});

describe("debug", () => {
  test("explain is off unless it is set", () => {
    for (const [debug, expected] of [
      [undefined, 0],
      [null, 0],
      [{}, 0],
      [{ explain: false }, 0],
      [{ explain: true }, 1],
    ] as const) {
      const { config } = load(wasm, pluginOf("epp-wasm-gateway", debug === undefined ? {} : { debug }));
      expect(wasm.call("configExplain", config)).toBe(expected);
      wasm.call("configFree", config);
    }
  });

  test.each<[string, unknown, string]>([
    ["a text", { explain: "yes" }, 'plugins[0].parameters.debug.explain: "yes" — expected true or false'],
    ["an unknown field", { trace: true }, "plugins[0].parameters.debug.trace: true — unknown field"],
    ["a list", [], "plugins[0].parameters.debug: […] — expected an object"],
  ])("refuses %s", (_, debug, error) => {
    expect(load(wasm, pluginOf("epp-wasm-gateway", { debug })).error).toContain(error);
  });
});
