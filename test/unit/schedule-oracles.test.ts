// The scheduler's plugins against llm-d's own answers (fixtures/oracles).
import { readFileSync } from "node:fs";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { compileHarness } from "./support/harness.ts";
import { COLUMNS, type Endpoint, OPERATORS, Scheduler, TYPES } from "./support/scheduler.ts";

interface Case {
  source: string;
  name: string;
  plugin: keyof typeof TYPES | "by-label" | "by-label-selector";
  // biome-ignore lint/suspicious/noExplicitAny: the oracle files' shape differs by plugin.
  input: any;
  // biome-ignore lint/suspicious/noExplicitAny: as above.
  expect: any;
}

function oracle(name: string): Case[] {
  return JSON.parse(readFileSync(new URL(`../fixtures/oracles/${name}.json`, import.meta.url), "utf8")).cases;
}

let module: WebAssembly.Module;
let scheduler: Scheduler;
beforeAll(async () => {
  module = await compileHarness("schedule");
});
beforeEach(() => {
  scheduler = new Scheduler(module);
});

function expectScores(actual: number[], expected: number[]): void {
  expect(actual).toHaveLength(expected.length);
  for (const [i, score] of expected.entries())
    expect(actual[i], `score of endpoint ${i}`).toBeCloseTo(score, 6);
}

/** A request has one size; where upstream's endpoints carry different totals they are scored one by one. */
function matchableTokens(endpoint: Endpoint): number {
  return endpoint.prefixMatch ? endpoint.prefixMatch.totalBlocks * endpoint.prefixMatch.blockSizeTokens : 0;
}

function scorerOf(entry: Case): number {
  const plugin = entry.input.plugin ?? {};
  const type = TYPES[entry.plugin as keyof typeof TYPES];
  switch (entry.plugin) {
    case "prefix-cache-scorer":
      return scheduler.instance({
        type,
        a: plugin.matchLengthWeight ?? 0,
        b: plugin.matchLengthScaleTokens ?? 8192,
      });
    case "load-aware-scorer":
      return scheduler.instance({ type, a: plugin.queueThreshold });
    case "active-request-scorer":
      return scheduler.instance({ type, a: plugin.idleThreshold ?? 0, b: plugin.maxBusyScore ?? 0 });
    case "token-load-scorer":
      return scheduler.instance({ type, a: plugin.queueThresholdTokens });
    case "context-length-aware":
      return scheduler.instance({ type, text: plugin.labelName, mode: plugin.enableFiltering ? 1 : 0 });
    case "header-label-affinity-scorer":
      return scheduler.instance({ type, header: 0, text: plugin.labelKey });
    case "session-affinity-scorer":
      return scheduler.instance({ type, mode: 0, headers: [0] });
    case "no-hit-lru-scorer":
      return scheduler.instance({ type, a: entry.input.lruSize });
    default:
      return scheduler.instance({ type });
  }
}

/** The header that the plugin under test reads, as request header 0. */
function setHeader(entry: Case): void {
  const plugin = entry.input.plugin ?? {};
  const name =
    plugin.strategy?.sessionHeader ??
    plugin.headerName ??
    (entry.plugin === "header-based-testing-filter" ? "test-epp-endpoint-selection" : undefined);
  const value = entry.input.request?.headers?.[name];
  if (value !== undefined) scheduler.header(0, value);
}

describe("scorers answer as llm-d's", () => {
  const cases = oracle("scorers").filter(({ input }) => input.endpoints !== undefined);
  test.each(
    cases.map((entry) => [`${entry.plugin}: ${entry.name} (${entry.source.split("/").at(-1)})`, entry]),
  )("%s", (_, value) => {
    const entry = value as Case;
    const endpoints = entry.input.endpoints as Endpoint[];
    const instance = scorerOf(entry);
    const score = (some: Endpoint[]) => {
      const tokens = entry.input.request?.promptTokens ?? 0;
      scheduler.request({ matchable: some[0] ? matchableTokens(some[0]) : 0, context: tokens });
      scheduler.endpoints(some);
      if (entry.input.request?.model !== undefined) scheduler.model(entry.input.request.model);
      setHeader(entry);
      return scheduler.scores(instance);
    };
    const actual =
      entry.plugin === "prefix-cache-scorer"
        ? endpoints.flatMap((endpoint) => score([endpoint]))
        : score(endpoints);
    expectScores(actual, entry.expect.scores);
  });

  test("every scorer that llm-d's cases cover is among them", () => {
    const covered = new Set(cases.map(({ plugin }) => plugin));
    for (const type of Object.keys(TYPES)) {
      if (!type.endsWith("-scorer") || type.startsWith("gpu-") || type === "no-hit-lru-scorer") continue;
      expect(covered).toContain(type);
    }
  });
});

describe("session tokens on responses are llm-d's", () => {
  const cases = oracle("scorers").filter(({ input }) => input.servedEndpoint !== undefined);
  test.each(cases.map((entry) => [entry.name, entry]))("%s", (_, value) => {
    const entry = value as Case;
    const { Name, Namespace } = entry.input.servedEndpoint;
    scheduler.endpoints([{ name: `${Namespace}/${Name}` }]);
    const bytes = scheduler.call("sessionTokenBytes", 0);
    const out = scheduler.call("sessionTokenPtr", 0);
    expect(scheduler.text(out, bytes)).toBe(Object.values(entry.expect.responseHeaders)[0]);
  });
});

describe("no-hit-lru-scorer keeps llm-d's order over a sequence", () => {
  const cases = oracle("scorers").filter(({ input }) => input.sequence !== undefined);
  test.each(cases.map((entry) => [entry.name, entry]))("%s", (_, value) => {
    const entry = value as Case;
    const instance = scorerOf(entry);
    const plan = scheduler.alloc(336);
    scheduler.call("planReset", plan, TYPES["max-score-picker"], 1);
    scheduler.call("planAddScorer", plan, instance, 1);
    const rows = new Map<string, number>();
    const rowOf = (name: string) => {
      const known = rows.get(name);
      if (known !== undefined) return known;
      const row = rows.size;
      rows.set(name, row);
      scheduler.row(row, { name });
      return row;
    };
    // Upstream keys what it remembers by the request's id, we by the decision in hand: the last score step.
    let step = 0;
    for (const [i, { op, endpoints, hits, profiles, primary }] of entry.input.sequence.entries()) {
      if (op === "score") {
        scheduler.request({}, ++step);
        scheduler.candidates(endpoints.map(rowOf));
        for (const [j, name] of endpoints.entries()) {
          scheduler.call("setRowF64", COLUMNS.matchedTokens, rowOf(name), hits[j] ?? Number.NaN);
        }
        expectScores(scheduler.scores(instance), entry.expect.scoresPerStep[i]);
        continue;
      }
      const placed = [...(profiles[primary] ?? []).slice(0, 1)];
      if (primary !== "prefill") placed.push(...(profiles.prefill ?? []).slice(0, 1));
      for (const name of placed) scheduler.call("schedulePlaced", plan, 0, rowOf(name));
    }
  });

  test("forgets the place of an endpoint that was replaced, and beyond lruSize the oldest", () => {
    const instance = scheduler.instance({ type: TYPES["no-hit-lru-scorer"], a: 2 });
    const plan = scheduler.alloc(336);
    scheduler.call("planReset", plan, TYPES["max-score-picker"], 1);
    scheduler.call("planAddScorer", plan, instance, 1);
    scheduler.endpoints([{ name: "a" }, { name: "b" }, { name: "c" }]);
    const place = (row: number, nowMs: number) => {
      scheduler.request({}, nowMs);
      scheduler.candidates([0, 1, 2]);
      scheduler.scores(instance);
      scheduler.call("schedulePlaced", plan, 0, row);
    };
    const scores = () => {
      scheduler.candidates([0, 1, 2]);
      return scheduler.scores(instance);
    };
    place(0, 1);
    place(1, 2);
    expectScores(scores(), [0.5, 0, 1]);
    place(2, 3);
    expectScores(scores(), [1, 0.5, 0]);
    scheduler.row(2, { name: "another" });
    expectScores(scores(), [0.5, 0, 1]);
  });
});

function filterOf(entry: Case): number {
  const plugin = entry.input.plugin ?? {};
  const type = TYPES[entry.plugin as keyof typeof TYPES];
  const operators: Record<string, number> = { ...OPERATORS, "=": OPERATORS.in };
  switch (entry.plugin) {
    case "by-label": {
      const op = plugin.allowsNoLabel ? OPERATORS.inOrAbsent : OPERATORS.in;
      const requirements = [{ op, key: plugin.labelName, values: Object.keys(plugin.validValues) }];
      return scheduler.instance({ type: TYPES["label-selector-filter"], requirements });
    }
    case "by-label-selector":
    case "label-selector-filter": {
      const requirements = plugin.selector.map(
        (one: { key: string; operator: string; strValues?: string[] }) => ({
          op: operators[one.operator],
          key: one.key,
          values: one.strValues ?? [],
        }),
      );
      return scheduler.instance({ type: TYPES["label-selector-filter"], requirements });
    }
    case "context-length-aware":
      return scheduler.instance({ type, text: plugin.labelName, mode: 1 });
    case "prefix-cache-affinity-filter":
      return scheduler.instance({
        type,
        a: plugin.config?.affinityThreshold ?? 0,
        b: plugin.config?.explorationProbability ?? 0,
        c: plugin.config?.maxTTFTPenaltyMs ?? 0,
        d: plugin.config?.peakPrefillThroughput ?? 0,
      });
    case "utilization-filter": {
      const columns: Record<string, number> = {
        "active-requests": COLUMNS.inflightRequests,
        "running-requests": COLUMNS.running,
        "waiting-queue": COLUMNS.waiting,
        "kv-cache-utilization": COLUMNS.kvUsage,
      };
      const conditions = plugin.conditions.map((one: { metric: string; maxValue: number }) => ({
        column: columns[one.metric],
        maxValue: one.maxValue,
      }));
      return scheduler.instance({ type, conditions, mode: plugin.fallbackOnEmpty ? 1 : 0 });
    }
    case "session-affinity-filter":
      return scheduler.instance({ type, mode: 0, headers: [0] });
    default:
      return scheduler.instance({ type, header: 0 });
  }
}

describe("filters answer as llm-d's", () => {
  const cases = oracle("filters").filter(({ input }) => input.scores === undefined);
  test.each(
    cases.map((entry) => [`${entry.plugin}: ${entry.name} (${entry.source.split("/").at(-1)})`, entry]),
  )("%s", (_, value) => {
    const entry = value as Case;
    const endpoints: Endpoint[] = entry.input.endpoints ?? [];
    const instance = filterOf(entry);
    const first = endpoints[0];
    scheduler.request({
      matchable: first ? matchableTokens(first) : 0,
      context: entry.input.request?.promptTokens ?? 0,
    });
    scheduler.endpoints(endpoints);
    setHeader(entry);
    expect(scheduler.kept(instance)).toEqual(entry.expect.kept);
  });

  const roles = oracle("filters").filter(({ input }) => input.plugin?.labelName === "llm-d.ai/role");
  test.each(roles.map((entry) => [`${entry.name} (${entry.source.split("/").at(-1)})`, entry]))(
    "role bits: %s",
    (_, value) => {
      const entry = value as Case;
      const valid = entry.input.plugin.validValues;
      const mode = "decode" in valid ? 1 : "prefill" in valid ? 2 : 4;
      scheduler.endpoints(entry.input.endpoints ?? []);
      expect(scheduler.kept(scheduler.instance({ type: TYPES["role-filter"], mode }))).toEqual(
        entry.expect.kept,
      );
    },
  );

  test("a label's change is seen with the next snapshot", () => {
    const requirements = [{ op: OPERATORS.in, key: "tier", values: ["gold"] }];
    const instance = scheduler.instance({ type: TYPES["label-selector-filter"], requirements });
    scheduler.endpoints([{ name: "a", labels: { tier: "gold" } }, { name: "b" }]);
    expect(scheduler.kept(instance)).toEqual([0]);
    scheduler.endpoints([{ name: "a" }, { name: "b", labels: { tier: "gold" } }]);
    expect(scheduler.kept(instance)).toEqual([1]);
  });

  test("two selectors do not share their answers", () => {
    const select = (value: string) =>
      scheduler.instance({
        type: TYPES["label-selector-filter"],
        requirements: [{ op: OPERATORS.in, key: "tier", values: [value] }],
      });
    const [gold, silver] = [select("gold"), select("silver")];
    scheduler.endpoints([
      { name: "a", labels: { tier: "gold" } },
      { name: "b", labels: { tier: "silver" } },
    ]);
    for (let i = 0; i < 2; i++) {
      scheduler.candidates([0, 1]);
      expect(scheduler.kept(gold)).toEqual([0]);
      scheduler.candidates([0, 1]);
      expect(scheduler.kept(silver)).toEqual([1]);
    }
  });
});

describe("max-score-picker orders as llm-d's", () => {
  const cases = oracle("filters").filter(({ plugin }) => plugin === "max-score-picker");
  test.each(cases.map((entry) => [entry.name, entry]))("%s", (_, value) => {
    const entry = value as Case;
    const scores = entry.input.scores as number[];
    scheduler.request();
    scheduler.endpoints(scores.map((__, i) => ({ name: `endpoint-${i}` })));
    for (const [i, score] of scores.entries()) scheduler.call("setTotal", i, score);
    scheduler.call("pick", TYPES["max-score-picker"], entry.input.parameters.maxNumOfEndpoints);
    const results = scheduler.results();
    expect(results).toHaveLength(entry.expect.count);
    expectScores(
      results.map(({ total }) => total),
      entry.expect.pickedScores,
    );
    expect(new Set(results.map(({ row }) => row)).size).toBe(results.length);
  });
});
