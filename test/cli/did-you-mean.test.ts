// The plugin type that was probably meant: near misses have one, and the names are those that the filter takes.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { meantTypes, PLUGIN_TYPES, withMeant } from "../../cli/commands/did-you-mean.ts";
import { FilterCheck } from "../../cli/commands/filter-check.ts";
import { ACCEPTED, IMPLEMENTED } from "../unit/support/plugin-types.ts";

const HEAD = { apiVersion: "llm-d.ai/v1alpha1", kind: "EndpointPickerConfig" };
/** Types of this project, which llm-d lacks. */
const OWN = [
  ...["epp-wasm-disaggregation", "epp-wasm-gateway", "epp-wasm-latency-picker"],
  ...["gpu-memory-scorer", "gpu-utilization-scorer"],
];

describe("the type that was meant", () => {
  it.each([
    ["queue-scorrer", "queue-scorer"],
    ["queue-socrer", "queue-scorer"],
    ["QueueScorer", "queue-scorer"],
    ["prefix_cache_scorer", "prefix-cache-scorer"],
    ["prefix-scorer", "prefix-cache-scorer"],
    ["kv-cache-scorer", "kv-cache-utilization-scorer"],
    ["max-scores-picker", "max-score-picker"],
    ["disagg-handler", "disagg-headers-handler or disagg-profile-handler"],
    ["epp-wasm-gatway", "epp-wasm-gateway"],
  ])("by %s is %s", (type, meant) => {
    expect(meantTypes(type).join(" or ")).toBe(meant);
  });

  it.each(["", "x", "scorer", "my-own-plugin", "-", "cache-scorer-of-mine"])("by %j is none", (type) => {
    expect(meantTypes(type)).toEqual([]);
  });

  it("by a text without end is none", () => {
    expect(meantTypes("queue-scorer".repeat(10_000))).toEqual([]);
  });

  it.each([
    "plugins[0].type: 1 — expected a text",
    'plugins[0].type: "latency-scorer" — known in llm-d and not supported; the nearest that is: x',
    "plugins[0].parameters.depth: 1 — unknown plugin type",
  ])("leaves another fault as it is: %s", (fault) => {
    expect(withMeant(fault)).toBe(fault);
  });
});

describe("the names", () => {
  let check: FilterCheck;
  beforeAll(() => {
    check = new FilterCheck();
  });
  afterAll(() => check.close());

  it("are all that the filter takes", () => {
    expect([...PLUGIN_TYPES].sort()).toEqual([...IMPLEMENTED, ...ACCEPTED, ...OWN].sort());
  });

  it.each(OWN)("have %s, which the filter knows", async (type) => {
    const { errors } = await check.document({ ...HEAD, plugins: [{ type }] });
    expect(errors.filter((error) => error.includes("unknown plugin type"))).toEqual([]);
  });

  it("are told with every unknown type of a document, in the filter's words", async () => {
    const plugins = [{ type: "queue-scorrer" }, { type: "random-picker" }, { type: "nothing-like-it" }];
    const { errors } = await check.document({ ...HEAD, plugins });
    expect(errors).toEqual([
      'plugins[0].type: "queue-scorrer" — unknown plugin type; did you mean queue-scorer?',
      'plugins[2].type: "nothing-like-it" — unknown plugin type',
    ]);
  });
});
