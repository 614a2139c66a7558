// `epp-wasm convert`: llm-d's precise prefix scoring becomes the exact index, and no parameter of it is lost silently.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { parse, stringify } from "yaml";
import { type Conversion, convert } from "../../cli/commands/convert.ts";
import { writeFiles } from "../../cli/commands/documents.ts";
import { answersFrom } from "../../cli/commands/init/ask.ts";
import { makeFiles } from "../../cli/commands/init.ts";
import { validateFile } from "../../cli/commands/validate.ts";
import { documentsOf, GATEWAY_MODE, PRECISE_PRODUCER, PRECISE_SCORER } from "./deployments.ts";

const poolOf = ({ sidecar }: Conversion): { kvEvents?: object } =>
  (sidecar["pools"] as { kvEvents?: object }[])[0]!;

/** A configuration whose one scorer of prefixes is a precise one with these parameters. */
const withScorer = (parameters: object, ...others: object[]): Promise<Conversion> =>
  convert(
    [
      {
        apiVersion: "llm-d.ai/v1alpha1",
        kind: "EndpointPickerConfig",
        plugins: [{ type: "precise-prefix-cache-scorer", name: "p", parameters }, ...others],
        schedulingProfiles: [{ name: "default", plugins: [{ pluginRef: "p", weight: 3 }] }],
      },
    ],
    { endpoints: "10.0.0.1:8000" },
  );

/** Fates of a plugin's parameters by their paths. */
const fatesOf = ({ outcomes }: Conversion, plugin: string): Record<string, string> =>
  Object.fromEntries(
    outcomes
      .filter(({ what }) => what.startsWith(`${plugin} `))
      .map(({ what, verdict }) => [what.slice(plugin.length + 1), verdict]),
  );

describe("a precise scorer", () => {
  it("becomes prefix-cache-scorer under its name, with its weight and place", async () => {
    const { picker } = await convert(documentsOf(PRECISE_SCORER), {});
    expect((picker["plugins"] as object[]).slice(0, 3)).toEqual([
      { type: "single-profile-handler" },
      { type: "decode-filter" },
      { name: "precise-prefix-cache-scorer", type: "prefix-cache-scorer" },
    ]);
    expect(picker["schedulingProfiles"]).toEqual([
      {
        name: "default",
        plugins: [
          { pluginRef: "decode-filter" },
          { pluginRef: "kv-cache-utilization-scorer", weight: 2 },
          { pluginRef: "precise-prefix-cache-scorer", weight: 3 },
          { pluginRef: "queue-scorer", weight: 2 },
          { pluginRef: "max-score-picker" },
        ],
      },
    ]);
  });

  it("turns the sidecar's kvEvents on, and has every other parameter named with a reason", async () => {
    const conversion = await convert(documentsOf(PRECISE_SCORER), {});
    expect(poolOf(conversion).kvEvents).toEqual({ topic: "kv@", port: 5556 });
    expect(fatesOf(conversion, "plugins[6] precise-prefix-cache-scorer")).toEqual({
      "(prefix-cache-scorer)": "kept",
      "tokenProcessorConfig.blockSize": "not-needed",
      "tokenProcessorConfig.hashSeed": "not-needed",
      speculativeIndexing: "kept",
      "indexerConfig.tokenizersPoolConfig.modelName": "not-needed",
      "indexerConfig.tokenizersPoolConfig.uds.socketFile": "not-needed",
      "indexerConfig.kvBlockIndexConfig.enableMetrics": "not-needed",
      "kvEventsConfig.topicFilter": "kept",
      "kvEventsConfig.concurrency": "not-needed",
      "kvEventsConfig.discoverPods": "kept",
      "kvEventsConfig.podDiscoveryConfig.socketPort": "kept",
    });
    expect(conversion.outcomes.filter(({ verdict }) => verdict === "dropped")).toEqual([]);
    for (const { what, why } of conversion.outcomes) expect(why, what).not.toBe("");
  });

  it("of llm-d's first form is one too", async () => {
    const parameters = { mode: "cache_tracking", kvEventsConfig: { zmqEndpoint: "tcp://*:5600" } };
    const conversion = await convert(
      [{ kind: "EndpointPickerConfig", plugins: [{ type: "prefix-cache-scorer", parameters }] }],
      { endpoints: "10.0.0.1:8000" },
    );
    expect((conversion.picker["plugins"] as object[])[0]).toEqual({
      name: "prefix-cache-scorer",
      type: "prefix-cache-scorer",
    });
    expect(poolOf(conversion).kvEvents).toEqual({ port: 5600 });
  });

  it("to whose socket engines connected has them told to publish where the sidecar looks", async () => {
    const conversion = await withScorer({
      kvEventsConfig: { zmqEndpoint: "tcp://*:5558", discoverPods: false, topicFilter: "kv@" },
    });
    expect(poolOf(conversion).kvEvents).toEqual({ port: 5558, topic: "kv@" });
    const [lost] = conversion.outcomes.filter(({ what }) => what.endsWith("zmqEndpoint"));
    expect(lost).toMatchObject({ verdict: "dropped", what: "plugins[0] p kvEventsConfig.zmqEndpoint" });
    expect(lost!.why).toContain('"endpoint":"tcp://*:5558"');
  });

  it("beside a producer reads that one's, as in llm-d", async () => {
    const conversion = await withScorer(
      { kvEventsConfig: { topicFilter: "a" }, speculativeIndexing: true },
      { type: "precise-prefix-cache-producer", parameters: { kvEventsConfig: { topicFilter: "b" } } },
    );
    expect(poolOf(conversion).kvEvents).toEqual({ topic: "b" });
    expect(fatesOf(conversion, "plugins[0] p")).toEqual({
      "(prefix-cache-scorer)": "kept",
      "kvEventsConfig.topicFilter": "not-needed",
      speculativeIndexing: "not-needed",
    });
  });

  it.each<[string, object, string, string]>([
    ["nothing", {}, "(prefix-cache-scorer)", "kept"],
    [
      "a seed where it once stood",
      { indexerConfig: { tokenProcessorConfig: { hashSeed: "1" } } },
      "indexerConfig.tokenProcessorConfig.hashSeed",
      "not-needed",
    ],
    [
      "a replay port",
      { kvEventsConfig: { podDiscoveryConfig: { replaySocketPort: 5559 } } },
      "kvEventsConfig.podDiscoveryConfig.replaySocketPort",
      "kept",
    ],
    [
      "no replay port",
      { kvEventsConfig: { podDiscoveryConfig: { replaySocketPort: 0 } } },
      "kvEventsConfig.podDiscoveryConfig.replaySocketPort",
      "not-needed",
    ],
    ["an empty group", { indexerConfig: {} }, "indexerConfig", "not-needed"],
    ["null", { kvEventsConfig: null }, "kvEventsConfig", "not-needed"],
    ["an empty socket", { kvEventsConfig: { zmqEndpoint: "" } }, "kvEventsConfig.zmqEndpoint", "not-needed"],
    ["speculation off", { speculativeIndexing: false }, "speculativeIndexing", "dropped"],
    [
      "the filter's own weights of tiers",
      { indexerConfig: { kvCacheBackendConfigs: [{ name: "cpu", weight: 0.8 }] } },
      "indexerConfig.kvCacheBackendConfigs",
      "kept",
    ],
    [
      "other weights of tiers",
      { indexerConfig: { kvCacheBackendConfigs: [{ name: "cpu", weight: 0 }] } },
      "indexerConfig.kvCacheBackendConfigs",
      "dropped",
    ],
    ["spans", { kvEventsConfig: { tracing: true } }, "kvEventsConfig.tracing", "dropped"],
    ["a session manager", { sessionManager: "s" }, "sessionManager", "dropped"],
    ["an unknown parameter", { kvEventsConfig: { novel: 1 } }, "kvEventsConfig.novel", "dropped"],
  ])("with %s: %j has %s %s", async (_, parameters, path, verdict) => {
    expect(fatesOf(await withScorer(parameters), "plugins[0] p")).toHaveProperty([path], verdict);
  });

  it("with a port that is none is refused by the field's name", async () => {
    const kvEventsConfig = { podDiscoveryConfig: { socketPort: 70_000 } };
    await expect(withScorer({ kvEventsConfig })).rejects.toThrow("pools[0].kvEvents.port: 70000");
  });
});

describe("a precise producer", () => {
  it("becomes kvEvents, and what names it stays", async () => {
    const conversion = await convert(documentsOf(PRECISE_PRODUCER), {});
    expect(poolOf(conversion).kvEvents).toEqual({ topic: "kv@", port: 5556, replayPort: 5559 });
    const { plugins } = conversion.picker as { plugins: { type: string }[] };
    expect(plugins.map(({ type }) => type)).toEqual([
      "prefix-cache-affinity-filter",
      "prefix-cache-scorer",
      "token-load-scorer",
      "epp-wasm-gateway",
    ]);
    expect(plugins[1]).toMatchObject({ parameters: { prefixMatchInfoProducerName: "cache" } });
    expect(conversion.outcomes.filter(({ verdict }) => verdict === "dropped")).toEqual([]);
  });

  it("with a second one of other settings has these dropped: a pool has one of each", async () => {
    const producer = (name: string, topicFilter: string): object => ({
      ...{ type: "precise-prefix-cache-producer", name },
      parameters: { kvEventsConfig: { topicFilter, podDiscoveryConfig: { socketPort: 5556 } } },
    });
    const conversion = await convert(
      [{ kind: "EndpointPickerConfig", plugins: [producer("a", "kv@"), producer("b", "x")] }],
      { endpoints: "10.0.0.1:8000" },
    );
    expect(poolOf(conversion).kvEvents).toEqual({ topic: "kv@", port: 5556 });
    expect(fatesOf(conversion, "plugins[1] b")).toEqual({
      "(precise-prefix-cache-producer)": "kept",
      "kvEventsConfig.topicFilter": "dropped",
      "kvEventsConfig.podDiscoveryConfig.socketPort": "kept",
    });
  });

  it("is no part of a configuration without one", async () => {
    const plain = GATEWAY_MODE.replace("    - type: precise-prefix-cache-producer\n", "");
    expect(poolOf(await convert(documentsOf(plain), {}))).not.toHaveProperty("kvEvents");
  });
});

describe.each([
  ["scorer", PRECISE_SCORER],
  ["producer", PRECISE_PRODUCER],
])("what is made of a precise %s", (_, deployment) => {
  it("is valid, and init puts it into the manifests", async () => {
    const folder = mkdtempSync(join(tmpdir(), "epp-precise-"));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const { picker, sidecar } = await convert(documentsOf(deployment), {});
    const files = [
      { name: "picker.json", text: JSON.stringify(picker) },
      { name: "sidecar.yaml", text: stringify(sidecar) },
    ];
    const [pickerPath, sidecarPath] = writeFiles(folder, files, false);
    for (const path of [pickerPath!, sidecarPath!]) {
      const [result] = await validateFile(path);
      expect(result!.errors).toEqual([]);
    }
    const flags = { kind: "istio", picker: pickerPath!, sidecarConfig: sidecarPath!, namespace: "llm" };
    writeFiles(join(folder, "out"), makeFiles(await answersFrom(flags, null)), false);
    const written = join(folder, "out/istio/overlays/selector/sidecar.yaml");
    expect(parse(readFileSync(written, "utf8")).pools[0].kvEvents).toEqual(
      poolOf({ sidecar } as Conversion).kvEvents,
    );
  });
});
