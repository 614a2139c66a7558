// Stages of a decision against llm-d's own answers (fixtures/oracles/disagg.json): deciders, and which profiles run.
//
// Topics that only Envoy shows run elsewhere: headers, conditional decode, no decode endpoint: test/envoy/disagg-*.test.ts.
import { readFileSync } from "node:fs";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { load } from "./support/configurations.ts";
import { compileHarness } from "./support/harness.ts";
import { documentOf } from "./support/refused-documents.ts";
import { Scheduler } from "./support/scheduler.ts";

interface Case {
  source: string;
  topic: string;
  name: string;
  // biome-ignore lint/suspicious/noExplicitAny: the shape differs by topic.
  input: any;
  // biome-ignore lint/suspicious/noExplicitAny: as above.
  expect: any;
}

const cases: Case[] = JSON.parse(
  readFileSync(new URL("../fixtures/oracles/disagg.json", import.meta.url), "utf8"),
).cases;
const RUNS_PREFILL = 1;
const RUNS_ENCODE = 2;

let module: WebAssembly.Module;
let wasm: Scheduler;
beforeAll(async () => {
  module = await compileHarness("schema");
}, 120_000);
beforeEach(() => {
  wasm = new Scheduler(module);
});

const of = (topic: string, wanted: (entry: Case) => boolean = () => true): [string, Case][] =>
  cases.filter((entry) => entry.topic === topic && wanted(entry)).map((entry) => [entry.name, entry]);

interface Deciders {
  prefill?: { type: string; parameters?: object };
  encode?: { type: string };
  order?: string;
}

/** Loads a document whose handler has these deciders. */
function configure({ prefill, encode, order }: Deciders): number {
  const deciders = {
    ...(prefill === undefined ? {} : { prefill: "p" }),
    ...(encode === undefined ? {} : { encode: "e" }),
  };
  const stageOrder = order === undefined ? {} : { stageOrder: order };
  const filters = ["decode", "prefill", "encode"].map((role) => ({ type: `${role}-filter` }));
  const profiles = ["decode", "prefill", "encode"].map((name) => ({
    name,
    plugins: [{ pluginRef: `${name}-filter` }],
  }));
  const { config, error } = load(
    wasm,
    documentOf(
      [
        { type: "disagg-profile-handler", parameters: { deciders, ...stageOrder } },
        ...(prefill === undefined ? [] : [{ name: "p", ...prefill }]),
        ...(encode === undefined ? [] : [{ name: "e", ...encode }]),
        ...filters,
      ],
      { schedulingProfiles: profiles },
    ),
  );
  expect(error).toBe("");
  return config;
}

interface PrefixMatch {
  matchBlocks: number;
  blockSizeTokens: number;
  totalBlocks: number;
}

const cachedTokens = (match: PrefixMatch | undefined): number =>
  match === undefined ? 0 : match.matchBlocks * match.blockSizeTokens;

describe("deciders", () => {
  // Without a decode endpoint, and for one of which nothing is published, upstream's decider says no; here there always
  // is one, and what is not known to be cached is not.
  // And one case tells weighted blocks alone, where upstream counts plain ones.
  const isKnown = ({ name, input }: Case): boolean =>
    input.decider !== "prefix-based-pd-decider" ||
    (name !== "TestDisaggregate_UsesUnweightedCachedBlockCount/no cache hit at all" &&
      input.decodeEndpoint?.prefixMatch !== undefined &&
      input.decodeEndpoint.prefixMatch.blockSizeTokens > 0);

  test.each(of("decider", isKnown))("%s", (_, entry) => {
    const { decider, parameters, request, decodeEndpoint } = entry.input;
    const isEncode = decider === "always-disagg-multimodal-decider";
    const config = configure(
      isEncode ? { encode: { type: decider } } : { prefill: { type: decider, parameters } },
    );
    const promptTokens = request.promptTokens ?? 0;
    const uncached = Math.max(promptTokens - cachedTokens(decodeEndpoint?.prefixMatch), 0);
    const isMultimodal = request.multimodal !== undefined;
    const runs = wasm.call("wantedStages", config, promptTokens, uncached, isMultimodal ? 1 : 0);
    expect((runs & (isEncode ? RUNS_ENCODE : RUNS_PREFILL)) !== 0).toBe(entry.expect.disaggregate);
  });

  test("all but those without a known decode endpoint were run", () => {
    expect(of("decider").length).toBe(44);
    expect(of("decider", isKnown).length).toBeGreaterThanOrEqual(30);
  });
});

describe("profiles that run next", () => {
  // Stand-ins for deciders say what upstream's test wants.
  const isPick = ({ input }: Case): boolean =>
    input.handler === "disagg-profile-handler" &&
    (input.config.encodeDecider === undefined ||
      input.config.encodeDecider.typedName?.type === "always-disagg-multimodal-decider");

  test.each(of("profile pick", isPick))("%s", (_, entry) => {
    const { config: given, request, resultsSoFar } = entry.input;
    const names = {
      decode: given.decodeProfile ?? "decode",
      prefill: given.prefillProfile ?? "prefill",
      encode: given.encodeProfile ?? "encode",
    };
    const expected: string[] = entry.expect.profilesToRun;
    const isFirst = given.stageOrder === "prefill-first";
    const decider = given.pdDecider;
    const hasPrefill = entry.input.profilesConfigured.includes(names.prefill);
    const config = configure({
      ...(decider === undefined
        ? {}
        : { prefill: { type: decider.typedName.type, parameters: decider.config ?? {} } }),
      ...(given.encodeDecider === undefined ? {} : { encode: given.encodeDecider.typedName }),
      ...(isFirst && hasPrefill ? { order: "prefill-first" } : {}),
    });
    const tokens = request.promptTokens ?? 0;
    // The cases do not say what is cached: the extremes bound the answer.
    const wanted = [0, tokens].map((uncached) =>
      wasm.call("wantedStages", config, tokens, uncached, request.multimodal === undefined ? 0 : 1),
    );
    const isFailed = (name: string): boolean => name in resultsSoFar && !resultsSoFar[name]?.length;
    const remaining = (runs: number): string[] => {
      if (isFailed(names.decode)) return [];
      const encode = (runs & RUNS_ENCODE) !== 0 ? [names.encode] : [];
      const prefill = (runs & RUNS_PREFILL) !== 0 ? [names.prefill] : [];
      const order = isFirst ? [...prefill, ...encode, names.decode] : [names.decode, ...encode, ...prefill];
      return order.filter((name) => !(name in resultsSoFar)).slice(0, 1);
    };
    expect(wanted.map(remaining)).toContainEqual(expected);
  });
});
